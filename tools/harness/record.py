"""What a running kernel sends, as the outputs and the widget state that nbclient would store.

nbval runs the cells and reads every message; nbclient knows what a message does to a notebook. Here the first shows its
messages to the second, so that tests compare the very thing that ``make notebooks`` stores.
"""

import atexit
import contextlib
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parents[2]


class Recorder:
    """A notebook that fills with outputs as messages arrive."""

    def __init__(self, notebook: NotebookNode, kernel_client):
        self.notebook = cleared(notebook)
        self._client = NotebookClient(self.notebook, record_timing=False, store_widget_state=True)
        self._client.kc = kernel_client
        self._index = self._request = None

    def start(self, index: int) -> None:
        """Expect the messages of this cell from now on."""
        self._index, self._request = index, None
        self._client.clear_before_next_output = False

    def append(self) -> None:
        """Expect the messages of one more cell, which the notebook does not hold."""
        self.notebook.cells.append(new_code_cell())
        self.start(len(self.notebook.cells) - 1)

    def take(self, message: dict) -> None:
        """Take one message into account, if it belongs to the cell."""
        request = message["parent_header"].get("msg_id")
        if self._index is None:
            return
        if message["msg_type"] == "execute_input":
            self._request = request
        if request == self._request is not None:
            try:
                self._client.process_message(message, self.notebook.cells[self._index], self._index)
            except CellExecutionComplete:
                self._request = None

    def outputs(self) -> list:
        """Return the cell's outputs so far."""
        return self.notebook.cells[self._index].outputs

    def finished(self) -> NotebookNode:
        """Return the notebook with its widget state."""
        self._client.set_widgets_metadata()
        return self.notebook


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
    home = Path(tempfile.mkdtemp(prefix="notebooks-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
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
