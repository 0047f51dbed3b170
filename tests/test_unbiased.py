"""Methods that remember, and W that varies, against loops as their authors write them, in plain numpy."""

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
import reference
import scipy.linalg
from problems import AGENTS, CYCLE, INPUTS, MATRICES, RING, STAR, affine, assert_close, network, unequal_data
from rejection import check, rejects

from peerflow import D2, EXTRA, AugDGM, DIGing, ExactDiffusion, GradientTracking, heavy_ball, mixing, models
from peerflow.compare import compare
from peerflow.data import AgentData
from peerflow.flows import predict, sweep
from peerflow.linearize import linearize
from peerflow.literal import flow_equation
from peerflow.methods import ATC, CTA, DGD, Rule, w
from peerflow.stability import final_disagreement
from peerflow.training import train

UNBIASED = {rule.name: rule for rule in (GradientTracking, DIGing, AugDGM, ExactDiffusion, D2, EXTRA)}
MOMENTUM = {f"{rule.name} with momentum": heavy_ball(rule, 0.6) for rule in (DGD, ATC, CTA)}
METHODS = UNBIASED | MOMENTUM
STEPS, STEP = 12, 0.3
VARYING = np.stack([CYCLE, RING, STAR])
BACKPROPAGATED = {"width": 5, "w_std": 1.3, "b_std": 0.4}
methods = pytest.mark.parametrize("name", METHODS)
unbiased = pytest.mark.parametrize("name", UNBIASED)


def small_network(agents):
    """Return a network, and the gradients of all agents by hand."""
    scales = {name: BACKPROPAGATED[name] for name in ("w_std", "b_std")}
    model = models.mlp(inputs=INPUTS, widths=(5,), outputs=1, activation="sigmoid", **scales)
    each = list(zip(agents.x, agents.y, strict=True))

    def gradients(theta):
        rows = [reference.backpropagate(own, x, y, **BACKPROPAGATED) for own, (x, y) in zip(theta, each, strict=True)]
        return np.stack(rows) * agents.gains[:, None]

    return model, gradients


@pytest.fixture(scope="module")
def problem():
    return network(outputs=2)


@pytest.fixture(scope="module")
def lin(problem):
    return linearize(problem.model, problem.agents, problem.theta0)


def linear_gradients(problem):
    """Return the gradients of the linear model (11) in all parameters, and its losses."""
    agents = problem.agents
    parts = [(*problem.linear(x), y) for x, y in zip(agents.x, agents.y, strict=True)]

    def residuals(theta):
        return [f0.ravel() + J @ (own - problem.theta0) - y.ravel()
                for own, (f0, J, y) in zip(theta, parts, strict=True)]  # fmt: skip

    def gradients(theta):
        return np.stack([J.T @ r / len(y) for r, (_, J, y) in zip(residuals(theta), parts, strict=True)])

    return gradients, lambda theta: [r @ r / (2 * len(y)) for r, (*_, y) in zip(residuals(theta), parts, strict=True)]


@methods
@pytest.mark.parametrize(
    ("matrix", "objective", "common"),
    [("cycle", "local", True), ("star", "global", False), ("ring", "local", False)],
)
def test_training_is_the_authors_loop(name, matrix, objective, common, rng):
    agents = network().agents
    model, gradients = small_network(agents)
    theta0 = rng.normal(size=model.size if common else (AGENTS, model.size))
    method = METHODS[name](MATRICES[matrix], objective=objective)
    run = train(method, model, agents, theta0, step_size=STEP, steps=STEPS)
    step_size = STEP / AGENTS if objective == "global" else STEP
    start = np.tile(theta0, (AGENTS, 1)) if common else theta0
    expected = reference.LITERAL[name](MATRICES[matrix], gradients, step_size).follow(start, STEPS)
    assert np.abs(expected[-1] - expected[0]).max() > 1e-2
    assert_close(run.params, expected)
    scales = {"sizes": (INPUTS, 5, 1), "activation": "sigmoid", "w_std": 1.3, "b_std": 0.4}
    last = [reference.mean_loss(reference.network(t, x, **scales), y)
            for t, x, y in zip(expected[-1], agents.x, agents.y, strict=True)]  # fmt: skip
    assert_close(run.losses[-1], last)


