"""The execution page holds the times it is given and the versions that are installed."""

import sys
from pathlib import Path

import jax
import numpy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import execution  # noqa: E402


def test_the_page_lists_every_notebook_its_sum_and_the_versions():
    lines = execution.page({"b.ipynb": 2.25, "a.ipynb": 1.5}).splitlines()
    times = [line for line in lines if ".ipynb" in line or "all," in line]
    assert times == ["| `a.ipynb` | 1.5 |", "| `b.ipynb` | 2.2 |", "| all, one after the other | 3.8 |"]
    assert f"| jax | {jax.__version__} |" in lines and f"| numpy | {numpy.__version__} |" in lines
    assert f"Python {sys.version.split()[0]}." in lines[0]
