"""How a test says that bad input is refused."""

from contextlib import contextmanager

import jaxtyping
import numpy as np
import pytest

NAN, INF = float("nan"), float("inf")


def with_entry(array, value):
    """Return a copy whose first entry is ``value``."""
    result = np.array(array, dtype=float)
    result.flat[0] = value
    return result


def rejects(cases):
    """Parametrise over (call, part of the message)."""
    return pytest.mark.parametrize(("call", "message"), cases)


@contextmanager
def unchecked():
    """Leave annotations unchecked, as they are for readers: what the library itself says of bad input is heard."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def check(call, message):
    """The call raises ValueError with this in its message."""
    with unchecked(), pytest.raises(ValueError, match=message):
        call()
