"""Closed forms against dense exponentials of (12a)-(12c) as printed, and against literal iterations."""

from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest
import reference
from optional import needs_neural_tangents
from problems import (
    AGENTS,
    COMPLETE,
    CYCLE,
    MATRICES,
    RING,
    SAMPLES,
    STAR,
    affine,
    agent_data,
    assert_close,
    moons,
    network,
)  # fmt: skip

from peerflow import flows, kernels, models, modes
from peerflow.data import AgentData
from peerflow.engines import state_matrix
from peerflow.flows import predict
from peerflow.linearize import linearize
from peerflow.methods import ATC, CTA, DGD
from peerflow.modes import geometric, phi_1

TIMES = np.array([0.0, 1 / 3, 1.0, np.e, 17.0, 40.7])
COUNTS = np.array([0, 1, 2, 5, 33])
# (matrix, largest eigenvalue of c Psi, objective): I - c Psi definite and indefinite.
SETTINGS = [
    ("cycle", 0.6, "global"),
    ("cycle", 1.4, "local"),
    ("star", 0.9, "local"),
    ("star", 1.9, "global"),
    ("complete", 0.6, "global"),
    ("complete", 1.9, "local"),
    ("ring", 0.6, "global"),
    ("ring", 0.6, "local"),
]


@pytest.fixture(scope="module")
def lin(problem):
    return linearize(problem.model, problem.agents, problem.theta0)


def assert_trajectory(got, problem, params, tolerance):
    """Compare parameters, both losses and outputs on new inputs with what these parameters give in (11)."""
    x, y = problem.agents.x, problem.agents.y
    pooled_x, pooled_y = x.reshape(-1, x.shape[2]), y.reshape(-1, y.shape[2])
    local = [[reference.mean_loss(f[q], y[q]) for f in problem.linear_outputs(params, x[q])] for q in range(AGENTS)]
    total = [[reference.mean_loss(f, pooled_y) for f in row] for row in problem.linear_outputs(params, pooled_x)]
    new = np.random.default_rng(5).normal(size=(4, x.shape[2]))
    assert_close(got.params, params, tolerance=tolerance)
    assert_close(got.losses, np.transpose(local), tolerance=tolerance)
    assert_close(got.global_losses, total, tolerance=tolerance)
    assert_close(got.outputs(new), problem.linear_outputs(params, new), tolerance=tolerance)


@pytest.mark.parametrize(("matrix", "s", "objective"), SETTINGS)
def test_flow_is_the_exponential_of_the_printed_equation(problem, lin, rule, matrix, s, objective):
    W, step_size = MATRICES[matrix], problem.step_size(s, objective)
    dynamics = predict(rule(W, objective=objective), lin, step_size=step_size)
    A, u = problem.literal(rule.name, W, step_size, objective)
    params = reference.solve_flow(A, u, np.tile(problem.theta0, AGENTS), TIMES)
    for got in (dynamics.at(TIMES), flows.Trajectory(lin, TIMES, dynamics._solution.at(TIMES))):
        np.testing.assert_array_equal(got.times, TIMES)
        assert_trajectory(got, problem, params.reshape(len(TIMES), AGENTS, -1), 1e-10)


@pytest.mark.parametrize(("matrix", "s", "objective"), SETTINGS)
def test_iteration_is_the_literal_recursion_on_stacked_parameters(problem, lin, rule, matrix, s, objective):
    W, step_size = MATRICES[matrix], problem.step_size(s, objective)
    dynamics = predict(rule(W, objective=objective), lin, step_size=step_size)
    A, u = problem.literal(rule.name, W, step_size, objective)
    states = [np.tile(problem.theta0, AGENTS)]
    for _ in range(COUNTS[-1]):
        states.append(states[-1] + A @ states[-1] + u)
    expected = np.array(states)[COUNTS].reshape(len(COUNTS), AGENTS, -1)
    for got in (dynamics.after(COUNTS), flows.Trajectory(lin, COUNTS.astype(float), dynamics._solution.after(COUNTS))):
        np.testing.assert_array_equal(got.times, COUNTS)
        assert_trajectory(got, problem, expected, 1e-12)


