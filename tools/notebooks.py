"""Execute notebooks in place, in parallel, with one line a notebook as it finishes.

    python tools/notebooks.py FOLDER

Ids, timings and kernel details are normalised, so that only what a notebook shows can differ between two runs.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

CELL_TIMEOUT = 300
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"


def execute(path: Path) -> float:
    """Execute one notebook in place; return how many seconds it took."""
    start = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=CELL_TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    nbformat.write(normalise(notebook), path)
    return time.perf_counter() - start


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
        cell.metadata.pop("execution", None)
    return notebook


def main(folder: Path) -> int:
    paths = sorted(path for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    if not paths:
        print(f"no notebooks under {folder}")
        return 1
    failed = 0
    # One notebook a core, one thread a notebook: threads that compete for cores cost several times what they save.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "XLA_FLAGS": ONE_THREAD}
    # Every notebook is a process of its own; the threads of this pool only wait for them.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        running = {pool.submit(execute, path): path for path in paths}
        for done, future in enumerate(as_completed(running), 1):
            name = running[future].relative_to(folder)
            try:
                print(f"[{done}/{len(paths)}] {name}: {future.result():.1f} s", flush=True)
            except CellExecutionError as error:
                failed += 1
                print(f"[{done}/{len(paths)}] {name} FAILED\n{error}", flush=True)
    if failed:
        print(f"{failed} of {len(paths)} notebooks failed: open them with `make lab` and run the cell shown above")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
