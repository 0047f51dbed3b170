"""The whole book as one PDF: the pages that are in _build/html, in reading order, printed by Chromium.

python tools/pdf.py _build/html _build/pdf/book.pdf
"""

import datetime
import html
import logging
import posixpath
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright
from pypdf import PdfReader, PdfWriter

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 658  # CSS pixels between the margins of a page of A4, as book/_static/print.css sets them
MISSING = (
    "make pdf prints with Chromium, and there is none: install your system's package `chromium`, "
    "or run `.venv/bin/playwright install chromium`"
)
FOOTER = '<div style="font: 8px sans-serif; width: 100%; text-align: center"><span class="pageNumber"></span></div>'


def config():
    """Title and author, among other things."""
    return yaml.safe_load((ROOT / "_config.yml").read_text())


def parts():
    """The table of contents, as [(part, [page, ...]), ...]; the root comes first, without a part."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [("", [toc["root"]])] + [(p["caption"], [c["file"] for c in p["chapters"]]) for p in toc["parts"]]


def chapter(folder, page, pages):
    """The article of one page, its anchors made unique in the book and its links turned to them."""
    soup = BeautifulSoup((folder / f"{page}.html").read_text(), "html.parser")
    article = soup.select("article")[0]
    for tag in article.select("script, a.headerlink, button, details.hide > summary"):
        tag.decompose()
    for details in article.find_all("details"):
        if "hide" in details.get_attribute_list("class"):
            details.unwrap()  # code that the pages fold
        else:
            details["open"] = ""
    for tag in article.find_all(id=True):
        tag["id"] = f"{page}:{tag['id']}"
    for link in article.find_all("a", href=True):
        target = _target(link["href"], page, pages)
        if target is None:
            link.unwrap()
        else:
            link["href"] = target
    for image in article.find_all("img"):
        image["src"] = _resource(folder, page, image["src"])
    article.attrs = {"class": "bd-article", "id": page}
    return article


def _target(href, page, pages):
    """A place in the PDF for a place on a page; None for one that is not printed."""
    if "://" in href or href.startswith("mailto:"):
        return href
    path, _, anchor = href.partition("#")
    name = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)).removesuffix(".html") if path else page
    if name not in pages:
        return None
    return f"#{name}:{anchor}" if anchor else f"#{name}"


def _resource(folder, page, path):
    return "file://" + posixpath.normpath(posixpath.join(str(folder), posixpath.dirname(page), path.split("?")[0]))


def head(folder, pages):
    """What the pages load and need on paper too, each once: their styles and MathJax."""
    kept = {}
    for page in pages:
        soup = BeautifulSoup((folder / f"{page}.html").read_text().partition("</head>")[0], "html.parser")
        tags = soup.select("link[rel~=stylesheet]")
        tags += [s for s in soup.select("script") if "mathjax" in str(s.get("src")) or "window.MathJax" in s.text]
        for tag in tags:
            for attribute in {"src", "href"} & set(tag.attrs):
                tag[attribute] = _resource(folder, page, tag[attribute])
            kept[str(tag)] = None
    return "\n".join(kept)


def title_page(folder, root):
    """Title, author, date, and the book's address where it has one."""
    canonical = BeautifulSoup((folder / f"{root}.html").read_text(), "html.parser").find("link", rel="canonical")
    lines = [config()["author"], _date()]
    address = html.escape(str(canonical["href"])) if canonical else ""
    link = f'<p><a href="{address}">{address}</a></p>' if address else ""
    text = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    logo = _resource(folder, "", f"_static/{Path(config()['logo']).name}")
    title = f'<img src="{logo}" alt=""><h1>{html.escape(config()["title"])}</h1>'
    return f'<header class="title-page">{title}{text}{link}</header>'


