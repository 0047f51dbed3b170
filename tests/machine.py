"""A reader's machine on which everything is set that could change a notebook's outputs, and cells that show it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

# What each cell shows depends on something that is planted below.
CELLS = {
    "variables": "import os\nprint(sorted(os.environ))",
    "values": "print([os.environ.get(name) for name in ('OMP_NUM_THREADS', 'XLA_FLAGS', 'LC_ALL')])",
    "precision": "print(jax.numpy.sqrt(2.0).dtype)",
    "figure": "import matplotlib.pyplot as plt\nplt.plot([0, 1])\nplt.show()",
    "backend": "print(plt.get_backend())",
    "matplotlibrc": "print(plt.rcParams['lines.linewidth'])",
    "profile": "print(get_ipython().config.InlineBackend.figure_formats)",
    "interactivity": "1\n2",
    "startup": "print('started' in globals())",
    "kernel": "print('STARTED_BY' in os.environ)",
    "path": "import importlib.util\nprint(importlib.util.find_spec('planted'))",
    "asserts": "print(__debug__)",
    "hash": "print(hash('a'))",
    "warnings": "import sys\nprint(sys.warnoptions)",
    "terminal": "import shutil\nprint(shutil.get_terminal_size())",
    "time zone": "import time\nprint(time.tzname)",
    "home": "from pathlib import Path\nprint(Path('~/startup.py').expanduser().exists())",
}
# These need a machine of one's own.
OF_THE_MACHINE = {
    "device": "import jax\nprint(jax.numpy.sqrt(4.0))",
    "startup for all": "print('started_for_all' in globals())",
}
_PROFILE = """\
c = get_config()
c.InlineBackend.figure_formats = {"svg"}
c.InteractiveShell.ast_node_interactivity = "all"
"""
_KERNEL = """\
import os
from ipykernel import kernelapp
os.environ["STARTED_BY"] = "another"
kernelapp.launch_new_instance()
"""
_NAMESPACE = """\
set -e
mount --rbind /dev "$1"; mount -t tmpfs none /dev
for node in null zero full random urandom tty; do touch /dev/$node; mount --bind "$1/$node" /dev/$node; done
mkdir /dev/shm; mount -t tmpfs none /dev/shm; ln -s /proc/self/fd /dev/fd
touch /dev/nvidia0 /dev/nvidiactl /dev/dxg
mount -t tmpfs none /usr/local/etc; mkdir -p /usr/local/etc/ipython/startup
echo 'started_for_all = 1' > /usr/local/etc/ipython/startup/one.py
{read_only}shift; exec "$@"
"""


def settings(home: Path) -> dict[str, str]:
    """Fill a home with a reader's settings; return the variables that go with them."""
    files = {
        ".ipython/profile_default/ipython_config.py": _PROFILE,
        ".ipython/profile_default/startup/one.py": "started = 1\n",
        ".config/matplotlib/matplotlibrc": "lines.linewidth: 5\n",
        ".local/share/jupyter/kernels/python3/kernel.json": json.dumps({
            "argv": [sys.executable, "-c", _KERNEL, "-f", "{connection_file}"],
            "display_name": "Python 3",
            "language": "python",
        }),
        ".jupyter/jupyter_config.json": "{",
        "startup.py": "started = 1\n",
        "path/planted.py": "",
    }  # fmt: skip
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    return {
        "HOME": str(home),
        "IPYTHONDIR": str(home / ".ipython"),
        "JUPYTER_CONFIG_DIR": str(home / ".jupyter"),
        "JUPYTER_PATH": str(home / ".local" / "share" / "jupyter"),
        "JAX_ENABLE_X64": "1",
        "JAX_PLATFORMS": "",
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
        "MPLBACKEND": "Agg",
        "PYTHONHASHSEED": "5",
        "PYTHONOPTIMIZE": "1",
        "PYTHONPATH": str(home / "path"),
        "PYTHONSTARTUP": str(home / "startup.py"),
        "PYTHONWARNINGS": "default::UserWarning",
        "COLUMNS": "33",
        "FORCE_COLOR": "1",
        "NO_COLOR": "1",
        "LC_ALL": "C",
        "TZ": "Asia/Kolkata",
        "OMP_NUM_THREADS": "3",
    }


def namespace(folder: Path, read_only=()) -> tuple[list[str], str]:
    """Return what to put before a command so that it sees a machine with devices and folders like these; or why not."""
    script = folder / "namespace.sh"
    fixed = "".join(f"mount --bind {one} {one}; mount -o remount,bind,ro {one}\n" for one in read_only)
    script.write_text(_NAMESPACE.format(read_only=fixed))
    (folder / "dev").mkdir()
    if not shutil.which("unshare"):
        return [], "there is no unshare, which makes private device nodes"
    command = ["unshare", "-m" if os.getuid() == 0 else "-rm", "sh", str(script), str(folder / "dev")]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True)
    return ([], f"no private device nodes: {tried.stderr.strip()}") if tried.returncode else (command, "")
