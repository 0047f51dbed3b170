"""Integrated flows and iterations against the printed equations in full parameter space, and the closed forms."""

import numpy as np
import pytest
import reference
import scipy.integrate
from problems import AGENTS, CYCLE, RING, SAMPLES, affine, assert_close, network
from rejection import check

from peerflow import data, flows, models
from peerflow.flows import predict
from peerflow.integrate import _iteration
from peerflow.linearize import linearize
from peerflow.methods import ATC, CTA, DGD
from peerflow.objectives import squared_error
from peerflow.training import train

TIMES = np.array([7.0, 0.0, 0.4, 7.0, 2.5])
COUNTS = np.array([9, 0, 1, 9, 4])


def classification(build, outputs):
    """Return a problem with labels for targets: one-hot, or 0 and 1 for a single output."""
    problem = build(outputs)
    label = np.random.default_rng(4).integers(max(outputs, 2), size=(AGENTS, SAMPLES))
    y = label[..., None].astype(float) if outputs == 1 else np.eye(outputs)[label]
    object.__setattr__(problem, "agents", data.AgentData(problem.agents.x, y))
    return problem


def slope(loss, f, y):
    """Return dl/df, sample by sample."""
    if loss == "mse":
        return f - y
    if loss == "binary_cross_entropy":
        return 1 / (1 + np.exp(-f)) - y
    return np.exp(f) / np.exp(f).sum(1, keepdims=True) - y


def value(loss, f, y):
    if loss == "mse":
        return ((f - y) ** 2).sum(1).mean() / 2
    if loss == "binary_cross_entropy":
        return (np.log(1 + np.exp(f)) - y * f).sum(1).mean()
    return -(y * np.log(np.exp(f) / np.exp(f).sum(1, keepdims=True))).sum(1).mean()


def literal_gradient(problem, loss):
    """Return (q, theta) -> the local gradient of the model (11), with all P parameters."""
    linear = [problem.linear(x) for x in problem.agents.x]

    def gradient(q, theta):
        f0, jacobian = linear[q]
        f = f0 + (jacobian @ (theta - problem.theta0)).reshape(f0.shape)
        return jacobian.T @ slope(loss, f, problem.agents.y[q]).reshape(-1) / SAMPLES

    return gradient


def literal_flow(name, problem, W, loss, step_size, times):
    """Solve (8a)-(8c) as printed, stacked, with scipy."""
    gradient = literal_gradient(problem, loss)

    def stacked(theta):
        return np.stack([gradient(q, theta[q]) for q in range(AGENTS)])

    def rhs(_, flat):
        theta = flat.reshape(AGENTS, -1)
        drift = (W - np.eye(AGENTS)) @ theta
        if name == "DGD":
            return (drift - step_size * stacked(theta)).reshape(-1)
        if name == "ATC":
            return (drift - step_size * W @ stacked(theta)).reshape(-1)
        return (drift - step_size * stacked(W @ theta)).reshape(-1)

    start = np.tile(problem.theta0, AGENTS)
    solution = scipy.integrate.solve_ivp(
        rhs, (0, times.max()), start, method="DOP853", rtol=1e-11, atol=1e-12, dense_output=True
    )
    return np.stack([solution.sol(t).reshape(AGENTS, -1) for t in times])


CASES = [("binary_cross_entropy", 1), ("binary_cross_entropy", 2), ("cross_entropy", 3), ("mse", 2)]


@pytest.mark.parametrize(
    ("rule", "loss", "outputs", "W"),
    [
        (DGD, "cross_entropy", 3, RING),
        (ATC, "cross_entropy", 3, CYCLE),
        (CTA, "cross_entropy", 3, RING),
        (ATC, "binary_cross_entropy", 1, RING),
    ],
)
def test_flow_is_the_printed_one_in_full_parameter_space(rule, loss, outputs, W):
    problem = classification(network, outputs)
    lin = linearize(problem.model, problem.agents, problem.theta0)
    got = predict(rule(W), lin, step_size=0.8, loss=loss).at(TIMES)
    params = literal_flow(rule.name, problem, W, loss, 0.8, TIMES)
    assert np.abs(params - problem.theta0).max() > 0.1
    np.testing.assert_array_equal(got.times, TIMES)
    assert_close(got.params, params, tolerance=1e-7)
    assert got.loss == loss


