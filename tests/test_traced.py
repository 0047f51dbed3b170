"""Derivatives in the step size and in W, and batches of both, against plain numpy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from problems import AGENTS, COMPLETE, CYCLE, RING, SAMPLES, STAR, assert_close, network, unequal_data

from peerflow import linearize, predict
from peerflow.engines import state_matrix

TIMES, COUNTS = np.array([0.5, 3.0]), np.array([1, 5])
WEIGHTS = np.random.default_rng(8).normal(size=(2, 2, AGENTS))
"""What the local and the global losses weigh in the number that is differentiated."""

problem = network(widths=(4,))
lin = linearize(problem.model, problem.agents, problem.theta0)
STEP = problem.step_size(0.4)
kinds = pytest.mark.parametrize("kind", ["flow", "iteration"])
settings = pytest.mark.parametrize(("W", "objective"), [(CYCLE, "local"), (RING, "global")], ids=["cycle", "ring"])


def predicted(rule, W, step_size, kind, objective="local"):
    dynamics = predict(rule(W, objective=objective), lin, step_size=step_size)
    return dynamics.at(TIMES) if kind == "flow" else dynamics.after(COUNTS)


def number(trajectory):
    return (jnp.stack([trajectory.losses, trajectory.global_losses]) * WEIGHTS).sum()


def literal_number(name, W, step_size, kind, objective):
    """Return the same from the stacked equation in plain numpy, for any matrix W.

    What moves is the displacement from the common start: that itself stays where it is, whatever the rows of W sum to.
    """
    f0, jacobians = zip(*map(problem.linear, problem.agents.x), strict=True)
    still = np.zeros_like(problem.theta0)
    gain = step_size / SAMPLES / (AGENTS if objective == "global" else 1)
    stacked = np.concatenate(f0).reshape(-1), problem.agents.y.reshape(-1)
    A, u = reference.flow(name, W, jacobians, *stacked, still, gain)
    start = np.tile(still, AGENTS)
    if kind == "flow":
        states = reference.solve_flow(A, u, start, TIMES)
    else:
        states = [start]
        for _ in range(COUNTS[-1]):
            states.append(states[-1] + A @ states[-1] + u)
        states = np.array(states)[COUNTS]
    params = states.reshape(2, AGENTS, -1) + problem.theta0
    on = [problem.linear_outputs(params, x) - y for x, y in zip(problem.agents.x, problem.agents.y, strict=True)]
    losses = np.array([(error**2).sum((2, 3)) / (2 * SAMPLES) for error in on])
    return (np.stack([np.einsum("qtq->tq", losses), losses.mean(0)]) * WEIGHTS).sum()


def slope(function, h):
    """Differentiate by five points, which are good to h^4."""
    return (function(-2 * h) - 8 * function(-h) + 8 * function(h) - function(2 * h)) / (12 * h)


@kinds
@settings
def test_the_derivative_in_the_step_size(rule, W, objective, kind):
    got = jax.grad(lambda step_size: number(predicted(rule, W, step_size, kind, objective)))(STEP)
    expected = slope(lambda h: literal_number(rule.name, W, STEP + h, kind, objective), 1e-3 * STEP)
    assert_close(got, expected, tolerance=1e-6)


@kinds
@settings
def test_the_derivative_in_every_entry_of_w(rule, W, objective, kind):
    """On the cycle eigenvalues repeat: derivatives of an eigendecomposition would be NaN."""
    got = jax.grad(lambda W: number(predicted(rule, W, STEP, kind, objective)))(jnp.asarray(W))

    def moved(h, entry):
        return literal_number(rule.name, W + h * np.eye(AGENTS**2)[entry].reshape(W.shape), STEP, kind, objective)

    expected = [slope(partial(moved, entry=entry), 1e-3) for entry in range(AGENTS**2)]
    assert_close(got, np.reshape(expected, W.shape), tolerance=1e-6)


@kinds
@settings
def test_the_number_itself_is_the_literal_one(rule, W, objective, kind):
    expected = literal_number(rule.name, W, STEP, kind, objective)
    traced = jax.jit(lambda W, step_size: number(predicted(rule, W, step_size, kind, objective)))(W, STEP)
    assert_close(traced, expected, tolerance=1e-10)
    assert_close(number(predicted(rule, W, STEP, kind, objective)), expected, tolerance=1e-10)


@kinds
def test_a_batch_of_step_sizes(rule, kind):
    steps = STEP * np.array([0.1, 0.5, 1.0, 2.2])
    batch = jax.jit(jax.vmap(lambda step_size: predicted(rule, CYCLE, step_size, kind).losses))(steps)
    assert_close(batch, [predicted(rule, CYCLE, step, kind).losses for step in steps], tolerance=1e-10)


@kinds
def test_a_batch_of_matrices(rule, kind):
    matrices = np.stack([CYCLE, STAR, COMPLETE, RING])
    batch = jax.jit(jax.vmap(lambda W: predicted(rule, W, STEP, kind).global_losses))(matrices)
    assert_close(batch, [predicted(rule, W, STEP, kind).global_losses for W in matrices], tolerance=1e-10)


@kinds
def test_a_batch_of_methods(rule, kind):
    """To JAX a method is a tree with the leaf W."""
    methods = [rule(W) for W in (CYCLE, STAR)]
    stacked = jax.tree.map(lambda *each: jnp.stack(each), *methods)

    def losses(method):
        dynamics = predict(method, lin, step_size=STEP)
        return (dynamics.at(TIMES) if kind == "flow" else dynamics.after(COUNTS)).losses

    assert_close(jax.jit(jax.vmap(losses))(stacked), [losses(method) for method in methods], tolerance=1e-10)


@kinds
def test_derivatives_of_a_batch_on_the_cycle_are_finite(rule, kind):
    gradient = jax.jit(jax.grad(lambda W, step_size: number(predicted(rule, W, step_size, kind)), argnums=(0, 1)))
    in_w, in_step = jax.jit(jax.vmap(gradient, (None, 0)))(jnp.asarray(CYCLE), STEP * np.array([0.2, 1.0]))
    assert in_w.shape == (2, AGENTS, AGENTS) and np.isfinite(in_w).all() and np.isfinite(in_step).all()
    for got_w, got_step, step in zip(in_w, in_step, STEP * np.array([0.2, 1.0]), strict=True):
        one_w, one_step = gradient(jnp.asarray(CYCLE), step)
        assert_close(got_w, one_w, tolerance=1e-10)
        assert_close(got_step, one_step, tolerance=1e-10)


@kinds
def test_unequal_agents_and_outputs_on_other_inputs(rule, kind):
    """The losses on other inputs, at the parameters reached: what one would minimize over the step size."""
    small = linearize(problem.model, unequal_data(weigh="samples"), problem.theta0)
    x, y = np.random.default_rng(3).normal(size=(2, 5, 2))[0], np.ones((5, 1))

    def risk(step_size, xp):
        dynamics = predict(rule(RING), small, step_size=step_size)
        trajectory = dynamics.at(TIMES) if kind == "flow" else dynamics.after(COUNTS)
        return xp.sum((trajectory.outputs(x) - y[None, None]) ** 2) + xp.sum(trajectory.losses * WEIGHTS[0])

    expected = slope(lambda h: risk(STEP + h, np), 1e-3 * STEP)
    assert_close(jax.grad(risk)(STEP, jnp), expected, tolerance=1e-6)


def test_traced_times_come_in_any_order_and_may_repeat(rule):
    # Neither are the gaps between them in increasing order.
    times, counts = np.array([3.0, 0.0, 0.5, 3.0, 3.2]), np.array([5, 0, 1, 5, 6])

    def states(step_size):
        dynamics = predict(rule(CYCLE), lin, step_size=step_size)
        return dynamics.at(times).coefficients, dynamics.after(counts).coefficients

    for got, expected in zip(jax.jit(states)(STEP), states(STEP), strict=True):
        assert_close(got, expected, tolerance=1e-10)


def test_a_traced_state_matrix(rule):
    psi = STEP / SAMPLES * lin.curvature
    got = jax.jit(lambda W: state_matrix(rule(W), psi))(RING)
    assert_close(got, state_matrix(rule(RING), psi), tolerance=1e-14)
