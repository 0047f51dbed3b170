"""The study of infinite width: its formulas against neural-tangents and literal training of a linear network."""

import sys
from itertools import permutations
from pathlib import Path

import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from optional import needs_neural_tangents
from problems import assert_close

from peerflow import kernels, mixing

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import studies

STUDY = studies.load("infinite_width")
HELD = STUDY.HELD


@pytest.fixture(scope="module")
def limit():
    return STUDY.Limit(depth=2, seed=0, steps=7, size=1.0, edge=0.25, w_std=1.5)


@pytest.fixture(scope="module")
def networks(limit):
    return STUDY.Networks(limit, width=16)


def response(limit):
    """Return how every peer's outputs at the unseen inputs come from those at the start, by the literal recursion.

    Every peer's outputs everywhere are moved by its residuals on its own points, and averaged.
    """
    W, eye = mixing.metropolis_hastings(nx.cycle_graph(STUDY.PEERS)), np.eye(len(limit.kernel))
    change = np.zeros((STUDY.PEERS, *eye.shape))
    for _ in range(limit.steps):
        pulls = []
        for q in range(STUDY.PEERS):
            mine = slice(q * STUDY.SAMPLES, (q + 1) * STUDY.SAMPLES)
            pulls.append(limit.kernel[:, mine] @ (eye + change[q])[mine] / STUDY.SAMPLES)
        change = np.einsum("qr,rij->qij", W, change) - limit.step_size * np.array(pulls)
    return (eye + change)[:, HELD:]


@needs_neural_tangents
def test_covariance_and_limit_are_neural_tangents_own(limit):
    dense = kernels.nt.stax.Dense(1, W_std=1.5, b_std=0.1)
    layers = [dense, kernels.nt.stax.Erf()] * 2 + [dense]
    both = kernels.nt.stax.serial(*layers)[2](jnp.asarray(limit.points[0]), None, ("nngp", "ntk"))
    assert_close(limit.covariance, both.nngp, tolerance=1e-6)
    assert_close(limit.kernel, both.ntk, tolerance=1e-6)


def test_the_deviation_is_that_of_the_literal_recursion(limit):
    S = response(limit)
    expected = np.sqrt(np.einsum("qnm,mk,qnk->qn", S, limit.covariance, S))
    assert_close(limit.deviation, expected, tolerance=1e-6)


def test_the_prediction_of_a_start_is_the_mean_s_and_the_response_to_it(limit):
    outputs0 = np.random.default_rng(0).normal(size=(len(limit.kernel), 1))
    expected = limit.mean + response(limit) @ outputs0[:, 0]
    assert_close(limit.predicted(limit.kernel, outputs0), expected, tolerance=1e-6)


def test_a_pair_has_opposite_outputs_and_one_kernel(networks):
    one, other = networks.pair(3)
    assert_close(networks.outputs0(other), -networks.outputs0(one))
    assert_close(networks.kernel(other), networks.kernel(one))


def test_the_first_order_is_linear_in_the_kernel_s_difference(limit, networks):
    kernel = networks.kernel(networks.pair(0)[0])
    half = limit.first_order((kernel + limit.kernel) / 2)
    assert_close(half, limit.first_order(kernel) / 2, tolerance=5e-3)


def test_the_square_is_the_mean_product_of_two_blocks():
    blocks = np.random.default_rng(0).normal(size=(4, 2, 3))
    expected = np.mean([one * other for one, other in permutations(blocks, 2)], axis=0)
    assert_close(STUDY.squared(blocks), expected)
