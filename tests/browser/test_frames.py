"""The stored frames of the chapters, served and from files: moved by mouse, touch, keys and by themselves.

That axe finds nothing, that nothing is cut and no other host is asked: ``test_browser_pages.py``, as of any page.
"""

import json
import re
from pathlib import Path

import checks
import pytest
from playwright.sync_api import expect

ROOT = Path(__file__).parents[2]
CHAPTERS = {"kernel": ("files", "Width", "16"), "system": ("book", "Round", "0"), "flows": ("files", "Step", "0")}


def stored(chapter):
    """Return the panel that the chapter's notebook holds."""
    notebook = (ROOT / "book" / f"{chapter}.ipynb").read_text(encoding="utf-8")
    found = [out["data"].get("text/html", "") for out in _outputs(json.loads(notebook)) if "data" in out]
    (html,) = [page for page in map("".join, found) if "peerflow-frames" in page]
    return json.loads(re.search(r"<script[^>]*>(.*)</script>", html)[1])


def _outputs(notebook):
    return [out for cell in notebook["cells"] for out in cell.get("outputs", [])]


@pytest.fixture
def window(browser):
    context = browser.new_context(has_touch=True, viewport={"width": 390, "height": 900})
    yield context
    context.close()


class Shown:
    """The panel of a page, with what is stored in it."""

    def __init__(self, window, base, chapter):
        self.page = window.new_page()
        self.visit = checks.Visit(self.page, base).open(f"{base}/book/{chapter}.html")
        self.panel = self.page.locator(".peerflow-frames[data-ready]")
        self.state = stored(chapter)
        self.slider = self.panel.get_by_role("slider", name=self.state["control"])

    @property
    def place(self):
        return int(self.slider.input_value())

    def agrees(self):
        """Whether all that is said is what is stored for this place."""
        said = self.panel.get_by_role("img").evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
        name = self.state["places"][self.place]
        told = [self.panel.locator("output").inner_text(), self.slider.get_attribute("aria-valuetext")]
        return said == [view["words"][self.place] for view in self.state["views"]] and told == [name, name]

    def drawn(self):
        return self.panel.locator("svg").evaluate_all("all => all.map(one => one.innerHTML)")

    def close(self):
        faults = self.visit.faults
        self.page.close()
        assert faults == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_keys_move_it(window, request, chapter):
    base, control, first = CHAPTERS[chapter]
    shown = Shown(window, request.getfixturevalue(base), chapter)
    assert shown.state["control"] == control and shown.panel.locator("output").inner_text() == first
    assert shown.place == 0 and shown.agrees()
    before = shown.drawn()
    shown.slider.press("ArrowRight")
    assert shown.place == 1 and shown.agrees()
    assert all(one != other for one, other in zip(before, shown.drawn(), strict=True))
    shown.slider.press("End")
    assert shown.place == len(shown.state["places"]) - 1 and shown.agrees()
    told = " ".join(view["words"][-1] for view in shown.state["views"])
    expect(shown.panel.locator(".pf-spoken")).to_have_text(told)
    shown.close()


def test_mouse_and_finger_move_it_and_it_plays(window, book):
    shown = Shown(window, book, "system")
    page, last = shown.page, len(shown.state["places"]) - 1
    shown.slider.scroll_into_view_if_needed()
    box = shown.slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 8, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, middle, steps=3)
    page.mouse.up()
    assert 0.4 * last < shown.place < 0.6 * last and shown.agrees()
    page.touchscreen.tap(box["x"] + box["width"] - 2, middle)
    assert shown.place == last and shown.agrees()
    # From its end it plays from the start.
    play = shown.panel.get_by_role("button", name="Play")
    play.tap()
    page.wait_for_timeout(500)
    shown.panel.get_by_role("button", name="Pause").press("Enter")
    place = shown.place
    assert 0 < place < last / 2 and shown.agrees()
    page.emulate_media(reduced_motion="reduce")
    shown.slider.press("Home")
    play.press("Enter")
    page.wait_for_function("slider => Number(slider.value) > 0", arg=shown.slider.element_handle())
    assert shown.place == round(last / 10)
    shown.slider.press("End")
    assert play.inner_text() == "Play" and shown.place == last
    shown.close()
