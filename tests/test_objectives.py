"""Losses against their formulas, and the one switch."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from problems import assert_close

from peerflow.objectives import (
    binary_cross_entropy,
    cross_entropy,
    evaluate,
    gradient_scale,
    loss_function,
    squared_error,
)


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


def absolute(f, y):
    return jnp.abs(f - y).sum(axis=-1)


def test_a_loss_of_one_s_own_is_returned_as_it_is():
    assert loss_function(absolute, np.ones((3, 2))) is absolute
    assert loss_function(absolute, np.ones((4, 3, 2))) is absolute  # of all agents


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        # Times the samples' weights (n,) this would broadcast to (n, n), and be n times too large.
        (lambda f, y: (f - y) ** 2, r"one number for each of 3 samples, shape \(3,\), got \(3, 1\)"),
        (lambda f, y: jnp.mean((f - y) ** 2), r"one number for each of 3 samples, shape \(3,\), got \(\)"),
        (lambda f, y: (f - y).sum(axis=0), r"shape \(3,\), got \(1,\)"),
        (lambda f, y: (absolute(f, y), f), r"shape \(3,\), got tuple"),
        (lambda f, y: None, r"shape \(3,\), got NoneType"),
        (lambda f: f[:, 0], r"loss must be a JAX function of outputs and targets \(3, 1\): .* positional argument"),
        (lambda f, y: math.exp(f[0, 0]), r"loss must be a JAX function of outputs and targets \(3, 1\): "),
        (lambda f, y: np.asarray(f)[:, 0], r"loss must be a JAX function of outputs and targets \(3, 1\): "),
    ],
)
def test_a_loss_of_one_s_own_gives_one_number_a_sample(loss, match):
    for call in (
        lambda: loss_function(loss, np.ones((3, 1))),
        lambda: evaluate(np.zeros((3, 1)), np.ones((3, 1)), loss),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def plain(f, y, middle):
    """Return how many of these samples are put on their side of the middle, or into their class."""
    right = 0
    for output, target in zip(f, y, strict=True):
        if len(target) == 1:
            right += (output[0] > middle) == (target[0] > 0.5)
        else:
            right += max(range(len(target)), key=lambda m: output[m]) == max(
                range(len(target)), key=lambda m: target[m]
            )
    return right / len(y)


TARGETS = {1: np.array([[0.0], [1.0], [1.0], [0.0], [1.0]]), 3: np.eye(3)[[0, 2, 1, 2, 2]]}
LOSSES = {
    ("mse", 1): squared_error,
    ("mse", 3): squared_error,
    ("cross_entropy", 3): cross_entropy,
    ("binary_cross_entropy", 1): binary_cross_entropy,
    ("binary_cross_entropy", 3): binary_cross_entropy,
    (absolute, 1): absolute,
}


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (0, 3)], ids=str)
@pytest.mark.parametrize(("name", "outputs"), LOSSES)
def test_an_evaluation_is_mean_loss_and_share_of_right_answers(name, outputs, shape, rng):
    y = TARGETS[outputs]
    f = rng.normal(size=(*shape, *y.shape)) + 0.3
    got = evaluate(f, y, name)
    assert type(got.losses) is type(got.accuracy) is np.ndarray
    assert got.losses.shape == got.accuracy.shape == shape
    middle = 0.0 if name == "binary_cross_entropy" else 0.5
    for place in np.ndindex(shape):
        assert_close(got.losses[place], np.mean(LOSSES[name, outputs](f[place], y)))
        assert got.accuracy[place] == plain(f[place], y, middle)


def test_the_middle_is_a_half_or_a_logit_of_zero():
    outputs, y = np.array([[0.4], [0.6]]), np.array([[0.0], [1.0]])
    assert evaluate(outputs, y).accuracy == evaluate(outputs, y, absolute).accuracy == 1
    assert evaluate(outputs, y, "binary_cross_entropy").accuracy == 0.5
    assert evaluate(outputs - 0.5, y, "binary_cross_entropy").accuracy == 1
    assert evaluate([[0.5]], [[0.0]]).accuracy == 1 and evaluate([[0.5]], [[1.0]]).accuracy == 0


def test_whole_numbers_are_outputs_too():
    assert evaluate([[0], [1]], [[0.5], [0.75]]) == (pytest.approx((1 / 8 + 1 / 32) / 2), 1)


def test_a_diverged_run_is_evaluated_and_never_right():
    nan, inf = float("nan"), float("inf")
    losses, accuracy = evaluate([[[nan], [0.0]], [[inf], [-inf]], [[1.0], [0.0]]], [[0.0], [0.0]])
    assert np.isnan(losses[0]) and losses[1] == inf and losses[2] == 0.25
    assert_close(accuracy, [0.5, 0.5, 0.5], tolerance=0)
    assert evaluate([[nan, 1.0], [0.0, nan]], [[0.0, 1.0], [0.0, 1.0]]).accuracy == 0


@pytest.mark.parametrize(
    ("outputs", "y", "loss", "match"),
    [
        (np.zeros(3), np.zeros(3), "mse", r"outputs must have shape \(\.\.\., n, outputs\), not empty, got \(3,\)"),
        (np.zeros((0, 1)), np.zeros((0, 1)), "mse", r"outputs must have shape .* not empty, got \(0, 1\)"),
        (np.zeros((2, 3, 0)), np.zeros((3, 0)), "mse", r"outputs must have shape .* not empty, got \(2, 3, 0\)"),
        (np.zeros((2, 3, 1)), np.zeros(3), "mse", r"y must have shape \(3, 1\), got \(3,\)"),
        (np.zeros((2, 3, 1)), np.zeros((2, 3, 1)), "mse", r"y must have shape \(3, 1\), got \(2, 3, 1\)"),
        (np.zeros((3, 1)), np.full((3, 1), np.nan), "mse", "y must be finite, got 3 NaN"),
        (np.zeros((3, 1)), np.full((3, 1), 2.0), "binary_cross_entropy", "targets from 0 to 1"),
        (np.zeros((3, 1)), np.ones((3, 1)), "cross_entropy", "cross_entropy needs two outputs or more"),
        (np.zeros((3, 1)), np.ones((3, 1)), "hinge", "loss must be one of 'mse'"),
        ([["a"]], [[1.0]], "mse", "outputs must be real numbers"),
        (None, [[1.0]], "mse", "outputs must be real numbers"),
    ],
)
def test_what_cannot_be_evaluated(outputs, y, loss, match):
    with pytest.raises(ValueError, match=match):
        evaluate(outputs, y, loss)
