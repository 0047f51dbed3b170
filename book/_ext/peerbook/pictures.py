"""Pictures as WebP in 256 colours: a quarter of the bytes of a PNG in all its colours, and no eye tells them apart.

Notebooks keep their PNGs, which every viewer shows and tests compare. A converted picture is named by what it was made
of and kept beside the doctrees, so that only a changed one is made anew.
"""

import hashlib
from pathlib import Path

from PIL import Image
from sphinx.transforms.post_transforms.images import BaseImageConverter

COLOURS = 256


def convert(source, target):
    """Write a PNG as WebP; what shines through it stays so."""
    with Image.open(source) as picture:
        opaque = picture.convert("RGBA").getchannel("A").getextrema() == (255, 255)
        if opaque:
            picture = picture.convert("RGB")
            if picture.getcolors(COLOURS) is None:
                picture = picture.quantize(
                    COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE
                ).convert("RGB")
        else:
            picture = picture.convert("RGBA")
        picture.save(target, "WEBP", lossless=True, quality=100, method=4)


class LightPictures(BaseImageConverter):
    """Replaces the PNGs of pages."""

    default_priority = 200  # after those that fetch and unpack pictures

    def match(self, node):
        return self.app.builder.format == "html" and node["uri"].endswith(".png") and "://" not in node["uri"]

    def handle(self, node):
        source = Path(self.app.srcdir, node["uri"])
        folder = Path(self.app.doctreedir, "peerbook-pictures")
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{hashlib.sha256(source.read_bytes()).hexdigest()[:32]}.webp"
        if not target.exists():
            part = target.with_suffix(".part")
            convert(source, part)
            part.rename(target)
        node["candidates"].pop("image/png", None)
        node["candidates"]["image/webp"] = node["uri"] = str(target)
        self.env.images.add_file(self.env.docname, str(target))
