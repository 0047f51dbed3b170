"""Every row of the map from paper to code points somewhere, and every part of the paper has a row."""

import ast
import importlib
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "book"
EQUATIONS = [*map(str, range(1, 7)), "7a", "7b", "7c", "8a", "8b", "8c", "9", "10", "11"]
EQUATIONS += ["12a", "12b", "12c", "13", "14", "15"]
FIGURES = ["Figure 1", "Figure 2a", "Figure 2b", "Figure 2c"]
REQUIRED = [f"({number})" for number in EQUATIONS] + FIGURES + ["Proposition 1"]


def part(row):
    """Return the part of the paper that a row is about: the start of its first cell, without the link."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", row[0])


def rows():
    lines = (BOOK / "map.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in cells if row[0] != "In the paper" and not set(row[0]) <= set(":- ")]


def text_of(path):
    if path.suffix == ".md":
        return path.read_text()
    cells = nbformat.read(path, as_version=4).cells
    figures = [cell.metadata.get("mystnb", {}).get("figure", {}).get("name", "") for cell in cells]
    return "\n".join([cell.source for cell in cells] + [f"({name})=" for name in figures])


@pytest.fixture(scope="module")
def labels():
    toc = (ROOT / "_toc.yml").read_text()
    pages = [path for path in BOOK.iterdir() if path.suffix in (".md", ".ipynb") and f"book/{path.stem}\n" in toc]
    text = "\n".join(map(text_of, pages))
    return set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE) + re.findall(r":label: ([\w-]+)", text))


def test_every_part_of_the_paper_has_a_row():
    named = [part(row) for row in rows()]
    for required in REQUIRED:
        assert len([name for name in named if re.match(re.escape(required) + r"(?![\w.])", name)]) == 1, required
    assert len(named) == len(set(named))


@pytest.mark.parametrize("row", rows(), ids=part)
def test_a_row_points_to_a_place_a_function_and_a_test(row, labels):
    assert len(row) == 3
    place, functions, tests = row
    targets = re.findall(r"(?:\]\(|<)([\w-]+)(?:\)|>`)", place)
    assert targets and set(targets) <= labels
    objects = re.findall(r"\{py:obj\}`~?([\w.]+)`", functions)
    assert objects
    for name in objects:
        assert _exists(name), f"{name} is not in the library"
    nodes = re.findall(r"(\w+): ([\w ]+)", tests)
    notebooks = re.findall(r"`(\w+\.ipynb)`", tests)
    assert nodes or notebooks
    for file, function in nodes:
        tree = ast.parse((ROOT / "tests" / f"test_{file}.py").read_text())
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        name = "test_" + function.replace(" ", "_")
        assert name in names, f"tests/test_{file}.py has no {name}"
    for notebook in notebooks:
        cells = nbformat.read(BOOK / notebook, as_version=4).cells
        assert any("assert " in cell.source for cell in cells if cell.cell_type == "code")


def _exists(name):
    package, module, *attributes = name.split(".")
    found = importlib.import_module(f"{package}.{module}")
    for attribute in attributes:
        if not hasattr(found, attribute) and attribute not in getattr(found, "__annotations__", {}):
            return False
        found = getattr(found, attribute, None)
    return True
