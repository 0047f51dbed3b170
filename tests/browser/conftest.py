"""A browser, and the built book served from this machine."""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from serving import serve

ROOT = Path(__file__).parents[2]
BOOK = ROOT / os.environ.get("PEERFLOW_PAGES", "_build/html")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def missing(what):
    """Skip where a reader lacks something; on a CI machine that is a failure."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        missing("there is no Chromium on the path: on Debian, apt-get install chromium")
    with sync_playwright() as playwright:
        # Root, as in a container, has no sandbox to give.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def files():
    """The address of the pages where nothing serves them."""
    if not (BOOK / "book" / "index.html").exists():
        missing(f"there are no pages in {BOOK}: make html")
    return BOOK.resolve().as_uri()


@pytest.fixture(scope="session")
def book(files):
    server = serve(BOOK)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