@pytest.mark.parametrize(
    ("rule", "W", "s", "path"),
    [
        (DGD, CYCLE, 0.6, "direct"),
        (DGD, CYCLE, 1.4, "direct"),
        (ATC, CYCLE, 0.6, "congruent"),
        (CTA, CYCLE, 0.9, "congruent"),
        (ATC, STAR, 0.9, "semidefinite"),
        (ATC, COMPLETE, 1.9, "semidefinite"),
        (CTA, STAR, 1.9, "adapted"),
        (ATC, CYCLE, 1.4, "stepper"),
        (CTA, CYCLE, 1.4, "stepper"),
        (DGD, RING, 0.6, "stepper"),
        (ATC, RING, 0.6, "stepper"),
    ],
)
def test_these_settings_take_every_path(rule, W, s, path):
    problem = network()
    lin = linearize(problem.model, problem.agents, problem.theta0)
    solution = predict(rule(W), lin, step_size=problem.step_size(s))._solution
    if isinstance(solution, modes.Modes):
        assert (solution.root is not None) == (path == "congruent")
        assert np.allclose(solution.mix @ solution.mix, W, rtol=0, atol=1e-14) == (path == "semidefinite")
    else:
        assert type(solution) is {"adapted": modes.Adapted, "stepper": modes.Stepper}[path]


@pytest.mark.parametrize("x", [-3.0, -1.5, -1.4, -1 - 1e-9, -1.0, -1 + 1e-12, -0.6, -0.5, -0.4, -1e-9, 0.0, 0.3])
@pytest.mark.parametrize("t", [1e-8, 0.5, 3.0, 40.0])
def test_the_delayed_mode_against_many_digits(x, t):
    getcontext().prec = 60
    z, t_ = Decimal(x), Decimal(t)
    if x == -1:
        exact = 1 - (-t_).exp() - t_ * (-t_).exp()
    else:
        grown = ((t_ * z).exp() - 1) / z if x else t_
        exact = (grown - 1 + (-t_).exp()) / (1 + z)
    # It is added to what the push alone has done, which is of order min(t, 1).
    assert abs(modes._delayed(np.array(x), np.array(t)) - float(exact)) < 1e-14 * max(float(exact), min(t, 1))


def test_the_delayed_mode_ends_late():
    assert_close(modes._delayed(np.array([-0.25, -1.0, -1.5]), np.array(1e16)), 1 / np.array([0.25, 1.0, 1.5]))


def test_state_matrix_is_the_printed_one_in_the_basis(problem, lin, rule):
    """A = V^T A_paper V, where V stands once for each agent."""
    step_size = problem.step_size(0.6, "global")
    dynamics = predict(rule(RING, objective="global"), lin, step_size=step_size)
    matrix, constant = dynamics.system()
    A, u = problem.literal(rule.name, RING, step_size, "global")
    V = np.kron(np.eye(AGENTS), lin.basis)
    assert_close(matrix, V.T @ A @ V)
    assert_close(state_matrix(rule(RING), step_size / (AGENTS * SAMPLES) * lin.curvature), V.T @ A @ V)
    # u of (12) is the constant for theta; A theta_0 makes it the one for theta - theta_0.
    assert_close(constant.reshape(-1), V.T @ (u + A @ np.tile(problem.theta0, AGENTS)))


@pytest.mark.parametrize("s", [0.6, 1.4], ids=["modes", "stepper"])
def test_in_the_limit_an_interpolating_flow_reaches_the_minimum_norm_solution(rule, s):
    problem = network(widths=(16,))  # 65 parameters, 12 equations
    lin = linearize(problem.model, problem.agents, problem.theta0)
    flow = predict(rule(CYCLE), lin, step_size=problem.step_size(s)).at(1e9)
    f0, J = problem.linear(problem.agents.x.reshape(-1, 2))
    nearest = problem.theta0 - np.linalg.pinv(J) @ (f0 - problem.agents.y.reshape(-1, 1)).reshape(-1)
    # The Jacobian's condition number, about 1e4, enters both sides squared.
    assert_close(flow.params[0], np.tile(nearest, (AGENTS, 1)), tolerance=1e-7)


