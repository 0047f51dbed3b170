"""What a running kernel sends, as the outputs and the widget state that nbclient would store.

nbval runs the cells and reads every message; nbclient knows what a message does to a notebook. Here the first shows its
messages to the second, so that tests compare the very thing that ``make notebooks`` stores.
"""

import copy
import os
from pathlib import Path

import matplotlib
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

# A reader's own settings must not change a picture: the file with matplotlib's defaults takes their place.
ENVIRONMENT = {"MATPLOTLIBRC": str(Path(matplotlib.get_data_path()) / "matplotlibrc")}


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


def fix_environment() -> None:
    """Let every kernel that is started from here draw the same pictures."""
    os.environ |= ENVIRONMENT
