"""A notebook's cells in a kernel, one after the other: how tests and ``make notebooks`` run them alike."""

import atexit
import contextlib
import copy
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from importlib.metadata import version
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from traitlets.config import Config

from harness import outputs

ROOT = Path(__file__).resolve().parents[2]
CELL_TIMEOUT = 300


class Session:
    """A notebook that fills with outputs as its cells run. Its kernel starts with the first of them."""

    def __init__(self, notebook: NotebookNode, folder: Path):
        self.notebook = cleared(notebook)
        self._client = NotebookClient(
            self.notebook,
            timeout=CELL_TIMEOUT,
            kernel_name="python3",  # whatever the notebook names
            record_timing=False,
            resources={"metadata": {"path": str(folder)}},
            config=_local(),
        )
        self._kernel, self._gone = contextlib.ExitStack(), None

    def run(self, index: int) -> list:
        """Run a cell; return its outputs.

        Raises
        ------
        CellExecutionError
            If the cell does.
        CellTimeoutError, DeadKernelError
            If it took too long or ended the kernel, or a cell before it did.
        """
        if self._gone:
            raise DeadKernelError(f"not run, as a cell before it ended the kernel: {self._gone}")
        cell = self.notebook.cells[index]
        try:
            if self._client.kc is None:
                self._kernel.enter_context(self._client.setup_kernel(stderr=subprocess.DEVNULL))  # of no cell
            self._client.execute_cell(cell, index)
        except CellTimeoutError as error:
            self._gone = str(error).splitlines()[0]
            self.kill()
            raise
        except RuntimeError as error:
            # Unlike the other errors, this one does not show the cell.
            self._gone = f"{error} in this cell:\n{cell.source}"
            raise DeadKernelError(self._gone) from None
        if cell.cell_type != "code":
            return []
        for output in cell.outputs:
            self._leave_out_manager(output.get("data", {}))
        return cell.outputs

    def _leave_out_manager(self, data) -> None:
        """Drop the view and the models of a widget that brings itself as HTML: a page shows that, without a manager."""
        if "text/html" not in data or outputs.WIDGET_VIEW not in data:
            return
        state = self._client.widget_state.pop(data.pop(outputs.WIDGET_VIEW)["model_id"], {})
        layout = str(state.get("layout", "")).removeprefix("IPY_MODEL_")
        self._client.widget_state.pop(layout, None)

    def widgets(self) -> NotebookNode:
        """Return the notebook with the state in which its widgets are now."""
        self._client.set_widgets_metadata()
        return self.notebook

    def extra(self, code: str) -> list:
        """Run code that the notebook does not hold; return its outputs."""
        self.notebook.cells.append(new_code_cell(code))
        try:
            return self.run(len(self.notebook.cells) - 1)
        finally:
            del self.notebook.cells[-1]

    def kill(self) -> bool:
        """End the kernel at once; return whether there was one to end."""
        pid = getattr(getattr(self._client.km, "provisioner", None), "pid", None)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # a kernel leads a group of its own
        return True

    def close(self) -> None:
        """End the kernel, if there is one."""
        self._kernel.close()


def _local() -> Config:
    """Let a kernel talk over files: of two that start at once both may find the same port free, and one then dies."""
    # Named here, as its sockets are named after it before Jupyter would name it.
    file = Path(jupyter_runtime_dir(), f"{uuid.uuid4()}.json")
    return Config({"KernelManager": {"transport": "ipc", "connection_file": str(file)}})


def cleared(notebook: NotebookNode) -> NotebookNode:
    """Return a copy without outputs, counts and widgets."""
    result = copy.deepcopy(notebook)
    result.metadata.pop("widgets", None)
    for cell in result.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return result


def fix_environment() -> Path:
    """Let kernels that are started from here be the book's own, in ``tools/kernels``; return the home made for them.

    It is removed when Python ends; who ends otherwise removes it.
    """
    # The name of a socket must be short: in /tmp it is, elsewhere it need not be.
    home = Path(tempfile.mkdtemp(prefix="notebooks-", dir="/tmp" if os.access("/tmp", os.W_OK) else None))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    (home / "runtime").mkdir()
    os.environ |= {
        # Searched before the reader's and the machine's own kernels.
        "JUPYTER_PATH": str(ROOT / "tools"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "NOTEBOOK_HOME": str(home),
    }
    _find_fonts(home)
    return home


def _find_fonts(home):
    """Let matplotlib list the fonts before a notebook runs: a list that takes long is a warning among the outputs."""
    kept, used = ROOT / "_build" / f"matplotlib-{version('matplotlib')}", home / "matplotlib"
    with contextlib.suppress(OSError):  # nothing can be written here
        kept.mkdir(parents=True, exist_ok=True)
    if os.access(kept, os.W_OK):
        used.symlink_to(kept)
    else:
        used.mkdir()
    if not list(used.glob("fontlist*")):
        environment = {**os.environ, "MPLCONFIGDIR": str(used)}
        subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], env=environment, check=True)
