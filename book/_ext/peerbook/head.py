"""The head of every page, and the two pages that are in no table of contents: the root, and the map of the site."""

import html
import re
from pathlib import Path
from urllib.parse import urljoin

from docutils import nodes

LENGTH = 300  # characters: search engines show no more of a description

ROOT_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<meta name="description" content="{description}">
<link rel="canonical" href="{canonical}">
<link rel="icon" href="_static/{favicon}">
<meta http-equiv="refresh" content="0; url={page}">
<style>body {{ font: 1.2rem/1.6 sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem; }}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{description}</p>
<p><a href="{page}">Open the book</a></p>
</main>
</body>
</html>
"""


def description(doctree):
    """The sentences of a page's first paragraph that come before a formula, as many as fit."""
    for paragraph in doctree.findall(nodes.paragraph):
        if "reading-time" in paragraph["classes"] or not isinstance(paragraph.parent, nodes.section):
            continue
        text = "".join("\0" if isinstance(node, nodes.math) else node for node in _leaves(paragraph))
        chosen = ""
        for sentence in re.split(r"(?<=[.?!]) ", " ".join(text.split())):
            if "\0" in sentence or len(chosen) + len(sentence) > LENGTH:
                break
            chosen += sentence + " "
        if chosen:
            return chosen.strip()
    return ""


def _leaves(node):
    for child in node.children:
        if isinstance(child, (nodes.Text, nodes.math)):
            yield child
        else:
            yield from _leaves(child)


def describe(app, pagename, templatename, context, doctree):
    """Sentences for search engines, and for whoever shows a link to the page."""
    if doctree is None:
        return
    context["meta"] = meta = dict(context["meta"] or {})
    text = description(doctree)
    if text:
        meta["og:description"] = text
        context["metatags"] += f'<meta name="description" content="{html.escape(text)}" />\n'


def drop_relative_urls(app, pagename, templatename, context, doctree):
    """Open Graph knows absolute addresses only: without the site's own there is none to give."""
    if doctree is not None and not app.config.html_baseurl:
        context["metatags"] = re.sub(r'<meta property="og:url"[^>]*/>\n', "", context["metatags"])


def write_root_page(app, pagename, templatename, context, doctree):
    """A page at the root of the site that leads to the first of the book."""
    if pagename != app.config.root_doc or pagename == "index" or app.builder.name != "html":
        return
    page = app.builder.get_target_uri(pagename)
    text = ROOT_PAGE.format(
        title=html.escape(app.config.html_title),
        description=html.escape(description(doctree)),
        canonical=urljoin(app.config.html_baseurl, page),
        favicon=Path(app.config.html_favicon or "").name,
        page=page,
    )
    Path(app.outdir, "index.html").write_text(text)


def write_sitemap(app, exception):
    """The addresses of all pages, where the site's own is known."""
    base = app.config.html_baseurl
    if exception or app.builder.name != "html" or not base:
        return
    pages = sorted(urljoin(base, app.builder.get_target_uri(name)) for name in app.env.found_docs)
    entries = "".join(f"<url><loc>{html.escape(page)}</loc></url>\n" for page in pages)
    header = '<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
    Path(app.outdir, "sitemap.xml").write_text(f"{header}{entries}</urlset>\n")
