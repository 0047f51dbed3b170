"""Resolve requirements.lock from pyproject.toml, and environment.yml from the lock. Needs uv; run by `make lock`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Installed from the lock by postBuild: its own requirements name TensorFlow, which pip would install.
WITHOUT_DEPENDENCIES = "neural-tangents"
# What the lock holds beside the core: of the dependency groups `bench` and `features` are left out.
EXTRAS, GROUPS = ("book", "checkpoints", "ntk"), ("book", "test", "pages", "lint", "build")
HEADER = """\
# Written by `make lock` from requirements.lock: the same versions, for conda and Binder.
#     conda env create -f environment.yml && conda activate peerflow && ./postBuild
name: peerflow
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - make
  - pip:
"""


def main() -> int:
    groups = [option for extra in EXTRAS for option in ("--extra", extra)]
    groups += [option for group in GROUPS for option in ("--group", group)]
    options = "--universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-emit-index-url"
    options += " --no-annotate --no-header --output-file requirements.lock"
    subprocess.run(
        ["uv", "pip", "compile", "--quiet", "pyproject.toml", *groups, *options.split()],
        cwd=ROOT,
        check=True,
    )
    pins = [line.rstrip(" \\") for line in (ROOT / "requirements.lock").read_text().splitlines() if line[:1].isalnum()]
    lines = [f'      - "{pin}"' for pin in pins if not pin.startswith(WITHOUT_DEPENDENCIES)]
    (ROOT / "environment.yml").write_text(HEADER + "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
