"""The kernel in which the book's notebooks run: with the same environment and settings on every machine.

``harness.record`` lets Jupyter start this file as the kernel ``python3``, with the interpreter that asks for it. What a
reader has set must not change an output: variables, profiles, styles and start-up files in a home, IPython's settings
for a whole machine. A list of what to take away would miss the next of that kind. So this file first replaces itself by
a Python that is given the variables below and no others, in a home that was made for it; and then runs IPython's kernel
with the settings below and no others.
"""

import os
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# What Python may need to start and to find a place for its files, and by what a kernel notices that it is orphaned.
KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "TMPDIR", "JPY_PARENT_PID")
FIXED = {
    # The library beside the book, wherever the environment's own may lie.
    "PYTHONPATH": str(ROOT / "lib"),
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",
    "PYTHONUTF8": "1",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    # Without them the size of the terminal counts.
    "COLUMNS": "80",
    "LINES": "24",
    # An accelerator computes other digits; one that JAX sees and cannot use gives a warning.
    "JAX_PLATFORMS": "cpu",
    # Notebooks run beside each other: threads that compete for cores cost several times what they save.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}
# Pictures of twice the resolution for today's screens. A history in memory: kernels that share a file wait for it.
SETTINGS = {"InlineBackend": {"figure_formats": {"retina"}}, "HistoryManager": {"hist_file": ":memory:"}}


def environment(given) -> dict[str, str]:
    """Return the variables of a kernel, of which NOTEBOOK_ENVIRONMENT may set some on purpose, as A=1 B=2."""
    home = given["NOTEBOOK_HOME"]
    kept = {name: given[name] for name in KEPT if name in given}
    meant = dict(pair.split("=", 1) for pair in shlex.split(given.get("NOTEBOOK_ENVIRONMENT", "")))
    return {**kept, **FIXED, "HOME": home, "MPLCONFIGDIR": str(Path(home, "matplotlib")), **meant}


def run() -> None:
    """Run IPython's kernel, without the settings that a machine has for everybody."""
    from ipykernel.kernelapp import IPKernelApp
    from IPython.core import application
    from traitlets.config import Config

    application.SYSTEM_CONFIG_DIRS.clear()
    application.ENV_CONFIG_DIRS.clear()
    IPKernelApp.launch_instance(config=Config(SETTINGS))


if __name__ == "__main__":
    if sys.flags.isolated:
        os.execve(sys.executable, [sys.executable, *sys.argv], environment(os.environ))
    # This file's folder is nothing to import from.
    del sys.path[0]
    run()
