"""Agents with different numbers of samples: against loops over agents, the stacked equations, and equal agents."""

import numpy as np
import pytest
import reference
from problems import (
    AGENTS,
    CYCLE,
    INPUTS,
    MATRICES,
    RING,
    affine,
    agent_data,
    assert_close,
    network,
    unequal_data,
)  # fmt: skip

from peerflow import linearize, predict, train
from peerflow.data import AgentData, Padded
from peerflow.literal import flow_equation
from peerflow.objectives import squared_error

COUNTS = (3, 1, 5, 2)
STEPS = 12
TIMES = np.array([0.0, 0.4, 3.0, 17.0])
WEIGHTS = {"agents": [1 / 4] * 4, "samples": [3 / 11, 1 / 11, 5 / 11, 2 / 11]}
"""What each agent's objective weighs in the global one, by hand."""

weighed = pytest.mark.parametrize("weigh", WEIGHTS)
objectives = pytest.mark.parametrize("objective", ["local", "global"])


def gains(weigh, objective):
    """Return what each agent's own gradient is multiplied by: its weight, and Q times that if none is divided by Q."""
    return np.array(WEIGHTS[weigh]) * (AGENTS if objective == "local" else 1)


def global_losses(losses_on, weigh):
    """Return the global objective from ``losses_on[r]``, the mean loss on agent r's samples."""
    return sum(weight * loss for weight, loss in zip(WEIGHTS[weigh], losses_on, strict=True))


def test_the_weights_are_those_by_hand():
    for weigh, weights in WEIGHTS.items():
        assert_close(unequal_data(weigh=weigh).weights, weights, tolerance=1e-15)


def trained(kind, agents):
    """Return a model, the gradient of agent q's mean squared loss, and its formula, in plain numpy."""
    if kind == "affine":
        problem = affine(2)

        def gradient(q, theta):
            slopes = reference.affine(theta, agents.x[q], outputs=2) - agents.y[q]
            return reference.affine_gradient(theta, agents.x[q], slopes)

        return problem, gradient
    problem = network(2, widths=(5,))

    def gradient(q, theta):
        return reference.backpropagate(theta, agents.x[q], agents.y[q], width=5, w_std=1.3, b_std=0.4)

    return problem, gradient


@weighed
@objectives
@pytest.mark.parametrize("kind", ["affine", "mlp"])
def test_training_is_the_plain_loop(kind, rule, weigh, objective):
    agents = unequal_data(outputs=2, counts=COUNTS, weigh=weigh)
    problem, gradient = trained(kind, agents)
    gain = gains(weigh, objective)
    run = train(rule(RING, objective=objective), problem.model, agents, problem.theta0, step_size=0.4, steps=STEPS)
    start = np.tile(problem.theta0, (AGENTS, 1))
    params = reference.iterate(rule.name, RING, lambda q, t: gain[q] * gradient(q, t), start, 0.4, STEPS)

    def loss(theta, r):
        return reference.mean_loss(problem.formula(theta, agents.x[r]), agents.y[r])

    assert_close(run.params, params)
    assert_close(run.losses, [[loss(row[q], q) for q in range(AGENTS)] for row in params])
    everywhere = [[global_losses([loss(t, r) for r in range(AGENTS)], weigh) for t in row] for row in params]
    assert_close(run.global_losses, everywhere)


@pytest.fixture(scope="module")
def nonlinear():
    return network(2)


def linear_losses(problem, agents, params, weigh):
    """Return local and global losses of the linear model (11), sample by sample."""
    on = [
        [[reference.mean_loss(f, agents.y[r]) for f in row] for row in problem.linear_outputs(params, agents.x[r])]
        for r in range(AGENTS)
    ]
    on = np.array(on)
    return np.einsum("qtq->tq", on), global_losses(on, weigh)


@weighed
@objectives
@pytest.mark.parametrize("matrix", ["cycle", "star", "ring"])
def test_iteration_is_the_literal_one(nonlinear, rule, weigh, objective, matrix):
    problem, W = nonlinear, MATRICES[matrix]
    agents, gain = unequal_data(outputs=2, counts=COUNTS, weigh=weigh), gains(weigh, objective)
    linear = [problem.linear(x) for x in agents.x]

    def gradient(q, theta):
        f0, J = linear[q]
        error = f0.reshape(-1) + J @ (theta - problem.theta0) - agents.y[q].reshape(-1)
        return gain[q] * J.T @ error / COUNTS[q]

    params = reference.iterate(rule.name, W, gradient, np.tile(problem.theta0, (AGENTS, 1)), 0.3, STEPS)
    lin = linearize(problem.model, agents, problem.theta0)
    got = predict(rule(W, objective=objective), lin, step_size=0.3).after(np.arange(STEPS + 1))
    local, total = linear_losses(problem, agents, params, weigh)
    assert_close(got.params, params, tolerance=1e-10)
    assert_close(got.losses, local, tolerance=1e-10)
    assert_close(got.global_losses, total, tolerance=1e-10)
    new = np.random.default_rng(5).normal(size=(4, INPUTS))
    assert_close(got.outputs(new), problem.linear_outputs(params, new), tolerance=1e-10)


