"""The harness on a small book: it passes what agrees, and each way to fool it fails with a message that says where."""

import base64
import copy
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from harness import pictures  # noqa: E402

STATE = "application/vnd.jupyter.widget-state+json"
FIGURE = """\
import matplotlib.pyplot as plt
import numpy as np

x = np.linspace(0, 6, 100)
for phase in range(4):
    plt.plot(x, np.sin(x + phase))
plt.show()
"""
SLIDERS = """\
import ipywidgets

steps = ipywidgets.IntSlider(description="steps", value=3)
rate = ipywidgets.FloatSlider(description="rate", value=0.25)
box = ipywidgets.VBox([steps, rate])
ipywidgets.jslink((steps, "value"), (rate, "max"))
ipywidgets.jsdlink((steps, "value"), (rate, "min"))
box
"""
SOURCES = {
    "numbers": 'print("loss 0.2625 after 17 steps")',
    "figure": FIGURE,
    "table": "from IPython.display import Markdown, HTML, Math\n"
    "Markdown('| graph | error |\\n|:--|--:|\\n| star | 4.9e-04 |')",
    "html": "HTML('<table><tr><td>star</td><td>1.2345678</td></tr></table>')",
    "latex": r"Math(r'\lambda_2 = 0.667, \quad 4.9 \times 10^{-4}')",
    "glue": "from myst_nb import glue\nglue('start', '0.2625', display=False)",
    "quiet": "answer = 42\nanswer;",
    "sliders": SLIDERS,
}
CELLS = {name: number for number, name in enumerate(SOURCES)}


def project(folder: Path, **notebooks) -> Path:
    """Lay out a book with the harness in it."""
    (folder / "book").mkdir(parents=True)
    shutil.copy(ROOT / "book" / "conftest.py", folder / "book")
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    fonts = f"matplotlib-{matplotlib.__version__}"
    if (ROOT / "_build" / fonts).exists():  # listed once for all
        shutil.copytree(ROOT / "_build" / fonts, folder / "_build" / fonts)
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy(ROOT / name, folder)
    contents = "".join(f"  - file: book/{name}\n" for name in notebooks)
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: book/index\nchapters:\n{contents}")
    for name, notebook in notebooks.items():
        nbformat.write(notebook, folder / "book" / f"{name}.ipynb")
    return folder