@methods
def test_training_of_unequal_agents_in_chunks_and_sparse(name, monkeypatch, rng):
    agents = unequal_data(weigh="samples")
    model, gradients = small_network(agents)
    theta0 = rng.normal(size=model.size)
    monkeypatch.setattr("peerflow.training._STEPS_A_SCAN", 5)
    W = mixing.metropolis_hastings(nx.cycle_graph(AGENTS), sparse=True)
    run = train(METHODS[name](W), model, agents, theta0, step_size=STEP, steps=STEPS)
    expected = reference.LITERAL[name](CYCLE, gradients, STEP).follow(np.tile(theta0, (AGENTS, 1)), STEPS)
    assert_close(run.params, expected)
    single = train(METHODS[name](W), model, agents, jnp.asarray(theta0, jnp.float32), step_size=STEP, steps=STEPS)
    assert single.params.dtype == np.float32
    assert_close(single.params, expected, tolerance=1e-5)


@methods
@pytest.mark.parametrize("matrix", ["cycle", "ring"])
def test_the_prediction_is_the_linear_model_in_the_authors_loop(name, matrix, problem, lin):
    """By products one step after the other, and by powers of the matrix of all that is remembered."""
    gradients, losses = linear_gradients(problem)
    counts, step_size = np.array([0, 1, 2, 7, 7, 40, 3]), problem.step_size(0.2)
    start = np.tile(problem.theta0, (AGENTS, 1))
    params = reference.LITERAL[name](MATRICES[matrix], gradients, step_size).follow(start, 40)[counts]
    dynamics = predict(METHODS[name](MATRICES[matrix]), lin, step_size=step_size)
    got = dynamics.after(counts)
    assert_close(got.params, params, tolerance=1e-10)
    assert_close(got.losses, [losses(theta) for theta in params], tolerance=1e-10)
    assert_close(dynamics._solution.after(counts), got.coefficients, tolerance=1e-10)
    x = np.random.default_rng(5).normal(size=(4, INPUTS))
    assert_close(got.outputs(x), problem.linear_outputs(params, x), tolerance=1e-10)
    swept = sweep([dynamics.method], lin, step_sizes=[step_size, step_size / 2], counts=counts)
    assert_close(swept[0, 0], got.losses, tolerance=1e-10)


@methods
def test_the_prediction_of_another_loss_is_the_linear_model_in_the_authors_loop(name, problem):
    labels = np.arange(AGENTS * 3).reshape(AGENTS, 3, 1) % 2 * np.ones(2)
    agents = AgentData(problem.agents.x, labels)
    parts = [problem.linear(x) for x in agents.x]

    def gradients(theta):
        rows = []
        for own, (f0, J), y in zip(theta, parts, labels, strict=True):
            logits = f0.ravel() + J @ (own - problem.theta0)
            rows.append(J.T @ (1 / (1 + np.exp(-logits)) - y.ravel()) / 3)
        return np.stack(rows)

    lin, step_size = linearize(problem.model, agents, problem.theta0), problem.step_size(0.5)
    start = np.tile(problem.theta0, (AGENTS, 1))
    expected = reference.LITERAL[name](RING, gradients, step_size).follow(start, 9)
    dynamics = predict(METHODS[name](RING), lin, step_size=step_size, loss="binary_cross_entropy")
    assert_close(dynamics.after([9, 1]).params, expected[[9, 1]], tolerance=1e-10)


AS_WRITTEN = ["GradientTracking", "DIGing", "ExactDiffusion", *MOMENTUM]


@pytest.mark.parametrize("name", AS_WRITTEN)
def test_w_may_vary(name, problem, lin):
    """DIGing was made for that. Steps in numbers that are no whole periods, and beyond one compiled scan."""
    gradients, _ = linear_gradients(problem)
    step_size, counts = problem.step_size(0.2), np.array([20, 1, 7, 0])
    start = np.tile(problem.theta0, (AGENTS, 1))
    expected = reference.LITERAL[name](VARYING, gradients, step_size).follow(start, 20)[counts]
    dynamics = predict(METHODS[name](list(VARYING)), lin, step_size=step_size)
    assert_close(dynamics.after(counts).params, expected, tolerance=1e-10)
    assert_close(dynamics._solution.after(counts), dynamics.after(counts).coefficients, tolerance=1e-10)


