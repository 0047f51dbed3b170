"""A page is weighed with all that it loads, and what is too heavy is noticed."""

import random

import checks
import pytest
import weight
from serving import serve


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield page
    page.close()


def test_the_explorer_is_light_with_all_of_its_problems(page, book):
    weighed = weight.Weight(page)
    checks.Visit(page, book).open(f"{book}/book/explore.html")
    page.wait_for_selector(".peerflow-explorer[data-ready]")
    problems = page.locator(".peerflow-explorer select").first
    for name in problems.locator("option").evaluate_all("options => options.map(option => option.value)"):
        problems.select_option(name)
        page.wait_for_function("name => name in window.peerflowStored", arg=name)
    parts = weighed.parts()
    assert {"moons.js", "mnist.js", "digits.js"} <= {url.rpartition("/")[2] for url in parts}
    assert weight.fault("explore", parts, weight.EXPLORER) is None


def test_a_page_without_formulas_typesets_those_of_a_definition(page, book):
    """No script of MathJax comes before a definition opens that needs it."""
    weighed = weight.Weight(page)
    visit = checks.Visit(page, book).open(f"{book}/book/map.html")
    assert not any("mathjax" in url for url in weighed.parts())
    # Of the links on this page, one to an equation.
    page.locator("main a[href*='#eq-']").first.hover()
    page.wait_for_selector(".tippy-box mjx-container mjx-assistive-mml", state="attached")
    assert visit.faults == []


def test_a_heavy_page_is_noticed(page, tmp_path):
    noise = random.Random(0).randbytes(weight.PAGE)
    (tmp_path / "noise.png").write_bytes(noise)
    (tmp_path / "zeros.js").write_bytes(b" " * 10 * weight.PAGE)  # compressed, these weigh nothing
    (tmp_path / "page.html").write_text("<!DOCTYPE html><script src='zeros.js'></script><img src='noise.png'>")
    server = serve(tmp_path)
    weighed = weight.Weight(page)
    page.goto(f"http://127.0.0.1:{server.server_port}/page.html")
    found = weight.fault("page", weighed.parts(), weight.PAGE)
    server.shutdown()
    server.server_close()
    assert found is not None and found.splitlines()[1].endswith("noise.png")
