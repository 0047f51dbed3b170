"""The code in the solutions to a chapter's exercises, which a reader runs at the chapter's end, and what it prints.

What a ```python block prints stands in a ```text block below it, and is compared like any other output. So every number
that a solution computes is one that the tests hold it to.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from harness import text
from harness.outputs import merge_streams
from harness.text import Tolerance

_SOLUTION = re.compile(r"(?P<head>^````\{solution\} (?P<label>\S+)\n)(?P<body>.*?)(?=^````$)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(
    r"(?P<python>^```python\n(?P<code>.*?)^```$)(?:\s*\n^```text\n(?P<shown>.*?)^```$)?", re.MULTILINE | re.DOTALL
)
# Any other way to open such a block or a solution: nothing would run it.
_OTHER = re.compile(
    r"^[ \t]*(?:`{3,}|~{3,}|:{3,})[ \t]*(?:\{(?:code|solution).*|i?python\w*|text)[ \t]*$", re.MULTILINE
)
_QUOTED = 60


class Block(NamedTuple):
    """One block of code in a solution."""

    label: str
    """The exercise's label, with a number from the second block on."""
    cell: int
    """The number of the Markdown cell that holds it."""
    code: str
    shown: str | None
    """What stands below it as printed, if anything does."""


def blocks(notebook) -> Iterator[Block]:
    """Yield the blocks of code in a notebook's solutions, in order."""
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            for solution in _SOLUTION.finditer(cell.source):
                for number, block in enumerate(_BLOCK.finditer(solution["body"])):
                    label = f"{solution['label']}-{number}" if number else solution["label"]
                    yield Block(label, place, block["code"], block["shown"])


def problems(notebook) -> Iterator[str]:
    """Yield what looks like a solution's code or what it prints, and would be neither run nor compared."""
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and "{solution" in cell.source:
            rest = _SOLUTION.sub(lambda found: _BLOCK.sub("", found["body"]), cell.source)
            for found in _OTHER.finditer(rest):
                yield (
                    f"cell-{place}: nothing runs or compares {found[0].strip()!r}: "
                    "write ```python inside ````{solution}, and ```text right below it"
                )


def printed(outputs: list) -> str:
    """Return what a block's outputs show as text; a figure is none, and stderr is named."""
    parts = []
    for output in merge_streams(outputs):
        if output["output_type"] == "stream":
            parts.append(f"stderr: {output['text']}" if output["name"] == "stderr" else output["text"])
        elif output["output_type"] == "execute_result":
            parts.append(output["data"].get("text/plain", ""))
    return "".join(part if part.endswith("\n") else part + "\n" for part in parts if part)


def differences(block: Block, new: str, tolerance: Tolerance) -> Iterator[str]:
    """Yield how what a block shows differs from what it prints."""
    if block.shown is None:
        if new:
            yield f"prints {_start(new)}, and no ```text block below it shows that: make notebooks writes it"
    elif not new:
        yield f"shows {_start(block.shown)}, and prints nothing"
    else:
        yield from text.differences(block.shown, new, tolerance)


def show(notebook, texts: Iterable[str]) -> None:
    """Let each block, in order, show its text; a block without one shows nothing."""
    rest = iter(texts)

    def block(found):
        shown = next(rest)
        return found["python"] + (f"\n\n```text\n{shown}```" if shown else "")

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _SOLUTION.sub(lambda found: found["head"] + _BLOCK.sub(block, found["body"]), cell.source)


def _start(words):
    line = words.strip().partition("\n")[0]
    return repr(line if len(line) <= _QUOTED else line[:_QUOTED] + "...")
