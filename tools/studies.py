"""Run the studies, whose results chapters read: what takes too long for a notebook.

    python tools/studies.py [NAME ...]

A study is a module in ``studies`` with two functions: ``settings()`` lists its rows as dicts of JSON values, the
quickest first, and ``row(**setting)`` computes one as a dict of JSON values. Results go to
``book/data/studies/NAME.json`` with the date and the digest of the study's file. A stored result that the new one
agrees with keeps its digits, so that git shows what really moved.
"""

import datetime
import hashlib
import json
import multiprocessing
import os
import runpy
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SOURCES, RESULTS = ROOT / "studies", ROOT / "book" / "data" / "studies"
# Relative to the largest number of an array, as it may move with the order of sums over a long training.
TOLERANCE = 1e-6


def names() -> list[str]:
    """Return the names of all studies."""
    return sorted(path.stem for path in SOURCES.glob("*.py"))


def digest(name: str) -> str:
    """Return the digest of a study's lines, but for those that are comments."""
    lines = (SOURCES / f"{name}.py").read_text().splitlines()
    return hashlib.sha256("\n".join(line for line in lines if not line.lstrip().startswith("#")).encode()).hexdigest()


@cache
def load(name: str) -> SimpleNamespace:
    """Return what a study's file defines."""
    return SimpleNamespace(**runpy.run_path(str(SOURCES / f"{name}.py")))


def compute(name: str, setting: dict) -> dict:
    """Return the result of one row as JSON gives it back."""
    return json.loads(json.dumps(load(name).row(**setting), allow_nan=False))


def moved(stored, new) -> bool:
    """Say whether a new result is another one than the stored one."""
    if isinstance(stored, dict) and isinstance(new, dict):
        return stored.keys() != new.keys() or any(moved(stored[key], new[key]) for key in stored)
    if _numeric(stored) and _numeric(new):
        one, other = np.asarray(stored, float), np.asarray(new, float)
        return one.shape != other.shape or bool((abs(one - other) > TOLERANCE * abs(one).max(initial=0)).any())
    if isinstance(stored, list) and isinstance(new, list):
        return len(stored) != len(new) or any(map(moved, stored, new))
    return stored != new


def _numeric(value) -> bool:
    if isinstance(value, list):
        return all(map(_numeric, value)) and not any(isinstance(each, list) for each in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def run(name: str, pool) -> int:
    """Run one study, store its results and say what moved; return how many rows did."""
    settings, file = load(name).settings(), RESULTS / f"{name}.json"
    old = {}
    if file.exists():
        old = {json.dumps(row["setting"]): row["result"] for row in json.loads(file.read_text())["rows"]}
    futures = {pool.submit(compute, name, setting): number for number, setting in enumerate(settings)}
    results, changed = [None] * len(settings), 0
    for done, future in enumerate(as_completed(futures), 1):
        number = futures[future]
        setting, result = settings[number], future.result()
        stored = old.get(json.dumps(setting))
        same = stored is not None and not moved(stored, result)
        results[number] = stored if same else result
        changed += not same
        news = "" if same else (": new" if stored is None else f": moved from {stored} to {result}")
        print(f"[{done}/{len(settings)}] {name} {json.dumps(setting)}{news}", flush=True)
    rows = [{"setting": one, "result": other} for one, other in zip(settings, results, strict=True)]
    write(file, name, rows)
    print(f"{name}: {changed} of {len(settings)} rows moved or are new", flush=True)
    return changed


def write(file: Path, name: str, rows: list[dict]) -> None:
    """Store a study's rows, one a line."""
    head = {"study": name, "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}", "source": digest(name)}
    lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(head, indent=2)[:-2] + f',\n  "rows": [\n{lines}\n  ]\n}}\n')


def main(*asked) -> int:
    if unknown := [name for name in asked if name not in names()]:
        print(f"there is no study {unknown[0]!r}: choose from {', '.join(names())}", file=sys.stderr)
        return 1
    # One core a row, as one thread computes it.
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        for name in asked or names():
            run(name, pool)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
