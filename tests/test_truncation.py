"""What `linearize` drops for an accuracy, against the whole recursion in plain numpy."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import reference
from problems import AGENTS, COMPLETE, CYCLE, RING, STAR, assert_close, network
from rejection import NAN, check, rejects

from peerflow import linearize, predict, stability
from peerflow.data import AgentData

SWAPPING = np.kron(np.eye(2), [[0.1, 0.9], [0.9, 0.1]])
"""Symmetric, with the eigenvalue -0.8; two pairs that never talk."""
MATRICES = {"cycle": CYCLE, "star": STAR, "swapping": SWAPPING, "ring": RING}
UNEQUAL = (1, 9, 4, 6)


@cache
def small(seed, counts=(5,) * AGENTS, weigh="agents"):
    """Return a network and data whose kernel has small and large eigenvalues."""
    rng = np.random.default_rng(seed)
    problem = network(widths=(12,))
    x = [rng.normal(size=(count, 2)) * scale for count, scale in zip(counts, (0.1, 2.0, 1.0, 0.5), strict=True)]
    agents = AgentData(x, [rng.normal(size=(len(one), 1)) for one in x], weigh=weigh)
    return replace(problem, agents=agents, theta0=rng.normal(size=problem.model.size), seen={})


def residuals(method, jacobians, residuals0, gains, steps):
    """Return every agent's residuals at every step, by the recursion from zero in plain numpy."""
    pairs = list(zip(jacobians, residuals0, strict=True))

    def error(q, moved):
        return pairs[q][1] + pairs[q][0] @ moved

    def gradient(q, moved):
        return gains[q] * jacobians[q].T @ error(q, moved)

    start = np.zeros((AGENTS, jacobians[0].shape[1]))
    states = reference.iterate(method.name, method.W, gradient, start, 1.0, steps)
    return np.array([np.concatenate([error(q, row[q]) for q in range(AGENTS)]) for row in states])


def exact(method, problem, step_size, steps):
    """Return them with all parameters."""
    agents = problem.agents
    f0, jacobians = zip(*map(problem.linear, agents.x), strict=True)
    residuals0 = [(f - y).reshape(-1) for f, y in zip(f0, agents.y, strict=True)]
    return residuals(method, jacobians, residuals0, step_size * agents.gains / agents.counts, steps)


def reduced(method, lin, step_size, steps):
    """Return them in the basis that was kept."""
    agents = lin.agents
    features, residuals0 = (
        [rows[:count] for rows, count in zip(each, agents.counts, strict=True)]
        for each in (lin.features, lin.residuals0)
    )
    return residuals(method, features, residuals0, step_size * agents.gains / agents.counts, steps)


def root_mean_square(differences):
    return np.sqrt((differences**2).sum(axis=1).mean())