@pytest.mark.parametrize("tau", [1, 2, 5])
@pytest.mark.parametrize("W", [CYCLE, RING, np.full((4, 4), 0.25)], ids=["cycle", "ring", "all"])
def test_local_steps_are_rounds_of_gradient_descent_and_a_mean(tau, W, rng):
    """With the mean of all agents, this is federated averaging."""
    agents = network().agents
    model, gradients = small_network(agents)
    theta0 = rng.normal(size=model.size)
    run = train(ATC(mixing.every(tau, W)), model, agents, theta0, step_size=STEP, steps=3 * tau)
    theta = np.tile(theta0, (AGENTS, 1))
    for round_ in range(1, 4):
        for _ in range(tau):
            theta = theta - STEP * gradients(theta)
        theta = W @ theta
        assert_close(run.params[round_ * tau], theta)


@pytest.mark.parametrize("momentum", [False, True])
def test_local_steps_are_predicted_and_late_ones_too(momentum):
    problem = affine()
    lin = linearize(problem.model, problem.agents, problem.theta0)
    gradients, _ = linear_gradients(problem)
    tau, step_size = 3, problem.step_size(0.4)
    rule = heavy_ball(ATC, 0.6) if momentum else ATC
    dynamics = predict(rule(mixing.every(tau, CYCLE)), lin, step_size=step_size)
    theta, v, states = np.tile(problem.theta0, (AGENTS, 1)), 0.0, []
    for k in range(3001):
        states.append(theta)
        v = 0.6 * momentum * v + step_size * gradients(theta)
        theta = theta - v
        theta = CYCLE @ theta if k % tau == tau - 1 else theta
    counts = np.array([0, 1, 5, 6, 40])
    assert_close(dynamics.after(counts).params, np.array(states)[counts], tolerance=1e-10)
    late = np.array([3000, 2999, 2998])
    assert_close(lin.displacement(dynamics._solution.after(late)) + problem.theta0, np.array(states)[late],
                 tolerance=1e-9)  # fmt: skip
    A, u = dynamics.system()
    state = u.ravel()
    for rounds in range(1, 4):
        assert_close(state.reshape(u.shape)[:AGENTS], dynamics.after(rounds * tau).coefficients[0], tolerance=1e-10)
        state = state + A @ state + u.ravel()
    # A period's map stands still where the iteration does after whole rounds.
    assert_close(dynamics.fixed_point().coefficients[0], dynamics.after(3 * 10**9).coefficients[0], tolerance=1e-9)


def test_recursions_are_those_of_the_table():
    v = (1 + w) / 2
    table = {
        "GradientTracking": (2 * w, w**2, w),
        "AugDGM": (2 * w, w**2, w**2),
        "DIGing": (2 * w, w**2, 1),
        "ExactDiffusion": (2 * v, v, v),
        "D2": (2 * w, w, w),
        "EXTRA": (2 * v, v, 1),
    }
    for name, (P1, P0, A) in table.items():
        got = UNBIASED[name].recursion
        for x in (-0.4, 0.0, 0.3, 1.0):
            expected = [each(x) if callable(each) else each for each in (P1, P0, A, A)]
            assert_close([each(x) for each in got], expected, tolerance=1e-14)
    assert [rule.unbiased for rule in (*METHODS.values(), DGD, ATC, CTA)] == [True] * 6 + [False] * 6
    for rule, A in ((DGD, 1), (ATC, w), (CTA, 1)):
        P1, P0, A_, A0 = heavy_ball(rule, 0.6).recursion
        x = 0.3
        expected = [x + 0.6, 0.6 * x, A(x) if callable(A) else A, 0]
        assert_close([P1(x), P0(x), A_(x), A0(x)], expected, tolerance=1e-14)


@methods
def test_two_steps_of_the_literal_loop_are_the_recursion(name, rng):
    """In matrices, for any gradient."""
    method = METHODS[name](RING)
    target, eta = rng.normal(size=(AGENTS, 3)), 0.1

    def gradients(theta):
        return np.sin(theta) + (theta - target) ** 3

    C = method.polynomial(method.rule.point)
    x = reference.LITERAL[name](RING, gradients, eta).follow(rng.normal(size=(AGENTS, 3)), 6)
    P1, P0, A, A0 = map(method.polynomial, method.rule.recursion)
    for k in range(4):
        slopes = A @ gradients(C @ x[k + 1]) - A0 @ gradients(C @ x[k])
        assert_close(x[k + 2], P1 @ x[k + 1] - P0 @ x[k] - eta * slopes, tolerance=1e-13)


