"""Check the format, the habits and the types of the Python files, each whatever the others find; run by `make lint`.

    python tools/lint.py [--fix]

With `--fix`, ruff formats them and puts their imports in order instead.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
# Chapters have lines that fit the page. Named here, as they are left out of what ruff finds by itself.
CHAPTERS = ["--line-length", "80", *sorted(map(str, (ROOT / "book").glob("*.ipynb")))]


def main(*options):
    if options == ("--fix",):
        commands = [["ruff", "check", "--select=I", "--fix"], ["ruff", "format"], ["ruff", "format", *CHAPTERS]]
    else:
        formats = [["ruff", "format", "--check", *files] for files in ([], CHAPTERS)]
        commands = [*formats, ["ruff", "check"], ["basedpyright", f"--pythonpath={sys.executable}"]]
    return max(_run(program, *arguments) for program, *arguments in commands)


def _run(program, *arguments):
    """Show what a program says if it finds something; return whether it does."""
    done = subprocess.run([BIN / program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{program}:\n{done.stdout}{done.stderr}", flush=True)
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
