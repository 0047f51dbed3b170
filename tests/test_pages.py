"""What Sphinx builds without a warning and a browser still cannot show."""

import re
from pathlib import Path

import nbformat
import pytest

BOOK = Path(__file__).parent.parent / "book"
PAGES = sorted([*BOOK.glob("*.md"), *BOOK.glob("*.ipynb")])


def markdown(page):
    if page.suffix == ".md":
        return page.read_text()
    return "\n\n".join(c.source for c in nbformat.read(page, as_version=4).cells if c.cell_type == "markdown")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_tagged_equation_has_one_line(page):
    """Sphinx puts equations with line breaks into `split`, and MathJax shows an error for a tag in there."""
    equations = re.findall(r"\$\$(.*?)\$\$", markdown(page), re.DOTALL)
    assert [equation for equation in equations if r"\tag" in equation and r"\\" in equation] == []


def test_equations_are_found():
    assert sum(markdown(page).count(r"\tag{") for page in PAGES) >= 20
