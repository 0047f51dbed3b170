"""Make .venv-newest with the newest version of every package but neural-tangents, for `make newest`.

    python tools/newest.py

Nothing is locked: the library must run with what `pip install` gives a reader today. neural-tangents is left out, for
it holds back JAX; tests that need it are skipped.
"""

import subprocess
import sys
import tomllib

from environment import ROOT, variables

VENV = ROOT / ".venv-newest"
PYTHON = VENV / "bin" / "python"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ",".join(sorted(PROJECT["optional-dependencies"].keys() - {"ntk"}))
INSTALL = [str(PYTHON), "-m", "pip", "install", "--quiet", "--no-compile", "--upgrade", "--upgrade-strategy", "eager"]
SHOWN = ("jax", "jaxlib", "jaxtyping", "networkx", "numpy", "scipy", "diffrax")


def main():
    commands = [
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        # Dependency groups are read by pip 25.1 and later.
        [*INSTALL, "pip"],
        [*INSTALL, "--group", "test", "--group", "build", "--editable", f".[{EXTRAS}]"],
    ]
    for command in commands:
        if subprocess.call(command, cwd=ROOT, env=variables()):
            return "the environment could not be made. Is the package index reachable?"
    show = f"from importlib.metadata import version; print(*(f'{{n}} {{version(n)}}' for n in {SHOWN}), sep=', ')"
    return subprocess.call([str(PYTHON), "-c", show])


if __name__ == "__main__":
    sys.exit(main())
