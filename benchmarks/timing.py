"""How every benchmark times: contenders take turns in one run, and what counts is a ratio measured there.

In each round every contender runs once, in an order that turns from round to round, so that what else the machine
does falls on all of them alike. A ratio is that of the best times, with the quartiles of the rounds' own ratios as
its spread. A row also holds how far the answers are from an independent one: a fast wrong answer fails.
"""

import gc
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path

import numpy as np

LIBRARIES = ("jax", "jaxlib", "numpy", "scipy", "peerflow", "torch", "neural-tangents")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    question: str
    contender: str
    ratio: float | None
    """In ``unit``; None if it could not be measured, and ``note`` then says why."""
    low: float | None = None
    high: float | None = None
    """The quartiles of the ratio over the rounds."""
    unit: str = "x"
    goal: float | None = None
    """The most that the ratio may be, or the least if ``at_least``."""
    at_least: bool = False
    error: float | None = None
    """How far the answer is from an independent one, in the same run."""
    allowed: float | None = None
    note: str = ""

    @property
    def wrong(self) -> bool:
        """Say whether the answer is further off than it may be."""
        return self.allowed is not None and not (self.error is not None and self.error <= self.allowed)

    @property
    def met(self) -> bool | None:
        """Say whether the goal is met, or None where there is none."""
        if self.goal is None or self.ratio is None:
            return None
        return not self.wrong and (self.ratio >= self.goal if self.at_least else self.ratio <= self.goal)


@dataclass(frozen=True)
class Times:
    """Seconds a contender took in each round, for one unit of its work."""

    rounds: Mapping[str, np.ndarray]

    def best(self, name: str) -> float:
        """Return a contender's shortest time."""
        return float(self.rounds[name].min())

    def ratio(self, name: str, unit: str) -> dict[str, float]:
        """Return a contender's time in units of another's, with its spread, as fields of a row."""
        low, high = np.quantile(self.rounds[name] / self.rounds[unit], [0.25, 0.75])
        return {"ratio": self.best(name) / self.best(unit), "low": float(low), "high": float(high)}


def race(
    contenders: Mapping[str, Callable[[], object]],
    *,
    units: Mapping[str, float] | None = None,
    rounds: int = 7,
    seconds: float = 20.0,
    shortest: float = 0.05,
) -> Times:
    """Time contenders in turn, once each has run to be compiled.

    Parameters
    ----------
    contenders
        Functions without arguments, by name. Each must have its result in hand when it returns.
    units
        How many units of work one call is, where it is not one.
    rounds, seconds
        The number of rounds; after ``seconds`` no new one begins, but there are three at least.
    shortest
        A contender is called as often within a round as takes so many seconds.
    """
    repeats = {}
    for name, run in contenders.items():
        run()
        repeats[name] = max(1, round(shortest / _seconds(run, 1)))
    names, taken = list(contenders), {name: [] for name in contenders}
    begun = time.perf_counter()
    for turn in range(rounds):
        if turn >= 3 and time.perf_counter() - begun > seconds:
            break
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            per_call = _seconds(contenders[name], repeats[name]) / repeats[name]
            taken[name].append(per_call / (units or {}).get(name, 1))
    return Times({name: np.array(each) for name, each in taken.items()})


def _seconds(run, repeats):
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        return time.perf_counter() - start
    finally:
        gc.enable()


def once(run: Callable[[], object]) -> tuple[float, object]:
    """Return the seconds that one call takes, and what it returns."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def slope(run: Callable[[int], object], steps: int) -> tuple[float, list[object]]:
    """Return the seconds of a step, from runs of so many steps and of twice as many, and what these return."""
    run(1)  # compiled
    (less, *few), (more, *many) = (once(lambda n=n: run(n)) for n in (steps, 2 * steps))
    return (more - less) / steps, few + many


def difference(actual, expected) -> float:
    """Return the largest difference, relative to the largest expected entry."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.shape != expected.shape:
        raise ValueError(f"the answers must have one shape, got {actual.shape} and {expected.shape}")
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def has(library: str) -> bool:
    """Say whether an optional peer can be imported."""
    return util.find_spec(library) is not None


def peak() -> float:
    """Return the most memory that this process ever held, in GB."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held * (1 if sys.platform == "darwin" else 1024) / 1e9


def machine() -> str:
    """Name the processor, its cores, the memory, and the versions of what was run."""
    model = platform.processor() or platform.machine()
    described = Path("/proc/cpuinfo")
    if described.exists():
        names = [line.split(":", 1)[1].strip() for line in described.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    versions = ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GB; Python {platform.python_version()}, {versions}"


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def report(rows: Iterable[Row]):
    """Print rows as they are found, one JSON object a line, for ``run.py`` to read."""
    for row in rows:
        print(json.dumps(asdict(row)), flush=True)
