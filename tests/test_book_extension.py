"""The book's Sphinx extension, on a small book that holds one of each thing, and on that book with faults planted."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from fontTools.ttLib import TTFont
from PIL import Image

EXTENSION = Path(__file__).parent.parent / "book" / "_ext"
sys.path.insert(0, str(EXTENSION))

from peerbook import address, chapters, icons, pictures  # noqa: E402

CONF = """
project = "small"
html_title = "A small book"
root_doc = "book/index"
extensions = ["myst_nb", "sphinxcontrib.bibtex", "sphinx.ext.autodoc", "sphinxext.opengraph", "notfound.extension",
              "peerbook"]
html_theme = "sphinx_book_theme"
myst_enable_extensions = ["dollarmath", "colon_fence"]
bibtex_bibfiles = ["book/references.bib"]
bibtex_reference_style = "author_year"
bibtex_default_style = "author-year"
nb_execution_mode = "off"
nb_render_markdown_format = "gfm"
numfig = True
templates_path = ["TEMPLATES"]
ogp_social_cards = {"enable": False}
html_theme_options = {"repository_url": "ADDRESS", "repository_branch": "main"}
"""

INDEX = r"""
# A book

Its first sentence says what it is about. Its second holds $x$. Its third comes too late.

The update (4) is an average, {cite}`one2023` and {cite}`two2023,three2020`, and (7) has three parts, (7a)-(7c).
Equation 7b, Eq. 4; a value f(4), a volume 52(4), a code `(4)` and a formula $(4)$ are none.
{numref}`tab-prose`, {numref}`tab-cell`.

(eq-4)=
$$ x = 1 \tag{4} $$

:::{table} About (4).
:name: tab-prose

| what | where |
|:--|:--|
| average | (4) |
:::

:::{figure} dot.png
:alt: a dot
:name: fig-dot

Falls as (7b) does.
:::

## From (4) to (7a)

```{toctree}
chapter
api
```

```{bibliography}
```
"""

CHAPTER = r"""# A chapter

Prose of the chapter.

(eq-7a)=
$$ y = 1 \tag{7a} $$

(eq-7b)=
$$ y = 2 \tag{7b} $$