@pytest.mark.parametrize("W", [CYCLE, RING], ids=["cycle", "ring"])
def test_the_fixed_point_is_where_flow_and_iteration_end_and_stand_still(rule, W):
    problem = affine()
    lin = linearize(problem.model, problem.agents, problem.theta0)
    step_size = problem.step_size(0.3)
    dynamics = predict(rule(W), lin, step_size=step_size)
    end = dynamics.fixed_point()
    A, u = problem.literal(rule.name, W, step_size, "local")
    assert_close(A @ end.params.reshape(-1), -u)
    # Both come within rounding of it.
    assert_close(dynamics.at(1e6).params, end.params, tolerance=1e-9)
    assert_close(dynamics.after(10**6).params, end.params, tolerance=1e-9)


def test_agents_who_cannot_talk_and_see_too_little_have_no_single_fixed_point(rule):
    problem = network(widths=(16,))  # 3 equations an agent, 12 directions
    dynamics = predict(rule(np.eye(AGENTS)), linearize(problem.model, problem.agents, problem.theta0), step_size=1)
    with pytest.raises(ValueError, match="no single fixed point: W must connect all agents"):
        dynamics.fixed_point()


@needs_neural_tangents
@pytest.mark.parametrize("outputs", [1, 2])
def test_one_agent_is_neural_tangents_gradient_descent(rule, outputs):
    problem = network(outputs, widths=(16,))
    x, y = agent_data(outputs=outputs, agents=1, samples=4).pooled()
    new, model, step_size = np.array([[0.3, -1.0], [0.8, 0.1]]), problem.model, 0.7
    lin = linearize(model, agent_data(outputs=outputs, agents=1, samples=4), problem.theta0)
    flow = predict(rule(np.ones((1, 1))), lin, step_size=step_size).at(TIMES)
    kernel = kernels.nt.empirical_ntk_fn(lambda theta, x: model.apply(theta, x), trace_axes=())
    theirs = kernels.nt.predict.gradient_descent_mse(kernel(x, None, problem.theta0), y, trace_axes=())
    # Its loss is divided by samples times outputs, the paper's by samples alone.
    inside, outside = theirs(
        step_size * outputs * TIMES,
        model.apply(problem.theta0, x),
        model.apply(problem.theta0, new),
        kernel(new, x, problem.theta0),
    )
    # It solves with the kernel, whose condition number is about 1e4.
    assert_close(flow.outputs(x)[:, 0], inside, tolerance=1e-10)
    assert_close(flow.outputs(new)[:, 0], outside, tolerance=1e-10)


def test_nothing_moves_without_a_gradient(rule):
    """A tanh network without biases at the origin has no slope: the basis is empty, and consensus has nothing to do."""
    model = models.mlp(inputs=2, widths=(3,), outputs=1, activation="tanh", b_std=0.0)
    data = agent_data()
    still = type(data)(np.zeros_like(data.x), data.y)
    theta0 = np.ones(model.size)
    dynamics = predict(rule(CYCLE), linearize(model, still, theta0), step_size=1.0)
    for trajectory in (dynamics.at(TIMES), dynamics.after(np.arange(len(TIMES)))):
        assert_close(trajectory.params, np.tile(theta0, (len(TIMES), AGENTS, 1)), tolerance=0)
        assert_close(trajectory.losses, np.tile((data.y**2).sum((1, 2)) / 6, (len(TIMES), 1)))


def test_beyond_its_limit_the_iteration_diverges_and_the_flow_does_not():
    problem = affine()
    lin = linearize(problem.model, problem.agents, problem.theta0)
    dynamics = predict(DGD(CYCLE), lin, step_size=problem.step_size(2.5))
    assert dynamics.after(200).losses.max() > 1e30
    assert dynamics.at(200).losses.max() < dynamics.at(0).losses.max()


