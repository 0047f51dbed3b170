"""The directive `explorer`: the library's live panel in a page, without a kernel, on problems that the book stores.

Its script and its style sheet are made of the library's own files, and only pages with a panel load them. It is mounted
without a widget manager, which is some 2 MB of scripts and asks another host for the panel's code.
"""

from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

FOLDER = "explorer"
PLACE = """<div class="peerflow-explorer"><p>The explorer needs JavaScript: it predicts in this page how peers train,
while you change their graph, their algorithm and the step size.</p></div>"""


class Explorer(SphinxDirective):
    """Where the panel stands."""

    def run(self):
        return [nodes.raw("", PLACE, format="html")]


def write_assets(app):
    """Into a folder of their own, which is copied into the pages' static files."""
    if app.builder.format != "html":
        return
    from peerflow import explorer

    folder = Path(app.doctreedir) / "peerbook-static" / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "explorer.js").write_text(explorer.page_script(), encoding="utf-8")
    (folder / "explorer.css").write_text(explorer.style(), encoding="utf-8")
    app.config.html_static_path.append(str(folder.parent))


def load(app, pagename, templatename, context, doctree):
    """Load them, where a page has a panel."""
    if doctree is not None and any(raw.astext() == PLACE for raw in doctree.findall(nodes.raw)):
        app.add_js_file(f"{FOLDER}/explorer.js", loading_method="defer")
        app.add_css_file(f"{FOLDER}/explorer.css")
