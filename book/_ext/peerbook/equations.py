"""Links from a number of the paper, "(12a)", to the equation that carries it, wherever in the book both stand."""

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

logger = logging.getLogger(__name__)

# "(12a)", "Eq. 12a" or "equation 12a". Brackets not after a letter, a digit or another bracket: "f(1)" is a value, and
# "52(6)" a volume and its number.
NUMBER = re.compile(r"(?<![\w)\]])\((\d{1,2}[a-z]?)\)|\b[Ee]q(?:uation|n)?s?\.? (\d{1,2}[a-z]?)\b")

# What these hold is code, is a link already, or is not shown.
CLOSED = (
    nodes.FixedTextElement,
    nodes.Invisible,
    nodes.citation,
    nodes.literal,
    nodes.math,
    nodes.raw,
    nodes.reference,
    addnodes.desc_signature,
    addnodes.pending_xref,
    addnodes.toctree,
)


def find(labels, number):
    """The page and the id of equation `number`: of "12", where only (12a) to (12c) are numbered, those of (12a)."""
    return labels.get(f"eq-{number}") or labels.get(f"eq-{number}a")


class LinkEquations(SphinxPostTransform):
    """Runs on text that is about to be written, once every other reference is resolved."""

    default_priority = 300

    def run(self, **kwargs):
        labels = {name: place[:2] for name, place in self.env.get_domain("std").anonlabels.items()}
        for text in list(self.document.findall(nodes.Text)):
            if NUMBER.search(text) and not is_closed(text):
                text.parent.replace(text, list(self._pieces(text, labels)))

    def _pieces(self, text, labels):
        end = 0
        for match in NUMBER.finditer(text):
            place = find(labels, match[1] or match[2])
            if place is None:
                logger.warning(f"no equation of this book is {match[0]}", location=text.parent, type="peerbook")
                continue
            yield nodes.Text(text[end : match.start()])
            page, label = place
            yield make_refnode(self.app.builder, self.env.docname, page, label, nodes.inline("", match[0]))
            end = match.end()
        yield nodes.Text(text[end:])


def is_closed(node):
    """Whether `node` stands where no link may."""
    while node is not None:
        if isinstance(node, CLOSED):
            return True
        node = node.parent
    return False
