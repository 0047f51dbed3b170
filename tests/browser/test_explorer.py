"""The explorer in the book's pages: every way to move it, and the library's own numbers."""

import re

import checks
import networkx as nx
import numpy as np
import pytest

from peerflow import ATC, CTA, DGD, data, linearize, mixing, models, predict, stability
from peerflow.explorer import weights

AGENTS, STEPS = 8, 200
CYCLE = [[q, q + 1] for q in range(AGENTS - 1)] + [[0, AGENTS - 1]]
RULES = {"DGD": DGD, "ATC": ATC, "CTA": CTA}
# What is stored has few directions, and is shown with four digits.
CLOSE = 2e-3


@pytest.fixture(scope="module")
def lin():
    """The half moons of the landing page, in all their directions."""
    agents = data.half_moons(agents=AGENTS, samples=200, noise=0.1, seed=0)
    model = models.mlp(inputs=2, widths=(256,), outputs=1)
    return linearize(model, agents, model.init(0))


@pytest.fixture(params=["served", "file"])
def base(request):
    """Where what is loaded, and what the address says, may differ."""
    return request.getfixturevalue({"served": "book", "file": "files"}[request.param])


@pytest.fixture
def window(browser):
    context = browser.new_context(has_touch=True, viewport={"width": 1280, "height": 1000})
    yield context
    context.close()


class Shown:
    """The explorer of a page, and what it says."""

    def __init__(self, window, base, address="", page="index"):
        self.page = window.new_page()
        self.visit = checks.Visit(self.page, base).open(f"{base}/book/{page}.html{address}")
        self.page.wait_for_selector(".peerflow-explorer[data-ready]")
        self.settle()

    def settle(self):
        """Wait for the numbers, which come after the pictures, and for the sentence, which comes last."""
        self.page.wait_for_timeout(700)

    def number(self, name):
        return self.page.locator(f"[data-number={name}]").inner_text()

    def says(self, picture):
        return self.page.locator(f".pf-{picture}").get_attribute("aria-label")

    def drawn(self):
        return self.page.locator(".pf-losses .pf-line").evaluate_all(
            "lines => lines.map(line => line.getAttribute('d'))"
        )

    def peer(self, q):
        return self.page.locator(".pf-peer").nth(q)

    def close(self):
        faults = self.visit.faults
        self.page.close()
        assert faults == []


def mean_loss(lin, algorithm, edges, step_size, count=STEPS, *, time="iteration", objective="local"):
    dynamics = predict(RULES[algorithm](weights(AGENTS, edges), objective=objective), lin, step_size=step_size)
    return (dynamics.after if time == "iteration" else dynamics.at)([count]).losses.mean()


def test_the_numbers_are_the_librarys(window, base, lin):
    shown = Shown(window, base)
    dgd = DGD(mixing.metropolis_hastings(nx.cycle_graph(AGENTS)))
    last = predict(dgd, lin, step_size=1.0).after([STEPS])
    assert float(shown.number("loss")) == pytest.approx(last.losses.mean(), rel=CLOSE)
    apart = mixing.disagreement(last.coefficients[0])
    assert float(shown.number("disagreement")) == pytest.approx(apart, rel=CLOSE)
    assert float(shown.number("gap")) == pytest.approx(mixing.spectral_gap(dgd.W), rel=CLOSE)
    assert shown.number("sent") == "3.28·10⁶" and 2 * AGENTS * lin.theta0.size * STEPS == 3_280_000
    assert shown.number("verdict") == "stable"
    assert "Real training" in shown.says("losses") and shown.page.locator(".pf-band").count() == AGENTS
    assert "After 200 steps" in shown.page.locator(".pf-spoken").inner_text()
    shown.close()


def test_the_mouse_moves_it(window, book, lin):
    shown = Shown(window, book)
    before = shown.drawn(), shown.says("losses")
    box = shown.page.locator("input[type=range]").first.bounding_box()
    shown.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.page.mouse.down()
    shown.page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2, steps=4)
    shown.page.mouse.up()
    shown.settle()
    step_size = float(shown.page.locator(".pf-slider output").first.inner_text())
    assert step_size > 2.46 and shown.drawn() != before[0] and shown.says("losses") != before[1]
    assert shown.number("verdict") == "unstable" and "grows without bounds" in shown.says("radius")
    dgd = DGD(weights(AGENTS, CYCLE))
    radius = stability.spectral_radius(dgd, lin, step_size=step_size)
    assert float(shown.number("radius")) == pytest.approx(radius, rel=1e-3)
    shown.page.locator("input[value=flow]").click()
    shown.settle()
    expected = mean_loss(lin, "DGD", CYCLE, step_size, time="flow")
    assert float(shown.number("loss")) == pytest.approx(expected, rel=CLOSE)
    assert shown.number("verdict") == "stable"
    shown.close()


def test_a_finger_cuts_links(window, book, lin):
    shown = Shown(window, book)
    shown.page.set_viewport_size({"width": 390, "height": 900})
    before = shown.drawn()
    shown.peer(0).tap()
    assert "Choose another" in shown.page.locator(".pf-hint").inner_text()
    shown.peer(7).tap()
    shown.settle()
    path = CYCLE[:-1]
    assert shown.drawn() != before and shown.page.locator("select").nth(1).input_value() == "path"
    assert float(shown.number("loss")) == pytest.approx(mean_loss(lin, "DGD", path, 1.0), rel=CLOSE)
    assert shown.page.locator(".pf-warning").is_hidden()
    shown.peer(3).tap()
    shown.peer(4).tap()
    shown.settle()
    warning = shown.page.locator(".pf-warning").inner_text()
    assert "2 parts, {0, 1, 2, 3} and {4, 5, 6, 7}" in warning and "1 as many times" in warning
    assert shown.number("gap") == "0"
    parts = [edge for edge in path if edge != [3, 4]]
    assert float(shown.number("loss")) == pytest.approx(mean_loss(lin, "DGD", parts, 1.0), rel=CLOSE)
    assert checks.layout(shown.page) == [] and checks.accessibility(shown.page) == []
    shown.close()


