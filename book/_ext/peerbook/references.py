"""The list of references, each under the name and the year by which the text cites it."""

from collections import Counter
from string import ascii_lowercase

import pybtex.plugin
from pybtex.style.formatting.plain import Style
from pybtex.style.labels import BaseLabelStyle

NAME = "author-year"


def authors(entry):
    """One name, two names, or the first and "et al.", as the text has them."""
    people = entry.persons["author"]
    names = [" ".join(map(str, person.rich_prelast_names + person.rich_last_names)) for person in people]
    return " and ".join(names) if len(names) <= 2 else f"{names[0]} et al."


class AuthorYearLabels(BaseLabelStyle):
    """Two works of the same authors and year become 2023a and 2023b, in the list and in the text."""

    def format_labels(self, sorted_entries):
        entries = list(sorted_entries)
        plain = [(authors(entry), entry.fields["year"]) for entry in entries]
        count, seen = Counter(plain), Counter()
        for entry, label in zip(entries, plain, strict=True):
            if count[label] > 1:
                # The text reads the year from the entry, so that the letter has to go there.
                entry.fields["year"] += ascii_lowercase[seen[label]]
                seen[label] += 1
        return [f"{name}, {entry.fields['year']}" for (name, _), entry in zip(plain, entries, strict=True)]


class AuthorYearStyle(Style):
    default_label_style = AuthorYearLabels


def register():
    pybtex.plugin.register_plugin("pybtex.style.formatting", NAME, AuthorYearStyle)
