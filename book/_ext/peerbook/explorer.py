"""The library's panels in a page, without a kernel: the directive `explorer`, and stored frames that a cell puts out.

Their scripts and their style sheet are made of the library's own files, and only pages with a panel load them. They are
mounted without a widget manager, which is some 2 MB of scripts and asks another host for the panels' code.
"""

from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

FOLDER = "explorer"
PLACE = """<div class="peerflow-explorer"><p>The explorer needs JavaScript: it predicts in this page how peers train,
while you change their graph, their algorithm and the step size.</p></div>"""

# How a page knows each panel, and the script that mounts it.
SCRIPTS = {'class="peerflow-explorer"': "explorer.js", 'class="peerflow-frames"': "frames.js"}


class Explorer(SphinxDirective):
    """Where the panel stands."""

    def run(self):
        return [nodes.raw("", PLACE, format="html")]


def write_assets(app):
    """Into a folder of their own, which is copied into the pages' static files."""
    if app.builder.format != "html":
        return
    from peerflow import explorer, frames

    folder = Path(app.doctreedir) / "peerbook-static" / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "explorer.js").write_text(explorer.page_script(), encoding="utf-8")
    (folder / "frames.js").write_text(frames.page_script(), encoding="utf-8")
    (folder / "explorer.css").write_text(explorer.style(), encoding="utf-8")
    app.config.html_static_path.append(str(folder.parent))


def load(app, pagename, templatename, context, doctree):
    """Load them, where a page has a panel."""
    shown = "" if doctree is None else "".join(raw.astext() for raw in doctree.findall(nodes.raw))
    for mark, script in SCRIPTS.items():
        if mark in shown:
            app.add_js_file(f"{FOLDER}/{script}", loading_method="defer")
            app.add_css_file(f"{FOLDER}/explorer.css")
