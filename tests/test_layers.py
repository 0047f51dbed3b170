"""The API reference lists every module, and none imports from one below it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "lib" / "peerflow"
ORDER = re.findall(r"^## `peerflow\.(\w+)`$", (ROOT / "book" / "api.md").read_text(), re.MULTILINE)


def imports(module):
    """Return the modules of peerflow that a module imports, and the names it takes from them."""
    modules, names = set(), set()
    for node in ast.walk(ast.parse((LIBRARY / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("peerflow") for alias in node.names), "import from peerflow instead"
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports would go unseen here"
            if node.module == "peerflow":
                modules |= {alias.name for alias in node.names}
            elif node.module.startswith("peerflow."):
                modules.add(node.module.removeprefix("peerflow."))
                names |= {alias.name for alias in node.names}
    return modules - {"_checks", "_progress"}, names


def test_every_module_is_in_the_reference():
    assert sorted(ORDER) == sorted(path.stem for path in LIBRARY.glob("*.py") if not path.stem.startswith("_"))


@pytest.mark.parametrize("module", ORDER)
def test_no_module_imports_from_one_below_it(module):
    assert imports(module)[0] <= set(ORDER[: ORDER.index(module)])


@pytest.mark.parametrize("module", ORDER)
def test_no_module_takes_a_private_name_from_another(module):
    assert not {name for name in imports(module)[1] if name.startswith("_")}


def test_only_kernels_imports_neural_tangents():
    users = [path.stem for path in LIBRARY.glob("*.py") if "import neural_tangents" in path.read_text()]
    assert users == ["kernels"]
