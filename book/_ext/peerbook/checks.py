"""What every page must have, said as warnings, which fail the build and name the place.

A picture has a text alternative and a caption; a table has a caption; whatever `references.bib` holds is cited. That
an equation's number leads to an equation is checked by `equations`, which makes it a link.
"""

from docutils import nodes
from sphinx.util import logging

logger = logging.getLogger(__name__)


def _warn(message, place):
    logger.warning(message, location=place, type="peerbook")


def check_page(app, doctree, docname):
    """Pictures and tables."""
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
