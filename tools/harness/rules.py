"""What a stored notebook must have, so that comparing its outputs means something."""

from collections.abc import Iterator
from pathlib import Path

import yaml
from nbval.plugin import comment_markers, find_comment_markers, find_metadata_tags

from harness import solutions
from harness.text import tolerance_problem

REASON = "nbval-reason"
# nbclient's own way to leave a cell out, beside nbval's.
_SKIPPED_BY_NBCLIENT = "skip-execution"


def problems(notebook) -> Iterator[str]:
    """Yield what makes a stored notebook's outputs no claim, each with its cell."""
    if found := tolerance_problem(notebook.metadata):
        yield f"notebook metadata: {found}"
    yield from solutions.problems(notebook)
    expected = 1
    for number, cell in enumerate(notebook.cells):
        if found := tolerance_problem(cell.metadata):
            yield f"cell-{number}: {found}"
        if cell.cell_type != "code":
            continue
        for found in _cell_problems(cell, expected):
            yield f"cell-{number}: {found}"
        expected += 1


def _cell_problems(cell, expected):
    if cell.execution_count is None:
        yield "was never executed: it has no execution count"
    elif cell.execution_count != expected:
        yield f"was executed out of order: its execution count is {cell.execution_count}, not {expected}"
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"the stored output is an error, {output.ename}: {output.evalue}"
        if output.get("name") == "stderr":
            yield f"the stored output has stderr: {output.text.strip()[:100]!r}"
        if (count := output.get("execution_count", cell.execution_count)) != cell.execution_count:
            yield f"the stored output has the execution count {count}, and the cell {cell.execution_count}"
    if unchecked(cell) and not reason(cell):
        yield f"is exempt from comparison without a reason: {', '.join(unchecked(cell))}; see {REASON!r}"


def unchecked(cell) -> list[str]:
    """Return the markers by which a cell is exempt from being run or compared."""
    marks = [*find_metadata_tags(cell.metadata), *find_comment_markers(cell.source)]
    found = [f"{what} = {value}" for what, value in marks if (what, value) != ("check", True)]
    return found + [tag for tag in cell.metadata.get("tags", []) if tag == _SKIPPED_BY_NBCLIENT]


def reason(cell) -> str:
    """Return why a cell is exempt: its metadata say so, or a comment right above or below the marker."""
    if named := str(cell.metadata.get(REASON, "")).strip():
        return named
    lines = [line.strip() for line in cell.source.splitlines()]
    for place, line in enumerate(lines):
        if line.startswith("#") and line.lstrip("#").strip() in comment_markers:
            for near in lines[max(0, place - 1) : place] + lines[place + 1 : place + 2]:
                words = near.lstrip("#").strip()
                if near.startswith("#") and words and words not in comment_markers:
                    return words
    return ""


def missing_from_contents(path: Path, root: Path) -> str | None:
    """Say that a notebook is not in the book's table of contents, if it is not."""
    contents = yaml.safe_load((root / "_toc.yml").read_text())
    name = path.resolve().relative_to(root.resolve()).with_suffix("").as_posix()
    if name in _files(contents):
        return None
    return f"{name} is not in _toc.yml, so no page shows it"


def _files(entry):
    """Return the files that a table of contents names."""
    if isinstance(entry, list):
        return {name for one in entry for name in _files(one)}
    if not isinstance(entry, dict):
        return set()
    own = {str(entry[key]).removesuffix(".ipynb") for key in ("file", "root") if key in entry}
    return own.union(*(_files(value) for value in entry.values()))
