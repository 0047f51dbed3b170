"""Loss and accuracy of runs and predictions on other data, against loops over samples."""

import numpy as np
import pytest
from problems import AGENTS, CYCLE, affine, assert_close, network

from peerflow import DGD, linearize, objectives, predict, train
from peerflow.data import AgentData

X = np.random.default_rng(11).normal(size=(30, 2))
LABELS = np.random.default_rng(12).integers(3, size=30)


def one_hot(outputs):
    return (LABELS[:, None] == 1).astype(float) if outputs == 1 else np.eye(3)[LABELS]


def loss_of(loss, f, y):
    """Return the loss of one sample."""
    if loss == "mse":
        return sum((a - b) ** 2 for a, b in zip(f, y, strict=True)) / 2
    if loss == "cross_entropy":
        return -np.log(np.exp(f) / sum(np.exp(f))) @ y
    return sum(np.log(1 + np.exp(a)) - b * a for a, b in zip(f, y, strict=True))


def right(loss, f, y):
    """Say whether one sample's class is right."""
    if len(y) > 1:
        said = max(range(len(f)), key=lambda m: f[m])
        return y[said] == 1
    return (f[0] > (0.0 if loss == "binary_cross_entropy" else 0.5)) == (y[0] == 1)


def by_hand(loss, outputs, y):
    flat = outputs.reshape(-1, *y.shape)
    losses = [np.mean([loss_of(loss, f, t) for f, t in zip(each, y, strict=True)]) for each in flat]
    accuracy = [np.mean([right(loss, f, t) for f, t in zip(each, y, strict=True)]) for each in flat]
    return (np.reshape(each, outputs.shape[:-2]) for each in (losses, accuracy))


CASES = [("mse", 1), ("mse", 3), ("cross_entropy", 3), ("binary_cross_entropy", 1), ("binary_cross_entropy", 3)]
cases = pytest.mark.parametrize(("loss", "outputs"), CASES)


@cases
def test_runs_and_predictions_on_other_data(loss, outputs):
    problem = network(outputs)
    labels = np.random.default_rng(4).integers(3, size=(AGENTS, 3))
    y = (labels[..., None] == 1).astype(float) if outputs == 1 else np.eye(3)[labels]
    agents, test = AgentData(problem.agents.x, y), one_hot(outputs)
    run = train(DGD(CYCLE), problem.model, agents, problem.theta0, step_size=0.5, steps=4, loss=loss)
    lin = linearize(problem.model, agents, problem.theta0)
    trajectory = predict(DGD(CYCLE), lin, step_size=0.5, loss=loss).after([0, 4])
    for each, leading in ((run, (5, AGENTS)), (trajectory, (2, AGENTS))):
        got = each.evaluate(X, test)
        losses, accuracy = by_hand(loss, np.asarray(each.outputs(X)), test)
        assert got.losses.shape == got.accuracy.shape == leading
        assert_close(got.losses, losses)
        assert_close(got.accuracy, accuracy, tolerance=1e-15)
    outputs = [problem.formula(theta, X) for theta in run.params[-1]]
    assert_close(run.evaluate(X, test).accuracy[-1], list(by_hand(loss, np.array(outputs), test))[1], tolerance=1e-15)


def test_on_the_agents_own_data_the_loss_is_the_global_one():
    problem = network(2)
    run = train(DGD(CYCLE), problem.model, problem.agents, problem.theta0, step_size=0.5, steps=4)
    assert_close(run.evaluate(*problem.agents.pooled()).losses, run.global_losses)
    trajectory = predict(DGD(CYCLE), linearize(problem.model, problem.agents, problem.theta0), step_size=0.5).at([3.0])
    assert_close(trajectory.evaluate(*problem.agents.pooled()).losses, trajectory.global_losses)


def test_final_parameters_only_and_single_precision():
    problem = affine()
    arguments = DGD(CYCLE), problem.model, problem.agents, problem.theta0.astype(np.float32)
    got = train(*arguments, step_size=0.1, steps=3, final_only=True).evaluate(X, one_hot(1))
    whole = train(*arguments, step_size=0.1, steps=3).evaluate(X, one_hot(1))
    assert got.losses.shape == got.accuracy.shape == (AGENTS,)
    assert_close(got.losses, whole.losses[-1], tolerance=1e-6)
    assert_close(got.accuracy, whole.accuracy[-1], tolerance=1e-15)


def test_a_run_that_diverged_is_wrong_and_no_error():
    problem = affine(3)
    agents = AgentData(problem.agents.x, np.eye(3)[LABELS[:12].reshape(AGENTS, 3)])
    run = train(DGD(CYCLE), problem.model, agents, problem.theta0, step_size=1e3, steps=300)
    assert not np.isfinite(run.losses[-1]).any()
    got = run.evaluate(X, one_hot(3))
    assert not np.isfinite(got.losses[-1]).any() and got.accuracy.shape == (301, AGENTS)
    assert np.isnan(run.outputs(X)[-1]).all() and (got.accuracy[-1] == 0).all()


def test_outputs_of_one_shape_are_compiled_for_once():
    outputs, y = np.ones((2, 7, 3)), np.eye(3)[[0] * 7]
    first = objectives.evaluate(outputs, y).losses
    compiled = objectives._means._cache_size()
    assert_close(objectives.evaluate(0 * outputs, y).losses, first / 2)
    assert objectives._means._cache_size() == compiled
