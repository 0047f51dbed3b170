"""When outputs agree: texts, numbers and widgets, without a kernel; and what the harness relies on in nbval."""

import base64
import copy
import inspect
import sys
import uuid
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbval import plugin
from nbval.kernel import RunningKernel
from test_harness_pictures import png

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import notebooks  # noqa: E402
from harness import rules, text, widgets  # noqa: E402
from harness.outputs import WIDGET_VIEW, Comparison, merge_streams  # noqa: E402
from harness.text import Tolerance  # noqa: E402


def agree(stored, new, **tolerance):
    return not list(text.differences(stored, new, Tolerance(**tolerance)))


@pytest.mark.parametrize(
    ("stored", "new"),
    [
        ("loss 0.2625", "loss 0.2625"),
        ("0.30000000000000004", "0.3"),
        ("x = 1.2345678e-05", "x = 1.2345679e-05"),
        ("| 1.0000001 | 2 |", "| 1.0000002 | 2 |"),
        ("-0.00", "0.00"),
        ("-0.00", "+0.00"),
        ("0.00010000000000000002", "9.999999999999999e-05"),
        ("9.999999e-05", "1.000000e-04"),
        ("9.999999", "10.000000"),
        ("nan inf", "nan inf"),
    ],
)
def test_texts_that_agree(stored, new):
    assert agree(stored, new)


@pytest.mark.parametrize(
    ("stored", "new"),
    [
        ("loss 0.2625", "loss 0.2626"),
        ("loss 0.2625", "loss 0.2525"),
        ("loss 0.2625", "loss -0.2625"),
        ("loss 0.2625", "Loss 0.2625"),
        ("0.25", "0.2500"),
        ("0.25", "0.25000000000000000"),
        ("0.25", "+0.25"),
        ("0.25", "2.5e-01"),
        ("2.5e-01", "2.5E-01"),
        ("2.0", "2."),
        ("2.0", "2"),
        ("<td>12.5</td>", "<td>12.500000</td>"),
        (r"4.9 \times", r"4.90 \times"),
        ("4.9e-04", "4.9e-05"),
        ("4.9e-04", "< 1e-10"),
        ("485 directions", "486 directions"),
        ("12345678 parameters", "12345679 parameters"),
        ("theta1", "theta2"),
        ("#0072B2", "#0072B3"),
        ("#0e7490", "#0e1111"),
        ("#1e4620", "#2e9999"),
        ("commit 0e12ab", "commit 0e99ab"),
        ("commit 0e124620", "commit 0e994620"),
        ("0e-12ab", "0e-99ab"),
        ("0.25", "\N{FULLWIDTH DIGIT ZERO}.25"),
        (r"10^{-4}", r"10^{-5}"),
        ("nan", "0.5"),
        ("one\ntwo\n", "one\n"),
        ("one", "one\n"),
        ("a  b", "a b"),
        ("", "0.1"),
    ],
)
def test_texts_that_differ(stored, new):
    assert not agree(stored, new)
    assert not agree(new, stored)


def test_a_named_tolerance_is_for_real_numbers_only():
    assert agree("0.25 of 17", "0.26 of 17", relative=0.1)
    assert not agree("0.25 of 17", "0.25 of 18", relative=0.1)
    assert agree("1.0e-17", "-3.0e-18", absolute=1e-15)
    assert not agree("1.0e-17", "-3.00e-18", absolute=1e-15)


def test_a_number_in_another_form_is_called_that():
    found = text.differences("loss 0.25", "loss 0.2500", Tolerance())
    assert list(found) == ["0.25 stored, 0.2500 new: another form of the number, in 'loss 0.25'"]


@pytest.mark.parametrize(
    "named",
    [
        {"relative": 1e-3},
        {"relative": 1e-3, "reason": " "},
        {"relative": -1.0, "reason": "why"},
        {"relative": float("inf"), "reason": "why"},
        {"relative": "much", "reason": "why"},
        {"relativ": 1e-3, "reason": "why"},
        0.1,
    ],
)
def test_a_tolerance_needs_a_reason_and_a_number(named):
    assert text.tolerance_problem({"tolerance": named})


def test_the_last_named_tolerance_counts():
    notebook, cell = {"tolerance": {"relative": 1e-3, "reason": "a"}}, {"tolerance": {"picture": 9, "reason": "b"}}
    assert Tolerance.of(notebook, {}).relative == 1e-3
    assert Tolerance.of(notebook, cell) == Tolerance(picture=9, reason="b")
    assert Tolerance.of({}, {}) == Tolerance()


