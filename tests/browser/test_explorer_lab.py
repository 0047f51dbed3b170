"""The panels in a real JupyterLab: the explorer's chapter opens, its code shows the panel, a cell of its own shows stored
frames, and Python and the reader agree.
"""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell
from playwright.sync_api import expect

CHAPTER = Path(__file__).parents[2] / "book" / "explore.ipynb"
SECONDS = 90
FRAMES = """from peerflow import frames
line = frames.series([0, 1], [[0, 1], [1, 0]])
view = frames.chart("A line", [line], words=["Up.", "Down."], limits=(0, 1), label="x")
moved = frames.Frames("A line", [view], control="Place", places=["first", "second"])
moved"""
READ = "print('now', moved.place, panel.step_size, panel.algorithm, panel.edges)"


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab on a copy of the chapter, with the code of its last section as cells of its own."""
    notebook = nbformat.read(CHAPTER, as_version=4)
    (code,) = [
        block
        for cell in notebook.cells
        for block in re.findall(r"^```python\n(from peerflow.explorer.*?)^```", cell.source, re.M | re.S)
    ]
    notebook.cells += [new_code_cell(code), new_code_cell(FRAMES), new_code_cell(READ)]
    (tmp_path / "work").mkdir()
    nbformat.write(notebook, tmp_path / "work" / "explore.ipynb")
    options = "--no-browser --port=0 --ip=127.0.0.1 --allow-root --IdentityProvider.token= --expose-app-in-browser"
    command = [sys.executable, "-m", "jupyter", "lab", *options.split(), "--ServerApp.root_dir=.", "--LabApp.news_url="]
    home = {"HOME": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "JUPYTER_PLATFORM_DIRS": "1"}
    log = (tmp_path / "log").open("w")
    server = subprocess.Popen(command, cwd=tmp_path / "work", stderr=log, stdout=log, env={**os.environ, **home})
    try:
        yield _address(server, tmp_path / "log")
    finally:
        server.terminate()
        server.wait(timeout=30)
        log.close()


def _address(server, log):
    for _ in range(SECONDS):
        if found := re.search(r"(http://127\.0\.0\.1:\d+)/lab", log.read_text()):
            try:
                urllib.request.urlopen(f"{found[1]}/api")
                return found[1]
            except urllib.error.URLError:
                pass
        assert server.poll() is None, log.read_text()
        time.sleep(1)
    raise TimeoutError(log.read_text())


def run(page, command):
    # What it promises is kept only when all cells have run.
    page.evaluate("command => { window.jupyterapp.commands.execute(command); }", command)


def reads(page, expected):
    """Execute the last cell, and wait until Python says this."""
    run(page, "notebook:run-cell")
    said = page.locator(".jp-OutputArea-output", has_text=re.compile("^now ")).last
    expect(said).to_contain_text(expected, timeout=SECONDS * 1000)


def test_the_chapter_in_jupyterlab(lab, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(SECONDS * 1000)
    page.goto(f"{lab}/lab/tree/explore.ipynb")
    # Asked to run without a kernel, it would ask back for one.
    kernel = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"
    page.wait_for_function(f"() => {kernel}?.status === 'idle'")
    run(page, "notebook:run-all-cells")
    panel = page.locator(".pf-panel:has(.pf-losses)")
    expect(panel).to_be_visible(timeout=SECONDS * 1000)
    expect(page.locator("[data-number=loss]")).to_have_text("0.04292")
    reads(page, "now 0 1.0 DGD [[0, 1], [0, 7]")
    before = page.locator(".pf-losses .pf-line").first.get_attribute("d")
    slider = page.locator(".pf-panel input[type=range]").first
    slider.focus()
    slider.press("ArrowRight")
    page.locator(".pf-panel input[value=ATC]").click()
    page.locator(".pf-peer").nth(0).click()
    page.locator(".pf-peer").nth(7).click()
    page.get_by_label("Place").press("ArrowRight")
    expect(page.get_by_role("img", name="Down.")).to_be_visible()
    page.wait_for_timeout(1500)
    assert page.locator(".pf-losses .pf-line").first.get_attribute("d") != before
    run(page, "notebook:move-cursor-down")
    reads(page, "now 1 1.1 ATC [[0, 1], [1, 2]")
    page.close()
