"""Run every benchmark with one thread and with two, and print one table; ``make bench`` calls it.

    python benchmarks/run.py [--only NAME,...] [--threads 1,2] [--long] [--check]

Each script runs in a process of its own, in which BLAS, OpenMP and XLA have so many threads and, where the system
allows it, as many cores. Peers that are not installed are named in the table. Figures are also stored in
``book/data/benchmarks.json``, in place of those of the same scripts. It fails if an answer is wrong or a script breaks,
not if a goal of speed is missed. With ``--check``, which ``make bench-check`` gives, nothing is stored, and it fails if
a ratio is more than 1.5 times worse than the stored one.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import timing

HERE = Path(__file__).resolve().parent
STORE = HERE.parent / "book" / "data" / "benchmarks.json"
# What two runs on one machine may differ by.
SLOWER = 1.5
NAMES = (
    "moons",
    "mnist",
    "digits",
    "horizon",
    "sweep",
    "tuning",
    "one_agent",
    "training",
    "wide",
    "convolution",
    "many",
    "scaling",
)
# What takes minutes is measured with two threads only.
LONG = ("wide", "convolution", "many", "scaling")
# These are no ratios: those of another machine say nothing.
ABSOLUTE = ("s", "ms", "GB", "GB/s")
HEADER = ("question", "what", "one thread", "two threads", "unit", "goal", "met", "error", "allowed", "remarks")


def main():
    options = arguments()
    modes = [int(threads) for threads in options.threads.split(",")]
    names = options.only.split(",") if options.only else NAMES
    machine, measured, broken = timing.machine(), {}, []
    for name in names:
        begun, load = datetime.datetime.now().astimezone(), os.getloadavg()[0]
        rows = []
        for threads in modes[-1:] if name in LONG else modes:
            some, failure = run(name, threads, options.long)
            rows += [{"threads": threads, **asdict(row)} for row in some]
            if failure:
                broken.append(f"{name}, {threads} threads: {failure}")
        measured[name] = {"date": f"{begun:%Y-%m-%d}", "machine": machine, "load": round(load, 1), "rows": rows}
    print(report(measured, broken))
    stored = json.loads(STORE.read_text()) if STORE.exists() else {}
    slower = list(slowed(stored, measured)) if options.check else []
    print("\n".join(slower))
    if not options.check:
        whole = {name: each for name, each in measured.items() if not any(one.startswith(name) for one in broken)}
        STORE.write_text(json.dumps(stored | whole, indent=1) + "\n")
    wrong = [row for each in measured.values() for row in each["rows"] if parsed(row).wrong]
    return 1 if broken or wrong or slower else 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help=f"some of {','.join(NAMES)}")
    parser.add_argument("--threads", default="1,2", help="how many threads to run with, one after the other")
    parser.add_argument("--check", action="store_true", help="compare with what is stored, and store nothing")
    parser.add_argument("--long", action="store_true", help="take the literal exponential instead of extrapolating it")
    return parser.parse_args()


def run(name, threads, long):
    """Run one script with so many threads; return its rows, and what went wrong if anything did."""
    print(f"{name}, {threads} thread{'s' * (threads > 1)} ...", file=sys.stderr, flush=True)
    command = [sys.executable, str(HERE / f"{name}.py")] + ["--long"] * long
    ended = subprocess.run(
        command,
        check=False,
        env=environment(threads),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: confine(threads),
    )
    rows = [timing.Row(**json.loads(line)) for line in ended.stdout.splitlines()]
    return rows, f"it ended with code {ended.returncode}" if ended.returncode else None


def environment(threads):
    """Return the variables under which BLAS, OpenMP and XLA use so many threads."""
    several = "true" if threads > 1 else "false"
    flags = f"--xla_cpu_multi_thread_eigen={several} intra_op_parallelism_threads={threads}"
    counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return os.environ | counts | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def confine(threads):
    """Keep this process on so many cores, where the system can: XLA then has no more threads than that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def parsed(stored):
    """Return a stored row."""
    return timing.Row(**{name: value for name, value in stored.items() if name != "threads"})


def slowed(stored, measured):
    """Say which figures are worse than the stored ones by more than they may be."""
    for name, new in measured.items():
        old = stored.get(name, {"machine": None, "rows": []})
        before = {key(row): row["ratio"] for row in old["rows"]}
        for row in new["rows"]:
            if row["unit"] in ABSOLUTE and old["machine"] != new["machine"]:
                continue
            was, now = before.get(key(row)), row["ratio"]
            worse = was and now and (was / now if row["at_least"] else now / was)
            if worse and worse > SLOWER:
                yield f"{name}: {', '.join(map(str, key(row)))} threads: {number(now)}, stored {number(was)}"


def key(row):
    """Return what tells a figure from all others of its script."""
    return row["question"], row["contender"], row["unit"], row["threads"]


def report(measured, broken):
    """Return the table, with when and where it was measured, and what broke."""
    heads = dict.fromkeys((each["date"], each["machine"], each["load"]) for each in measured.values())
    lines = [f"Measured on {date} on {machine}; load {load:.1f} when it began." for date, machine, load in heads]
    lines += [
        "A ratio is that of the best times of contenders that took turns in one run; in brackets its quartiles.",
        "The error is the answer's distance from an independent one, in the same run.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|" + "---|" * len(HEADER),
    ]
    found = {}
    for row in (row for each in measured.values() for row in each["rows"]):
        found.setdefault(key(row)[:-1], {})[row["threads"]] = parsed(row)
    lines += ["| " + " | ".join(cells(each)) + " |" for each in found.values()]
    return "\n".join(lines + [f"\n**Broken:** {each}" for each in broken])


def cells(modes):
    """Return a line of the table, from the rows of each number of threads."""
    row = next(iter(modes.values()))
    goals = [each.goal for each in modes.values() if each.goal is not None]
    errors = [each.error for each in modes.values() if each.error is not None]
    met = [each.met for each in modes.values() if each.met is not None]
    wrong = any(each.wrong for each in modes.values())
    return (
        row.question,
        row.contender,
        *(spread(modes.get(threads)) for threads in (1, 2)),
        row.unit,
        f"{'>=' if row.at_least else '<='} {' / '.join(dict.fromkeys(map(number, goals)))}" if goals else "",
        "WRONG" if wrong else "" if not met else "yes" if all(met) else "**no**",
        f"{max(errors):.0e}" if errors else "",
        f"{row.allowed:.0e}" if row.allowed is not None else "",
        "; ".join(dict.fromkeys(each.note for each in modes.values() if each.note)),
    )


def spread(row):
    """Return a ratio with its quartiles."""
    if row is None or row.ratio is None:
        return ""
    return number(row.ratio) + ("" if row.low is None else f" [{number(row.low)}, {number(row.high)}]")


def number(value):
    """Return three digits of a number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