def compare(stored, new):
    return list(Comparison(Tolerance()).outputs(stored, new))


def test_outputs_agree_whole():
    shown = new_output("display_data", {"text/plain": "'a'"}, metadata={"scrapbook": {"name": "start"}})
    renamed = new_output("display_data", {"text/plain": "'a'"}, metadata={"scrapbook": {"name": "end"}})
    assert not compare([shown], [copy.deepcopy(shown)])
    assert compare([shown], [renamed]) == ["metadata.scrapbook.name: 'start' stored, 'end' new"]
    assert compare([shown], [])
    assert compare([shown], [new_output("execute_result", shown.data, metadata=shown.metadata)])
    assert compare([new_output("stream", name="stdout", text="a")], [new_output("stream", name="stderr", text="a")])


def test_what_is_new_and_what_is_missing_says_its_first_words():
    warning = new_output("stream", name="stderr", text="WARNING: no accelerator" + 300 * "!")
    printed = new_output("stream", name="stdout", text="loss 0.25\n")
    result = new_output("execute_result", {"text/plain": "42"})
    error = new_output("error", ename="ValueError", evalue="steps must be positive", traceback=[])
    assert compare([printed, result], [printed, warning])[1:] == [
        "only stored: execute_result (text/plain): '42'",
        f"only new: stream (stderr): 'WARNING: no accelerator{177 * '!'}'...",
    ]
    assert compare([result], [result, result])[1:] == ["only new: execute_result (text/plain): '42'"]
    assert compare([], [error])[1:] == ["only new: error (ValueError): 'steps must be positive'"]


def test_numbers_in_json_and_pictures_in_html_are_compared_as_such():
    black, grey = (base64.b64encode(png(np.full((9, 9, 3), value))).decode() for value in (0, 99))
    html = "<img src='data:image/png;base64,{}'> 0.25"
    for key, stored, same, other in (
        ("application/json", {"y": [0.1, 2]}, {"y": [0.1 + 1e-9, 2]}, {"y": [0.11, 2]}),
        ("application/json", {"y": [0.1, 2]}, {"y": [0.1, 2]}, {"y": [0.1, 3]}),
        ("application/json", {"y": [0.1, 2]}, {"y": [0.1, 2]}, {"y": [0.1, 2.0]}),
        ("text/html", html.format(black), html.format(black), html.format(grey)),
    ):
        outputs = [[new_output("display_data", {key: value})] for value in (stored, same, other)]
        assert not compare(outputs[0], outputs[1])
        assert len(compare(outputs[0], outputs[2])) == 1


def test_a_picture_in_html_is_no_word_and_ends_where_words_follow():
    black = base64.encodebytes(png(np.zeros((99, 99, 3)))).decode().strip()
    assert "\n" in black
    quoted, bare = f"<img src='data:image/png;base64,{black}'>", f"<img src=data:image/png;base64,{black} alt=loss>"
    for stored, new, what in (
        ("<img src='PNG'>", quoted, "pictures: 0 stored, 1 new"),
        (quoted, quoted + quoted, "pictures: 1 stored, 2 new"),
        (bare, bare.replace("loss", "gain"), "'alt=loss>' stored, 'alt=gain>' new"),
    ):
        sides = [[new_output("display_data", {"text/html": html})] for html in (stored, new)]
        assert compare(*sides) == [f"text/html: {what}"]


@pytest.mark.parametrize(
    "shown",
    [
        lambda data: {"image/png": data},
        lambda data: {"application/papermill.record/image/png": data},
        lambda data: {"application/json": {"outputs": [{"data": {"image/png": data}}]}},
        lambda data: {"text/html": f"<img src='data:image/png;base64,{data}'>"},
    ],
    ids=["shown", "glued", "nested", "embedded"],
)
def test_pictures_are_compared_as_such_wherever_they_are(shown):
    grey = np.full((9, 9, 3), 99)
    data, recoded, moved = (
        base64.b64encode(one).decode() for one in (png(grey), png(grey, compress_level=0), png(grey + 99))
    )
    stored, same, other, cut = ([new_output("display_data", shown(one))] for one in (data, recoded, moved, data[:-8]))
    assert data != recoded and not compare(stored, same)
    assert "the picture moved" in compare(stored, other)[0]
    assert compare(cut, stored)[0].endswith(": binary value differs")


