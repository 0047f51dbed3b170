"""The list of faults fits the source, and a verdict asks for the right witnesses."""

import itertools
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import mutants  # noqa: E402


def test_every_listed_mutant_fits_the_source():
    listed = mutants.read(ROOT / "tools" / "mutants.toml")
    assert len(listed) >= 30
    modules = {path.name for path in (ROOT / "lib" / "peerflow").glob("*.py")} - {"__init__.py"}
    assert {mutant.file for mutant in listed} == modules
    notebooks = set(itertools.chain.from_iterable(mutant.notebooks for mutant in listed))
    assert all((ROOT / "book" / f"{name}.ipynb").exists() for name in notebooks)
    assert all(mutants.tests_of(mutant.module) for mutant in listed)
    assert mutants.tests_of("data") == ["tests/test_data.py", "tests/test_others.py"]


def test_a_mutant_that_no_longer_fits_is_an_error(tmp_path):
    entry = '[[mutant]]\nfile = "flows.py"\nwhat = "w"\nold = "{}"\nnew = "n"\nunseen = "u"\n'
    (tmp_path / "one.toml").write_text(entry.format("no such text"))
    with pytest.raises(ValueError, match="its old text is there 0 times"):
        mutants.read(tmp_path / "one.toml")


def test_a_verdict_asks_for_tests_and_notebooks():
    fault = mutants.Mutant("flows.py", "w", "a", "b", notebooks=("dgd",))
    assert mutants.Verdict("t", "n").wrong(fault) is None
    assert mutants.Verdict("t", None).wrong(fault) == "not caught by the notebooks"
    assert mutants.Verdict(None, None).wrong(fault) == "not caught by the tests and notebooks"
    assert mutants.Verdict("t", None).wrong(fault._replace(notebooks=(), unseen="u")) is None
    same = fault._replace(notebooks=(), equivalent="e")
    assert mutants.Verdict(None, None).wrong(same) is None
    assert "but was caught" in mutants.Verdict("t", None).wrong(same)
