"""How a test says that bad input is refused."""

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


def check(call, message):
    """The call raises ValueError with this in its message."""
    with pytest.raises(ValueError, match=message):
        call()
