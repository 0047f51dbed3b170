"""The API reference lists every module, and none imports from one below it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "lib" / "peerflow"
ORDER = re.findall(r"^## `peerflow\.(\w+)`$", (ROOT / "book" / "api.md").read_text(), re.MULTILINE)


def imports(module):
    """Return the modules of peerflow that a module imports."""
    found = set()
    for node in ast.walk(ast.parse((LIBRARY / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "peerflow":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("peerflow."):
            found.add(node.module.removeprefix("peerflow."))
    return found - {"_checks"}


def test_every_module_is_in_the_reference():
    assert sorted(ORDER) == sorted(path.stem for path in LIBRARY.glob("*.py") if not path.stem.startswith("_"))


@pytest.mark.parametrize("module", ORDER)
def test_no_module_imports_from_one_below_it(module):
    assert imports(module) <= set(ORDER[: ORDER.index(module)])


def test_only_kernels_imports_neural_tangents():
    users = [path.stem for path in LIBRARY.glob("*.py") if "import neural_tangents" in path.read_text()]
    assert users == ["kernels"]
