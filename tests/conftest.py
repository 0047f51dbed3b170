"""Strict arrays for every test: no mixed dtypes, no mixed ranks; float64 comes from importing peerflow."""

import jax
import numpy as np
import pytest
import reference
from problems import Problem, affine, frozen, network

import peerflow  # noqa: F401 (float64)

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
def algorithm(request):
    return reference.ALGORITHMS[request.param]
