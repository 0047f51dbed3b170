"""The execution page holds the times it is given and the versions that are installed."""

import sys
from pathlib import Path

import jax
import numpy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import execution
from kept import Result


def result(seconds, *news, at="2026-01-02 03:04"):
    return Result(seconds, list(news), at)


def test_the_page_lists_every_notebook_its_sum_and_the_versions():
    lines = execution.page({"b.ipynb": result(2.25), "a.ipynb": result(1.5)}).splitlines()
    times = [line for line in lines if ".ipynb" in line or "all," in line]
    assert times == ["| `a.ipynb` | 1.5 |", "| `b.ipynb` | 2.2 |", "| all, one after the other | 3.8 |"]
    assert f"| jax | {jax.__version__} |" in lines and f"| numpy | {numpy.__version__} |" in lines
    assert lines[0].startswith("Executed 2026-01-02 03:04 UTC") and f"Python {sys.version.split()[0]}." in lines[0]
    assert lines[2] == "Nothing moved: every output agrees with the stored one."


def test_the_page_names_what_moved_and_when_each_part_was_executed():
    news = "cell-3: text: 'a' stored,\n'`b`' new"
    results = {"b.ipynb": result(2.0, news, at="2026-01-02 05:06"), "a.ipynb": result(1.0)}
    lines = execution.page(results).splitlines()
    assert lines[0].startswith("Executed from 2026-01-02 03:04 to 2026-01-02 05:06 UTC")
    assert lines[2] == "**MOVED: outputs differ from the stored ones in b.ipynb (1).**"
    assert lines[4] == "- `b.ipynb`, cell-3: `text: 'a' stored, ''b'' new`"


def test_the_page_stays_short():
    lines = execution.page({"a.ipynb": result(1.0, *(f"cell-{count}: new" for count in range(30)))}).splitlines()
    assert sum(line.startswith("- ") for line in lines) == 21 and "- `a.ipynb`, and 10 more" in lines
