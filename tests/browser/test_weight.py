"""What a browser transfers for a page: all that it asks for, compressed as servers do."""

import gzip
import random

import checks
import pytest
from serving import serve
from test_browser_pages import PAGES

PAGE, EXPLORER = 700_000, 2_000_000
HEAVIEST = 6


class Weight:
    """The answers that a page gets from now on."""

    def __init__(self, page):
        self.page, self.answers = page, []
        page.on("response", lambda answer: self.answers.append(answer))

    def parts(self) -> dict[str, int]:
        """Return the bytes of each, once nothing more is asked for, heaviest first."""
        self.page.wait_for_load_state("networkidle")
        bodies = {answer.url: answer.body() for answer in self.answers}
        # What is packed already, as pictures and fonts are, is sent as it is.
        sizes = {url: min(len(body), len(gzip.compress(body, mtime=0))) for url, body in bodies.items()}
        return dict(sorted(sizes.items(), key=lambda part: -part[1]))


def fault(name, parts, limit) -> str | None:
    """Say by how much, and for what, a page is too heavy."""
    total = sum(parts.values())
    listed = "".join(f"\n{size / 1000:8.0f} kB  {url}" for url, size in list(parts.items())[:HEAVIEST])
    text = f"{name}: {total / 1000:.0f} kB of {limit / 1000:.0f} kB, of which{listed}"
    print(text)
    return text if total > limit else None


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield page
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_light(name, page, book):
    weight = Weight(page)
    checks.Visit(page, book).open(f"{book}/{name}.html")
    assert fault(name, weight.parts(), PAGE) is None


def test_the_explorer_is_light_with_all_of_its_problems(page, book):
    weight = Weight(page)
    checks.Visit(page, book).open(f"{book}/book/explore.html")
    page.wait_for_selector(".peerflow-explorer[data-ready]")
    problems = page.locator(".peerflow-explorer select").first
    for name in problems.locator("option").evaluate_all("options => options.map(option => option.value)"):
        problems.select_option(name)
        page.wait_for_function("name => name in window.peerflowStored", arg=name)
    parts = weight.parts()
    assert {"moons.js", "mnist.js", "digits.js"} <= {url.rpartition("/")[2] for url in parts}
    assert fault("explore", parts, EXPLORER) is None


def test_a_page_without_formulas_typesets_those_of_a_definition(page, book):
    """No script of MathJax comes before a definition opens that needs it."""
    weight = Weight(page)
    visit = checks.Visit(page, book).open(f"{book}/book/map.html")
    assert not any("mathjax" in url for url in weight.parts())
    # Of the links on this page, one to an equation.
    page.locator("main a[href*='#eq-']").first.hover()
    page.wait_for_selector(".tippy-box mjx-container mjx-assistive-mml", state="attached")
    assert visit.faults == []


def test_a_heavy_page_is_noticed(page, tmp_path):
    noise = random.Random(0).randbytes(PAGE)
    (tmp_path / "noise.png").write_bytes(noise)
    (tmp_path / "zeros.js").write_bytes(b" " * 10 * PAGE)  # compressed, these weigh nothing
    (tmp_path / "page.html").write_text("<!DOCTYPE html><script src='zeros.js'></script><img src='noise.png'>")
    server = serve(tmp_path)
    weight = Weight(page)
    page.goto(f"http://127.0.0.1:{server.server_port}/page.html")
    found = fault("page", weight.parts(), PAGE)
    server.shutdown()
    server.server_close()
    assert found is not None and found.splitlines()[1].endswith("noise.png")
