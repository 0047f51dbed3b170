"""What this book adds to Jupyter Book: one module for each thing that a page then has.

`equations` links the paper's equation numbers, `tables` gives tables that cells print a number and a caption,
`chapters` says how long a chapter takes, `references` formats the list of references, `explorer` places the panels,
`address` makes of the repository's address whatever needs it, `head` fills the heads of pages, and `checks` says what a
page lacks. `pictures`, `formulas`, `icons` and `thebe` keep pages light: they leave out what a page does not show.
"""

from peerbook import (
    address,
    chapters,
    checks,
    equations,
    explorer,
    formulas,
    head,
    icons,
    pictures,
    references,
    tables,
    thebe,
)


def setup(app):
    app.add_transform(tables.CaptionTables)
    app.add_post_transform(equations.LinkEquations)
    app.add_post_transform(chapters.InsertReadingTime)
    app.add_post_transform(pictures.LightPictures)
    references.register()
    app.add_directive("explorer", explorer.Explorer)
    app.connect("builder-inited", explorer.write_assets)
    app.connect("html-page-context", explorer.load)
    app.connect("config-inited", address.apply)
    # After every extension is set up, before the first of its events.
    app.connect("config-inited", thebe.leave_out, priority=999)
    app.connect("config-inited", formulas.take_over, priority=999)
    # Before and after sphinxext-opengraph (500), which takes a page's description as given and its URL as absolute.
    app.connect("html-page-context", head.describe, priority=400)
    app.connect("html-page-context", head.drop_relative_urls, priority=600)
    app.connect("html-page-context", head.write_root_page)
    app.connect("doctree-resolved", checks.check_page)
    app.connect("env-check-consistency", checks.check_references)
    app.connect("build-finished", head.write_sitemap)
    app.connect("build-finished", icons.keep_used)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