@pytest.mark.parametrize(("rule", "W"), [(DGD, CYCLE), (DGD, RING), (CTA, CYCLE)])
def test_an_overflow_is_an_answer_and_no_warning(rule, W):
    problem = affine()
    alike = AgentData(np.tile(problem.agents.x[:1], (AGENTS, 1, 1)), problem.agents.y)
    step_size = problem.step_size(20.0)
    dynamics = predict(rule(W), linearize(problem.model, alike, problem.theta0), step_size=step_size)
    assert not np.isfinite(dynamics.after(10**6).coefficients).any()
    # On equal inputs the negative eigenvalue of W makes CTA's flow unstable, and no other.
    assert np.isfinite(dynamics.at(1e6).coefficients).any() == (rule is DGD)


LATE = [10**12, 10**16, 10**17, 10**18]


@pytest.mark.parametrize("W", [CYCLE, RING, np.eye(AGENTS)], ids=["cycle", "ring", "alone"])
def test_no_rounding_grows_with_time_where_nothing_may(rule, W):
    """The kernel of a wide network on half moons has eigenvalues far below what floating point tells from zero."""
    dynamics = predict(rule(W), moons(), step_size=1.0)
    early = dynamics.at(1e9).losses.max()
    assert early < 0.5 * dynamics.at(0.0).losses.max()
    assert dynamics.at([*LATE, 1e30, 1e300]).losses.max() < early
    assert dynamics.after(LATE).losses.max() < early


def test_a_flow_stable_for_every_step_ends_at_rest_however_large_the_step():
    for W in (CYCLE, RING):
        dynamics = predict(DGD(W), moons(), step_size=1e4)
        assert dynamics.at([1e16, 1e300]).losses.max() < dynamics.at(1e6).losses.max()


def test_an_alternating_mode_has_its_parity_after_any_number_of_steps():
    counts = np.array([10**12, 10**12 + 1, 10**16, 10**17 + 1])
    # (I + A) z + u = 1 - z.
    z = modes.Stepper(np.array([[-2.0]]), np.array([[1.0]])).after(counts)
    np.testing.assert_array_equal(z.ravel(), counts % 2)
    # Inputs 1 and -1 beside the constant: c Psi = 2 I, so that consensus is reflected in every step.
    model = models.affine(inputs=1, outputs=1)
    x, y = np.tile([[1.0], [-1.0]], (AGENTS, 1, 1)), np.tile([[2.0], [1.0]], (AGENTS, 1, 1))
    shift = np.roll(np.eye(AGENTS), 1, axis=1)
    dynamics = predict(ATC(shift), linearize(model, AgentData(x, y), np.zeros(2)), step_size=2.0)
    assert isinstance(dynamics._solution, modes.Stepper)
    assert_close(dynamics.after(counts).params, dynamics.after(counts % 2).params, tolerance=1e-2)
    assert np.abs(dynamics.after(1).params).min() > 0.9


SMALL = [-1e-300, -1e-17, -1e-9, 1e-16, 3e-5]
MODERATE = [-700.0, -3.7, -2.0, -1.0, -0.5, -0.3, 0.2, 1.0, 30.0]


@pytest.mark.parametrize("x", [*SMALL, *MODERATE])
def test_phi_1_against_sixty_digits(x):
    getcontext().prec = 400  # e^-1e-300 - 1 loses 300 of them
    exact = (Decimal(x).exp() - 1) / Decimal(x)
    assert abs(phi_1(x) / float(exact) - 1) < 4e-16 * 2


@pytest.mark.parametrize("x", [*SMALL, -2.5, -2.0, -2.0 + 1e-9, -1.5, -1.0, -0.75, -0.5, -0.25, 0.5])
@pytest.mark.parametrize("k", [0, 1, 2, 7, 50])
def test_geometric_against_exact_fractions(x, k):
    exact = sum(((1 + Fraction(x)) ** j for j in range(k)), Fraction(0))
    terms = sum(abs(1 + Fraction(x)) ** j for j in range(k))
    # Of alternating terms a sum is as good as the largest of them.
    assert abs(Fraction(float(geometric(x, k))) - exact) <= Fraction(1e-14) * terms


def test_phi_1_and_geometric_at_zero():
    assert phi_1(0.0) == 1
    np.testing.assert_array_equal(geometric(0.0, [0, 1, 5]), [0, 1, 5])
