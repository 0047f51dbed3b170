"""Execute notebooks in place, in parallel, and say which stored outputs moved and by how much.

    python tools/notebooks.py FOLDER [BUILD]

An output that agrees with the stored one, as ``tools/harness`` understands it, keeps the stored bytes. What the code in
solutions prints is written below it. Ids and timings are normalized. So a second run changes nothing, and what git
shows is what really moved.

With BUILD, a folder, executed notebooks are kept there: those that are unchanged are not executed again. The page on
execution in FOLDER then tells about this run, and BUILD/moved.txt says in a line what moved.
"""

import copy
import os
import shutil
import signal
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import execution
import nbformat
from harness import outputs, rules, solutions, widgets
from harness.outputs import Comparison
from harness.session import Session, fix_environment
from harness.text import Tolerance
from kept import Kept, Result, write
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

# What editors and runs leave in a cell's metadata.
_PASSING = ("execution", "ExecuteTime", "trusted")
# A widget too many renames all that follow; the first differences tell.
_SHOWN = 20
_POLL_SECONDS, _STOP_SECONDS = 0.1, 1.0
# Those that run at the moment.
_SESSIONS = set()


def update(path: Path) -> tuple[float, list[str]]:
    """Execute one notebook in place; return how many seconds it took, and what there is to say about it."""
    start = time.perf_counter()
    stored = normalize(nbformat.read(path, as_version=4))
    new, texts = _execute(stored, path.parent)
    news = [*keep_what_agrees(stored, normalize(new)), *show_solutions(new, texts), *rules.problems(new)]
    write(path, nbformat.writes(new) + "\n")
    return time.perf_counter() - start, news


def _execute(notebook, folder) -> tuple[nbformat.NotebookNode, list[str]]:
    """Return the notebook with new outputs, and what each block of code in its solutions prints, run at its end."""
    session = Session(notebook, folder)
    _SESSIONS.add(session)
    try:
        for number in range(len(notebook.cells)):
            session.run(number)
        # Before the solutions run: what they change is not in the page.
        new = session.widgets()
        return new, [solutions.printed(session.extra(block.code)) for block in solutions.blocks(notebook)]
    finally:
        _SESSIONS.discard(session)
        session.close()


def normalize(notebook):
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
    comparison = Comparison(Tolerance.of(stored.metadata))
    # Comparing also renames both notebooks' widgets, and with them the views among their outputs.
    moved_widgets = list(widgets.differences(stored, new, comparison))
    if not moved_widgets and widgets.models(stored):
        new.metadata.widgets = copy.deepcopy(stored.metadata.widgets)
    news = []
    for old, fresh in zip(stored.cells, new.cells, strict=True):
        if old.cell_type != "code":
            continue
        found = list(Comparison(Tolerance.of(stored.metadata, old.metadata)).outputs(old.outputs, fresh.outputs))
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
        tolerance = Tolerance.of(notebook.metadata, notebook.cells[block.cell].metadata)
        found = list(solutions.differences(block, printed, tolerance))
        news += [f"solution {block.label}: {one}" for one in found]
        kept.append(printed if found else block.shown)
    solutions.show(notebook, kept)
    return news


class Run:
    """Executes the notebooks of a folder, and tells about it."""

    def __init__(self, folder: Path, build: Path | None):
        self.folder, self.build = folder, build
        self.paths = sorted(path for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
        self.kept = Kept(build / "executed") if build else None
        self.results, self.failed = {}, []
        self.stopped_by, self._home = None, None

    def stop(self, number, frame) -> None:
        """Take a signal; whoever waits looks for it. An exception could be raised anywhere, even where none counts."""
        self.stopped_by = number

    def execute(self) -> None:
        """Execute every notebook that is not kept; those that fail leave the others alone."""
        waiting = []
        for path in self.paths:
            if self.kept and (result := self.kept.restore(path)):
                self._tell(path, result, f"executed before, {result.at} UTC")
            else:
                waiting.append(path)
        if waiting:
            self._home = fix_environment()
        # Every notebook is a process of its own; the threads of this pool only wait for them.
        pool = ThreadPoolExecutor(os.cpu_count() or 1)
        running = {pool.submit(self._one, path): path for path in waiting}
        try:
            while running and not self.stopped_by:
                for future in wait(running, _POLL_SECONDS, FIRST_COMPLETED).done:
                    self._take(running.pop(future), future)
        finally:
            # Nothing is left to do, unless this was interrupted.
            pool.shutdown(wait=False, cancel_futures=True)
            _end_kernels()

    def _take(self, path, future):
        try:
            result = future.result()
            self._tell(path, result, f"{result.seconds:.1f} s")
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            self.failed.append(path)
            print(f"{self._count()} {self._name(path)} FAILED\n{error}", flush=True)

    def _one(self, path):
        file = self.kept.file(path) if self.kept else None
        result = Result(*update(path))
        if self.kept and file:
            self.kept.save(file, path, result)
        return result

    def _tell(self, path, result, how):
        self.results[self._name(path)] = result
        news = result.news
        print(f"{self._count()} {self._name(path)}: {how}, {len(news) or 'nothing'} moved", flush=True)
        shown = news[:_SHOWN] + ([f"... and {len(news) - _SHOWN} more"] if len(news) > _SHOWN else [])
        print("".join(f"    {line}\n" for line in shown), end="", flush=True)

    def _count(self):
        return f"[{len(self.results) + len(self.failed)}/{len(self.paths)}]"

    def _name(self, path):
        return str(path.relative_to(self.folder))

    def report(self) -> int:
        """Say what moved or failed, on the page on execution too; return the exit code."""
        if self.failed:
            count = f"{len(self.failed)} of {len(self.paths)} notebooks failed"
            print(f"{count}: open them with `make lab` and run the cell shown above")
            return 1
        line = execution.moved(self.results)
        print(line)
        if self.build:
            (self.folder / "execution.md").write_text(execution.page(self.results))
            (self.build / "moved.txt").write_text(f"{line}\n")
        return 0

    def tidy(self) -> None:
        """Remove what was made for the kernels, and say what was done before an interruption."""
        if self._home:
            shutil.rmtree(self._home, ignore_errors=True)
        then = "`make book` goes on from there" if self.build else "these have their new outputs"
        print(f"\nstopped: {len(self.results)} of {len(self.paths)} notebooks are done; {then}", flush=True)


def _end_kernels():
    deadline, alive = time.monotonic() + _STOP_SECONDS, set(_SESSIONS)
    while alive and time.monotonic() < deadline:
        # One that is just being started has no number yet.
        alive -= {session for session in alive if session.kill()}
        time.sleep(0.02)


def main(folder: Path, build: Path | None = None) -> int:
    run = Run(folder, build)
    if not run.paths:
        print(f"no notebooks under {folder}")
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, run.stop)
    run.execute()
    if not run.stopped_by:
        return run.report()
    run.tidy()
    # Threads wait for kernels that are gone: Python would wait for them.
    os._exit(128 + run.stopped_by)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
