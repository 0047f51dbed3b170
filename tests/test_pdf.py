"""The book as one PDF: composed from pages, and printed by Chromium where there is one."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import pdf  # noqa: E402

CONFIG = "title: A small book\nauthor: Its authors\nlogo: book/_static/logo.svg\n"
TOC = "root: book/index\nparts:\n  - caption: A part\n    chapters:\n      - file: book/one\n"
PAGE = """<html><head><link rel="stylesheet" href="../_static/print.css?v=1">
{head}</head>
<body><nav>menu</nav><article>{body}</article></body></html>"""
INDEX = '<h1>Start</h1><p>To <a href="one.html#place">a place</a>, <a href="../genindex.html">the index</a>.</p>'
SOLUTION = '<div class="admonition toggle-hidden"><p class="admonition-title">Solution</p><p>answer</p></div>'
FOLDED = '<details class="hide above-input"><summary>Show</summary><p>folded</p></details>'
# Headings at every height of a page: without rules for paper some would be the last line on theirs.
HEADINGS = "".join(f'<div style="height: {61 * n}px"></div><h2>H{n}.</h2><p>T{n}.</p>' for n in range(1, 25))
ONE = f'<h1 id="place">One<a class="headerlink" href="#place">#</a></h1>{SOLUTION}{FOLDED}{HEADINGS}'


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of two pages; the print rules are the real ones."""
    (tmp_path / "_config.yml").write_text(CONFIG)
    (tmp_path / "_toc.yml").write_text(TOC)
    (tmp_path / "html/book").mkdir(parents=True)
    (tmp_path / "html/_static").mkdir()
    shutil.copy(ROOT / "book/_static/print.css", tmp_path / "html/_static")
    shutil.copy(ROOT / "book/_static/logo.svg", tmp_path / "html/_static")
    (tmp_path / "html/_static/mathjax.js").write_text("MathJax = {startup: {promise: Promise.resolve()}}")
    mathjax = '<script src="../_static/mathjax.js"></script>'  # the first page has no formulas
    canonical = '<link rel="canonical" href="https://example.org/book/index.html">'
    (tmp_path / "html/index.html").write_text("")
    (tmp_path / "html/book/index.html").write_text(PAGE.format(head=canonical, body=INDEX))
    (tmp_path / "html/book/one.html").write_text(PAGE.format(head=mathjax, body=ONE))
    monkeypatch.setattr(pdf, "ROOT", tmp_path)
    return tmp_path


def test_links_lead_within_the_document_or_out_of_it():
    pages = {"book/index", "book/one"}
    assert pdf._target("one.html#place", "book/index", pages) == "#book/one:place"
    assert pdf._target("#here", "book/one", pages) == "#book/one:here"
    assert pdf._target("index.html", "book/one", pages) == "#book/index"
    assert pdf._target("https://example.org/a.html#b", "book/one", pages) == "https://example.org/a.html#b"
    assert pdf._target("../genindex.html", "book/one", pages) is None


def test_a_page_keeps_its_text_and_loses_what_paper_cannot_do(book):
    article = pdf.chapter(book / "html", "book/one", {"book/index", "book/one"})
    assert article.find(id="book/one:place").get_text() == "One"
    assert not article.select("details, summary, .headerlink")
    assert "folded" in article.get_text()
    index = pdf.chapter(book / "html", "book/index", {"book/index", "book/one"})
    assert [(a.get_text(), a["href"]) for a in index.find_all("a")] == [("a place", "#book/one:place")]
    assert "the index" in index.get_text()


def test_a_book_that_is_not_built_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="run make html"):
        pdf.main(tmp_path, tmp_path / "book.pdf")


def test_without_chromium_it_says_what_to_install(book, monkeypatch):
    monkeypatch.setattr(pdf, "chromium", lambda: None)
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(book / "nowhere"))
    with pytest.raises(SystemExit, match="install your system's package `chromium`"):
        pdf.main(book / "html", book / "pdf/book.pdf")


@pytest.fixture
def printed(book):
    if pdf.chromium() is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium")
    pdf.main(book / "html", book / "pdf/book.pdf")
    return PdfReader(book / "pdf/book.pdf")


def test_the_book_is_one_document(printed):
    texts = [page.extract_text() for page in printed.pages]
    for line in ("A small book", "Its authors", "https://example.org/book/index.html"):
        assert line in texts[0]
    assert "Start 3" in texts[1]
    assert "One 4" in texts[1]
    assert "a place" in texts[2]
    assert "answer" in texts[3] and "folded" in texts[3]
    assert (printed.metadata.title, printed.metadata.author) == ("A small book", "Its authors")
    start, part, below = printed.outline
    assert [start.title, part.title, below[0].title] == ["Start", "A part", "One"]
    assert [printed.get_destination_page_number(item) for item in (start, part, below[0])] == [2, 3, 3]
    # A heading is on the page of its text.
    for n in range(1, 25):
        assert [f"H{n}." in text.split() for text in texts] == [f"T{n}." in text.split() for text in texts]
        assert any(f"H{n}." in text.split() for text in texts)
