"""Break the library in one small way at a time; tests and notebooks must notice.

    python tools/mutants.py [WORD ...]        # only mutants whose file or description holds one of the words

Each entry of ``mutants.toml`` is a fault that means something: a sign, a lost W, a factor 1/Q. Mutation tools make
such lists by rewriting every operator, which here would be thousands of runs of a book, most of them of faults that
crash at once; and none can swap an agent or leave out a matrix. So the faults are listed by hand, each with what it
stands for and with the notebooks that show it.

Every mutant runs in a copy of the tree. It must be caught by the tests of its module, and by the named notebooks alone.
One that no notebook shows says why, and so does one that changes nothing at all; such a one must survive. A fault whose
old text is no longer in the source, exactly once, is an error.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = 2
# Seconds after which a fault counts as noticed.
TIMEOUT = 1800
# They run beside each other.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
_IGNORED = shutil.ignore_patterns(
    ".git", ".venv", "_build", "__pycache__", "*.egg-info", ".ipynb_checkpoints", ".*_cache"
)
# Which files of tests hold a module beside the one of its own name, if there is one; all of them would take an hour.
_TESTS = {
    "_checks": ("bad_input", "precision", "constants", "flows"),
    "_progress": ("training",),
    "chance": ("others",),
    "data": ("others",),
    "engines": ("traced",),
    "flows": ("unequal", "sweep"),
    "integrate": ("unequal",),
    "linearize": ("from_kernel", "truncation", "unequal", "constants"),
    "literal": ("unequal",),
    "methods": ("sparse", "training"),
    "mixing": ("methods", "sparse", "others", "constants"),
    "models": ("wrap",),
    "modes": ("flows", "constants"),
    "networks": ("models", "kernels"),
    "objectives": ("constants",),
    "rules": ("unbiased",),
    "stability": ("stability_unequal", "constants"),
    "training": ("unequal", "checkpoints"),
}
_KEYS, _MORE = {"file", "what", "old", "new"}, {"notebooks", "unseen", "equivalent"}


class Mutant(NamedTuple):
    """One fault."""

    file: str
    what: str
    """What is wrong, in words."""
    old: str
    new: str
    notebooks: tuple[str, ...] = ()
    """Those that show it, the likeliest first; one of them must catch it."""
    unseen: str = ""
    """Why no notebook shows it."""
    equivalent: str = ""
    """Why it changes nothing."""

    @property
    def module(self) -> str:
        return self.file.removesuffix(".py")


class Verdict(NamedTuple):
    """What noticed a mutant."""

    test: str | None
    notebook: str | None

    def wrong(self, mutant: Mutant) -> str | None:
        """Say what should have been otherwise, if anything."""
        if mutant.equivalent:
            return "is listed as equivalent, but was caught" if self.test or self.notebook else None
        due = ("tests", self.test, True), ("notebooks", self.notebook, mutant.notebooks)
        missed = [who for who, by, needed in due if needed and not by]
        return f"not caught by the {' and '.join(missed)}" if missed else None


def read(path: Path) -> list[Mutant]:
    """Read the list, and check that every entry still fits the source."""
    mutants = []
    for entry in tomllib.loads(path.read_text())["mutant"]:
        given = set(entry)
        if not given >= _KEYS or given - _KEYS - _MORE:
            raise ValueError(f"a mutant has the keys {sorted(given)}: {entry.get('what')}")
        mutant = Mutant(**{**entry, "notebooks": tuple(entry.get("notebooks", ()))})
        if sum(map(bool, (mutant.notebooks, mutant.unseen, mutant.equivalent))) != 1:
            raise ValueError(f"{mutant.file}, {mutant.what}: name notebooks, or say why it is unseen or equivalent")
        found = (ROOT / "lib" / "peerflow" / mutant.file).read_text().count(mutant.old)
        if found != 1:
            raise ValueError(f"{mutant.file}, {mutant.what}: its old text is there {found} times, not once")
        mutants.append(mutant)
    return mutants


def first_failure(folder: Path, *options: str, timeout: int | None = TIMEOUT) -> str | None:
    """Run pytest in a copy up to the first failure; return its name, or None if everything passes."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--color=no", *options]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(folder / "lib"), "PYTEST_ADDOPTS": ""}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"no end within {timeout} s"
    if done.returncode == 0:
        return None
    # A file of tests that cannot even be read has code 2: all of them can without a fault.
    named = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if done.returncode not in (1, 2) or not named:
        raise RuntimeError(f"pytest {' '.join(options)} did not run:\n{(done.stdout + done.stderr)[-2000:]}")
    return Path(named[1]).name