def stacked(problem, agents, name, W, gain):
    """Return A and u of the stacked equation: agent q's Jacobian and residual carry the root of its own constant."""
    f0, jacobians = zip(*map(problem.linear, agents.x), strict=True)
    roots = [np.sqrt(c / count) for c, count in zip(gain, COUNTS, strict=True)]
    jacobians = [root * J for root, J in zip(roots, jacobians, strict=True)]
    f0, y = (
        np.concatenate([root * np.ravel(one) for root, one in zip(roots, each, strict=True)]) for each in (f0, agents.y)
    )
    return reference.flow(name, W, jacobians, f0, y, problem.theta0, 1.0)


@weighed
@objectives
@pytest.mark.parametrize(("matrix", "step_size"), [("cycle", 0.1), ("cycle", 0.5), ("star", 0.3), ("ring", 0.3)])
def test_flow_is_the_exponential_of_the_stacked_system(nonlinear, rule, weigh, objective, matrix, step_size):
    problem, W = nonlinear, MATRICES[matrix]
    agents = unequal_data(outputs=2, counts=COUNTS, weigh=weigh)
    A, u = stacked(problem, agents, rule.name, W, step_size * gains(weigh, objective))
    params = reference.solve_flow(A, u, np.tile(problem.theta0, AGENTS), TIMES).reshape(len(TIMES), AGENTS, -1)
    dynamics = predict(
        rule(W, objective=objective), linearize(problem.model, agents, problem.theta0), step_size=step_size
    )
    local, total = linear_losses(problem, agents, params, weigh)
    got = dynamics.at(TIMES)
    assert_close(got.params, params, tolerance=1e-10)
    assert_close(got.losses, local, tolerance=1e-10)
    assert_close(got.global_losses, total, tolerance=1e-10)
    assert_close(dynamics._solution.at(TIMES), got.coefficients, tolerance=1e-10)


@weighed
@objectives
def test_the_equation_as_printed_has_each_agents_own_constant(nonlinear, rule, weigh, objective):
    problem, agents = nonlinear, unequal_data(outputs=2, counts=COUNTS, weigh=weigh)
    got = flow_equation(rule(RING, objective=objective), problem.model, agents, problem.theta0, step_size=0.3)
    A, u = stacked(problem, agents, rule.name, RING, 0.3 * gains(weigh, objective))
    assert_close(got.A, A)
    assert_close(got.u, u)


@weighed
def test_an_integrated_flow_is_the_closed_form(nonlinear, rule, weigh):
    agents = unequal_data(outputs=2, counts=COUNTS, weigh=weigh)
    lin = linearize(nonlinear.model, agents, nonlinear.theta0)
    closed, stepped = (predict(rule(RING), lin, step_size=0.3, loss=loss) for loss in ("mse", squared_error))
    for got, expected, tolerance in (
        (stepped.at(TIMES), closed.at(TIMES), 1e-7),
        (stepped.after([0, 1, 9]), closed.after([0, 1, 9]), 1e-12),
    ):
        assert_close(got.coefficients, expected.coefficients, tolerance=tolerance)
        assert_close(got.losses, expected.losses, tolerance=tolerance)
        assert_close(got.global_losses, expected.global_losses, tolerance=tolerance)


