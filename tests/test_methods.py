"""The one update against (4), (5) and (6), agent by agent."""

import numpy as np
import pytest
import reference
from problems import AGENTS, MATRICES, assert_close

from peerflow.methods import ATC, CTA, DGD


def target(q):
    return np.array([q, -q, 1.0])


def gradient(q, theta):
    """A nonlinear gradient, another one for each agent."""
    return np.sin(theta) + (q + 1) * (theta - target(q)) ** 3


def gradients(theta):
    return np.stack([gradient(q, row) for q, row in enumerate(theta)])


@pytest.mark.parametrize("matrix", MATRICES)
def test_update_is_the_printed_one(rule, matrix, rng):
    W, theta = MATRICES[matrix], rng.normal(size=(AGENTS, 3))
    expected = reference.iterate(rule.name, W, gradient, theta, 0.1, 1)[1]
    assert_close(rule(W).update(theta, gradients, 0.1), expected, tolerance=1e-14)


def test_adapt_then_combine_by_hand():
    """Two agents who average, with gradients 1 and 3 at 0 and theta elsewhere."""
    W, theta = np.full((2, 2), 0.5), np.array([[2.0], [6.0]])
    seen = []

    def record(at):
        seen.append(at.ravel().tolist())
        return np.array([[1.0], [3.0]])

    after = [rule(W).update(theta, record, 0.1).ravel() for rule in (DGD, ATC, CTA)]
    assert_close(after, [[3.9, 3.7], [3.8, 3.8], [3.9, 3.7]], tolerance=1e-15)
    assert seen == [[2.0, 6.0], [2.0, 6.0], [4.0, 4.0]]


def test_without_gradients_all_three_only_mix(rule, rng):
    W, theta = MATRICES["ring"], rng.normal(size=(AGENTS, 3))
    assert_close(rule(W).update(theta, np.zeros_like, 1.0), W @ theta, tolerance=1e-15)


def test_atc_is_cta_seen_half_a_step_later(rng):
    """W Theta starts ATC where Theta starts CTA: then ATC stays W times CTA, whatever the loss."""
    W, theta = MATRICES["ring"], rng.normal(size=(AGENTS, 3))
    atc, cta = W @ theta, theta
    for _ in range(5):
        atc, cta = ATC(W).update(atc, gradients, 0.01), CTA(W).update(cta, gradients, 0.01)
        assert_close(atc, W @ cta, tolerance=1e-14)