@unbiased
def test_agents_whose_data_disagree_agree_in_the_end(name, rng):
    """Samples enough that no parameters fit them all: DGD and ATC end with a bias, these do not."""
    x = rng.normal(size=(AGENTS, 6, INPUTS))
    agents = AgentData(x, rng.normal(size=(AGENTS, 6, 1)) + np.arange(AGENTS)[:, None, None])
    model = models.affine(inputs=INPUTS, outputs=1)
    lin = linearize(model, agents, np.zeros(model.size))
    A = np.concatenate([np.concatenate(x), np.ones((24, 1))], axis=1)
    optimum = np.linalg.lstsq(A, agents.pooled()[1].ravel())[0]
    step = 0.1 / np.linalg.eigvalsh(lin.curvature / 6).max()
    assert_close(
        predict(METHODS[name](CYCLE), lin, step_size=step).fixed_point().params[0],
        np.tile(optimum, (AGENTS, 1)),
        tolerance=1e-10,
    )
    assert_close(
        predict(METHODS[name](CYCLE), lin, step_size=step).after(10**6).params[0],
        np.tile(optimum, (AGENTS, 1)),
        tolerance=1e-10,
    )
    run = train(METHODS[name](CYCLE), model, agents, np.zeros(3), step_size=step, steps=4000, final_only=True)
    assert_close(run.params, np.tile(optimum, (AGENTS, 1)), tolerance=1e-8)
    for rule in (DGD, ATC, CTA):
        assert np.abs(predict(rule(CYCLE), lin, step_size=step).after(10**6).params[0] - optimum).max() > 1e-3


def test_final_disagreement_of_any_rule(rng):
    blocks = rng.normal(size=(AGENTS, 3, 5))
    y = rng.normal(size=(AGENTS, 3))
    optimum = np.linalg.lstsq(blocks.reshape(-1, 5), y.reshape(-1))[0]
    gradients = np.einsum("qdp,qd->qp", blocks, blocks @ optimum - y) / 3
    for name in UNBIASED:
        assert np.abs(final_disagreement(UNBIASED[name](RING), gradients, step_size=0.1)).max() < 1e-14
    for name, rule in MOMENTUM.items():

        def slopes(theta):
            return np.einsum("qdp,qd->qp", blocks, np.einsum("qdp,qp->qd", blocks, theta) - y) / 3

        end = reference.LITERAL[name](CYCLE, slopes, 1e-3).follow(np.tile(optimum, (AGENTS, 1)), 20000)[-1]
        got = final_disagreement(rule(CYCLE), gradients, step_size=1e-3)
        assert np.abs(end - end.mean(0) - got).max() < 0.05 * np.abs(got).max()


MINE = Rule("mine", ((1 + w) / 2, -(1 + w) / 2, -(1 + w) / 2), (0, (1 + w) / 2, (w - 1) / 2))
"""Gradient tracking by (I + W)/2, which the library does not have: one definition, and nothing else."""


def test_a_method_of_ones_own_takes_one_definition(problem, lin, rng):
    gradients, _ = linear_gradients(problem)
    step_size, lazy = problem.step_size(0.2), (np.eye(AGENTS) + RING) / 2
    expected = reference.GradientTracking(lazy, gradients, step_size).follow(np.tile(problem.theta0, (AGENTS, 1)), 30)
    assert_close(predict(MINE(RING), lin, step_size=step_size).after(np.arange(31)).params, expected, tolerance=1e-10)
    agents = network().agents
    model, gradients = small_network(agents)
    theta0 = rng.normal(size=(AGENTS, model.size))
    run = train(MINE(RING), model, agents, theta0, step_size=STEP, steps=STEPS)
    assert_close(run.params, reference.GradientTracking(lazy, gradients, STEP).follow(theta0, STEPS))
    assert MINE.unbiased


