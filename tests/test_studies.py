"""Studies: their stored results belong to their code, and the first row of each is computed again."""

import datetime
import json
import os
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parent.parent / "tools"
sys.path.insert(0, str(TOOLS))
import studies  # noqa: E402

each_study = pytest.mark.parametrize("name", studies.names())


def stored(name):
    return json.loads((studies.RESULTS / f"{name}.json").read_text())


@each_study
def test_stored_rows_are_those_of_the_study(name):
    kept = stored(name)
    assert kept["study"] == name and kept["source"] == studies.digest(name), f"run make studies STUDIES={name}"
    assert [row["setting"] for row in kept["rows"]] == studies.load(name).settings()
    assert datetime.date(2026, 1, 1) <= datetime.date.fromisoformat(kept["date"]) <= datetime.date.today()


@each_study
def test_a_row_comes_out_as_it_is_stored(name):
    """By itself, with all of the compiler's optimizations, as make studies computes it."""
    row = stored(name)["rows"][0]
    code = f"import json, studies; print(json.dumps(studies.compute({name!r}, {row['setting']!r})))"
    left = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    told = subprocess.run([sys.executable, "-c", code], env=left, cwd=TOOLS, check=True, stdout=subprocess.PIPE)
    assert not studies.moved(row["result"], json.loads(told.stdout))


def test_every_result_has_its_study():
    assert sorted(path.stem for path in studies.RESULTS.iterdir()) == studies.names()


@pytest.mark.parametrize(
    ("stored", "new", "differs"),
    [
        (1.0, 1 + 1e-9, False),
        (1.0, 1 + 1e-5, True),
        ([1.0, 1e-9], [1.0, 2e-9], False),
        ([1.0, 0.1], [1.0, 0.2], True),
        ([1.0], [1.0, 1.0], True),
        ([[1.0], [2.0]], [[1.0], [2.1]], True),
        ({"a": 1.0}, {"a": 1.0, "b": 1.0}, True),
        ({"a": {"b": "x"}}, {"a": {"b": "x"}}, False),
        ({"a": "x"}, {"a": "y"}, True),
        (1.0, "1.0", True),
        (True, False, True),
    ],
)
def test_a_result_moves_where_it_differs(stored, new, differs):
    assert studies.moved(stored, new) is differs


def test_running_again_keeps_what_agrees_and_tells_what_moved(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(studies, "RESULTS", tmp_path)
    monkeypatch.setattr(studies, "SOURCES", tmp_path)
    (tmp_path / "one.py").write_text("")
    rows = {1: 1.0, 2: 2.0}

    class Study:
        settings = staticmethod(lambda: [{"x": x} for x in rows])
        row = staticmethod(lambda x: {"value": rows[x]})

    class Pool:
        @staticmethod
        def submit(function, *values):
            future = Future()
            future.set_result(function(*values))
            return future

    monkeypatch.setattr(studies, "load", lambda name: Study)
    assert studies.run("one", Pool) == 2
    rows[1], rows[2] = 1 + 1e-9, 2.5
    assert studies.run("one", Pool) == 1
    kept = json.loads((tmp_path / "one.json").read_text())
    assert [row["result"]["value"] for row in kept["rows"]] == [1.0, 2.5]
    assert "moved from {'value': 2.0} to {'value': 2.5}" in capsys.readouterr().out


def test_an_unknown_study_is_named(capsys):
    assert studies.main("none") == 1
    assert "there is no study 'none': choose from" in capsys.readouterr().err
