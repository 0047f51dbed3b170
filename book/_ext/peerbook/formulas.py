"""MathJax in parts, and where there is something to typeset.

The file that holds all of MathJax is 260 kB compressed, nearly half of it a menu that this book does not open. Its
parts that a formula needs are 160 kB; they are loaded by pages with formulas, and elsewhere by `book.js`, once a
definition opens that holds one.
"""

import json

from sphinx.ext import mathjax

SCRIPT = "mathjax/startup.js"
PARTS = ["core", "input/tex", "output/chtml", "a11y/assistive-mml"]


def take_over(app, config):
    """Sphinx would load MathJax on every page: one whose contents lead to a page with formulas counts as one."""
    if "sphinx-mathjax-offline" not in app.extensions:
        return
    config.mathjax_path = SCRIPT
    listeners = app.events.listeners["html-page-context"]
    app.events.listeners["html-page-context"] = [one for one in listeners if one.handler is not mathjax.install_mathjax]
    app.connect("html-page-context", load)


def load(app, pagename, templatename, context, doctree):
    """Say how formulas are typeset, and load what does it."""
    if doctree is None:
        return
    settings = {"loader": {"load": PARTS}, **app.config.mathjax3_config}
    app.add_js_file(None, body=f"window.MathJax = {json.dumps(settings)}")
    if 'class="math ' in context["body"]:
        app.add_js_file(SCRIPT, loading_method="defer")
