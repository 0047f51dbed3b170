"""Long runs that survive: what a run has reached, on disk, and back from there bit for bit; by orbax.

What is stored tells a later run whether it is the same one: a digest of everything that it depends on.
"""

import hashlib
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse


def digests(parts: Mapping[str, Any]) -> dict[str, str]:
    """Return a digest of each part: an array, dense or sparse, or what prints alike for equal values."""
    return {name: hashlib.sha256(_bytes(part)).hexdigest() for name, part in parts.items()}


def _bytes(part) -> bytes:
    if scipy.sparse.issparse(part):
        return b"".join(_bytes(each) for each in (part.data, part.indices, part.indptr))
    if isinstance(part, np.ndarray):
        return f"{part.dtype} {part.shape} ".encode() + part.tobytes()
    return repr(part).encode()


class Checkpoint:
    """The last state that a run stored in a folder of its own, and the place for the next."""

    def __init__(self, manager, same: Mapping[str, str]):
        self.manager, self.same = manager, same

    def last(self) -> tuple[int, dict[str, np.ndarray]] | None:
        """Return after how many steps something was stored, and what, or None.

        Raises
        ------
        ValueError
            If another run stored it.
        """
        args = _arguments()
        if (done := self.manager.latest_step()) is None:
            return None
        about = self.manager.restore(done, args=args.Composite(about=args.JsonRestore()))["about"]
        if other := [name for name in self.same if about.get(name) != self.same[name]]:
            raise ValueError(f"the checkpoint must be of the same run, got one with other {', '.join(other)}")
        return done, self.manager.restore(done, args=args.Composite(state=args.PyTreeRestore()))["state"]

    def store(self, done: int, state: dict[str, np.ndarray]) -> None:
        """Store what is reached after so many steps; the folder holds it whole or not at all."""
        args = _arguments()
        both = args.Composite(state=args.PyTreeSave(state), about=args.JsonSave(dict(self.same)))
        self.manager.save(done, args=both)


def _arguments() -> Any:
    """Return orbax's descriptions of what is stored: only those who store something need it."""
    from orbax.checkpoint import args

    return args


@contextmanager
def opened(folder, parts: Mapping[str, Any]):
    """Give the checkpoint in a folder, which is made if it is not there, or None where no folder is named."""
    if folder is None:
        yield None
        return
    from orbax.checkpoint import CheckpointManager, CheckpointManagerOptions

    options = CheckpointManagerOptions(max_to_keep=1, create=True)
    with CheckpointManager(Path(folder).absolute(), options=options) as manager:
        yield Checkpoint(manager, digests(parts))
