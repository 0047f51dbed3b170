"""`make lint` finds each kind of fault, whatever the others find, and `make format` mends what it can."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import lint  # noqa: E402

LONG = "total = " + " + ".join(["1234567890"] * 8) + "\n"
TIDY = 'import jax\nfrom jaxtyping import Float\n\n\ndef twice(x: Float[jax.Array, "agents params"]) -> jax.Array:\n'
TIDY += '    """Return twice this."""\n    return 2 * x\n'


def notebook(source: str) -> str:
    cell = {"cell_type": "code", "execution_count": None, "id": "a", "metadata": {}, "outputs": [], "source": [source]}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project without a fault; its chapter's line would be too long on a page, but for the brackets."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "tools").mkdir()
    (tmp_path / "book").mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "lib" / "tidy.py").write_text(TIDY)
    broken = "total = (\n    1234567890\n" + "    + 1234567890\n" * 7 + ")"
    (tmp_path / "book" / "chapter.ipynb").write_text(notebook(broken))
    monkeypatch.setattr(lint, "ROOT", tmp_path)
    monkeypatch.setattr(lint, "CHAPTERS", ["--line-length", "80", str(tmp_path / "book" / "chapter.ipynb")])
    return tmp_path


def test_what_is_tidy_passes_without_a_word(folder, capfd):
    assert lint.main() == 0
    assert capfd.readouterr() == ("", "")


def test_every_kind_of_fault_is_named(folder, capfd):
    (folder / "tools" / "spaced.py").write_text("x=1\n")
    (folder / "lib" / "unused.py").write_text("import os\n")
    (folder / "lib" / "typed.py").write_text('count: int = "three"\n')
    (folder / "lib" / "missing.py").write_text("from tidy import thrice\n\nprint(thrice, once)\n")
    (folder / "book" / "chapter.ipynb").write_text(notebook(LONG.strip()))
    assert lint.main() == 1
    said = capfd.readouterr().out
    for found in ("tools/spaced.py", "chapter.ipynb", "lib/unused.py", "F401", "reportAssignmentType"):
        assert found in said
    # Names that are not there are left to the types.
    assert '"once" is not defined' in said and '"thrice" is unknown import symbol' in said


def test_what_can_be_mended_is_mended(folder):
    spaced, chapter = folder / "tools" / "spaced.py", folder / "book" / "chapter.ipynb"
    spaced.write_text("import sys\nimport os\nprint(os.name,sys.path)\n")
    chapter.write_text(notebook(LONG.strip()))
    assert lint.main("--fix") == 0
    assert spaced.read_text() == "import os\nimport sys\n\nprint(os.name, sys.path)\n"
    assert "(\\n" in chapter.read_text() and lint.main() == 0


def test_the_newest_packages_are_tried_by_every_test_of_the_library():
    shown = subprocess.run(["make", "-n", "newest"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert " lib " in shown and ".venv-newest/bin/python -m pytest" in shown
    tried = {word for word in shown.split() if word.startswith("tests/test_")}
    files = {f"tests/{path.name}": path.read_text() for path in (ROOT / "tests").glob("test_*.py")}
    of_library = {name for name, text in files.items() if "\nfrom peerflow" in text or "\nimport peerflow" in text}
    assert of_library <= tried < set(files)