@pytest.mark.parametrize("name", ["GradientTracking", "AugDGM", "EXTRA", "ATC with momentum"])
def test_predictions_may_be_differentiated_and_mapped(name, lin, problem):
    step = problem.step_size(0.2)

    def loss(W, step_size):
        return predict(METHODS[name](W), lin, step_size=step_size).after([9]).global_losses.mean()

    for at, (h, argument) in enumerate([(1e-5, jnp.asarray(CYCLE)), (1e-4 * step, step)]):
        got = jax.grad(loss, argnums=at)(jnp.asarray(CYCLE), step)
        edge = np.zeros((AGENTS, AGENTS))
        edge[:2, :2] = [[1, -1], [-1, 1]]
        way = edge if at == 0 else 1.0
        ends = [loss(CYCLE + sign * h * way, step) if at == 0 else loss(CYCLE, step + sign * h) for sign in (1, -1)]
        assert_close(np.sum(np.asarray(got) * way), (ends[0] - ends[1]) / (2 * h), tolerance=1e-6)
        assert argument is not None
    batch = jax.vmap(lambda W: predict(METHODS[name](W), lin, step_size=step).after([9]).losses)(VARYING)
    each = [predict(METHODS[name](W), lin, step_size=step).after([9]).losses for W in VARYING]
    assert_close(batch, each, tolerance=1e-12)


def test_every_takes_the_mean_at_the_last_step_of_a_round():
    assert_close(mixing.every(3, STAR), [np.eye(AGENTS), np.eye(AGENTS), STAR])
    assert_close(mixing.every(1, mixing.metropolis_hastings(nx.star_graph(3), sparse=True)), [STAR])


def test_several_matrices_in_every_form():
    expected = np.stack([CYCLE, STAR])
    sparse = [mixing.metropolis_hastings(g, sparse=True) for g in (nx.cycle_graph(4), nx.star_graph(3))]
    for W in (expected, list(expected), tuple(expected), sparse, [CYCLE, sparse[1]], jnp.asarray(expected)):
        assert_close(ATC(W).dense, expected)
    assert ATC(CYCLE.tolist()).W.shape == (AGENTS, AGENTS)


@pytest.fixture(scope="module")
def tracking(lin):
    return predict(GradientTracking(CYCLE), lin, step_size=0.1)


def test_there_is_no_flow_without_one_w_and_no_memory(tracking, lin, problem):
    check(lambda: tracking.at([1.0]), "a gradient flow .* GradientTracking remembers more .* use after")
    varying = predict(DGD([CYCLE, STAR]), lin, step_size=0.1)
    check(lambda: varying.at([1.0]), "a gradient flow .* DGD has another W at other steps: use after")
    check(lambda: compare(EXTRA(CYCLE), lin, step_size=0.1, steps=3), "a gradient flow .* EXTRA remembers")
    arguments = problem.model, problem.agents, problem.theta0
    for method in (D2(CYCLE), ATC([CYCLE, STAR])):
        check(lambda: flow_equation(method, *arguments, step_size=0.1), r"\(12a\)-\(12c\) are for DGD, ATC and CTA")  # noqa: B023
        check(lambda: method.update(np.zeros((4, 2)), np.sin, 0.1), "needs more than parameters to go on: use start")  # noqa: B023