@pytest.mark.parametrize("counts", [(5,) * AGENTS, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize(("accuracy", "steps"), [(0.3, 20), (1e-2, 200), (1e-4, 60)])
def test_residuals_are_right_to_the_accuracy(rule, matrix, counts, accuracy, steps):
    """For eight draws of start and data, at half of the sufficient limit, where the bound ends."""
    method, dropped = rule(MATRICES[matrix]), []
    for seed in range(8):
        problem = small(seed, counts, "samples" if seed % 2 else "agents")
        whole = linearize(problem.model, problem.agents, problem.theta0, tolerance=1e-12)
        step_size = stability.sufficient_limit(method, whole) / 2
        options = {"accuracy": accuracy, "steps": steps, "step_size": step_size}
        lin = linearize(problem.model, problem.agents, problem.theta0, **options)
        expected = exact(method, problem, step_size, steps)
        away = root_mean_square(reduced(method, lin, step_size, steps) - expected)
        assert away <= accuracy * np.linalg.norm(expected[0])
        dropped.append(whole.rank - lin.rank)
    assert max(dropped) > 0


def test_the_bound_is_not_for_nothing(rule):
    """Residuals along a direction that was just dropped come within a factor of 1000 of it."""
    method, options = rule(COMPLETE), {"accuracy": 0.1, "steps": 50}
    problem = small(0)
    agents = problem.agents
    f0, J = problem.linear(agents.pooled()[0])
    step_size = stability.sufficient_limit(method, linearize(problem.model, agents, problem.theta0)) / 2
    lin = linearize(problem.model, agents, problem.theta0, step_size=step_size, **options)
    direction = np.linalg.svd(J)[0][:, lin.rank]
    y = np.split((f0[:, 0] - direction)[:, None], AGENTS)
    problem = replace(problem, agents=AgentData(agents.x, y))
    lin = linearize(problem.model, problem.agents, problem.theta0, step_size=step_size, **options)
    expected = exact(method, problem, step_size, 50)
    away = root_mean_square(reduced(method, lin, step_size, 50) - expected) / np.linalg.norm(expected[0])
    assert 0.1 / 1000 < away <= 0.1


def test_what_is_judged_is_the_prediction(rule):
    problem = small(0, UNEQUAL)
    options = {"accuracy": 1e-2, "steps": 20, "step_size": 0.01}
    lin, method = linearize(problem.model, problem.agents, problem.theta0, **options), rule(RING)
    z = predict(method, lin, step_size=0.01).after(np.arange(21)).coefficients
    rows = lin.residuals0 + np.einsum("qnr,tqr->tqn", lin.features, z)
    own = np.concatenate([rows[:, q, :count] for q, count in enumerate(UNEQUAL)], axis=1)
    assert_close(reduced(method, lin, 0.01, 20), own)


def test_what_is_dropped_follows_from_what_is_asked():
    """Up to the singular value where 4 c eps^2 k is the accuracy, eps twice that value."""
    problem = small(3, UNEQUAL)
    whole = linearize(problem.model, problem.agents, problem.theta0, tolerance=1e-12)
    ranks = []
    for accuracy, steps, step_size in ((0.1, 10, 0.1), (0.1, 1000, 0.1), (1e-3, 1000, 0.1), (1e-3, 1000, 10.0)):
        options = {"accuracy": accuracy, "steps": steps, "step_size": step_size}
        lin = linearize(problem.model, problem.agents, problem.theta0, **options)
        # The agent with one sample has the largest constant.
        least = np.sqrt(accuracy / (16 * step_size * steps))
        ranks.append(lin.rank)
        assert lin.rank == (whole.singular_values > least).sum()
        assert_close(lin.singular_values, whole.singular_values[: lin.rank], tolerance=1e-6)
    assert ranks == sorted(ranks) and 0 < ranks[0] < ranks[-1] < whole.rank


def test_an_unreachable_accuracy_drops_nothing_that_a_tolerance_keeps():
    problem = small(0)
    options = {"accuracy": 1e-30, "steps": 10, "step_size": 0.1}
    lin = linearize(problem.model, problem.agents, problem.theta0, **options)
    assert lin.rank == linearize(problem.model, problem.agents, problem.theta0).rank


def test_an_accuracy_that_everything_has_drops_everything(rule):
    problem = small(0)
    options = {"accuracy": 1e6, "steps": 1, "step_size": 1e-6}
    lin = linearize(problem.model, problem.agents, problem.theta0, **options)
    assert lin.rank == 0
    losses = predict(rule(CYCLE), lin, step_size=1e-6).after([0, 1]).losses
    assert_close(losses[1], losses[0], tolerance=0)


PROBLEM = small(0)


def ask(**options):
    return linearize(PROBLEM.model, PROBLEM.agents, PROBLEM.theta0, **options)


@rejects([
    (lambda: ask(accuracy=0.1), "accuracy, steps and step_size go together, got "),
    (lambda: ask(steps=10), "accuracy, steps and step_size go together, got "),
    (lambda: ask(accuracy=0.1, steps=10), "accuracy, steps and step_size go together, got "),
    (lambda: ask(accuracy=0.1, step_size=0.1), "accuracy, steps and step_size go together, got "),
    (lambda: ask(accuracy=0.0, steps=10, step_size=0.1), "accuracy must be positive, got 0.0"),
    (lambda: ask(accuracy=NAN, steps=10, step_size=0.1), "accuracy must be finite, got nan"),
    (lambda: ask(accuracy=0.1, steps=0, step_size=0.1), "steps must be at least 1, got 0"),
    (lambda: ask(accuracy=0.1, steps=1.5, step_size=0.1), "steps must be a whole number, got 1.5"),
    (lambda: ask(accuracy=0.1, steps=10, step_size=-1), "step_size must be positive, got -1.0"),
    (lambda: ask(accuracy="high", steps=10, step_size=0.1), "accuracy must be a number, got 'high'"),
])  # fmt: skip
def test_what_is_refused(call, message):
    check(call, message)