@pytest.mark.parametrize(("loss", "outputs"), CASES)
def test_losses_and_outputs_are_those_of_the_linear_model(loss, outputs):
    problem = classification(network, outputs)
    lin = linearize(problem.model, problem.agents, problem.theta0)
    got = predict(DGD(CYCLE), lin, step_size=0.5, loss=loss).after(COUNTS)
    x, y = problem.agents.x, problem.agents.y
    moves = got.params.reshape(-1, lin.theta0.size) - problem.theta0
    outputs = [[f0 + (jacobian @ move).reshape(f0.shape) for move in moves] for f0, jacobian in map(problem.linear, x)]
    by_data = np.array([[value(loss, f, y[q]) for f in outputs[q]] for q in range(AGENTS)])
    by_data = by_data.reshape(AGENTS, len(COUNTS), AGENTS)
    assert_close(got.losses, np.einsum("qtq->tq", by_data))
    assert_close(got.global_losses, by_data.mean(0))
    assert_close(got.outputs(x[1]), np.reshape(outputs[1], (len(COUNTS), AGENTS, *y[1].shape)))


@pytest.mark.parametrize(("W", "objective"), [(CYCLE, "local"), (RING, "global")])
def test_squared_loss_agrees_with_the_closed_forms(rule, W, objective):
    problem = network(2)
    lin = linearize(problem.model, problem.agents, problem.theta0)
    method, step_size = rule(W, objective=objective), problem.step_size(0.7, objective)
    closed = predict(method, lin, step_size=step_size)
    # As a function and not by its name, the squared loss is a loss like any other.
    stepped = predict(method, lin, step_size=step_size, loss=squared_error)
    for got, expected in (
        (stepped.at(TIMES), closed.at(TIMES)),
        (stepped.after(COUNTS), closed.after(COUNTS)),
    ):
        assert_close(got.coefficients, expected.coefficients, tolerance=1e-7)
        assert_close(got.losses, expected.losses, tolerance=1e-7)
        assert_close(got.global_losses, expected.global_losses, tolerance=1e-7)


@pytest.mark.parametrize(("loss", "outputs"), CASES[1:3])
def test_iteration_of_an_affine_model_is_training(rule, loss, outputs):
    problem = classification(affine, outputs)
    lin = linearize(problem.model, problem.agents, problem.theta0)
    method, settings = rule(RING, objective="global"), {"step_size": 0.3, "loss": loss}
    run = train(method, problem.model, problem.agents, problem.theta0, steps=9, **settings)
    got = predict(method, lin, **settings).after(COUNTS)
    assert_close(got.params, run.params[COUNTS])
    assert_close(got.losses, run.losses[COUNTS])
    assert_close(got.global_losses, run.global_losses[COUNTS])


def test_iteration_is_the_printed_one(rule):
    problem = classification(network, 3)
    lin = linearize(problem.model, problem.agents, problem.theta0)
    gradient = literal_gradient(problem, "cross_entropy")
    start = np.tile(problem.theta0, (AGENTS, 1))
    expected = reference.iterate(rule.name, RING, gradient, start, 0.8, 9)
    got = predict(rule(RING), lin, step_size=0.8, loss="cross_entropy").after(COUNTS)
    assert_close(got.params, expected[COUNTS])


def test_small_steps_of_the_iteration_approach_the_flow():
    problem, loss = classification(affine, 1), "binary_cross_entropy"
    # For one agent n steps of size h are Euler's method with step h: the error falls like h.
    one = data.AgentData(problem.agents.x[:1], problem.agents.y[:1])
    lin = linearize(problem.model, one, problem.theta0)
    alone = DGD(np.eye(1))
    flow = predict(alone, lin, step_size=1.0, loss=loss).at([4.0]).coefficients
    errors = [
        np.abs(predict(alone, lin, step_size=1 / n, loss=loss).after([4 * n]).coefficients - flow).max()
        for n in (64, 128)
    ]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.02)


def test_tolerances_are_obeyed():
    problem = classification(network, 1)
    lin = linearize(problem.model, problem.agents, problem.theta0)

    def end(**tolerances):
        return (
            predict(DGD(CYCLE), lin, step_size=2.0, loss="binary_cross_entropy").at([30.0], **tolerances).coefficients
        )

    exact = end(rtol=1e-12, atol=1e-13)
    errors = [np.abs(end(rtol=tol, atol=tol / 100) - exact).max() for tol in (1e-3, 1e-8)]
    assert errors[1] < 1e-7 < errors[0] < 1e-1


