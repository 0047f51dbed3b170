"""The features of a pretrained network: the stored ones are what their README says, and images are enlarged rightly."""

import hashlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from problems import assert_close
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import features  # noqa: E402

STORED = np.load(features.FILE)


def test_stored_arrays_are_those_that_the_readme_names():
    text = (features.FILE.parent / "README.md").read_text().split("## What a pretrained network sees")[1]
    names = re.findall(r"^- `(\w+)`, \(", text, re.MULTILINE)
    assert names == ["features", "head", "labels"] and set(STORED) == set(names)
    digest = hashlib.sha256(b"".join(STORED[name].tobytes() for name in names)).hexdigest()
    assert f"- `{digest}`" in text


def test_rows_belong_to_the_digits_of_scikit_learn():
    digits = load_digits()
    np.testing.assert_array_equal(STORED["labels"], digits.target)
    weights, biases = STORED["head"][:, :-1].astype(float), STORED["head"][:, -1].astype(float)
    scores = STORED["features"].astype(float) @ weights.T + biases
    assert np.mean(scores.argmax(axis=1) == digits.target) > 0.7


def test_images_are_enlarged_linearly_between_the_centres_of_pixels():
    images = np.random.default_rng(0).random((2, 5, 8))
    at = [(np.arange(48) + 0.5) * size / 48 - 0.5 for size in (5, 8)]
    for image, large in zip(images, features.enlarge(images), strict=True):
        grid = np.meshgrid(*at, indexing="ij")
        expected = 2 * scipy.ndimage.map_coordinates(image, grid, order=1, mode="nearest") - 1
        assert_close(large, np.repeat(expected[None], 3, axis=0), tolerance=1e-6)


def test_what_is_no_stack_of_images_is_refused():
    with pytest.raises(ValueError, match="unpack"):
        features.enlarge(np.zeros((8, 8)))
