"""The landing pages: the picture is a notebook's, so are the ranges, and the example prints what stands there."""

import base64
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
PAGES = {path.name: path.read_text() for path in (ROOT / "README.md", BOOK / "index.md")}


def code_cells(notebook):
    return [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]


def block(page, language):
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)
    return found


def test_the_cover_is_the_stored_figure():
    cells = code_cells(BOOK / "experiment_networks.ipynb")
    (cell,) = [cell for cell in cells if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == "fig-honest"]
    (picture,) = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    assert (BOOK / "figures" / "honest.png").read_bytes() == base64.b64decode(picture), (
        "the figure moved: write its stored picture to book/figures/honest.png"
    )


def test_ranges_on_the_landing_page_are_a_notebooks():
    cells = code_cells(BOOK / "experiment_networks.ipynb")
    data = [output.get("data", {}) for cell in cells for output in cell.outputs]
    glued = {one.get("application/papermill.record/text/plain", "").strip("'") for one in data}
    ranges = re.findall(r"[\d.]+%? to [\d.]+%", PAGES["index.md"])
    assert len(ranges) >= 5 and [one for one in ranges if one not in glued] == []
    assert re.findall(r"[\d.]+ ?(?:%|percent)", re.sub(r"[\d.]+%? to [\d.]+%", "", PAGES["index.md"])) == []


def test_the_readme_has_the_books_example():
    for language in ("python", "text"):
        assert block("README.md", language) == block("index.md", language)


def test_the_example_prints_what_the_page_shows():
    example = block("index.md", "python")
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    shown, printed = block("index.md", "text"), done.stdout
    assert re.sub(r"[\d.]+", "#", shown) == re.sub(r"[\d.]+", "#", printed)
    # Four decimals: the last may be rounded the other way elsewhere.
    numbers = [[float(number) for number in re.findall(r"[\d.]+", text)] for text in (shown, printed)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1.01e-4)
    assert len(numbers[0]) == 9
