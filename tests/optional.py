"""What a test needs beside the library's own dependencies."""

import importlib.util

import pytest

# neural-tangents holds back JAX, so there is none where JAX is newer: see `make newest`. It is looked for and not
# imported: peerflow.kernels alone imports it without TensorFlow.
needs_neural_tangents = pytest.mark.skipif(
    importlib.util.find_spec("neural_tangents") is None,
    reason="there is no neural-tangents: JAX is too new for it",
)
