"""Losses against their formulas, and the one switch."""

import math

import numpy as np
import pytest
from problems import assert_close

from peerflow.objectives import binary_cross_entropy, cross_entropy, gradient_scale, loss_function, squared_error


@pytest.mark.parametrize(("objective", "scale"), [("local", 1.0), ("global", 1 / 8)])
def test_the_global_objective_is_q_times_flatter(objective, scale):
    assert gradient_scale(objective, 8) == scale


def test_squared_error_is_half_the_squared_norm(rng):
    f, y = rng.normal(size=(2, 4, 3))
    assert_close(
        squared_error(f, y), [sum((f[i, k] - y[i, k]) ** 2 for k in range(f.shape[1])) / 2 for i in range(len(f))]
    )


def test_cross_entropy_is_minus_the_log_probability_of_the_class(rng):
    f, y = rng.normal(size=(4, 3)), np.eye(3)[[0, 2, 1, 2]]
    expected = [-math.log(math.exp(row[c]) / sum(map(math.exp, row))) for row, c in zip(f, [0, 2, 1, 2], strict=True)]
    assert_close(cross_entropy(f, y), expected)


def test_binary_cross_entropy_is_minus_the_log_likelihood(rng):
    f, y = rng.normal(size=(4, 2)), np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    p = 1 / (1 + np.exp(-f))
    assert_close(binary_cross_entropy(f, y), -np.log(np.where(y == 1, p, 1 - p)).sum(1))


def test_binary_cross_entropy_is_cross_entropy_of_two_classes(rng):
    f, y = rng.normal(size=(6, 1)), np.array([[0.0], [1.0]] * 3)
    two = np.hstack([np.zeros_like(f), f])
    assert_close(binary_cross_entropy(f, y), cross_entropy(two, np.hstack([1 - y, y])))


@pytest.mark.parametrize("logit", [-1000.0, 1000.0])
def test_large_logits_do_not_overflow(logit):
    wrong = 0.0 if logit > 0 else 1.0
    assert_close(binary_cross_entropy([[logit]], [[wrong]]), [1000.0], tolerance=1e-15)
    assert_close(binary_cross_entropy([[logit]], [[1 - wrong]]), [0.0])
    assert_close(cross_entropy([[logit, 0.0]], [[wrong, 1 - wrong]]), [1000.0], tolerance=1e-15)


def test_losses_are_found_by_name():
    one_hot = np.eye(3)[[[0, 2], [1, 1]]]
    assert loss_function("cross_entropy", one_hot) is cross_entropy
    assert loss_function("binary_cross_entropy", one_hot) is binary_cross_entropy
    assert loss_function("mse", -one_hot) is squared_error


@pytest.mark.parametrize(
    ("name", "y", "match"),
    [
        ("hinge", np.ones((2, 1)), "loss must be one of 'mse', 'cross_entropy', 'binary_cross_entropy', got 'hinge'"),
        ("cross_entropy", np.ones((2, 1)), "cross_entropy needs two outputs or more, got 1"),
        ("cross_entropy", np.ones((2, 3)), "targets that sum to 1 over the outputs"),
        ("binary_cross_entropy", np.array([[-1.0], [1.0]]), "targets from 0 to 1, got values from -1.0 to 1.0"),
        ("binary_cross_entropy", np.array([[1.0], [2.0]]), "targets from 0 to 1, got values from 1.0 to 2.0"),
    ],
)
def test_targets_must_suit_the_loss(name, y, match):
    with pytest.raises(ValueError, match=match):
        loss_function(name, y)
