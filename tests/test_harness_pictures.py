"""How far apart pictures are, and how they are stored in fewer colours."""

import base64
import io
import shutil
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.testing.compare import calculate_rms
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from harness import pictures  # noqa: E402
from harness.text import Tolerance  # noqa: E402


def png(pixels, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(file, format="png", **options)
    return file.getvalue()


def test_a_thin_line_that_moves_is_far_however_large_the_picture():
    for size in (64, 1024):
        stored, shaded, moved = (np.full((size, size, 3), 255) for _ in range(3))
        stored[20, 10:40] = 0
        shaded[20, 10:40] = 4
        moved[21, 10:40] = 0
        assert pictures.distance(png(stored), png(stored)) == 0
        assert pictures.distance(png(stored), png(shaded)) < 3 < 30 < pictures.distance(png(stored), png(moved))


def test_pictures_of_different_sizes_differ(tmp_path):
    stored, new = png(np.zeros((40, 50, 3))), png(np.zeros((40, 51, 3)))
    assert "50 x 40 pixels, the new one is 51 x 40" in pictures.difference(stored, new, 3.0)
    pictures.save(tmp_path / "deep" / "one", stored, new)
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["one-actual.png", "one-expected.png"]


def waves(lines):
    """Draw some curves, each in a colour of its own."""
    figure, ax = plt.subplots(dpi=150)
    x = np.linspace(0, 6, 200)
    for line in range(lines):
        ax.plot(x, np.sin(x + line), color=plt.get_cmap("viridis")(line / lines), alpha=0.5)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    plt.close(figure)
    return file.getvalue()


@pytest.mark.parametrize(("lines", "mode"), [(4, "P"), (60, "RGB")])
def test_a_picture_is_stored_in_fewer_colours_that_hardly_differ(lines, mode):
    drawn = waves(lines)
    stored = pictures.reduced(drawn)
    assert Image.open(io.BytesIO(stored)).mode == mode
    assert len(stored) < len(drawn) / 1.4 and 0 < pictures.distance(drawn, stored) <= 2
    assert pictures.reduced(stored) == stored
    assert pictures.difference(stored, drawn, Tolerance().picture) is None


def test_a_picture_that_fewer_colours_would_change_stays_as_it_is(rng):
    between, glass = 252 - 6 * rng.integers(0, 42, (64, 64, 3)), rng.integers(0, 256, (64, 64, 4))
    for drawn in (png(between), png(glass)):
        assert pictures.reduced(drawn) == drawn


def test_the_distance_is_the_root_mean_square_of_the_worst_square_of_whatever_size(rng):
    stored, new = rng.integers(0, 256, (2, 70, 45, 4))
    squares = [np.s_[top : top + 32, left : left + 32] for top in (0, 32, 64) for left in (0, 32)]
    worst = max(calculate_rms(stored[square].astype(float), new[square].astype(float)) for square in squares)
    assert pictures.distance(png(stored), png(new)) == pytest.approx(worst, rel=1e-6)


def test_a_picture_keeps_its_shape_where_there_is_less_room():
    """The size of a stored picture is that at which it is sharp; Sphinx writes it into the page."""
    browser = shutil.which("chromium")
    if not browser:
        pytest.skip("there is no chromium to look at a page with")
    sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
    style = (ROOT / "book" / "_static" / "book.css").read_text()
    data = base64.b64encode(png(np.zeros((200, 600, 3)))).decode()
    page = (
        f"<style>img {{max-width: 100%}} {style}</style><article class='bd-article' style='width: 150px'>"
        f"<img style='width: 300px; height: 100px' src='data:image/png;base64,{data}'></article>"
    )
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page()
        window.set_content(page)
        assert window.evaluate("(i => [i.clientWidth, i.clientHeight])(document.querySelector('img'))") == [150, 50]