@weighed
def test_classification_is_the_plain_loop(rule, weigh):
    """An affine model's training and its predicted iteration, on a loss without a closed form."""
    agents, problem, gain = unequal_data(outputs=2, counts=COUNTS, weigh=weigh), affine(2), gains(weigh, "local")
    agents = AgentData(agents.x, [(y > 0).astype(float) for y in agents.y], weigh=weigh)
    settings = {"step_size": 0.7, "loss": "binary_cross_entropy"}

    def gradient(q, theta):
        f = reference.affine(theta, agents.x[q], outputs=2)
        return gain[q] * reference.affine_gradient(theta, agents.x[q], 1 / (1 + np.exp(-f)) - agents.y[q])

    def loss(theta, r):
        f = reference.affine(theta, agents.x[r], outputs=2)
        return np.mean(
            [
                sum(np.log(1 + np.exp(a)) - b * a for a, b in zip(*pair, strict=True))
                for pair in zip(f, agents.y[r], strict=True)
            ]
        )

    params = reference.iterate(rule.name, RING, gradient, np.tile(problem.theta0, (AGENTS, 1)), 0.7, STEPS)
    run = train(rule(RING), problem.model, agents, problem.theta0, steps=STEPS, **settings)
    lin = linearize(problem.model, agents, problem.theta0)
    got = predict(rule(RING), lin, **settings).after(np.arange(STEPS + 1))
    for each in (run, got):
        assert_close(each.params, params)
        assert_close(each.losses, [[loss(row[q], q) for q in range(AGENTS)] for row in params])
        everywhere = [[global_losses([loss(t, r) for r in range(AGENTS)], weigh) for t in row] for row in params]
        assert_close(each.global_losses, everywhere)


def everything(method, problem, agents):
    """Return what training and prediction give on these data, as arrays without an axis for samples."""
    lin = linearize(problem.model, agents, problem.theta0)
    binary = AgentData(agents.x, [(y > 0).astype(float) for y in agents.y], weigh=agents.weigh)
    if "padded" in vars(agents):
        vars(binary)["padded"] = agents.padded._replace(y=(agents.padded.y > 0).astype(float))
    run = train(method, problem.model, agents, problem.theta0, step_size=0.3, steps=5)
    settings = {"step_size": 0.3, "loss": "binary_cross_entropy"}
    other = predict(method, linearize(problem.model, binary, problem.theta0), **settings).after([0, 5])
    dynamics = predict(method, lin, step_size=0.3)
    parts = [run, dynamics.at([0, 5]), dynamics.after([0, 5]), other]
    return [getattr(part, name) for part in parts for name in ("params", "losses", "global_losses")]


@weighed
def test_what_stands_in_padded_rows_does_not_matter(nonlinear, rule, weigh):
    """Were any of it used, numbers of 1e3 would be seen."""
    agents, poisoned = (unequal_data(outputs=2, counts=COUNTS, weigh=weigh) for _ in range(2))
    x, y, weights = agents.padded
    assert ((weights == 0).sum(1) == [2, 4, 0, 3]).all()
    bad = weights == 0
    vars(poisoned)["padded"] = Padded(np.where(bad[..., None], 1e3, x), np.where(bad[..., None], -1e3, y), weights)
    expected = everything(rule(RING), nonlinear, agents)
    for got, clean in zip(everything(rule(RING), nonlinear, poisoned), expected, strict=True):
        assert_close(got, clean, tolerance=1e-14)


def test_an_agent_who_holds_every_sample_several_times_is_one_who_holds_it_once(nonlinear, rule):
    """Objectives are means: repeated to six each, all agents hold equally many."""
    few = unequal_data(outputs=2, counts=(3, 1, 6, 2))
    equal = AgentData(*([np.tile(one, (6 // len(one), 1)) for one in each] for each in (few.x, few.y)))
    assert isinstance(equal.x, np.ndarray) and isinstance(few.x, tuple)
    for got, expected in zip(
        everything(rule(RING), nonlinear, few), everything(rule(RING), nonlinear, equal), strict=True
    ):
        assert_close(got, expected, tolerance=1e-11)


def test_agents_who_never_talk_are_single_agents(nonlinear, rule):
    agents = unequal_data(outputs=2, counts=COUNTS)
    together = everything(rule(np.eye(AGENTS)), nonlinear, agents)
    for q in range(AGENTS):
        one = AgentData(agents.x[q][None], agents.y[q][None])
        alone = everything(rule(np.ones((1, 1))), nonlinear, one)
        for name, got, expected in zip(["params", "losses", "global"] * 4, together, alone, strict=True):
            if name != "global":  # that is over everyone's samples
                assert_close(got[:, q], expected[:, 0], tolerance=1e-11)


def test_with_equal_counts_both_weighings_are_one_and_lists_are_arrays(nonlinear, rule):
    data = agent_data(outputs=2)
    expected = everything(rule(CYCLE), nonlinear, data)
    for weigh in WEIGHTS:
        got = everything(rule(CYCLE), nonlinear, AgentData(list(data.x), list(data.y), weigh=weigh))
        for one, other in zip(got, expected, strict=True):
            assert_close(one, other, tolerance=1e-13)