@rejects([
    (lambda: Rule("r", (w,)), "two weights .* or three of theta and three of memory .* got 1 and 0"),
    (lambda: Rule("r", (w, -1, -1)), "got 3 and 0"),
    (lambda: Rule("r", (w, -1), (0, 1, 1)), "got 2 and 3"),
    (lambda: Rule("r", (w, -1, -1), (0, 1)), "got 3 and 2"),
    (lambda: Rule("r", (2 * w, -1)), "leave agents alone who agree .* got 2, 1"),
    (lambda: Rule("r", (w, -1), point=0.5), "got 1, 0.5"),
    (lambda: Rule("r", (w, -1, -1), (w, 1, 0)), "got 1, 1, 1"),
    (lambda: Rule("r", (w, "W")), "theta must be real numbers"),
    (lambda: Rule("r", (w, float("nan"))), "theta must be finite"),
    (lambda: Rule("r", (w, -1), point=[[1]]), r"point must have shape \(degrees\)"),
    (lambda: heavy_ball("ATC", 0.5), "rule must be of type Rule, got str"),
    (lambda: heavy_ball(ATC(CYCLE), 0.5), "rule must be of type Rule, got Method"),
    (lambda: heavy_ball(ATC, 1.0), "beta must be below 1, got 1.0"),
    (lambda: heavy_ball(ATC, -0.1), "beta must not be negative"),
    (lambda: heavy_ball(EXTRA, 0.5), "rule must be one that remembers nothing yet, got EXTRA"),
    (lambda: mixing.every(0, CYCLE), "tau must be at least 1, got 0"),
    (lambda: mixing.every(1.5, CYCLE), "tau must be a whole number"),
    (lambda: mixing.every(2, 2 * CYCLE), "W must be doubly stochastic"),
    (lambda: EXTRA(2 * CYCLE), "W must be doubly stochastic"),
    (lambda: EXTRA([CYCLE, 2 * CYCLE]), "W must be doubly stochastic"),
    (lambda: EXTRA([CYCLE, np.eye(3)]), r"W must have shape \(4, 4\), got \(3, 3\)"),
    (lambda: EXTRA(np.zeros((0, 4, 4))), "W must hold at least one matrix, got none"),
    (lambda: EXTRA(CYCLE, objective="mine"), "objective must be one of"),
    (lambda: final_disagreement(ATC([CYCLE, STAR]), np.zeros((4, 2)), step_size=1.0), r"W must have shape \(agents"),
])  # fmt: skip
def test_bad_input(call, message):
    check(call, message)


def test_w_for_other_agents(lin, problem):
    for W in (np.eye(3), np.stack([np.eye(3)] * 2)):
        check(lambda: predict(EXTRA(W), lin, step_size=0.1), r"W must have shape \(4, 4\), got \(3, 3\)")  # noqa: B023
        check(
            lambda: train(EXTRA(W), problem.model, problem.agents, problem.theta0, step_size=0.1, steps=1),  # noqa: B023
            r"W must have shape \(4, 4\), got \(3, 3\)",
        )


def test_one_agent_alone_is_gradient_descent(rng):
    """Nobody to disagree with: the space of memories is empty."""
    agents = AgentData(rng.normal(size=(1, 3, INPUTS)), rng.normal(size=(1, 3, 1)))
    model, gradients = small_network(agents)
    theta0 = rng.normal(size=model.size)
    lin = linearize(model, agents, theta0)
    for rule in UNBIASED.values():
        run = train(rule(np.eye(1)), model, agents, theta0, step_size=STEP, steps=5)
        theta = theta0[None]
        for _ in range(5):
            theta = theta - STEP * gradients(theta)
        assert_close(run.params[-1], theta)
        dynamics = predict(rule(np.eye(1)), lin, step_size=STEP)
        plain = predict(DGD(np.eye(1)), lin, step_size=STEP)
        assert_close(dynamics._solution.after(np.array([50])), plain.after([50]).coefficients, tolerance=1e-10)
        assert len(dynamics.eigenvalues) == lin.rank


def test_the_state_matrix_is_what_a_step_does_to_any_state(lin, problem):
    """On memories that sum to zero, in whose coordinates it is written."""
    step_size = problem.step_size(0.3)
    for name, rule in METHODS.items():
        dynamics = predict(rule(RING), lin, step_size=step_size)
        A, _ = dynamics.system()
        keep = scipy.linalg.null_space(np.ones((1, AGENTS))) if rule.unbiased else np.eye(AGENTS)
        rng = np.random.default_rng(3)
        theta, memory = rng.normal(size=(AGENTS, lin.rank)), keep @ rng.normal(size=(keep.shape[1], lin.rank))
        psi = step_size / problem.agents.counts[:, None, None] * lin.curvature
        after = dynamics.method.step(
            dynamics.method.start(theta)._replace(memory=memory), lambda at: (psi @ at[..., None])[..., 0], 1  # noqa: B023
        )  # fmt: skip
        if rule.unbiased:
            assert np.abs(np.asarray(after.memory).sum(axis=0)).max() < 1e-12, name
        basis = scipy.linalg.helmert(AGENTS) if rule.unbiased else np.eye(AGENTS)
        before = np.concatenate([theta, basis @ memory]).ravel()
        expected = np.concatenate([after.theta, basis @ after.memory]).ravel()
        assert_close(before + A @ before, expected, tolerance=1e-12)
