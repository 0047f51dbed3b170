"""Compare PNGs as images, and store them in fewer bytes.

The distance of two pictures is the largest root mean square over squares of 32 pixels, of colours from 0 to 255. Over
a whole figure a thin line that moved is lost among white; in its own square it is not, however large the figure.

Matplotlib draws with fonts and a font renderer that come with it, so the same version gives the same picture on every
machine; what is left is how rounding, which depends on threads and processor, shades a pixel. On the book's figures
that is below 1, and a curve moved by 2 % of its range gives 12 or more. The tolerance of 3 lies between.

Stored pictures have fewer colours than drawn ones, as long as that takes them no further than 2 from what was drawn.
Distances add up at most, so rounding still leaves the two within the tolerance, and what moved is still beyond it.
"""

import base64
import io
from pathlib import Path

import numpy as np
from matplotlib.testing.compare import save_diff_image
from PIL import Image

_SQUARE = 32
_REDUCED = 2.0
# In 256 colours, or, where there are many more, in every sixth shade of each colour, counted from white.
_REDUCTIONS = (
    lambda picture: picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1),
    lambda picture: Image.eval(picture, lambda value: 255 - round((255 - value) / 6) * 6),
)
_START, _END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def decoded(text: str) -> bytes | None:
    """Return the PNG that a base64 text is, or None if it is none, or not the whole of one."""
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return None
    return data if data.startswith(_START) and data.endswith(_END) else None


def distance(stored: bytes, new: bytes) -> float:
    """Return the largest root mean square over squares of 32 pixels, or infinity for pictures of different sizes."""
    if stored == new:
        return 0.0
    old, fresh = _pixels(stored), _pixels(new)
    if old.shape != fresh.shape:
        return np.inf
    squared = np.square(old - fresh).mean(axis=2)
    edges = [np.arange(0, size, _SQUARE) for size in squared.shape]
    sums = np.add.reduceat(np.add.reduceat(squared, edges[0], axis=0), edges[1], axis=1)
    heights, widths = (np.diff(edge, append=size) for edge, size in zip(edges, squared.shape, strict=True))
    return float(np.sqrt(sums / np.outer(heights, widths)).max())


def reduced(png: bytes) -> bytes:
    """Return the picture with fewer colours, if that makes it smaller and hardly changes it; if not, as it is."""
    picture = Image.open(io.BytesIO(png))
    if picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):  # something shines through
        return png
    for reduction in _REDUCTIONS:
        file = io.BytesIO()
        reduction(picture.convert("RGB")).save(file, format="png", optimize=True)
        if len(file.getvalue()) < len(png) and distance(png, file.getvalue()) <= _REDUCED:
            return file.getvalue()
    return png


def difference(stored: bytes, new: bytes, tolerance: float) -> str | None:
    """Say how two pictures differ, or None if their distance is within the tolerance."""
    far = distance(stored, new)
    if far <= tolerance:
        return None
    if np.isinf(far):
        (height, width), (new_height, new_width) = _pixels(stored).shape[:2], _pixels(new).shape[:2]
        return f"the picture was {width} x {height} pixels, the new one is {new_width} x {new_height}"
    return f"the picture moved: RMS {far:.1f} where it differs most, tolerance {tolerance:g}"


def save(stem: Path, stored: bytes, new: bytes) -> None:
    """Write both pictures, and what differs between them, as STEM-expected.png, -actual.png and -difference.png."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    expected, actual = (stem.with_name(f"{stem.name}-{what}.png") for what in ("expected", "actual"))
    expected.write_bytes(stored)
    actual.write_bytes(new)
    if _pixels(stored).shape == _pixels(new).shape:
        save_diff_image(str(expected), str(actual), str(stem.with_name(f"{stem.name}-difference.png")))


def _pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(np.float32)