def test_views_of_widgets_are_compared_but_for_their_ids():
    view = {"model_id": "a", "version_major": 2, "version_minor": 0}
    stored, same, other = (
        [new_output("display_data", {WIDGET_VIEW: {**view, **changed}})]
        for changed in ({}, {"model_id": "b"}, {"version_major": 99})
    )
    assert not compare(stored, same)
    assert compare(stored, other) == [f"{WIDGET_VIEW}.version_major: 2 stored, 99 new"]


def test_where_a_stream_is_cut_does_not_matter():
    pieces = [new_output("stream", name="stdout", text=part) for part in ("a\n", "b", "\n")]
    whole = [new_output("stream", name="stdout", text="a\nb\n")]
    assert merge_streams(pieces) == whole and not compare(pieces, whole)
    assert pieces[0].text == "a\n"


def panel(value=3.0, low="min", order=False):
    """Return a notebook that shows two sliders in a box, linked in two ways, under random ids."""
    box, one, other, link, second, alone = (uuid.uuid4().hex for _ in range(6))

    def model(name, **state):
        return {"model_name": name, "model_module": "m", "model_module_version": "1", "state": state}

    def ref(key, what):
        return [f"IPY_MODEL_{key}", what]

    models = {
        box: model("BoxModel", children=[f"IPY_MODEL_{one}", f"IPY_MODEL_{other}"]),
        one: model("SliderModel", description="steps", value=value),
        other: model("SliderModel", description="rate", value=0.25),
        link: model("LinkModel", source=ref(one, "value"), target=ref(other, "max")),
        second: model("LinkModel", source=ref(one, "value"), target=ref(other, low)),
        alone: model("OutputModel", msg_id=uuid.uuid4().hex, outputs=[]),
    }
    models = dict(sorted(models.items(), reverse=order))
    view = new_output("display_data", {WIDGET_VIEW: {"model_id": box, "version_major": 2, "version_minor": 0}})
    return new_notebook(
        cells=[new_code_cell("box", outputs=[view], id="cell-0")],
        metadata=nbformat.from_dict({"widgets": {widgets.STATE: {"state": models, "version_major": 2}}}),
    )


def widget_differences(stored, new):
    return list(widgets.differences(stored, new, Comparison(Tolerance())))


def test_widgets_agree_whatever_their_ids_and_order_are():
    for order in (False, True):
        stored, new = panel(), panel(order=order)
        assert not widget_differences(stored, new)
        assert stored == new  # renaming leaves nothing random


def test_widgets_that_differ_are_named():
    assert widget_differences(panel(), panel(value=4.0)) == [
        "cell-0: Slider 'steps'.value: 3.0 stored, 4.0 new: relative difference 2.5e-01, tolerance 1e-06"
    ]
    assert any(
        "Link.target[1]: 'min' stored, 'max' new" in one for one in widget_differences(panel(), panel(low="max"))
    )
    gone = panel()
    gone.metadata.pop("widgets")
    assert widget_differences(panel(), gone)[-1] == "widgets: 6 models stored, none new"


def test_all_that_is_stored_of_a_widget_is_compared():
    def find(side):
        return next(model for model in widgets.models(side).values() if model.state.get("description") == "steps")

    def buffer(side):
        return find(side).buffers[0]

    for place, key, changed, what in (
        (lambda side: side.metadata.widgets[widgets.STATE], "version_major", 99, "version_major: 2 stored, 99 new"),
        (lambda side: side.metadata.widgets, "other", {}, "widgets.other: only new"),
        (find, "model_module", "other", "Slider 'steps'.model_module: 'm' stored, 'other' new"),
        (find, "extra", None, "Slider 'steps'.extra: only new"),
        (buffer, "encoding", "hex", "Slider 'steps'[\"value\"].encoding: 'base64' stored, 'hex' new"),
        (buffer, "data", "QUFB", "Slider 'steps'[\"value\"]: binary value differs"),
    ):
        sides = [panel(), panel()]
        for side in sides:
            find(side)["buffers"] = nbformat.from_dict([{"path": ["value"], "encoding": "base64", "data": "QUJD"}])
        place(sides[1])[key] = changed
        assert [one for one in widget_differences(*sides) if one.endswith(what)], what