def run(folder: Path, *command, before=(), **settings):
    """Run a Python command in a project; return its exit code and what it printed."""
    done = subprocess.run(
        [*before, sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTEST_ADDOPTS": "", **settings},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


def check(folder: Path, *options, **settings):
    """Hold a project's notebooks to their stored outputs, as ``make test`` does, without plugins it needs not."""
    command = ("-m", "pytest", "-p", "nbval.plugin", "--nbval", "book", "--color=no", *options)
    return run(folder, *command, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **settings)


def book(**sources):
    """Return a notebook of code cells."""
    return new_notebook(
        cells=[new_code_cell(source) for source in sources.values()],
        metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    )


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A small book, executed in place by ``tools/notebooks.py``."""
    folder = project(tmp_path_factory.mktemp("executed") / "p", small=book(**SOURCES))
    code, said = run(folder, "tools/notebooks.py", "book")
    assert code == 0, said
    return folder


@pytest.fixture
def stored(executed):
    """Its notebook, to be changed."""
    return nbformat.read(executed / "book" / "small.ipynb", as_version=4)


def test_executing_again_changes_nothing(executed):
    before = (executed / "book" / "small.ipynb").read_bytes()
    meant = "OMP_NUM_THREADS=2 XLA_FLAGS= PYTHONHASHSEED=7"
    code, said = run(executed, "tools/notebooks.py", "book", NOTEBOOK_ENVIRONMENT=meant)
    assert code == 0 and "nothing moved" in said, said
    assert (executed / "book" / "small.ipynb").read_bytes() == before


def test_stored_outputs_agree(executed):
    code, said = check(executed)
    assert code == 0 and f"{len(SOURCES) + 2} passed" in said, said


def test_every_change_to_a_stored_output_fails(stored, tmp_path):
    """One notebook, one lie a cell: each is found, in its cell, in words."""
    cells = stored.cells
    lie(cells, "numbers", "text", "0.2625", "0.2626")
    lie(cells, "table", "text/markdown", "4.9e-04", "4.8e-04")
    lie(cells, "html", "text/html", "1.2345678", "1.2346678")
    lie(cells, "latex", "text/latex", "10^{-4}", "10^{-5}")
    lie(cells, "glue", "application/papermill.record/text/plain", "0.2625", "0.2635")
    picture = cells[CELLS["figure"]].outputs[0].data
    drawn, moved = moved_curve(0), moved_curve()
    assert base64.b64decode(picture["image/png"]) == pictures.reduced(drawn)
    assert 12 < pictures.distance(drawn, moved) < pictures.distance(pictures.reduced(drawn), moved) + 2
    picture["image/png"] = base64.b64encode(pictures.reduced(moved)).decode()
    flip_link(stored)
    code, said = check(project(tmp_path / "p", small=stored))
    assert code == 1
    for name, what in {
        "numbers": "0.2626 stored, 0.2625 new: relative difference 3.8e-04, tolerance 1e-06",
        "table": "text/markdown: 4.8e-04 stored, 4.9e-04 new",
        "html": "text/html: 1.2346678 stored, 1.2345678 new",
        "latex": "text/latex: -5 stored, -4 new",
        "glue": "application/papermill.record/text/plain: 0.2635 stored, 0.2625 new",
        "figure": "image/png: the picture moved: RMS",
    }.items():
        number = CELLS[name]
        assert f"book/small.ipynb, cell-{number}, In [{number + 1}]: " in said, said
        assert what in said, said
    sliders = CELLS["sliders"]
    assert f"cell-{sliders}: Link.source[0]: \"FloatSlider 'rate'" in said, said
    assert "7 failed, 3 passed" in said, said
    for what in ("expected", "actual", "difference"):
        assert (tmp_path / "p" / "_build" / "figure-differences" / f"small-cell1-{what}.png").stat().st_size > 0


def lie(cells, name, key, old, new):
    """Change one stored text."""
    output = cells[CELLS[name]].outputs[0]
    holder = output if key == "text" else output.data
    assert holder[key].count(old) == 1
    holder[key] = holder[key].replace(old, new)


def moved_curve(share=0.02) -> bytes:
    """Draw the figure with one of its curves moved by 2 % of its range, as the inline backend does for fine screens."""
    x = np.linspace(0, 6, 100)
    figure, ax = plt.subplots()
    for phase in range(4):
        ax.plot(x, np.sin(x + phase))
    limits = ax.get_xlim(), ax.get_ylim()
    line = ax.lines[2]
    line.set_ydata(line.get_ydata() + share * np.ptp(line.get_ydata()))
    ax.set(xlim=limits[0], ylim=limits[1])
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight", dpi=2 * figure.dpi, metadata={"Software": None})
    plt.close(figure)
    return file.getvalue()


def flip_link(notebook):
    """Let the second slider drive the first."""
    models = notebook.metadata.widgets[STATE]["state"]
    link = next(model for model in models.values() if model["model_name"] == "LinkModel")
    link["state"]["source"], link["state"]["target"] = link["state"]["target"], link["state"]["source"]


def test_vacuous_notebooks_fail(stored, tmp_path):
    cells = stored.cells
    cells[CELLS["numbers"]].execution_count = None
    cells[CELLS["table"]].outputs.append(new_output("stream", name="stderr", text="a warning"))
    cells[CELLS["html"]].outputs = [new_output("error", ename="ValueError", evalue="no", traceback=[])]
    cells[CELLS["glue"]].metadata.tags = ["nbval-ignore-output"]
    cells[CELLS["quiet"]].source = "# NBVAL_SKIP\nanswer = 42"
    cells[CELLS["sliders"]].metadata["tolerance"] = {"relative": 0.5}
    folder = project(tmp_path / "p", small=stored)
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    code, said = check(folder, "-k", "rules")
    assert code == 1
    for what in (
        "book/small is not in _toc.yml",
        "cell-0: was never executed",
        "cell-2: the stored output has stderr: 'a warning'",
        "cell-3: the stored output is an error, ValueError: no",
        "cell-5: is exempt from comparison without a reason",
        "cell-6: is exempt from comparison without a reason",
        "cell-7: the tolerance {'relative': 0.5} has no reason",
    ):
        assert f"book/small.ipynb, {what}" in said, said


def solution(label: str, code: str, shown: str | None = None) -> str:
    """Return a solution that holds some code and shows what it prints."""
    below = "" if shown is None else f"\n```text\n{shown}```\n"
    return f"````{{solution}} {label}\n:class: dropdown\n\nTry:\n\n```python\n{code}\n```\n{below}\nSo it is.\n````\n"


RIGHT = {
    "ex-right": ("assert answer == 42", None),
    "ex-prints": ("print(answer / 4)\nanswer", "10.5\n42\n"),
}
WRONG = {
    "ex-wrong": ("assert answer == 41", None),
    "ex-silent": ("answer", None),
    "ex-loud": ("answer = 42", "42\n"),
    "ex-other": ("print(answer / 4)", "10.6\n"),
    "ex-short": ("print(answer, answer, sep='\\n')", "42\n"),
    "ex-warns": ("import warnings; warnings.warn('beware')", None),
}


def exercises(solutions) -> nbformat.NotebookNode:
    """Return an executed chapter with these solutions."""
    chapter = book(only="answer = 42")
    chapter.cells[0].execution_count = 1
    chapter.cells.append(new_markdown_cell("\n".join(solution(label, *given) for label, given in solutions.items())))
    return chapter


def test_a_solution_must_run_and_show_what_it_prints(tmp_path):
    code, said = check(project(tmp_path / "p", small=exercises(RIGHT | WRONG)))
    assert code == 1 and f"{len(RIGHT) + 3} passed" in said and f"{len(WRONG)} failed" in said, said
    for what in (
        "ex-silent: prints '42', and no ```text block below it shows that",
        "ex-loud: shows '42', and prints nothing",
        "ex-other: 10.6 stored, 10.5 new: relative difference 9.4e-03",
        "ex-short: 1 lines stored, 2 new",
        "ex-warns: prints 'stderr: ",
    ):
        assert f"book/small.ipynb, solution {what}" in said, said
    assert "book/small.ipynb: solution ex-wrong" in said and "assert answer == 41" in said, said


def test_what_solutions_print_is_written_below_them(tmp_path):
    mended = {"ex-silent": "42\n", "ex-loud": None, "ex-other": "10.5\n", "ex-short": "42\n42\n"}
    folder = project(tmp_path / "p", small=exercises(RIGHT | {label: WRONG[label] for label in mended}))
    code, said = run(folder, "tools/notebooks.py", "book")
    assert code == 0 and "small.ipynb: " in said and f"{len(mended)} moved" in said, said
    assert "solution ex-other: 10.6 stored, 10.5 new" in said and "solution ex-loud: shows '42'" in said, said
    expected = exercises(RIGHT | {label: (WRONG[label][0], shown) for label, shown in mended.items()})
    written = (folder / "book" / "small.ipynb").read_bytes()
    source = nbformat.reads(written.decode(), as_version=4).cells[1].source
    assert re.sub(r"\n{3,}", "\n\n", source) == expected.cells[1].source
    assert run(folder, "tools/notebooks.py", "book")[0] == 0
    assert (folder / "book" / "small.ipynb").read_bytes() == written


def test_a_solution_that_does_not_run_stops_make_notebooks(tmp_path):
    folder = project(tmp_path / "p", small=exercises({"ex-wrong": WRONG["ex-wrong"]}))
    code, said = run(folder, "tools/notebooks.py", "book")
    assert code == 1 and "small.ipynb FAILED" in said and "assert answer == 41" in said, said


def test_named_tolerances_and_exemptions_are_shown(stored, tmp_path):
    cells = stored.cells
    lie(cells, "numbers", "text", "0.2625", "0.2626")
    cells[CELLS["numbers"]].metadata["tolerance"] = {"relative": 1e-3, "reason": "iterative"}
    lie(cells, "glue", "application/papermill.record/text/plain", "0.2625", "0.9")
    cells[CELLS["glue"]].metadata |= {"tags": ["nbval-ignore-output"], "nbval-reason": "it is a test"}
    code, said = check(project(tmp_path / "p", small=stored))
    assert code == 0, said
    assert "small.ipynb, cell-0: tolerance {'reason': 'iterative', 'relative': 0.001}" in said
    assert "small.ipynb, cell-5: check = False, as 'it is a test'" in said


def test_moved_outputs_are_named_and_the_rest_keeps_its_bytes(stored, tmp_path):
    truth = copy.deepcopy(stored)
    lie(stored.cells, "numbers", "text", "0.2625", "0.2626")
    picture = base64.b64decode(stored.cells[CELLS["figure"]].outputs[0].data["image/png"])
    stored.cells[CELLS["figure"]].outputs[0].data["image/png"] = base64.b64encode(recoded(picture)).decode()
    kept = stored.cells[CELLS["figure"]].outputs[0].data["image/png"]
    flip_link(stored)
    folder = project(tmp_path / "p", small=stored)
    code, said = run(folder, "tools/notebooks.py", "book")
    assert code == 0, said
    assert "cell-0: text: 0.2626 stored, 0.2625 new: relative difference 3.8e-04" in said
    assert f"cell-{CELLS['sliders']}: Link.source[0]" in said
    again = nbformat.read(folder / "book" / "small.ipynb", as_version=4)
    assert again.cells[CELLS["figure"]].outputs[0].data["image/png"] == kept
    again.cells[CELLS["figure"]].outputs = truth.cells[CELLS["figure"]].outputs
    assert again == truth


def test_what_takes_too_long_and_what_kills_the_kernel_fail_by_name_and_the_rest_goes_on(tmp_path):
    sources = {"slow": "import time\ntime.sleep(60)", "dead": "import os\nos._exit(1)", "well": "print(1)"}
    folder = project(tmp_path / "p", **{name: book(only=source) for name, source in sources.items()})
    impatient(folder)
    code, said = run(folder, "tools/notebooks.py", "book")
    assert code == 1
    for what in (
        "slow.ipynb FAILED\nA cell timed out while it was being executed, after 3 seconds.",
        "dead.ipynb FAILED\nKernel died in this cell:\nimport os\nos._exit(1)\n",
        "well.ipynb: ",
        "2 of 3 notebooks failed",
    ):
        assert what in said, said


def test_no_cell_runs_after_one_that_took_too_long_or_killed_the_kernel(tmp_path):
    sources = {"slow": "import time\ntime.sleep(60)", "dead": "import os\nos._exit(1)"}
    chapters = {name: book(first=source, second="print(1)") for name, source in sources.items()}
    folder = impatient(project(tmp_path / "p", **chapters))
    code, said = check(folder, "-k", "cell")
    assert code == 1 and "4 failed" in said, said
    for what in (
        "A cell timed out while it was being executed, after 3 seconds.",
        "not run, as a cell before it ended the kernel: A cell timed out while it was being executed, after 3 seconds.",
        "Kernel died in this cell:\nimport os\nos._exit(1)\n",
        "not run, as a cell before it ended the kernel: Kernel died in this cell:",
    ):
        assert what in said, said


def impatient(folder: Path) -> Path:
    """Let the harness of a project wait for no cell longer than 3 s."""
    session = folder / "tools" / "harness" / "session.py"
    given = session.read_text()
    assert given.count("CELL_TIMEOUT = 300") == 1
    session.write_text(given.replace("CELL_TIMEOUT = 300", "CELL_TIMEOUT = 3"))
    return folder


def recoded(png: bytes) -> bytes:
    """Return the same picture in other bytes."""
    from PIL import Image

    file = io.BytesIO()
    Image.open(io.BytesIO(png)).save(file, format="png", compress_level=1)
    assert file.getvalue() != png
    return file.getvalue()


def test_lax_comparison_is_refused(executed):
    code, said = check(executed, "--nbval-lax")
    assert code == 4 and "compares nothing" in said, said


def test_other_threads_kernels_and_hashes_give_the_same_chapter(tmp_path):
    """``make determinism`` asks this of every chapter."""
    chapter = nbformat.read(ROOT / "book" / "system.ipynb", as_version=4)
    threads, rest = "OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2", "OPENBLAS_CORETYPE=Sandybridge PYTHONHASHSEED=1"
    meant = f"{threads} {rest} XLA_FLAGS=--xla_cpu_max_isa=AVX2"
    code, said = check(project(tmp_path / "p", system=chapter), NOTEBOOK_ENVIRONMENT=meant)
    assert code == 0, said
