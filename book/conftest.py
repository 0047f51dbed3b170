"""Hold every notebook to its stored outputs: nbval runs the cells, ``tools/harness`` says whether outputs agree.

Used by ``pytest --nbval book``. To each notebook's cells items are added: first its rules, so that the comparison means
something, then its widgets, and last the code in the solutions to its exercises, run as a reader would run it, and held
to what the solutions show as printed.
"""

import copy
import shutil
import sys
from functools import partial
from pathlib import Path

import nbformat
import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from harness import record, rules, solutions, widgets  # noqa: E402
from harness.outputs import Comparison  # noqa: E402
from harness.text import Tolerance, tolerance_problem  # noqa: E402

DIFFERENCES = ROOT / "_build" / "figure-differences"
_SECONDS = "notebooks/seconds"
# A widget too many renames all that follow; the first differences tell.
_SHOWN = 20


class Failure(Exception):
    """A notebook does not hold; the message says where and how."""


class _Named:
    """An item that failures call by its notebook and its own name."""

    def reportinfo(self):
        return self.path, None, f"{self.parent.title}: {self.name}"


class _Item(_Named, pytest.Item):
    """A check of a whole notebook."""

    def runtest(self):
        found = list(self.check())
        if found:
            more = [f"... and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
            raise Failure("\n".join([f"{self.parent.title}, {one}" for one in found[:_SHOWN]] + more))

    def repr_failure(self, excinfo, style=None):
        if isinstance(excinfo.value, Failure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)


class Rules(_Item):
    """The stored notebook was executed, is shown, and leaves nothing out without a reason."""

    def check(self):
        if missing := rules.missing_from_contents(self.path, ROOT):
            yield missing
        yield from rules.problems(self.parent.stored)


class Widgets(_Item):
    """The widgets of the rendered page are what the notebook made."""

    def check(self):
        new = self.parent.recorder.finished()
        tolerance = _tolerance(new.metadata)
        comparison = Comparison(tolerance, DIFFERENCES / f"{self.path.stem}-widgets")
        return widgets.differences(self.parent.stored, new, comparison)


class Cell(_Named, IPyNbCell):
    """A cell whose outputs are compared by the harness instead of word for word."""

    def runtest(self):
        self.parent.recorder.start(self.cell_num)
        super().runtest()

    def compare_outputs(self, test, ref, skip_compare=None):
        """Compare what nbclient would store; ``test`` lacks what nbval leaves out."""
        notebook = self.parent.stored
        stored = notebook.cells[self.cell_num]
        tolerance = _tolerance(notebook.metadata, stored.metadata)
        comparison = Comparison(tolerance, DIFFERENCES / f"{self.path.stem}-cell{self.cell_num}")
        found = list(comparison.outputs(stored.outputs, self.parent.recorder.outputs()))
        where = f"{self.parent.title}, cell-{self.cell_num}, In [{stored.execution_count}]"
        self.comparison_traceback = [f"{where}: {one}" for one in found]
        return not found


class Solution(_Named, IPyNbCell):
    """The code in an exercise's solution. It must run, and print what the solution shows."""

    def runtest(self):
        self.parent.recorder.append()
        super().runtest()

    def compare_outputs(self, test, ref, skip_compare=None):
        """Compare what it prints with the text that stands below it."""
        notebook, outputs = self.parent.stored, self.parent.recorder.outputs()
        tolerance = _tolerance(notebook.metadata, notebook.cells[self.block.cell].metadata)
        found = solutions.differences(self.block, solutions.printed(outputs), tolerance)
        self.comparison_traceback = [f"{self.parent.title}, {self.name}: {one}" for one in found]
        return not self.comparison_traceback


class Notebook(IPyNbFile):
    """A notebook: its rules, its cells, its widgets, its solutions."""

    def collect(self):
        cells = list(super().collect())
        # nbval numbers code cells; here a cell has one number, by which its id and its messages call it.
        numbers = [number for number, cell in enumerate(self.nb.cells) if cell.cell_type == "code"]
        for number, cell in enumerate(self.nb.cells):
            cell.id = f"cell-{number}"
        self.stored = copy.deepcopy(self.nb)
        self.title = self.path.relative_to(ROOT).as_posix()
        yield Rules.from_parent(self, name="rules")
        for number, cell in zip(numbers, cells, strict=True):
            yield Cell.from_parent(self, name=f"cell-{number}", cell_num=number, cell=cell.cell, options=cell.options)
        yield Widgets.from_parent(self, name="widgets")
        for block in solutions.blocks(self.nb):
            # nbval compares a cell that was executed once.
            cell = nbformat.v4.new_code_cell(block.code, execution_count=1)
            options = {"check": True, "check_exception": False, "skip": False}
            item = Solution.from_parent(
                self, name=f"solution {block.label}", cell_num=block.cell, cell=cell, options=options
            )
            item.block = block
            yield item

    def setup(self):
        super().setup()
        self.recorder = record.Recorder(self.stored, self.kernel.kc)
        # nbval keeps cells out of the history, by which IPython knows that a semicolon silences the last line.
        self.kernel.execute_cell_input = partial(self.kernel.kc.execute, stop_on_error=False)

    def get_kernel_message(self, timeout=None, stream="iopub"):
        """Return a message to nbval, and show it to nbclient."""
        message = super().get_kernel_message(timeout, stream)
        self.recorder.take(message)
        return message


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """Take the notebooks that nbval collects."""
    found = yield
    return [Notebook.from_parent(parent, path=one.path) if isinstance(one, IPyNbFile) else one for one in found]


def pytest_collection_modifyitems(config, items):
    """Start with the notebook that took longest last time, so that none is left over at the end."""
    seconds = _seconds(config)
    items.sort(key=lambda item: -seconds.get(item.path.stem, 0))


def pytest_configure(config):
    if config.option.nbval_lax:
        raise pytest.UsageError("--nbval-lax compares nothing: use --nbval")
    config.option.nbval_kernel_name = "python3"  # whatever a notebook names
    home = record.fix_environment()
    config.add_cleanup(partial(shutil.rmtree, home, ignore_errors=True))  # pytest-xdist's workers end abruptly
    if not hasattr(config, "workerinput"):
        for picture in DIFFERENCES.glob("*.png"):
            picture.unlink()
        config.pluginmanager.register(_Summary(config))


def _seconds(config):
    """Return how long each notebook took last time, if anything remembers."""
    cache = getattr(config, "cache", None)  # there is none with -p no:cacheprovider
    return cache.get(_SECONDS, {}) if cache else {}


class _Summary:
    """Remembers how long notebooks take, and shows which tolerances and exemptions they name."""

    def __init__(self, config):
        self.config, self.seconds = config, {}

    def pytest_runtest_logreport(self, report):
        name = Path(report.nodeid.split("::")[0]).stem
        self.seconds[name] = self.seconds.get(name, 0) + report.duration

    def pytest_terminal_summary(self, terminalreporter):
        for line in self._named():
            terminalreporter.write_line(line)

    def pytest_sessionfinish(self):
        if cache := getattr(self.config, "cache", None):
            cache.set(_SECONDS, _seconds(self.config) | self.seconds)

    def _named(self):
        """Yield every tolerance and exemption that the notebooks name: none goes unseen."""
        for path in sorted((ROOT / "book").glob("*.ipynb")):
            if path.stem not in self.seconds:
                continue
            notebook = nbformat.read(path, as_version=4)
            named = [("every cell", notebook.metadata)]
            named += [(f"cell-{number}", cell.metadata) for number, cell in enumerate(notebook.cells)]
            for where, metadata in named:
                if "tolerance" in metadata:
                    yield f"{path.name}, {where}: tolerance {dict(metadata['tolerance'])}"
            for number, cell in enumerate(notebook.cells):
                if cell.cell_type == "code" and rules.unchecked(cell):
                    yield f"{path.name}, cell-{number}: {', '.join(rules.unchecked(cell))}, as {rules.reason(cell)!r}"


def _tolerance(*metadata):
    """Return the tolerance named last; a malformed one, which fails the rules, counts as none."""
    return Tolerance.of(*(one for one in metadata if not tolerance_problem(one)))
