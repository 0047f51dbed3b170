"""Tables that code cells print, numbered and captioned like those of the text.

MyST-NB makes a figure of any output whose cell names one in its metadata. A figure that holds a table is a table.
"""

from docutils import nodes
from sphinx.transforms import SphinxTransform


class CaptionTables(SphinxTransform):
    """Replaces each figure around a table by that table, with the figure's caption and name."""

    default_priority = 840  # before the labels are collected (850), which number what they find

    def apply(self, **kwargs):
        for figure in list(self.document.findall(nodes.figure)):
            table = figure.next_node(nodes.table)
            if table is not None and figure.next_node(nodes.image) is None:
                figure.replace_self(self._captioned(table, figure))

    def _captioned(self, table, figure):
        for attribute in ("ids", "names", "classes"):
            table[attribute] += figure[attribute]
        for label in figure["ids"]:
            self.document.ids[label] = table
        caption = figure.next_node(nodes.caption)
        if caption is not None:
            title = nodes.title(caption.rawsource, "", *caption.children)
            title.source, title.line = caption.source, caption.line
            table.insert(0, title)
        return table
