"""What ``make bench-check`` compares, and what counts as slower, as wrong and as missed."""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import run  # noqa: E402
import timing  # noqa: E402

TIME = timing.Row("predict", "DGD", 2.0, unit="steps")
GAIN = timing.Row("predict", "beside training", 2.0, at_least=True)


def script(*rows, machine="ours", threads=2):
    return {"moons": {"machine": machine, "rows": [{"threads": threads, **asdict(row)} for row in rows]}}


def changed(row, **fields):
    return timing.Row(**{**asdict(row), **fields})


@pytest.mark.parametrize(("row", "fine", "slow"), [(TIME, 2.9, 3.1), (GAIN, 1.4, 1.3)])
def test_half_as_slow_again_is_named(row, fine, slow):
    stored = script(row)
    assert list(run.slowed(stored, script(changed(row, ratio=fine)))) == []
    (said,) = run.slowed(stored, script(changed(row, ratio=slow)))
    assert said == f"moons: predict, {row.contender}, {row.unit}, 2 threads: {slow:.3g}, stored 2"


@pytest.mark.parametrize("unit", run.ABSOLUTE)
def test_seconds_are_compared_on_one_machine_only(unit):
    stored, new = script(changed(TIME, unit=unit)), changed(TIME, unit=unit, ratio=9.0)
    assert list(run.slowed(stored, script(new, machine="theirs"))) == []
    assert len(list(run.slowed(stored, script(new)))) == 1


def test_a_figure_is_compared_with_none_but_its_own():
    new = changed(TIME, ratio=9.0)
    assert list(run.slowed(script(TIME), script(new, threads=1))) == []
    assert list(run.slowed(script(TIME), script(changed(new, contender="ATC")))) == []
    assert list(run.slowed({}, script(new))) == []
    assert list(run.slowed(script(TIME), script(changed(TIME, ratio=None, note="not installed")))) == []


def test_a_wrong_answer_meets_no_goal():
    right, wrong, none = (changed(TIME, goal=3.0, error=e, allowed=1e-10) for e in (1e-11, 1e-9, None))
    assert right.met and not right.wrong
    assert wrong.wrong and not wrong.met
    assert none.wrong
    assert changed(TIME, goal=1.0).met is False and changed(GAIN, goal=1.0).met is True
    assert "WRONG" in run.report({"moons": dict(date="", load=0.0, **script(wrong)["moons"])}, [])


def test_contenders_take_turns_and_ratios_are_of_the_best():
    calls = []
    timing.race({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=4, shortest=0.0)
    assert calls == ["a", "a", "b", "b"] + ["a", "b", "b", "a"] * 2  # once to compile, once to count, then in turn
    measured = timing.Times({"a": np.array([2.0, 3.0, 4.0]), "b": np.array([1.0, 1.0, 2.0])})
    assert measured.ratio("a", "b") == {"ratio": 2.0, "low": 2.0, "high": 2.5}
