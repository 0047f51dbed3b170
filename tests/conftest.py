"""Strict arrays for every test: no mixed dtypes, no mixed ranks; float64 comes from importing peerflow.

What a reader has set for JAX and matplotlib is not what is tested here.
"""

import os

for name in [name for name in os.environ if name.startswith(("JAX_", "XLA_", "MPLBACKEND"))]:
    del os.environ[name]
# An accelerator that JAX sees and cannot use gives a warning, in the first test that computes something. Tests run
# beside each other, and threads that compete for cores slow them down. Most of a test's time is compiling: what would
# make small programs faster is left out here, and is in all that notebooks run.
FLAGS = "multi_thread_eigen=false", "parallel_codegen_split_count=1"
os.environ["XLA_FLAGS"] = " ".join(["--xla_backend_optimization_level=0", *(f"--xla_cpu_{flag}" for flag in FLAGS)])
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import reference  # noqa: E402
from problems import Problem, affine, frozen, network  # noqa: E402

import peerflow  # noqa: E402, F401 (float64)

matplotlib.use("agg")
matplotlib.rcdefaults()
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="session", params=["affine", "affine-2", "mlp", "mlp-2", "last_layer", "last_layer-2"])
def problem(request) -> Problem:
    """Four agents with three samples each, for every kind of model with one output and with two."""
    kind, _, outputs = request.param.partition("-")
    build = {"affine": affine, "mlp": network, "last_layer": frozen}[kind]
    return build(outputs=int(outputs or 1))


@pytest.fixture(params=["DGD", "ATC", "CTA"])
def rule(request):
    return reference.RULES[request.param]