def test_keys_move_it(window, book, lin):
    shown = Shown(window, book)
    shown.page.locator("input[value=DGD]").focus()
    shown.page.keyboard.press("ArrowRight")
    shown.page.locator("input[value=local]").focus()
    shown.page.keyboard.press("ArrowRight")
    scrub = shown.page.locator("input[type=range]").last
    scrub.focus()
    for _ in range(3):
        scrub.press("ArrowLeft")
    shown.peer(2).focus()
    shown.page.keyboard.press("Enter")
    assert shown.peer(2).get_attribute("aria-pressed") == "true"
    for _ in range(3):
        shown.page.keyboard.press("ArrowRight")
    shown.page.keyboard.press("Space")
    shown.settle()
    # On the cycle with one more link: peers 2 and 5 have three neighbours, the others two.
    assert "linked to 1 (0.25), 3 (0.25), 5 (0.25), own weight 0.25" in shown.peer(2).get_attribute("aria-label")
    assert scrub.get_attribute("aria-valuetext") == "197 of 200"
    expected = mean_loss(lin, "ATC", [*CYCLE, [2, 5]], 1.0, 197, objective="global")
    assert float(shown.number("loss")) == pytest.approx(expected, rel=CLOSE)
    shown.close()


def test_it_plays_and_stops(window, book):
    shown = Shown(window, book)
    play = shown.page.locator(".pf-play")
    play.press("Enter")
    assert play.inner_text() == "Pause"
    shown.page.wait_for_timeout(400)
    play.press("Enter")
    shown.settle()
    place = int(shown.page.locator("output").last.inner_text().split()[0])
    assert play.inner_text() == "Play" and 0 < place < STEPS
    assert f"After {place} step" in shown.page.locator(".pf-spoken").inner_text()
    shown.page.emulate_media(reduced_motion="reduce")
    play.click()
    shown.page.wait_for_timeout(300)
    play.click()
    assert int(shown.page.locator("output").last.inner_text().split()[0]) % (STEPS // 10) == 0
    shown.close()


def test_the_address_holds_the_state(window, base, lin):
    shown = Shown(window, base, "#explorer?graph=star&algorithm=CTA&step_size=0.5&horizon=50&position=20")
    star = [[0, q] for q in range(1, AGENTS)]
    found = float(shown.number("loss"))
    assert found == pytest.approx(mean_loss(lin, "CTA", star, 0.5, 20), rel=CLOSE)
    shown.page.locator("input[value=flow]").check()
    shown.settle()
    address = shown.page.evaluate("() => location.hash")
    assert "graph=star" in address and "time=flow" in address
    other = Shown(window, base, address)
    assert other.number("loss") == shown.number("loss")
    other.close()
    shown.close()


def test_nonsense_in_the_address_is_left_out(window, book):
    address = "#explorer?set=none&graph=0-99&algorithm=SGD&step_size=-1&horizon=0.3&position=1e99"
    shown, usual = Shown(window, book, address), Shown(window, book)
    assert [one.number("loss") for one in (shown, usual)] == [usual.number("loss")] * 2
    usual.close()
    shown.close()


@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_other_problems_are_loaded_when_they_are_chosen(window, base, name):
    shown = Shown(window, base)
    loaded = "() => performance.getEntriesByType('resource').some(one => one.name.includes('NAME'))".replace(
        "NAME", name
    )
    assert not shown.page.evaluate(loaded)
    before = shown.drawn()
    shown.page.locator("select").first.select_option(name)
    shown.settle()
    assert shown.drawn() != before and shown.page.locator(".pf-band").count() == AGENTS
    heights = "lines => lines.map(line => Number(line.getAttribute('d').split(' ').at(-1)))"
    bands, lines = (shown.page.locator(each).evaluate_all(heights) for each in (".pf-band", ".pf-line"))
    # In pixels, at the last step: prediction and training end at the same place.
    assert np.abs(np.array(bands) - np.array(lines)[:AGENTS]).max() < 3
    shown.close()


def test_another_problem_stops_what_is_played(window, book):
    shown = Shown(window, book)
    shown.page.locator(".pf-play").click()
    shown.page.wait_for_timeout(400)
    shown.page.locator("select").first.select_option("mnist")
    shown.settle()
    assert shown.page.locator(".pf-play").inner_text() == "Play" and shown.page.locator(".pf-band").count() == AGENTS
    shown.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(window, book, scheme):
    shown = Shown(window, book, "#explorer?step_size=3")
    shown.page.emulate_media(color_scheme=scheme)
    checks.settle(shown.page)
    assert checks.accessibility(shown.page) == []
    shown.close()


@pytest.mark.parametrize(("name", "panels"), [("kernel", ["frames"]), ("stability", [])])
def test_only_pages_with_a_panel_load_its_script(window, book, name, panels):
    page = window.new_page()
    page.goto(f"{book}/book/{name}.html")
    scripts = page.evaluate("() => [...document.scripts].map(script => script.src)")
    assert [re.search(r"(\w+)\.js", src)[1] for src in scripts if "/explorer/" in src] == panels
    page.close()
