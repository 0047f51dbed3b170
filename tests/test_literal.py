"""The stacked equations against automatic differentiation of (8), an ODE solver, and the library's closed forms."""

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
import scipy.integrate
from rejection import check

from peerflow import data, literal, mixing, models
from peerflow.flows import predict
from peerflow.linearize import linearize
from peerflow.literal import flow_equation
from peerflow.methods import ATC, CTA, DGD

RULES = pytest.mark.parametrize("rule", [DGD, ATC, CTA], ids=lambda rule: rule.name)
OBJECTIVES = pytest.mark.parametrize("objective", ["local", "global"])
Q, D, M, STEP = 3, 4, 2, 0.7
# Doubly stochastic and not symmetric: a mistaken transpose shows.
SKEWED = np.array([[0.5, 0.4, 0.1], [0.2, 0.5, 0.3], [0.3, 0.1, 0.6]])


@pytest.fixture(scope="module")
def model():
    return models.mlp(inputs=2, widths=(3,), outputs=M)


@pytest.fixture(scope="module")
def agents():
    rng = np.random.default_rng(0)
    return data.AgentData(rng.normal(size=(Q, D, 2)), rng.normal(size=(Q, D, M)))


@pytest.fixture(scope="module")
def starts(model):
    return np.stack([model.init(seed) for seed in range(Q)])


def right_hand_side(rule, model, agents, W, at, objective):
    """Return (8a)-(8c) as a function of vartheta, with each network replaced by its tangent at the rows of ``at``."""

    def risk(theta, at, x, y):
        f, change = jax.jvp(lambda theta: model.forward(theta, x), (at,), (theta - at,))
        return jnp.mean(jnp.sum((f + change - y) ** 2, axis=-1)) / 2 / (Q if objective == "global" else 1)

    def change(vartheta):
        theta = vartheta.reshape(Q, -1)
        gradients = lambda theta: jax.vmap(jax.grad(risk))(theta, at, agents.x, agents.y)  # noqa: E731
        return (rule(W).update(theta, gradients, STEP) - theta).reshape(-1)

    return change


@RULES
@OBJECTIVES
def test_A_and_u_are_the_derivative_and_the_value_at_zero_of_the_linearised_flow(
    model, agents, starts, rule, objective
):
    got = flow_equation(rule(SKEWED, objective=objective), model, agents, starts, step_size=STEP)
    change = right_hand_side(rule, model, agents, SKEWED, starts, objective)
    zero = jnp.zeros(starts.size)
    np.testing.assert_allclose(got.A, jax.jacfwd(change)(zero), rtol=0, atol=1e-13)
    np.testing.assert_allclose(got.u, change(zero), rtol=0, atol=1e-13)


def test_parts(model, agents, starts):
    got = flow_equation(DGD(SKEWED), model, agents, starts, step_size=STEP)
    outputs = [np.asarray(model.apply(theta, x)).ravel() for theta, x in zip(starts, agents.x, strict=True)]
    np.testing.assert_allclose(got.outputs0, np.concatenate(outputs), rtol=1e-14)
    P = model.size
    h = 1e-6
    for q in range(Q):
        rows = got.jacobian[q * D * M : (q + 1) * D * M]
        assert not np.delete(rows, np.s_[q * P : (q + 1) * P], axis=1).any()
        for p in range(P):
            moved = starts[q] + h * np.eye(P)[p], starts[q] - h * np.eye(P)[p]
            slope = np.subtract(*(np.asarray(model.apply(theta, agents.x[q])).ravel() for theta in moved)) / (2 * h)
            np.testing.assert_allclose(rows[:, q * P + p], slope, rtol=0, atol=1e-8)
    np.testing.assert_allclose(got.psi, got.jacobian.T @ got.jacobian, rtol=1e-14)


@RULES
def test_at_solves_the_equation(model, agents, starts, rule):
    equation = flow_equation(rule(SKEWED), model, agents, starts, step_size=STEP)
    other = starts[::-1]
    times = [0.0, 0.5, 7.0]
    solved = scipy.integrate.solve_ivp(
        lambda t, state: equation.A @ state + equation.u, (0, 7), other.ravel(), t_eval=times, rtol=1e-11, atol=1e-12
    )
    got = equation.at(times, start=other)
    np.testing.assert_allclose(got.reshape(3, -1), solved.y.T, rtol=0, atol=1e-8)
    np.testing.assert_allclose(equation.at(7.0, start=got[1]), equation.at(7.5, start=other), rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(equation.at(0.0)[0], starts)


@RULES
def test_after_repeats_the_update(model, agents, starts, rule):
    equation = flow_equation(rule(SKEWED, objective="global"), model, agents, starts, step_size=STEP)
    change = right_hand_side(rule, model, agents, SKEWED, starts, "global")
    state, states = starts.ravel(), []
    for _ in range(4):
        states.append(state)
        state = state + change(state)
    np.testing.assert_allclose(equation.after([3, 0, 1]).reshape(3, -1), [states[k] for k in (3, 0, 1)], atol=1e-13)
    assert equation.after(np.array([], dtype=int)).shape == (0, Q, model.size)


@RULES
@OBJECTIVES
@pytest.mark.parametrize("W", [SKEWED, mixing.metropolis_hastings(nx.path_graph(Q))], ids=["skewed", "path"])
def test_the_closed_forms_agree_from_a_common_start(model, agents, rule, objective, W):
    theta0 = model.init(5)
    equation = flow_equation(rule(W, objective=objective), model, agents, theta0, step_size=STEP)
    dynamics = predict(rule(W, objective=objective), linearize(model, agents, theta0), step_size=STEP)
    times = np.array([0, 1, 10, 300])
    np.testing.assert_allclose(equation.at(times), dynamics.at(times).params, rtol=0, atol=1e-10)
    np.testing.assert_allclose(equation.after(times), dynamics.after(times).params, rtol=0, atol=1e-10)


def test_bad_input(model, agents, starts):
    equation = flow_equation(DGD(SKEWED), model, agents, starts, step_size=STEP)
    with pytest.raises(ValueError, match=r"start must have shape \(3, 17\), got \(17,\)"):
        equation.at(1.0, start=starts[0])
    with pytest.raises(ValueError, match="times must not be negative"):
        equation.at([-1.0])
    with pytest.raises(ValueError, match="counts must be whole numbers"):
        equation.after([0.5])
    check(lambda: flow_equation("DGD", model, agents, starts, step_size=STEP), "method must be of type Method, got str")
    with pytest.raises(ValueError, match=r"W must have shape \(3, 3\), got \(2, 2\)"):
        flow_equation(DGD(np.eye(2)), model, agents, starts, step_size=STEP)
    with pytest.raises(ValueError, match="theta0 must have shape"):
        flow_equation(DGD(SKEWED), model, agents, starts[:2], step_size=STEP)
    with pytest.raises(ValueError, match="step_size must be positive"):
        flow_equation(DGD(SKEWED), model, agents, starts, step_size=0)
    with pytest.raises(ValueError, match="objective must be one of 'local', 'global'"):
        flow_equation(DGD(SKEWED, objective="both"), model, agents, starts, step_size=STEP)


def test_large_problems_are_refused(agents):
    wide = models.mlp(inputs=2, widths=(literal.LARGEST // Q,), outputs=M)
    with pytest.raises(ValueError, match=r"at most 2000 parameters in all, got 3 agents x 3332 = 9996: use"):
        flow_equation(DGD(SKEWED), wide, agents, wide.init(0), step_size=STEP)
