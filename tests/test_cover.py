"""The picture on the cover is the one that the notebook shows."""

import base64
from pathlib import Path

import nbformat

BOOK = Path(__file__).resolve().parent.parent / "book"


def test_the_cover_is_the_stored_figure():
    cells = nbformat.read(BOOK / "experiment_networks.ipynb", as_version=4).cells
    (cell,) = [cell for cell in cells if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == "fig-2-honest"]
    (picture,) = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    assert (BOOK / "figures" / "honest.png").read_bytes() == base64.b64decode(picture), (
        "the figure moved: write its stored picture to book/figures/honest.png"
    )
