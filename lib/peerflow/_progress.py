"""The progress bar of what takes long: it appears after two seconds, where tqdm is there."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec


@contextmanager
def bar(progress: bool | None, total: int | None, name: str) -> Iterator[Callable[[int], object]]:
    """Give a function that is told how much more is done.

    ``progress`` is True, False, or None for only in a terminal; ``total`` is None where nobody knows.
    """
    if progress is None:
        # A notebook kernel also calls its stderr a terminal, but replaces the stream.
        progress = sys.stderr is sys.__stderr__ and sys.stderr.isatty() and find_spec("tqdm") is not None
    if not progress:
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=name, delay=2) as shown:
        yield shown.update
