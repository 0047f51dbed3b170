"""Make .venv from requirements.lock, unless it is there and still fits; run by `make` with the reader's own Python.

    python tools/environment.py

It fits if it was made from this lock, in this place, by a Python that is still there. Written for any Python 3, so that
one that is too old is told so.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON, READY, SCRIPT = VENV / "bin" / "python", VENV / "ready", VENV / "bin" / "jupyter-book"
# Settings of the reader's for pip that would put the packages elsewhere or refuse them; indexes and proxies stay.
_OTHERS = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_CONSTRAINT", "PIP_REQUIREMENT", "PIP_NO_BINARY", "PIP_DRY_RUN")
_OTHERS += ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONOPTIMIZE", "VIRTUAL_ENV")

_FAILED = "the environment could not be made. Is the package index reachable? Run make again to go on."


def main():
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        found = ".".join(map(str, sys.version_info[:3]))
        return f"this book needs Python 3.11 to 3.13, and {sys.executable} is {found}: try make PYTHON=python3.12"
    (ROOT / "_build").mkdir(exist_ok=True)
    with open(ROOT / "_build" / "environment.lock", "w") as lock:
        # A second make waits, and then finds it made.
        fcntl.flock(lock, fcntl.LOCK_EX)
        reason = _unusable()
        if reason:
            return _make(reason)
        return None if READY.read_text() == _made_from() else _install_library()


def _make(reason):
    if VENV.exists():
        print(f"{reason}: it is made anew", flush=True)
        shutil.rmtree(str(VENV))
    print("making .venv from requirements.lock; this takes a minute or two", flush=True)
    start = time.monotonic()
    if subprocess.call([sys.executable, "-m", "venv", str(VENV)], env=variables()):
        shutil.rmtree(str(VENV), ignore_errors=True)
        return "no virtual environment could be made: install Python's venv module"
    # Python 3.11 brings a setuptools, and one half would replace it while the other reads what is there.
    emptied = _done([_pip("uninstall", "-qq", "--yes", "setuptools")])
    filled = emptied and _done([_install("--require-hashes", "--requirement", half) for half in _halves()])
    failure = _install_library() if filled else _FAILED
    if not failure:
        print(f"environment: {time.monotonic() - start:.0f} s", flush=True)
    return failure


def _install_library():
    """Install the library in place, as pyproject.toml says; what it needs is there, from the lock."""
    if not _done([_install("--no-build-isolation", "--editable", ".")]):
        return _FAILED
    READY.write_text(_made_from())
    return None


def _install(*what):
    # Nothing is compiled ahead of use: that keeps the environment small.
    return _pip("install", "--quiet", "--no-compile", "--no-deps", *what)


def _pip(*arguments):
    return [str(PYTHON), "-m", "pip", *arguments]


def _halves():
    """Write the lock in two halves, and return their names: pip keeps one core busy, for a minute and more."""
    requirements = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().strip())
    halves = [VENV / "locked-even.txt", VENV / "locked-odd.txt"]
    for start, half in enumerate(halves):
        half.write_text("\n".join(requirements[start::2]) + "\n")
    return [str(half) for half in halves]


def _done(commands):
    """Run commands beside each other, and say whether all went well."""
    running = [subprocess.Popen(command, cwd=str(ROOT), env=variables()) for command in commands]
    return not any([process.wait() for process in running])


def _unusable():
    """Say why the environment that is there cannot be used, if so."""
    if not PYTHON.exists():
        return ".venv has lost the Python that it was made with"
    if not READY.exists():
        return ".venv was never finished"
    # Scripts name their interpreter by its whole path, in the first or, if that is long, the second line.
    if str(PYTHON) not in SCRIPT.read_text()[:1000]:
        return f".venv was made in another folder than {ROOT}"
    if READY.read_text().splitlines()[:1] != _made_from().splitlines()[:1]:
        return ".venv was made from another requirements.lock"
    return None


def _made_from():
    """Return a line each for the lock, on which the packages depend, and for how the library is installed."""
    named = [(ROOT / name).read_bytes() for name in ("requirements.lock", "pyproject.toml")]
    return "".join(hashlib.sha256(each).hexdigest() + "\n" for each in named)


def variables():
    """Return the environment for pip, without what would put the packages elsewhere."""
    kept = {name: value for name, value in os.environ.items() if name not in _OTHERS}
    return {**kept, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


if __name__ == "__main__":
    sys.exit(main())
