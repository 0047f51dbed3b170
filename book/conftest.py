"""Hold every notebook to its stored outputs, a test for each cell.

Used by ``pytest --nbval book``: nbval finds the notebooks and makes items of their cells. ``tools/harness`` runs them,
as it does for ``make notebooks``, and says whether outputs agree. Items are added: first a notebook's rules, so that
the comparison means something, then its widgets, and last the code in the solutions to its exercises, run as a reader
would run it, and held to what the solutions show as printed.
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

from harness import rules, solutions, widgets  # noqa: E402
from harness.outputs import Comparison  # noqa: E402
from harness.session import Session, fix_environment  # noqa: E402
from harness.text import Tolerance  # noqa: E402
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError  # noqa: E402

DIFFERENCES = ROOT / "_build" / "figure-differences"
_SECONDS = "notebooks/seconds"
# A widget too many renames all that follow; the first differences tell.
_SHOWN = 20


class Failure(Exception):
    """A notebook does not hold; the message says where and how."""


# Their messages say all; where in the harness they come from says nothing.
_SAID = (Failure, CellExecutionError, CellTimeoutError, DeadKernelError)


class _Named:
    """An item that failures call by its notebook and its own name, and that fails if its check finds something."""

    def reportinfo(self):
        return self.path, None, f"{self.parent.title}: {self.name}"

    def runtest(self):
        if found := list(self.check()):
            more = [f"... and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
            raise Failure("\n".join([f"{self.where()}{one}" for one in found[:_SHOWN]] + more))

    def where(self):
        return f"{self.parent.title}, "

    def repr_failure(self, excinfo, style=None):
        if isinstance(excinfo.value, _SAID):
            return str(excinfo.value)
        return pytest.Item.repr_failure(self, excinfo, style)


class Rules(_Named, pytest.Item):
    """The stored notebook was executed, is shown, and leaves nothing out without a reason."""

    def check(self):
        if missing := rules.missing_from_contents(self.path, ROOT):
            yield missing
        yield from rules.problems(self.parent.stored)


class Widgets(_Named, pytest.Item):
    """The widgets of the rendered page are what the notebook made."""

    def check(self):
        new = self.parent.session.widgets()
        tolerance = Tolerance.of(new.metadata)
        comparison = Comparison(tolerance, DIFFERENCES / f"{self.path.stem}-widgets")
        return widgets.differences(self.parent.stored, new, comparison)


class Cell(_Named, IPyNbCell):
    """A cell, whose outputs agree with the stored ones."""

    def check(self):
        if self.options["skip"]:
            pytest.skip("the cell says so, and why")
        outputs = self.parent.session.run(self.cell_num)
        notebook = self.parent.stored
        stored = notebook.cells[self.cell_num]
        if not self.options["check"]:
            return []
        tolerance = Tolerance.of(notebook.metadata, stored.metadata)
        comparison = Comparison(tolerance, DIFFERENCES / f"{self.path.stem}-cell{self.cell_num}")
        return comparison.outputs(stored.outputs, outputs)

    def where(self):
        count = self.parent.stored.cells[self.cell_num].execution_count
        return f"{self.parent.title}, cell-{self.cell_num}, In [{count}]: "


class Solution(_Named, pytest.Item):
    """The code in an exercise's solution. It must run, and print what the text below it shows."""

    def __init__(self, *, block, **settings):
        super().__init__(**settings)
        self.block = block

    def check(self):
        printed = solutions.printed(self.parent.session.extra(self.block.code))
        notebook = self.parent.stored
        tolerance = Tolerance.of(notebook.metadata, notebook.cells[self.block.cell].metadata)
        return solutions.differences(self.block, printed, tolerance)

    def where(self):
        return f"{self.parent.title}, {self.name}: "


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
            yield Solution.from_parent(self, name=f"solution {block.label}", block=block)

    def setup(self):
        """Let no kernel of nbval's start."""
        self.session = Session(self.stored, self.path.parent)

    def teardown(self):
        self.session.close()


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
    home = fix_environment()
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
