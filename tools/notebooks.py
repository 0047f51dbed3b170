"""Execute notebooks in place, in parallel, and say which stored outputs moved and by how much.

    python tools/notebooks.py FOLDER [PAGE]

An output that agrees with the stored one, as ``tools/harness`` understands it, keeps the stored bytes. What the code in
solutions prints is written below it. Ids and timings are normalised. So a second run changes nothing, and what git shows
is what really moved. PAGE is a file to write the times to.
"""

import copy
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import execution
import nbformat
from harness import outputs, record, rules, solutions, widgets
from harness.outputs import Comparison
from harness.text import Tolerance, tolerance_problem
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell

CELL_TIMEOUT = 300
# What editors and runs leave in a cell's metadata.
_PASSING = ("execution", "ExecuteTime", "trusted")
# A widget too many renames all that follow; the first differences tell.
_SHOWN = 20


def update(path: Path) -> tuple[float, list[str]]:
    """Execute one notebook in place; return how many seconds it took, and what there is to say about it."""
    start = time.perf_counter()
    stored = normalise(nbformat.read(path, as_version=4))
    new = record.cleared(stored)
    texts = _execute(new, path.parent)
    news = [*keep_what_agrees(stored, normalise(new)), *show_solutions(new, texts), *rules.problems(new)]
    nbformat.write(new, path)
    return time.perf_counter() - start, news


def _execute(notebook, folder) -> list[str]:
    """Execute a notebook; return what each block of code in its solutions prints, run at the notebook's end."""
    started = []
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        on_cell_execute=lambda cell, cell_index: started.append(cell),
    )
    own, blocks = len(notebook.cells), list(solutions.blocks(notebook))
    try:
        with client.setup_kernel(stderr=subprocess.DEVNULL):  # of the kernel itself, not of cells
            for number, cell in enumerate(notebook.cells):
                client.execute_cell(cell, number)
            # Before the solutions run: what they change is not in the page.
            client.set_widgets_metadata()
            for number, block in enumerate(blocks, own):
                notebook.cells.append(new_code_cell(block.code))
                client.execute_cell(notebook.cells[-1], number)
    except DeadKernelError as error:
        # Unlike the other errors, this one does not show the cell.
        raise DeadKernelError(f"{error} in this cell:\n{started[-1].source}") from None
    texts = [solutions.printed(cell.outputs) for cell in notebook.cells[own:]]
    del notebook.cells[own:]
    return texts


def normalise(notebook):
    """Remove from a notebook what changes from run to run or from machine to machine."""
    notebook.nbformat_minor = 5
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            **{key: value for key, value in notebook.metadata.items() if key not in ("kernelspec", "language_info")},
        }
    )
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        for key in _PASSING:
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs = outputs.merge_streams(cell.outputs)
    return notebook


def keep_what_agrees(stored, new) -> list[str]:
    """Put the stored outputs and widgets that agree into the new notebook, reduce other pictures; return what moved."""
    comparison = Comparison(_tolerance(stored.metadata))
    # Comparing also renames both notebooks' widgets, and with them the views among their outputs.
    moved_widgets = list(widgets.differences(stored, new, comparison))
    if not moved_widgets and widgets.models(stored):
        new.metadata.widgets = copy.deepcopy(stored.metadata.widgets)
    news = []
    for old, fresh in zip(stored.cells, new.cells, strict=True):
        if old.cell_type != "code":
            continue
        found = list(Comparison(_tolerance(stored.metadata, old.metadata)).outputs(old.outputs, fresh.outputs))
        shows_widgets = any(outputs.WIDGET_VIEW in output.get("data", {}) for output in fresh.outputs)
        if not found and not (shows_widgets and moved_widgets):
            # Counts are part of an output.
            for one, other in zip(old.outputs, fresh.outputs, strict=True):
                if "execution_count" in other:
                    one.execution_count = other.execution_count
            fresh.outputs = old.outputs
        else:
            for output in fresh.outputs:
                outputs.reduce_pictures(output)
            if old.execution_count is None:
                news.append(f"{old.id}: new")
        news += [f"{old.id}: {one}" for one in found if old.execution_count is not None]
    return news + moved_widgets


def show_solutions(notebook, texts) -> list[str]:
    """Write what the solutions' code prints below it where what stands there does not agree; return what moved."""
    news, kept = [], []
    for block, printed in zip(solutions.blocks(notebook), texts, strict=True):
        tolerance = _tolerance(notebook.metadata, notebook.cells[block.cell].metadata)
        found = list(solutions.differences(block, printed, tolerance))
        news += [f"solution {block.label}: {one}" for one in found]
        kept.append(printed if found else block.shown)
    solutions.show(notebook, kept)
    return news


def _tolerance(*metadata):
    return Tolerance.of(*(one for one in metadata if not tolerance_problem(one)))


def main(folder: Path, page: Path | None = None) -> int:
    paths = sorted(path for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    if not paths:
        print(f"no notebooks under {folder}")
        return 1
    failed, times = 0, {}
    record.fix_environment()
    # Every notebook is a process of its own; the threads of this pool only wait for them.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        running = {pool.submit(update, path): path for path in paths}
        for done, future in enumerate(as_completed(running), 1):
            name = running[future].relative_to(folder)
            try:
                seconds, news = future.result()
                times[str(name)] = seconds
                print(f"[{done}/{len(paths)}] {name}: {seconds:.1f} s, {len(news) or 'nothing'} moved", flush=True)
                shown = news[:_SHOWN] + ([f"... and {len(news) - _SHOWN} more"] if len(news) > _SHOWN else [])
                print("".join(f"    {line}\n" for line in shown), end="", flush=True)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                failed += 1
                print(f"[{done}/{len(paths)}] {name} FAILED\n{error}", flush=True)
    if failed:
        print(f"{failed} of {len(paths)} notebooks failed: open them with `make lab` and run the cell shown above")
    elif page is not None:
        page.write_text(execution.page(times))
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