def test_a_children_swap_and_a_picture_in_a_widget_are_seen():
    swapped = panel()
    models = widgets.models(swapped)
    next(iter(m for m in models.values() if m.model_name == "BoxModel")).state.children.reverse()
    assert widget_differences(panel(), swapped)
    sides = []
    for value in (0, 1, 99):
        side = panel()
        slider = next(m for m in widgets.models(side).values() if m.state.get("description") == "rate")
        data = base64.b64encode(png(np.full((9, 9, 3), value))).decode()
        slider["buffers"] = [{"path": ["value"], "encoding": "base64", "data": data}]
        sides.append(side)
    assert not widget_differences(copy.deepcopy(sides[0]), sides[1])
    assert "the picture moved" in widget_differences(sides[0], sides[2])[0]


def test_a_reason_may_stand_in_a_comment():
    for source, found in (
        ("# NBVAL_SKIP\nx = 1", ""),
        ("# NBVAL_SKIP\n# takes an hour\nx = 1", "takes an hour"),
        ("# takes an hour\n# NBVAL_SKIP\nx = 1", "takes an hour"),
        ("# takes an hour\nx = 1\n# NBVAL_SKIP", ""),
    ):
        cell = new_code_cell(source, execution_count=1)
        assert rules.unchecked(cell) and rules.reason(cell) == found
    for tag in ("nbval-skip", "nbval-ignore-output", "raises-exception", "skip-execution"):
        assert rules.unchecked(new_code_cell("", metadata={"tags": [tag]}))
    assert not rules.unchecked(new_code_cell("# NBVAL_CHECK_OUTPUT", metadata={"tags": ["hide-input"]}))


@pytest.mark.parametrize(
    "source",
    [
        ":::{solution} ex\n```python\n1\n```\n:::",
        "````{solution} ex\n- so:\n  ```python\n  1\n  ```\n````",
        "````{solution} ex\n~~~python\n1\n~~~\n````",
        "````{solution} ex\n```{code-block} python\n1\n```\n````",
        "````{solution} ex\n```ipython3\n1\n```\n````",
        "````{solution} ex\n```python\n1\n```\nso\n```text\n1\n```\n````",
    ],
)
def test_code_in_a_solution_that_nothing_would_run_is_found(source):
    good = "````{solution} ex\n```python\n1\n```\n\n```text\n1\n```\n````\n"
    for written, found in ((good, False), (good + source, True)):
        assert bool(list(rules.problems(new_notebook(cells=[new_markdown_cell(written)])))) == found


def test_cells_out_of_order_are_found():
    notebook = new_notebook(cells=[new_code_cell("1", execution_count=count) for count in (1, 3, 2)])
    assert [found.split(":")[0] for found in rules.problems(notebook)] == ["cell-1", "cell-2"]


def test_an_output_has_its_cells_count():
    for count, found in ((1, []), (77, ["cell-0: the stored output has the execution count 77, and the cell 1"])):
        result = new_output("execute_result", {"text/plain": "b"}, execution_count=count)
        outputs = [new_output("stream", text="a"), result]
        notebook = new_notebook(cells=[new_code_cell("b", execution_count=1, outputs=outputs)])
        assert list(rules.problems(notebook)) == found


def test_nbval_still_has_what_the_harness_uses():
    """If this fails after an update of nbval, read book/conftest.py anew."""
    assert list(inspect.signature(plugin.IPyNbCell.compare_outputs).parameters) == [
        "self",
        "test",
        "ref",
        "skip_compare",
    ]
    assert list(inspect.signature(plugin.IPyNbFile.get_kernel_message).parameters) == ["self", "timeout", "stream"]
    run = inspect.getsource(plugin.IPyNbCell.runtest)
    for used in (
        "self.compare_outputs(outs, ",
        "self.comparison_traceback",
        "self.parent.get_kernel_message(",
        "kernel.execute_cell_input(",
    ):
        assert used in run
    assert {"kc"} <= set(RunningKernel.__init__.__code__.co_names)
    assert set(plugin.comment_markers) >= {"NBVAL_SKIP", "NBVAL_IGNORE_OUTPUT", "NBVAL_CHECK_OUTPUT"}


@pytest.mark.parametrize("path", sorted((ROOT / "book").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_stored_as_they_would_be_written_again(path):
    stored = path.read_text()
    again = nbformat.writes(notebooks.normalize(nbformat.reads(stored, as_version=4))) + "\n"
    assert stored == again, f"{path.name} holds what changes from run to run: make notebooks"