def _date():
    """The day of the last change, or today where there is no history."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%cs"]
    try:
        changed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        changed = ""
    return changed or datetime.date.today().isoformat()


def contents(articles):
    """Chapters under their parts, with room for the page that each begins on."""
    rows = []
    for part, pages in parts():
        rows += [f'<li class="part">{html.escape(part)}</li>'] if part else []
        for page in pages:
            title = html.escape(articles[page].find("h1").get_text())
            rows.append(f'<li><a href="#{page}">{title}</a><span data-page="{page}"></span></li>')
    return f'<nav class="pdf-contents"><p class="pdf-contents-title">Contents</p><ul>{"".join(rows)}</ul></nav>'


def compose(folder):
    """The book as one page of HTML."""
    pages = [page for _, names in parts() for page in names]
    articles = {page: chapter(folder, page, set(pages)) for page in pages}
    body = title_page(folder, pages[0]) + contents(articles) + "".join(map(str, articles.values()))
    title = html.escape(config()["title"])
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light" data-mode="light"><head><meta charset="utf-8">'
        f'<title>{title}</title>{head(folder, pages)}</head><body class="printed">{body}</body></html>'
    )


def chromium():
    """Where Chromium is: the system's, else None for Playwright's own."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


# What is wider than the page is set smaller: paper has no scroll bars.
SHRINK = """() => {
  for (const box of document.querySelectorAll("div.math mjx-container, table, .highlight pre")) {
    const room = box.parentElement.clientWidth;
    const width = box.matches("mjx-container") ? box.scrollWidth : box.offsetWidth;
    if (width > room + 1) box.style.fontSize = `${Math.floor(95 * room / width)}%`;
  }
}"""

TITLES = """() => Object.fromEntries([...document.querySelectorAll(".printed > .bd-article")].map(
  (article) => [article.id, article.querySelector("h1").textContent]))"""

FILL = """(numbers) => {
  for (const place of document.querySelectorAll("[data-page]")) place.textContent = numbers[place.dataset.page];
}"""


def print_pdf(source, target):
    """Print `source` twice: only the first printing tells on which page a chapter begins."""
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        system = chromium()
        if system is None and not own.exists():
            raise SystemExit(MISSING)
        browser = playwright.chromium.launch(executable_path=system, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
        page.emulate_media(media="print", color_scheme="light")
        page.set_default_timeout(300_000)
        page.goto(source.as_uri())
        page.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
        page.evaluate("MathJax.startup.promise.then(() => document.fonts.ready).then(() => null)")
        page.evaluate(SHRINK)
        write = partial(page.pdf, path=target, prefer_css_page_size=True, print_background=True, tagged=True)
        write = partial(write, display_header_footer=True, header_template="<span></span>", footer_template=FOOTER)
        write()
        page.evaluate(FILL, starts(target))
        write()
        titles = page.evaluate(TITLES)
        browser.close()
    return titles


def starts(target):
    """The number of the page on which each chapter begins."""
    reader = PdfReader(target)
    numbers = {name: reader.get_destination_page_number(place) for name, place in reader.named_destinations.items()}
    places = {name.lstrip("/"): number + 1 for name, number in numbers.items() if number is not None}
    return {page: places[page] for _, pages in parts() for page in pages}


def finish(target, titles):
    """Bookmarks, chapters under their parts, and the author."""
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of what it mends in Chromium's files
    first = starts(target)
    writer = PdfWriter(clone_from=target)
    for part, pages in parts():
        above = writer.add_outline_item(title=part, page_number=first[pages[0]] - 1) if part else None
        for page in pages:
            writer.add_outline_item(title=titles[page], page_number=first[page] - 1, parent=above)
    writer.add_metadata({"/Author": config()["author"]})
    writer.write(target)


def main(folder, target):
    folder, target = Path(folder).resolve(), Path(target).resolve()
    if not (folder / "index.html").exists():
        raise SystemExit(f"there is no book in {folder} yet: run make html")
    target.parent.mkdir(parents=True, exist_ok=True)
    source = target.with_suffix(".html")
    source.write_text(compose(folder))
    finish(target, print_pdf(source, target))
    source.unlink()
    print(f"{target}: {len(PdfReader(target).pages)} pages")


if __name__ == "__main__":
    main(*sys.argv[1:])
