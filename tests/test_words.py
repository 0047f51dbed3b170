"""One spelling and one word for each thing, in the book, the library and beside them."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("*.md"), *ROOT.glob("book/*.md"), *ROOT.glob("book/*.ipynb"), *ROOT.glob("lib/**/*.py")])
WORDS = {
    r"\w*(?:linear|initial|minim|maxim|normal|central|discret|synchron|parametr|organ|general|optim|factor|random)is\w*":
        r"\w*(?:minimis|general|organis|optimis|synchronis|factoris|linearis)(?:t|ts|tic|m|ms)",  # -ize, but for these
    r"exactly if|just if": None,  # if and only if
    r"(?:row|sample|point|loss|number|colour|vector|image|curve|panel)s? an agent": None,  # per agent
    r"bears? every step": None,  # is stable at every step
    r"targets that are no probabilities": None,
    r"\b(?:color|behavior|neighbor)\w*": None,  # British, but for names in code
}  # fmt: skip


def prose(path):
    """Return what a reader reads: Markdown without code, and docstrings and comments of the library."""
    if path.suffix == ".ipynb":
        text = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
    else:
        text = path.read_text()
    if path.suffix != ".py":
        return re.sub(
            r"```.*?```|`[^`\n]*`", lambda block: block[0] if block[0].startswith("```{") else "", text, flags=re.S
        )
    return "\n".join(re.findall(r'"""(?:.*?)"""|^ *#[^\n]*', text, re.DOTALL | re.MULTILINE))


def faults(text):
    found = []
    for pattern, allowed in WORDS.items():
        words = [match[0] for match in re.finditer(pattern, text, re.IGNORECASE)]
        found += [word for word in words if allowed is None or not re.fullmatch(allowed, word, re.IGNORECASE)]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_words(path):
    assert faults(prose(path)) == []


@pytest.mark.parametrize(
    "words", ["linearise f", "an initialisation", "stable exactly if", "one row an agent", "the color"]
)
def test_a_fault_is_found(words, tmp_path):
    (tmp_path / "page.md").write_text(f"Here is {words}, and `color` in code. It generalises.")
    assert len(faults(prose(tmp_path / "page.md"))) == 2