def tests_of(module: str) -> list[str]:
    """Return the files of tests that hold a module of the library."""
    names = [f"tests/test_{name}.py" for name in (module, *_TESTS.get(module, ()))]
    return [name for name in names if (ROOT / name).exists()]


def by_notebook(tree: Path, name: str) -> str | None:
    """Return the first cell or solution that fails: rules are about the stored notebook alone."""
    return first_failure(tree, "--nbval", f"book/{name}.ipynb", "-k", "not rules")


def judge(mutant: Mutant, sound_tree: Path) -> Verdict:
    """Run tests and notebooks on a copy with the fault in it."""
    with tempfile.TemporaryDirectory() as folder:
        tree = shutil.copytree(sound_tree, Path(folder), ignore=_IGNORED, dirs_exist_ok=True)
        path = tree / "lib" / "peerflow" / mutant.file
        path.write_text(path.read_text().replace(mutant.old, mutant.new))
        found = (by_notebook(tree, name) for name in mutant.notebooks)
        return Verdict(first_failure(tree, *tests_of(mutant.module)), next(filter(None, found), None))


def unsound(tree: Path, mutants: list[Mutant], pool) -> Iterator[str]:
    """Yield what fails without any fault: against that, being caught would mean nothing."""
    where = [sys.executable, "-c", "import peerflow; print(peerflow.__file__)"]
    used = subprocess.check_output(where, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree / "lib")}, text=True)
    if not Path(used.strip()).is_relative_to(tree):
        yield f"the library is imported from {used.strip()}, not from the copy"
    tests = sorted({name for mutant in mutants for name in tests_of(mutant.module)})
    runs = [pool.submit(first_failure, tree, *tests, timeout=None)]
    runs += [pool.submit(by_notebook, tree, name) for name in {n for m in mutants for n in m.notebooks}]
    yield from filter(None, (run.result() for run in runs))


def main(words: list[str]) -> int:
    mutants = read(Path(__file__).with_suffix(".toml"))
    chosen = [m for m in mutants if not words or any(word in f"{m.file} {m.what}" for word in words)]
    start, wrong, caught = time.perf_counter(), [], {"tests": 0, "notebooks": 0}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        # One copy for all: the tree may be edited while this runs.
        tree = shutil.copytree(ROOT, Path(folder), ignore=_IGNORED, dirs_exist_ok=True)
        if broken := list(unsound(tree, chosen, pool)):
            print("without any fault, this fails: " + ", ".join(broken))
            return 1
        print(f"without a fault everything passes ({time.perf_counter() - start:.0f} s); now {len(chosen)} faults")
        running = {pool.submit(judge, mutant, tree): mutant for mutant in chosen}
        for done, future in enumerate(as_completed(running), 1):
            mutant = running[future]
            if future.exception():
                pool.shutdown(cancel_futures=True)
                raise RuntimeError(f"{mutant.file}: {mutant.what}: could not be judged") from future.exception()
            verdict = future.result()
            caught["tests"] += verdict.test is not None
            caught["notebooks"] += verdict.notebook is not None
            print(f"[{done}/{len(chosen)}] {mutant.file}: {mutant.what}\n    {_told(mutant, verdict)}", flush=True)
            if problem := verdict.wrong(mutant):
                wrong.append(f"{mutant.file}: {mutant.what}: {problem}")
                print(f"    WRONG: {problem}", flush=True)
    equivalent = sum(bool(mutant.equivalent) for mutant in chosen)
    shown = sum(bool(mutant.notebooks) for mutant in chosen)
    print(f"{len(chosen)} faults in {time.perf_counter() - start:.0f} s: {caught['tests']} caught by the tests,")
    print(f"{caught['notebooks']} of {shown} by the notebooks alone, {equivalent} equivalent; {len(wrong)} wrong")
    print("".join(f"  {line}\n" for line in wrong), end="")
    return min(len(wrong), 1)


def _told(mutant, verdict):
    if mutant.equivalent and not any(verdict):
        return f"survives, rightly: {mutant.equivalent}"
    notebook = verdict.notebook or (f"unseen: {mutant.unseen}" if mutant.unseen else "none")
    return f"test: {verdict.test or 'none'}; notebook: {notebook}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