def test_only_time_zero_and_no_time_at_all():
    problem = classification(network, 1)
    lin = linearize(problem.model, problem.agents, problem.theta0)
    dynamics = predict(DGD(CYCLE), lin, step_size=1.0, loss="binary_cross_entropy")
    for solve in (dynamics.at, dynamics.after):
        assert_close(solve([0, 0]).params, np.tile(problem.theta0, (2, AGENTS, 1)))
        assert solve(np.zeros(0, int)).losses.shape == (0, AGENTS)


def test_where_no_parameter_matters_nothing_moves():
    model = models.mlp(inputs=2, widths=(3,), outputs=1, activation="relu", b_std=0.0)
    lin = linearize(model, data.AgentData(np.zeros((4, 2, 2)), np.ones((4, 2, 1))), model.init(0))
    assert lin.rank == 0
    dynamics = predict(DGD(CYCLE), lin, step_size=1.0, loss="binary_cross_entropy")
    for got in (dynamics.at([0, 5]), dynamics.after([0, 5])):
        assert_close(got.losses, np.full((2, 4), np.log(2)))


def test_single_precision_targets_are_integrated_in_double():
    problem = classification(network, 1)
    agents = data.AgentData(problem.agents.x, problem.agents.y.astype(np.float32))
    lin = linearize(problem.model, agents, problem.theta0)
    dynamics = predict(ATC(CYCLE), lin, step_size=1.0, loss="binary_cross_entropy")
    for got in (dynamics.at([3]), dynamics.after([3])):
        assert got.coefficients.dtype == got.losses.dtype == np.float64


def test_a_flow_that_grows_without_bound_is_an_error():
    # Two agents that only swap, with equal inputs and opposite targets: where they disagree, ATC's flow has the
    # eigenvalues s - 2 for s those of c Psi.
    problem, swap = affine(1), np.array([[0.0, 1.0], [1.0, 0.0]])
    x, y = problem.agents.x[:1].repeat(2, 0), problem.agents.y[:1] * np.array([1.0, -1.0])[:, None, None]
    lin = linearize(problem.model, data.AgentData(x, y), problem.theta0)
    step_size = 2 * 30 * SAMPLES / lin.singular_values[0] ** 2
    check(lambda: predict(ATC(swap), lin, step_size=step_size, loss=squared_error).at([1e3]), "outgrew float64")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"times": [-1]}, "must not be negative"),
        ({"times": [np.inf]}, "must be finite|must be whole numbers"),
        ({"times": [[1]]}, "must be one-dimensional"),
        ({"method": DGD(np.eye(3))}, r"W must have shape \(4, 4\), got \(3, 3\)"),
        ({"method": "DGD"}, "method must be of type Method, got str"),
        ({"method": DGD}, "method must be of type Method, got Rule"),
        ({"lin": None}, "lin must be of type Linearization"),
        ({"step_size": 0.0}, "step_size must be positive"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"loss": "cross_entropy"}, "needs two outputs or more"),
    ],
)
def test_bad_input(change, match):
    problem = classification(affine, 1)
    lin = linearize(problem.model, problem.agents, problem.theta0)
    good = {"method": DGD(CYCLE), "lin": lin, "times": [1], "step_size": 1.0, "loss": "binary_cross_entropy"}
    arguments = {**good, **change}
    method, lin, times = (arguments.pop(name) for name in ("method", "lin", "times"))
    for solve in (flows.Dynamics.at, flows.Dynamics.after):
        check(lambda solve=solve: solve(predict(method, lin, **arguments), times), match)


@pytest.mark.parametrize("loss", ["mse", squared_error], ids=["closed form", "integrated"])
@pytest.mark.parametrize("name", ["rtol", "atol"])
def test_tolerances_are_positive(name, loss):
    problem = affine(1)
    dynamics = predict(DGD(CYCLE), linearize(problem.model, problem.agents, problem.theta0), step_size=1.0, loss=loss)
    check(lambda: dynamics.at([1.0], **{name: 0.0}), f"{name} must be positive, got 0.0")


@pytest.mark.parametrize(
    ("W", "objective", "match"),
    [(np.ones((4, 4)), "local", "doubly stochastic"), (CYCLE, "mine", "objective must be one of")],
)
def test_what_the_method_refuses(W, objective, match):
    check(lambda: DGD(W, objective=objective), match)


def test_compiled_once_for_all_step_sizes_and_matrices():
    problem = classification(affine, 1)
    lin = linearize(problem.model, problem.agents, problem.theta0)
    predict(DGD(CYCLE), lin, step_size=0.1, loss="binary_cross_entropy").after([3])
    before = _iteration._cache_size()
    predict(DGD(RING), lin, step_size=0.2, loss="binary_cross_entropy").after([5])
    assert _iteration._cache_size() == before
