"""Executed notebooks that are kept: one that is unchanged, like all that its outputs come from, is not executed again.

So `make book` goes on where it was interrupted.
"""

import dataclasses
import datetime
import hashlib
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# All that outputs come from, beside the notebook: the library, what is installed, how it is run and compared.
_SOURCES = (
    "lib/peerflow/**/*",
    "book/data/**/*",
    "requirements.lock",
    "tools/notebooks.py",
    "tools/harness/*.py",
    "tools/kernels/*/*",
)


@dataclasses.dataclass(frozen=True)
class Result:
    """What executing a notebook gave."""

    seconds: float
    news: list[str]
    """What moved, and what is wrong with the notebook."""
    at: str = dataclasses.field(default_factory=lambda: f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M}")
    """When, in UTC."""


class Kept:
    """A folder of executed notebooks, each with its result in one file, named by the digest of what it comes from."""

    def __init__(self, folder: Path):
        self.folder, self._sources = folder, _sources()

    def file(self, path: Path) -> Path:
        """Return where a notebook that is not executed yet is kept once it is."""
        digest = hashlib.sha256(self._sources + path.read_bytes()).hexdigest()
        return self.folder / f"{path.stem}-{digest[:32]}.json"

    def restore(self, path: Path) -> Result | None:
        """Replace a notebook by its executed self and return that one's result, if it is kept."""
        file = self.file(path)
        if not file.exists():
            return None
        kept = json.loads(file.read_text())
        write(path, kept.pop("notebook"))
        return Result(**kept)

    def save(self, file: Path, path: Path, result: Result) -> None:
        """Keep an executed notebook in its file, in the place of any older one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for older in self.folder.glob(f"{path.stem}-{'[0-9a-f]' * 32}.json"):
            older.unlink()
        write(file, json.dumps({**dataclasses.asdict(result), "notebook": path.read_text()}))


def write(path: Path, text: str) -> None:
    """Write a file at once: an interruption leaves the old one or the new one."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    os.replace(new, path)


def _sources() -> bytes:
    digest = hashlib.sha256(f"{sys.version} {os.environ.get('NOTEBOOK_ENVIRONMENT')}".encode())
    for path in sorted({path for pattern in _SOURCES for path in ROOT.glob(pattern)}):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.digest()
