"""What every page must have, said as warnings, which fail the build and name the place.

A picture has a text alternative and a caption; a table has a caption; an equation of the paper is named by the number
that leads to it, "(12a)"; whatever `references.bib` holds is cited.
"""

import re

from docutils import nodes
from sphinx.util import logging

from peerbook.equations import is_closed

logger = logging.getLogger(__name__)

WORDS = re.compile(r"\b[Ee]q(?:n|uation)?s?\.? ?\d+[a-z]?\b")


def _warn(message, place):
    logger.warning(message, location=place, type="peerbook")


def check_page(app, doctree, docname):
    """Pictures, tables, and equations named otherwise than by their number in brackets."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt", "").strip():
            _warn(f"a picture has no text alternative: {image['uri']}", _placed(image))
        if not _inside(image, nodes.figure):
            _warn(f"a picture is in no figure, so that it has no caption: {image['uri']}", _placed(image))
    for figure in doctree.findall(nodes.figure):
        if figure.next_node(nodes.caption) is None:
            _warn(f"figure {' '.join(figure['names'])} has no caption", _placed(figure))
    for table in doctree.findall(nodes.table):
        if not isinstance(table[0], nodes.title):
            _warn(f"a table has no caption: {' | '.join(_first_row(table))}", _placed(table))
    for text in doctree.findall(nodes.Text):
        if (match := WORDS.search(text)) and not is_closed(text):
            _warn(f'"{match[0]}" is no link: write the number alone and in brackets', _placed(text.parent))


def check_references(app, env):
    """Every entry of the bibliography is cited on some page."""
    domain = env.get_domain("cite")
    cited = {target.key for reference in domain.citation_refs for target in reference.targets}
    for key in sorted(set(domain.bibdata.data.entries) - cited):
        _warn(f"no page cites {key}", None)


def _placed(node):
    """The nearest node around `node` that knows its line."""
    while node.parent is not None and node.line is None:
        node = node.parent
    return node


def _inside(node, kind):
    while node is not None and not isinstance(node, kind):
        node = node.parent
    return node is not None


def _first_row(table):
    return [entry.astext() for entry in table.next_node(nodes.row)]
