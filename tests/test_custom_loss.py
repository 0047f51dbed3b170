"""A loss of one's own, in training and prediction, against plain loops: Huber's."""

import jax.numpy as jnp
import numpy as np
import pytest
import reference
import scipy.integrate
from problems import AGENTS, CYCLE, RING, SAMPLES, affine, assert_close, network
from rejection import check

from peerflow import linearize, predict, train
from peerflow.compare import compare
from peerflow.methods import DGD

DELTA, STEPS = 0.3, 12
COUNTS = np.array([9, 0, 1, 9, 4])


def huber(f, y):
    """Half the squared error up to DELTA, and linear beyond."""
    away = jnp.abs(f - y)
    return jnp.where(away < DELTA, away**2 / 2, DELTA * (away - DELTA / 2)).sum(axis=-1)


def value(f, y):
    """Return the same mean loss, entry by entry."""
    total = 0.0
    for error in (f - y).reshape(-1):
        total += error**2 / 2 if abs(error) < DELTA else DELTA * (abs(error) - DELTA / 2)
    return total / len(f)


def slope(f, y):
    return np.clip(f - y, -DELTA, DELTA)


def linear_gradient(problem):
    """Return agent q's gradient in the linear model (11), with all P parameters."""
    linear = [problem.linear(x) for x in problem.agents.x]

    def gradient(q, theta):
        f0, J = linear[q]
        f = f0 + (J @ (theta - problem.theta0)).reshape(f0.shape)
        return J.T @ slope(f, problem.agents.y[q]).reshape(-1) / SAMPLES

    return gradient


def test_training_an_affine_model_and_its_prediction_are_the_plain_loop(rule):
    problem = affine(2)
    x, y = problem.agents.x, problem.agents.y

    def f(theta, q):
        return reference.affine(theta, x[q], outputs=2)

    def gradient(q, theta):
        return reference.affine_gradient(theta, x[q], slope(f(theta, q), y[q]))

    errors = np.abs(f(problem.theta0, 0) - y[0])
    assert errors.max() > DELTA
    params = reference.iterate(rule.name, RING, gradient, np.tile(problem.theta0, (AGENTS, 1)), 0.4, STEPS)
    run = train(rule(RING), problem.model, problem.agents, problem.theta0, step_size=0.4, steps=STEPS, loss=huber)
    lin = linearize(problem.model, problem.agents, problem.theta0)
    got = predict(rule(RING), lin, step_size=0.4, loss=huber).after(np.arange(STEPS + 1))
    for each in (run, got):
        assert_close(each.params, params)
        assert_close(each.losses, [[value(f(row[q], q), y[q]) for q in range(AGENTS)] for row in params])
        pooled = [[np.mean([value(f(t, r), y[r]) for r in range(AGENTS)]) for t in row] for row in params]
        assert_close(each.global_losses, pooled)
        assert each.loss is huber


def test_iteration_of_a_network_is_the_literal_one(rule):
    problem = network(2)
    start = np.tile(problem.theta0, (AGENTS, 1))
    expected = reference.iterate(rule.name, RING, linear_gradient(problem), start, 0.8, 9)
    lin = linearize(problem.model, problem.agents, problem.theta0)
    got = predict(rule(RING), lin, step_size=0.8, loss=huber).after(COUNTS)
    assert_close(got.params, expected[COUNTS])


def test_flow_of_a_network_is_equation_8(rule):
    problem, times = network(2), np.array([0.0, 0.4, 2.5])
    gradient = linear_gradient(problem)

    def rhs(_, flat):
        theta = flat.reshape(AGENTS, -1)
        return (reference.iterate(rule.name, CYCLE, gradient, theta, 0.8, 1)[1] - theta).reshape(-1)

    start = np.tile(problem.theta0, AGENTS)
    # The second derivative jumps: both solvers take small steps there.
    solution = scipy.integrate.solve_ivp(rhs, (0, 2.5), start, method="RK45", t_eval=times, rtol=1e-10, atol=1e-12)
    lin = linearize(problem.model, problem.agents, problem.theta0)
    got = predict(rule(CYCLE), lin, step_size=0.8, loss=huber).at(times)
    assert_close(got.params, solution.y.T.reshape(3, AGENTS, -1), tolerance=1e-7)


def test_a_comparison_uses_it_throughout():
    problem = affine(2)
    lin = linearize(problem.model, problem.agents, problem.theta0)
    comparison = compare(DGD(CYCLE), lin, step_size=0.1, steps=20, loss=huber)
    assert comparison.run.loss is comparison.flow.loss is comparison.iteration.loss is huber
    # The model is linear: only the flow errs.
    assert comparison.errors["iteration"].loss < 1e-12 < 1e-6 < comparison.errors["flow"].loss < 1e-1


@pytest.mark.parametrize("member", ["eigenvalues", "system", "fixed_point"])
def test_it_has_no_spectrum(member):
    problem = affine()
    lin = linearize(problem.model, problem.agents, problem.theta0)

    def ask():
        got = getattr(predict(DGD(CYCLE), lin, step_size=0.1, loss=huber), member)
        return got() if callable(got) else got

    check(ask, 'only loss="mse" has a closed form')
