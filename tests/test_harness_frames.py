"""Stored frames in notebooks: what a chapter holds, that a change is noticed, and what a session keeps."""

import json
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from test_frames import stored

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from harness.outputs import Comparison  # noqa: E402
from harness.session import Session, fix_environment  # noqa: E402
from harness.text import Tolerance  # noqa: E402

CHAPTERS = {"kernel": "Width", "system": "Round", "flows": "Step"}


def output(chapter):
    """Return the output of the chapter's cell that shows a panel."""
    cells = nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4).cells
    (found,) = [
        out
        for cell in cells
        for out in cell.get("outputs", [])
        if "peerflow-frames" in out.get("data", {}).get("text/html", "")
    ]
    return found


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_holds_its_frames_and_no_widget(chapter):
    found = output(chapter)
    assert set(found["data"]) == {"text/html", "text/plain"}
    text, state = stored(found["data"]["text/html"])
    assert state["control"] == CHAPTERS[chapter] and len(found["data"]["text/html"]) < 60_000
    for view in state["views"]:
        assert len(view["words"]) == len(state["places"])
        assert view["words"][0] in text and view["words"][0] != view["words"][-1]
    assert "widgets" not in nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4).metadata


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_one_changed_coefficient_or_word_is_noticed(chapter):
    """By what holds a chapter to its stored outputs, when it is executed again."""
    right = output(chapter)

    def noticed(change):
        wrong = json.loads(json.dumps(right))
        wrong["data"]["text/html"] = change(wrong["data"]["text/html"])
        assert wrong != right
        return list(Comparison(Tolerance()).outputs([wrong], [right]))

    assert list(Comparison(Tolerance()).outputs([right], [right])) == []
    _, state = stored(right["data"]["text/html"])
    view = state["views"][-1]
    coefficient = json.dumps(np.ravel(view["series"][-1]["y"])[-1])
    assert noticed(lambda html: html[::-1].replace(coefficient[::-1], f"{coefficient}1"[::-1], 1)[::-1])
    assert noticed(lambda html: html.replace(view["words"][2], "Nothing is seen."))


def test_a_session_keeps_the_html_and_no_widget(tmp_path, monkeypatch):
    for name in ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "NOTEBOOK_HOME"):
        monkeypatch.setenv(name, "")  # and taken back
    fix_environment()
    cells = [
        "import ipywidgets\nfrom peerflow.frames import Frames, chart, series\n"
        "view = chart('', [series([0, 1], [0, 1])], words=['a', 'b'], limits=(0, 1), label='')\n"
        "Frames('', [view], control='', places='ab')",
        "ipywidgets.IntSlider()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    session = Session(notebook, tmp_path)
    try:
        (panel,), (slider,) = session.run(0), session.run(1)
        widgets = session.widgets().metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    finally:
        session.close()
    assert set(panel["data"]) == {"text/html", "text/plain"}
    # The usual one stays, with its layout and its style.
    assert "application/vnd.jupyter.widget-view+json" in slider["data"]
    assert sorted(model["model_name"] for model in widgets.values()) == [
        "IntSliderModel",
        "LayoutModel",
        "SliderStyleModel",
    ]
