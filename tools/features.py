"""Write what a network that others trained sees in images of digits, for the chapter on a pretrained network.

    python tools/features.py [FILE]

Writes ``book/data/pretrained.npz`` if no file is named. Needs the dependency group ``features``. The network comes in a
wheel of the Python package index, which pip fetches and which is read, not installed. It reads lines of text: an image
becomes a sequence of positions, and its last layer maps each position's features to a score for each character.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

WHEEL = "rapidocr-onnxruntime==1.4.4"
MODEL = "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"
FILE = Path(__file__).resolve().parent.parent / "book" / "data" / "pretrained.npz"
# The height that the network asks for.
SIDE, BATCH = 48, 64


def enlarge(images):
    """Return images (n, h, w) with values from 0 to 1 as the network takes them, (n, 3, 48, 48), from -1 to 1.

    Bilinear, with the outermost pixels continued; the network's own preprocessing resizes so too.
    """
    n, height, width = np.shape(images)
    rows, columns = (_interpolation(size) for size in (height, width))
    large = np.einsum("ia,nab,jb->nij", rows, np.asarray(images, float), columns)
    return np.broadcast_to(2 * large[:, None] - 1, (n, 3, SIDE, SIDE)).astype(np.float32)


def _interpolation(size):
    """Return the matrix (48, size) that enlarges a row of pixels."""
    at = np.clip((np.arange(SIDE) + 0.5) * size / SIDE - 0.5, 0, size - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size)))


def fetch() -> bytes:
    """Return the network as the wheel has it."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", folder, WHEEL]
        subprocess.run([sys.executable, "-m", "pip", *command], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        return zipfile.ZipFile(wheel).read(MODEL)


def last_layer(model):
    """Return the name of the last layer's input, its weights and its biases."""
    import onnx  # pyright: ignore[reportMissingImports]

    held = {one.name: one for one in model.graph.initializer}
    held |= {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}
    product = [node for node in model.graph.node if node.op_type == "MatMul"][-1]
    (plus,) = [node for node in model.graph.node if product.output[0] in node.input]
    weights, biases = (onnx.numpy_helper.to_array(held[node.input[1]]) for node in (product, plus))
    return product.input[0], weights, biases


def extract(content: bytes, images):
    """Return features (n, 120), a mean over positions, and the last layer's weights and biases of 0 to 9, (10, 121)."""
    import onnx  # pyright: ignore[reportMissingImports]
    import onnxruntime  # pyright: ignore[reportMissingImports]

    model = onnx.load_from_string(content)
    name, weights, biases = last_layer(model)
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (pixels,) = session.get_inputs()
    parts: list[Any] = [
        session.run([name], {pixels.name: enlarge(images[start : start + BATCH])})[0]
        for start in range(0, len(images), BATCH)
    ]
    # The first score is that of no character.
    (names,) = (entry.value.split("\n") for entry in model.metadata_props if entry.key == "character")
    digits = [1 + names.index(str(digit)) for digit in range(10)]
    return np.concatenate(parts).mean(axis=1), np.column_stack([weights[:, digits].T, biases[digits]])


def main(file: Path = FILE) -> int:
    from sklearn.datasets import load_digits

    pool: Any = load_digits()
    features, head = extract(fetch(), pool.images / 16)
    arrays = {"features": features.astype(np.float16), "head": head.astype(np.float32)}
    np.savez_compressed(file, **arrays, labels=pool.target.astype(np.uint8))
    print(f"{len(features)} images, {features.shape[1]} features: {file.stat().st_size // 1000} kB in {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
