"""The code in the solutions to a chapter's exercises, which a reader runs at the chapter's end."""

import re
from collections.abc import Iterator

_SOLUTION = re.compile(r"^````\{solution\} (\S+)\n(.*?)^````$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code(notebook) -> Iterator[tuple[str, str]]:
    """Yield each block of code in a solution, with the exercise's label."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for label, text in _SOLUTION.findall(cell.source):
                for number, block in enumerate(_CODE.findall(text)):
                    yield (f"{label}-{number}" if number else label), block