(eq-7c)=
$$ y = 3 \tag{7c} $$
"""

BIBLIOGRAPHY = r"""
@misc{one2023, author = {Nedi{\'c}, A. and Roe, R.}, title = {First}, year = {2023}, eprint = {2409.15267},
  archiveprefix = {arXiv}}
@misc{two2023, author = {Nedi{\'c}, A. and Roe, R.}, title = {Second}, year = {2023}, doi = {10.1000/182}}
@misc{three2020, author = {Doe, A. and Roe, R. and Poe, P.}, title = {Third}, year = {2020}}
"""

PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63600000000200015e14b2780000"
    "000049454e44ae426082"
)


def chapter(caption="Printed, see (4)."):
    table = nbformat.v4.new_output("display_data", {"text/markdown": "| a | b |\n|:--|:--|\n| 1 | (7c) |"})
    figure = {"mystnb": {"figure": {"caption": caption, "name": "tab-cell"}}} if caption else {}
    cells = [
        nbformat.v4.new_markdown_cell(CHAPTER),
        nbformat.v4.new_code_cell("show()", outputs=[table], metadata=figure, execution_count=1),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


def build(folder, *, index=INDEX, notebook=None, bibliography=BIBLIOGRAPHY, url=""):
    """Build the small book; returns what Sphinx said and the folder of pages."""
    source = folder / "source"
    (source / "book").mkdir(parents=True)
    (source / "conf.py").write_text(
        CONF.replace("ADDRESS", url).replace("TEMPLATES", str(EXTENSION.parent / "_templates"))
    )
    (source / "book/index.md").write_text(index)
    (source / "book/api.md").write_text("# API\n\n```{eval-rst}\n.. automodule:: smallmodule\n```\n")
    (source / "smallmodule.py").write_text('"""The update of (4)."""\n')
    (source / "book/dot.png").write_bytes(PICTURE)
    (source / "book/references.bib").write_text(bibliography)
    nbformat.write(notebook or chapter(), source / "book/chapter.ipynb")
    path = os.pathsep.join([str(EXTENSION), str(source)])
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-n", "-q", str(source), str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr, folder / "html"


def read(page):
    return BeautifulSoup(page.read_text(), "html.parser")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    said, html = build(tmp_path_factory.mktemp("book"))
    assert said == ""
    return html


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    said, html = build(tmp_path_factory.mktemp("book"), url="https://github.com/Owner/name.git")
    assert said == ""
    return html


def links(scope):
    return [(a.get_text(), a["href"]) for a in scope.find_all("a", class_="internal") if a.get_text()[0] in "(E"]


def test_every_number_of_an_equation_is_a_link(pages):
    article = read(pages / "book/index.html").find("article")
    prose = article.find_all("p")[1]
    assert links(prose) == [
        ("(4)", "#eq-4"),
        ("(7)", "chapter.html#eq-7a"),
        ("(7a)", "chapter.html#eq-7a"),
        ("(7c)", "chapter.html#eq-7c"),
        ("Equation 7b", "chapter.html#eq-7b"),
        ("Eq. 4", "#eq-4"),
    ]
    assert links(article.find("table")) == [("(4)", "#eq-4")] * 2
    assert links(article.find("figcaption")) == [("(7b)", "chapter.html#eq-7b")]
    assert links(article.find("h2")) == [("(4)", "#eq-4"), ("(7a)", "chapter.html#eq-7a")]


def test_numbers_in_docstrings_and_in_outputs_are_links_that_arrive(pages):
    assert links(read(pages / "book/api.html").find("article")) == [("(4)", "index.html#eq-4")]
    table = read(pages / "book/chapter.html").find("article").find("table")
    assert links(table) == [("(4)", "index.html#eq-4"), ("(7c)", "#eq-7c")]
    for page, anchor in [("index", "eq-4"), ("chapter", "eq-7a"), ("chapter", "eq-7b"), ("chapter", "eq-7c")]:
        assert read(pages / f"book/{page}.html").find(id=anchor)


def test_a_table_that_a_cell_prints_is_numbered_and_captioned(pages):
    table = read(pages / "book/chapter.html").find("article").find("table")
    number = table.caption.find(class_="caption-number").get_text().strip()
    assert table.caption.find(class_="caption-text").get_text() == "Printed, see (4)."
    assert table["id"] == "tab-cell"
    assert not table.find_parent("figure")
    index = read(pages / "book/index.html").find("article")
    assert (number, "chapter.html#tab-cell") in [(a.get_text(), a["href"]) for a in index.find_all("a")]
    assert number != index.table.caption.find(class_="caption-number").get_text().strip()


def test_only_chapters_say_how_long_they_take(pages):
    title = read(pages / "book/chapter.html").find("h1")
    assert title.find_next("p").get_text() == "Reading time: about 1 minute, without the exercises."
    assert not read(pages / "book/index.html").find(class_="reading-time")


def test_reading_time_counts_prose_equations_and_open_code():
    from docutils import nodes

    words, code = "word " * 420, "x = 1\n" * 20
    cell = nodes.container("", nodes.literal_block(code, code), classes=["cell"])
    folded = nodes.container("", nodes.literal_block(code, code), classes=["cell", "tag_hide-input"])
    exercise = nodes.container("", nodes.paragraph("", words), classes=["exercise"])
    page = nodes.section("", nodes.paragraph("", words), nodes.math_block("", "x"), cell, folded, exercise)
    assert chapters.minutes(page) == pytest.approx(2 + 1 / 6 + 1)
    assert [chapters.rounded(time) for time in (0.1, 3.4, 9.7, 12, 13)] == [1, 3, 10, 10, 15]


def test_the_list_of_references_is_by_the_names_and_years_of_the_text(pages):
    article = read(pages / "book/index.html").find("article")
    listed = {
        entry["id"]: entry.find(class_="label").get_text().strip("[]") for entry in article.select("div.citation")
    }
    cited = {a["href"].lstrip("#"): a.get_text() for a in article.select("span.bibtex-citation a")}
    assert listed == cited
    assert sorted(listed.values()) == ["Doe et al., 2020", "Nedić and Roe, 2023a", "Nedić and Roe, 2023b"]
    external = {a["href"] for a in article.select("div.citation a.external")}
    assert external == {"https://arxiv.org/abs/2409.15267", "https://doi.org/10.1000/182"}


def meta(page, **which):
    found = page.find("meta", which)
    return found and found["content"]


def test_without_an_address_nothing_names_another_host(pages):
    head = read(pages / "book/index.html").head
    assert not head.find("link", rel="canonical")
    assert meta(head, property="og:url") is None
    assert meta(head, property="og:title") == "A book"
    assert not (pages / "sitemap.xml").exists()
    for page in ("index", "chapter"):
        article = read(pages / f"book/{page}.html")
        outward = [a["href"] for a in article.select(".bd-header-article a[href^=http], .bd-header a[href^=http]")]
        assert outward == []


def test_descriptions_are_sentences_without_formulas(pages):
    head = read(pages / "book/index.html").head
    assert meta(head, **{"name": "description"}) == "Its first sentence says what it is about."
    assert meta(head, property="og:description") == "Its first sentence says what it is about."
    assert meta(read(pages / "book/chapter.html").head, **{"name": "description"}) == "Prose of the chapter."


def test_the_root_page_leads_to_the_first(pages, published):
    root = read(pages / "index.html")
    assert root.title.get_text() == "A small book"
    assert meta(root, **{"name": "description"}) == "Its first sentence says what it is about."
    assert root.find("a")["href"] == "book/index.html"
    assert read(published / "index.html").find("link", rel="canonical")["href"] == (
        "https://owner.github.io/name/book/index.html"
    )


def test_an_address_gives_buttons_canonical_addresses_and_a_sitemap(published):
    page = read(published / "book/chapter.html")
    outward = {a["href"].split("?")[0] for a in page.select(".bd-header-article a[href^=http]")}
    assert outward == {
        "https://github.com/Owner/name",
        "https://github.com/Owner/name/issues/new",
        "https://github.com/Owner/name/edit/main/book/chapter.ipynb",
        "https://mybinder.org/v2/gh/Owner/name/main",
    }
    launch = page.find("a", href=lambda href: href and "mybinder" in href)["href"]
    assert launch.endswith("?urlpath=lab/tree/book/chapter.ipynb")
    home = "https://owner.github.io/name/"
    assert page.find("link", rel="canonical")["href"] == f"{home}book/chapter.html"
    index = read(published / "book/index.html")
    assert meta(index, property="og:url") == f"{home}book/index.html"
    picture = meta(index, property="og:image")
    assert (published / picture.removeprefix(home)).exists()
    assert meta(index, property="og:image:alt") == "a dot"
    found = [entry.text for entry in ElementTree.parse(published / "sitemap.xml").iter() if entry.tag.endswith("loc")]
    assert found == [f"{home}book/{page}.html" for page in ("api", "chapter", "index")]


@pytest.mark.parametrize("which", ["pages", "published"])
def test_a_lost_reader_finds_the_book_from_any_depth(which, request):
    html = request.getfixturevalue(which)
    prefix = {"pages": "/", "published": "/name/"}[which]
    lost = read(html / "404.html")
    addresses = [tag.get("href") or tag.get("src") for tag in lost.select("a[href], link[href], script[src], img[src]")]
    own = [entry for entry in addresses if not entry.startswith(("http", "#"))]
    assert own
    assert [entry for entry in own if not entry.startswith(prefix)] == []
    files = [html / entry.removeprefix(prefix).split("?")[0].split("#")[0] for entry in own]
    assert [file for file in files if not file.exists()] == []


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("https://github.com/owner/name.git", "https://github.com/owner/name"),
        ("https://x-access-token:secret@github.com/owner/name", "https://github.com/owner/name"),
        ("git@github.com:owner/name.git", "https://github.com/owner/name"),
        ("ssh://git@github.com/owner/na.me.git", "https://github.com/owner/na.me"),
        ("/srv/git/name.git", ""),
        ("https://example.org/owner/name", ""),
    ],
)
def test_a_remote_gives_an_address_or_none(tmp_path, remote, expected):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert address.repository("", tmp_path) == ""
    subprocess.run(["git", "-C", str(tmp_path), "remote", "add", "origin", remote], check=True)
    assert address.repository("", tmp_path) == expected
    assert address.repository("https://github.com/a/b", tmp_path) == "https://github.com/a/b"


def test_a_setting_that_is_no_address_is_an_error(tmp_path):
    from sphinx.errors import ConfigError

    with pytest.raises(ConfigError, match=r"expected https://github\.com/OWNER/NAME"):
        address.repository("github.com/owner", tmp_path)


def test_a_users_own_pages_stand_at_the_root():
    assert address.site("https://github.com/Owner/owner.github.io") == "https://owner.github.io/"


FAULTS = {
    "a picture without a text alternative": (":alt: a dot\n", "", "has no text alternative"),
    "a picture without a caption": ("\nFalls as (7b) does.\n", "", "figure fig-dot has no caption"),
    "a picture outside a figure": ("## From (4)", "![dot](dot.png)\n\n## From (4)", "is in no figure"),
    "a table without a caption": ("## From", "| c | d |\n|:--|:--|\n| 1 | 2 |\n\n## From", "has no caption: c | d"),
    "a number without an equation": ("The update (4)", "The update (5)", "no equation of this book is (5)"),
    "a word without an equation": ("Its third comes", "Equation 9 comes", "no equation of this book is Equation 9"),
    "an entry that is not cited": (",three2020", "", "no page cites three2020"),
}


@pytest.fixture(scope="module")
def said_of_faults(tmp_path_factory):
    """All faults at once: a build takes seconds."""
    index = INDEX.replace(", {numref}`tab-cell`", "")
    for good, bad, _ in FAULTS.values():
        assert index.count(good) >= 1
        index = index.replace(good, bad, 1)
    said, _ = build(tmp_path_factory.mktemp("faults"), index=index, notebook=chapter(caption=None))
    return [line for line in said.splitlines() if "WARNING" in line]


@pytest.mark.parametrize("message", [message for _, _, message in FAULTS.values()] + ["has no caption: a | b"])
def test_a_fault_is_said_once(message, said_of_faults):
    assert len([line for line in said_of_faults if message in line]) == 1


def test_nothing_is_said_but_the_faults(said_of_faults):
    assert len(said_of_faults) == len(FAULTS) + 1


def test_every_icon_of_a_page_is_in_a_font(published):
    """Of the pages with an address, since the buttons of GitHub are among their icons."""
    static = published / "_static"
    sheet = (static / icons.SHEET).read_text()
    rules = {
        name: int(code.removeprefix("\\"), 16)
        for names, code in icons.RULE.findall(sheet)
        for name in icons.used([names])
    }
    fonts = {path.stem: TTFont(path).getBestCmap() for path in (static / icons.FONTS).iterdir()}
    solid, brands = fonts["fa-solid-900"], fonts["fa-brands-400"]
    shown = {tuple(tag["class"]) for page in published.rglob("*.html") for tag in read(page).select("[class*=fa-]")}
    # Of the classes of an icon one is its name, the others are sizes and styles.
    names = {next(one for one in classes if one in rules) for classes in shown}
    assert {"fa-bars", "fa-moon", "fa-magnifying-glass", "fa-github"} <= names
    assert {name for name in names if rules[name] not in {**solid, **brands}} == set()
    # Those that the style sheet shows itself, of a note for instance, it writes as they are.
    assert 0xF05A in solid and len(solid) < 200
    assert not list(static.rglob("fontawesome.js")) and not list(static.rglob("*.woff2"))


def test_the_theme_shows_icons_by_its_fonts(published):
    sheet = (published / "_static" / icons.SHEET).read_text()
    assert set(re.findall(r"webfonts/([\w-]+\.woff)\) format", sheet)) == {
        path.name for path in (published / "_static" / icons.FONTS).iterdir()
    }
    assert "fontawesome.js" not in (published / "book/index.html").read_text()


def test_a_style_sheet_keeps_the_icons_that_are_used():
    rules = '.fa-a:before,.fa-b:before{content:"\\f001"}.fa-c:before{content:"\\f002"}.fa-spin{x:y}'
    assert icons.cut_sheet(rules, {"fa-b"}) == rules.replace('.fa-c:before{content:"\\f002"}', "")
    face = '@font-face{src:url(../v/fa-x.woff2) format("woff2"),url(../v/fa-x.ttf) format("truetype")}'
    assert icons.cut_sheet(face, set()) == (
        '@font-face{src:url(../vendor/fontawesome/webfonts/fa-x.woff) format("woff")}'
    )
    assert icons.characters(['a{content:"\\f05a"}', "\uf0f3"]) >= {0xF05A, 0xF0F3}


def test_a_picture_becomes_light_and_looks_the_same(pages, tmp_path, rng):
    assert [path.suffix for path in (pages / "_images").iterdir()] == [".webp"]
    few = Image.fromarray(rng.integers(0, 2, (40, 50, 3), dtype=np.uint8) * 255)
    many = Image.linear_gradient("L").convert("RGB").rotate(30)
    clear = Image.merge("RGBA", [*few.split(), few.getchannel(0)])
    for picture, close in ((few, 0), (many, 4), (clear, 0)):
        picture.save(tmp_path / "one.png")
        pictures.convert(tmp_path / "one.png", tmp_path / "one.webp")
        found = Image.open(tmp_path / "one.webp")
        assert found.mode == picture.mode and found.size == picture.size
        shown, stored = (np.asarray(one).astype(int) for one in (found, picture))
        # Where nothing shines, no colour is seen.
        apart = np.abs(shown - stored) if picture.mode == "RGB" else np.abs(shown - stored)[stored[..., 3] > 0]
        assert apart.max() <= close
