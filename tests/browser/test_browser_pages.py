"""Every page of the book, on a phone, a tablet and a desk, in the light and in the dark."""

from pathlib import Path

import checks
import pytest
import weight
import yaml

ROOT = Path(__file__).parents[2]
WIDTHS = (390, 820, 1280)


def contents(entry) -> list[str]:
    """Return the pages that a table of contents names, in order."""
    if isinstance(entry, list):
        return [name for one in entry for name in contents(one)]
    if not isinstance(entry, dict):
        return []
    own = [str(entry[key]).removesuffix(".ipynb") for key in ("root", "file") if key in entry]
    return own + [name for value in entry.values() for name in contents(value)]


# The kinds of text whose contrast was looked at, on whatever page: see checks.contrast.
KNOWN: list[str] = []
PAGES = [*contents(yaml.safe_load((ROOT / "_toc.yml").read_text())), "genindex", "py-modindex", "search"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page(name, browser, book):
    """One visit: it is weighed, then the window is resized and the light turned down, as a reader may do."""
    window = browser.new_context(has_touch=True, viewport={"width": WIDTHS[0], "height": 900}, color_scheme="light")
    page = window.new_page()
    weighed = weight.Weight(page)
    visit = checks.Visit(page, book).open(f"{book}/{name}.html")
    heavy = weight.fault(name, weighed.parts(), weight.PAGE)
    faults = [heavy] if heavy else []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        checks.settle(page)
        found = checks.layout(page)
        # Colours do not depend on the width, nor names on the scheme; a desk shows the most of them.
        if width == WIDTHS[0]:
            found += checks.accessibility(page, KNOWN) if name == PAGES[0] else checks.contrast(page, KNOWN)
        faults += [f"{width} px, light: {fault}" for fault in found]
    page.emulate_media(color_scheme="dark")
    checks.settle(page)
    faults += [f"{width} px, dark: {fault}" for fault in checks.layout(page) + checks.accessibility(page, KNOWN)]
    # The menus are the theme's, the same on every page: each is opened at one width, a third of the pages at each.
    # Last, since the names of pressed buttons stay for a moment on top of the page.
    width = WIDTHS[PAGES.index(name) % len(WIDTHS)]
    page.set_viewport_size({"width": width, "height": 900})
    checks.settle(page)
    faults += [f"{width} px: {fault}" for fault in checks.menus(page)]
    window.close()
    assert visit.faults + faults == []


def test_every_page_is_visited():
    assert {"book/index", "book/kernel", "book/api", "book/status"} <= set(PAGES)
    assert len(PAGES) == len(set(PAGES)) > 20
