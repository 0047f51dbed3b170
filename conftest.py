"""For pytest from anywhere in this repository."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Let pytest-xdist leave a notebook's cells together, in their order: they share a kernel."""
    # The slowest notebooks come first, see book/conftest.py.
    if getattr(config.option, "dist", "no") != "no" and getattr(config.option, "nbval", False):
        config.option.dist, config.option.loadscopereorder = "loadfile", False
