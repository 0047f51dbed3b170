"""For pytest from anywhere in this repository."""

import os

import pytest
from jaxtyping import install_import_hook

# Every test checks the annotations of the library on the way, shapes of arrays among them. What can be used as a number
# is one: numpy's, and those of JAX, also while it traces.
_NUMBERS = "{int: beartype.typing.SupportsIndex, float: beartype.typing.SupportsFloat}"
_CONF = f"beartype.BeartypeConf(hint_overrides=beartype.FrozenDict({_NUMBERS}))"
install_import_hook("peerflow", f"beartype.beartype(conf={_CONF})")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Let pytest-xdist leave a file's tests together, in their order.

    The cells of a notebook share a kernel, and the tests of a module what they compile and what their fixtures make:
    dealt out one by one, every worker would do that again. Another way of dealing has to be asked for.
    """
    if getattr(config.option, "dist", "no") != "no":
        if config.option.dist == "load":
            # The slowest notebooks come first, see book/conftest.py.
            config.option.dist, config.option.loadscopereorder = "loadfile", False
        # Workers whose linear algebra has as many threads as there are cores wait for each other.
        for library in ("OMP", "OPENBLAS", "MKL"):
            os.environ.setdefault(f"{library}_NUM_THREADS", "1")
