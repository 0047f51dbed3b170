"""Stored frames: what is packed, what its traits take, how a page holds them, and that the parts fit."""

import json
import re
import subprocess

import numpy as np
import pytest
from problems import CYCLE, assert_close
from rejection import check
from test_explorer import NODE, names

from peerflow.explorer import ASSETS, script
from peerflow.frames import MODULES, Frames, chart, graph, page_script, series

X = np.linspace(0, 2, 5)
WORDS = ["first <b>", "second", "third"]


def curves(**options):
    lines = [series(X, np.outer([1, 2, 3], X)), series(X, X**2, look="band", colour=None, name="still")]
    return chart("Lines", lines, words=WORDS, limits=(0, 6), label="time", **options)


def peers():
    return graph("Peers", [[1, -1, 0, 0.5], [0.1, 0, 0, 0.1], [0] * 4], W=CYCLE, words=WORDS)


@pytest.fixture
def panel():
    return Frames("Both", [curves(cursor=[0, 1, 2]), peers()], control="Round", places=range(3), place=1)


def test_a_chart_holds_its_numbers():
    view = curves()
    assert view["span"] == [0, 2] and view["limits"] == [0, 6] and view["cursor"] is None
    assert_close(np.array(view["series"][0]["y"]), np.outer([1, 2, 3], X))
    assert view["series"][1] == {"x": X.tolist(), "y": (X**2).tolist(), "look": "band", "colour": None, "name": "still"}


def test_no_number_is_stored_that_rounding_makes():
    noise = np.array([1e-17, -1e-17, 1 / 3])
    (linear,) = chart("", [series(noise, noise)], words=WORDS, limits=(-1, 1), label="")["series"]
    assert json.dumps(linear["y"]) == "[0.0, 0.0, 0.3333]" and linear["x"] == [1e-17, -1e-17, 0.3333]
    options = dict(words=WORDS, limits=(1e-3, 1), label="", logarithmic=True)
    (falling,) = chart("", [series(X[:3], noise)], **options)["series"]
    assert falling["y"] == [1e-4, 1e-4, 0.3333]
    assert graph("", [noise] * 3, W=np.eye(3), words=WORDS)["values"][0] == [0, 0, 0.33333]


def test_a_graph_holds_its_links():
    view = peers()
    assert view["edges"] == [[0, 1], [0, 3], [1, 2], [2, 3]] and view["values"][0] == [1, -1, 0, 0.5]
    assert_close(np.array(view["W"]), CYCLE, tolerance=1e-3)
    directed = np.eye(3)[[1, 2, 0]]
    assert graph("", np.zeros((3, 3)), W=directed, words=WORDS)["edges"] == [[0, 1], [0, 2], [1, 2]]


def test_python_reads_and_sets_the_place(panel):
    assert panel.places == ["0", "1", "2"] and panel.control == "Round" and panel.place == 1
    panel.place = 2
    assert panel.place == 2 and panel.views[1]["values"][2] == [0] * 4
    assert repr(panel) == "Frames('Both', 3 frames)"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "place must be below 3, got 3"),
        (-1, "place must be at least 0, got -1"),
        (None, "place must be a whole number, got None"),
    ],
)
def test_a_place_that_is_none_is_refused(panel, value, message):
    check(lambda: setattr(panel, "place", value), re.escape(message))
    assert panel.place == 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: series(X, np.zeros((3, 4))), "y must have shape (frames, 5), got (3, 4)"),
        (lambda: series(X, X, look="dots"), "look must be one of 'line', 'dashed', 'band', 'points', got 'dots'"),
        (lambda: series(X, X * np.nan), "y must be finite"),
        (lambda: chart("", [], words=WORDS, limits=(0, 1), label=""), "lines must hold a series at least, got none"),
        (lambda: curves(cursor=[0]), "cursor must have shape (3), got (1,)"),
        (
            lambda: chart("", [series(X, X)], words=WORDS, limits=(1, 1), label=""),
            "limits must increase, got (1, 1)",
        ),
        (
            lambda: chart("", [series(X, X)], words=WORDS, limits=(0, 1), label="", logarithmic=True),
            "limits must increase and be positive, got (0, 1)",
        ),
        (lambda: graph("", np.zeros((2, 4)), W=CYCLE, words=WORDS), "values must have shape (3, agents), got (2, 4)"),
        (lambda: graph("", np.zeros((3, 3)), W=CYCLE, words=WORDS), "W must have shape (3, 3), got (4, 4)"),
        (lambda: Frames("", [curves()], control="", places=["a"]), "places must be two at least, got 1"),
        (lambda: Frames("", [curves()], control="", places="ab"), "words of 'Lines' must have shape (2), got (3,)"),
        (
            lambda: Frames(
                "",
                [chart("L", [series(X, [X, X])], words=WORDS, limits=(0, 1), label="")],
                control="",
                places=range(3),
            ),
            "y in 'L' must have shape (3, points), got (2, 5)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(build, message):
    check(build, re.escape(message))


def stored(html):
    """Return the text and the state in a panel's HTML."""
    text, state = re.fullmatch(
        r'<div class="peerflow-frames"><p>(.*)</p><script type="application/json">(.*)</script></div>', html
    ).groups()
    return text, json.loads(state)


def test_a_page_holds_all_of_it(panel):
    panel.place = 0
    text, state = stored(panel.page())
    assert text == "first &lt;b&gt; first &lt;b&gt;"
    assert state == {name: getattr(panel, name) for name in ("name", "control", "places", "views", "place")}
    assert panel.page().count("<b>") == 0
    bundle = panel._repr_mimebundle_()[0]
    assert bundle["text/html"] == panel.page() and "application/vnd.jupyter.widget-view+json" in bundle


def test_files_join_into_one(tmp_path):
    declared = [
        name
        for module in (*MODULES, "pagemodel", "framespage")
        for name in names((ASSETS / f"{module}.js").read_text())
    ]
    assert len(declared) == len(set(declared))
    assert script(MODULES).count("export ") == 1 and "export " not in page_script()
    for name, text in (("panel.mjs", script(MODULES)), ("page.js", page_script())):
        assert "import " not in re.sub("//.*", "", text)
        (tmp_path / name).write_text(text)
        done = subprocess.run([NODE, "--check", tmp_path / name], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
