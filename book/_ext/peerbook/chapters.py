"""How long a chapter takes to read, below its title."""

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

# What is counted: words of prose, captions and tables, at a careful reader's pace; every displayed equation;
# every line of code that is not folded. Exercises and their solutions take as long as one likes: they do not count.
WORDS_PER_MINUTE = 210
MINUTES_PER_EQUATION = 1 / 6
MINUTES_PER_LINE = 1 / 20

UNCOUNTED = {"exercise", "solution", "cell_output", "tag_hide-input", "tag_hide-cell", "tag_remove-input"}


def minutes(node):
    """Minutes to read `node`, not rounded."""
    if isinstance(node, nodes.Text):
        return len(node.split()) / WORDS_PER_MINUTE
    if isinstance(node, nodes.math_block):
        return MINUTES_PER_EQUATION
    if isinstance(node, nodes.literal_block):
        return len(node.astext().splitlines()) * MINUTES_PER_LINE
    if isinstance(node, (nodes.raw, nodes.Invisible)):
        return 0
    folded = UNCOUNTED.intersection(node.get("classes", ()))
    # Of an output only the caption is prose.
    children = node.findall(nodes.caption) if "cell_output" in folded else () if folded else node.children
    return sum(map(minutes, children))


def rounded(time):
    """To a minute, or to five where the estimate is no better than that."""
    return max(1, round(time)) if time < 10 else 5 * round(time / 5)


class InsertReadingTime(SphinxPostTransform):
    """Into notebooks only: they are the chapters."""

    default_priority = 900  # on the text as it is shown

    def run(self, **kwargs):
        title = self.document.next_node(nodes.title)
        if title is None or not self.env.doc2path(self.env.docname).endswith(".ipynb"):
            return
        time = rounded(minutes(self.document))
        unit = "minute" if time == 1 else "minutes"
        line = nodes.paragraph(
            "", f"Reading time: about {time} {unit}, without the exercises.", classes=["reading-time"]
        )
        title.parent.insert(title.parent.index(title) + 1, line)
