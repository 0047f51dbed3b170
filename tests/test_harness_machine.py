"""Whatever is set on a reader's machine, a notebook's outputs are the same."""

import re
import shutil
from pathlib import Path

import machine
import nbformat
import pytest
from test_harness import book, check, project, run

ROOT = Path(__file__).resolve().parent.parent
# As any other program would execute a notebook.
PLAIN = """\
import nbclient, nbformat
notebook = nbformat.read("book/small.ipynb", as_version=4)
nbclient.execute(notebook)
nbformat.write(notebook, "plain.ipynb")
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Return how to run something on a machine where everything is set, and why some of it is not, if so."""
    folder = tmp_path_factory.mktemp("machine")
    before, reason = machine.namespace(folder)
    return {"before": before, **machine.settings(folder / "home")}, reason


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A book whose cells show what is set, executed where nothing is."""
    folder = project(tmp_path_factory.mktemp("executed") / "p", small=book(**machine.OF_THE_MACHINE, **machine.CELLS))
    code, said = run(folder, "tools/notebooks.py", "book")
    assert code == 0, said
    return folder


def outputs(path: Path) -> dict:
    """Return every cell's outputs by its name."""
    cells = nbformat.read(path, as_version=4).cells
    return dict(zip([*machine.OF_THE_MACHINE, *machine.CELLS], [cell.outputs for cell in cells], strict=True))


def test_what_is_planted_would_show_in_every_cell(executed, planted):
    """Without this, the tests below could not fail."""
    settings, reason = planted
    code, said = run(executed, "-c", PLAIN, **settings)
    assert code == 0, said
    stored, plain = outputs(executed / "book" / "small.ipynb"), outputs(executed / "plain.ipynb")
    same = {name for name in stored if stored[name] == plain[name]}
    assert same == (set(machine.OF_THE_MACHINE) if reason else set())


def test_no_setting_changes_an_output(executed, planted):
    code, said = check(executed, **planted[0])
    assert code == 0 and f"{len(machine.CELLS) + len(machine.OF_THE_MACHINE) + 2} passed" in said, said


def test_no_setting_changes_what_is_stored(executed, planted):
    before = (executed / "book" / "small.ipynb").read_bytes()
    code, said = run(executed, "tools/notebooks.py", "book", **planted[0])
    assert code == 0 and "nothing moved" in said, said
    assert (executed / "book" / "small.ipynb").read_bytes() == before


def test_device_nodes_are_planted_too(planted):
    if planted[1]:
        pytest.skip(planted[1])
    here = Path("/dev/nvidia0").exists()  # as on a machine that has one
    code, said = run(ROOT, "-c", "import os; print(os.path.exists('/dev/nvidia0'))", **planted[0])
    assert (code, said) == (0, "True\n") and Path("/dev/nvidia0").exists() == here


def test_no_setting_changes_a_library_test(planted):
    """The first that computes something looks at stderr."""
    test = "tests/test_training.py::test_a_progress_bar_shows_only_when_asked"
    code, said = run(ROOT, "-m", "pytest", "-q", test, **planted[0])
    assert code == 0, said


def test_a_folder_that_cannot_be_written_fails_nothing(executed, tmp_path):
    before, reason = machine.namespace(tmp_path, read_only=[executed, ROOT])
    if reason:
        pytest.skip(reason)
    code, said = check(executed, before=before)
    assert code == 0 and "passed" in said, said
    # One for which hypothesis keeps examples.
    test = "tests/test_mixing.py::test_metropolis_hastings_on_any_connected_graph"
    code, said = run(ROOT, "-m", "pytest", "-q", test, before=before)
    assert code == 0 and " passed" in said, said


WARNS = """\
import warnings
import pytest
@pytest.mark.parametrize(
    "module", ["peerflow.flows", "test_flows", "harness.text", "_pytest.config", "IPython.core", "other"]
)
@pytest.mark.parametrize("category", [UserWarning, RuntimeWarning, DeprecationWarning, FutureWarning])
def test_warns(module, category):
    warnings.warn_explicit("beware", category, "file.py", 1, module=module)
"""


def test_our_warnings_and_deprecations_are_errors_and_the_machines_are_none(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "test_warns.py").write_text(WARNS)
    code, said = run(tmp_path, "-m", "pytest", "-q", "test_warns.py", "-p", "no:cacheprovider", "-rfE")
    failed = set(re.findall(r"^FAILED .*\[(.*)\]", said, re.MULTILINE))
    ours = {"peerflow.flows", "test_flows", "harness.text"}
    expected = {f"{kind}-{module}" for kind in ("UserWarning", "RuntimeWarning") for module in ours}
    expected |= {f"DeprecationWarning-{module}" for module in ours | {"other"}}
    expected |= {f"FutureWarning-{module}" for module in ours | {"other", "_pytest.config", "IPython.core"}}
    assert code == 1 and failed == expected, said


def test_notebooks_are_checked_without_a_cache(executed):
    code, said = check(executed, "-p", "no:cacheprovider", "-k", "rules")
    assert code == 0 and "1 passed" in said, said


def test_the_cells_of_a_notebook_stay_together(tmp_path):
    """Each worker has a kernel of its own."""
    cells = {"first": "answer = 0"} | {str(count): f"answer += 1\nassert answer == {count}" for count in range(1, 5)}
    folder = project(tmp_path / "p", one=book(**cells), two=book(**cells))
    for path in (folder / "book").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for count, cell in enumerate(notebook.cells, 1):
            cell.execution_count = count
        nbformat.write(notebook, path)
    code, said = run(folder, "-m", "pytest", "-n", "2", "--nbval", "book")
    assert code == 0 and "14 passed" in said, said
