"""Runs under random batches and failing links: against plain loops with the same draws, and what is expected."""

import numpy as np
import pytest
import reference
from problems import CYCLE, affine, assert_close, moons, network, unequal_data
from rejection import NAN, check, rejects

from peerflow import chance, data, models, trials
from peerflow.draws import Stochastic
from peerflow.flows import predict
from peerflow.linearize import linearize
from peerflow.methods import ATC, CTA, DGD
from peerflow.training import train

RULES = [DGD, ATC, CTA]
each_rule = pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
STEPS, LINKS = 5, [(0, 1), (0, 3), (1, 2), (2, 3)]  # of the cycle


def drawn(stochastic, agents, steps=STEPS, **options):
    """Return, for every step, which samples are in each agent's batch, and W, link by link; of the first run."""
    draws = stochastic.draws(agents, **options)
    for weights, alive in (next(draws) for _ in range(steps)):
        W = np.eye(4)
        for (i, j), carries in zip(LINKS, alive[0], strict=True):
            W[[i, j], [i, j]] -= carries / 3
            W[[i, j], [j, i]] += carries / 3
        yield [np.flatnonzero(one) for one in weights[0]], W


def plain(rule, theta, gradient, eta, draws):
    """Return all parameters at all steps, where ``gradient(q, theta_q, batch)`` is an agent's."""
    history = [np.array(theta)]
    for batches, W in draws:
        one = lambda q, at, batches=batches: gradient(q, at, batches[q])  # noqa: E731
        history.append(reference.iterate(rule.name, W, one, history[-1], eta, 1)[-1])
    return np.array(history)


@each_rule
def test_training_is_the_plain_loop(rule):
    problem, width = network(widths=(4,)), 4
    x, y = problem.agents.x, problem.agents.y
    starts = problem.theta0 + np.arange(4)[:, None] / 10
    stochastic = Stochastic(rule(CYCLE), batch=2, link_probability=0.6)
    run = trials.train(stochastic, problem.model, problem.agents, starts, step_size=0.7, steps=STEPS, seed=3)

    def gradient(q, theta, some):
        return reference.backpropagate(theta, x[q, some], y[q, some], width=width, w_std=1.3, b_std=0.4)

    draws = drawn(stochastic, problem.agents, runs=1, seed=3)
    params = plain(rule, starts, gradient, 0.7, draws)
    assert_close(run.params, params)
    losses = [[reference.mean_loss(problem.formula(row[q], x[q]), y[q]) for q in range(4)] for row in params]
    assert_close(run.losses, losses)
    last = trials.train(
        stochastic, problem.model, problem.agents, starts, step_size=0.7, steps=STEPS, seed=3, final_only=True
    )
    np.testing.assert_array_equal(last.params, run.params[-1])
    np.testing.assert_array_equal(last.losses, run.losses)


@each_rule
@pytest.mark.parametrize("objective", ["local", "global"])
def test_without_chance_training_is_as_ever(rule, objective):
    agents, model = unequal_data(weigh="samples", outputs=2), models.mlp(inputs=2, widths=(5,), outputs=2)
    method, theta0 = rule(CYCLE, objective=objective), model.init(0)
    expected = train(method, model, agents, theta0, step_size=0.5, steps=4)
    run = trials.train(Stochastic(method), model, agents, theta0, step_size=0.5, steps=4)
    assert_close(run.params, expected.params)
    assert_close(run.losses, expected.losses)
    assert trials.train(Stochastic(method), model, agents, theta0, step_size=0.5, steps=0).params.shape[0] == 1


def test_training_keeps_the_precision_of_its_start():
    problem = network()
    stochastic = Stochastic(ATC(CYCLE), batch=1, link_probability=0.5)
    run, exact = (
        trials.train(stochastic, problem.model, problem.agents, theta0, step_size=0.5, steps=4)
        for theta0 in (problem.theta0.astype(np.float32), problem.theta0)
    )
    assert run.params.dtype == run.losses.dtype == np.float32
    assert_close(run.losses, exact.losses, tolerance=1e-5)


@each_rule
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_linear_run_is_the_plain_loop(rule, outputs):
    problem = affine(outputs)
    agents, start = problem.agents, np.tile(problem.theta0, (4, 1))
    stochastic = Stochastic(rule(CYCLE), batch=2, link_probability=0.6)
    lin = linearize(problem.model, agents, problem.theta0)
    counts = [STEPS, 0, 2]

    def gradient(q, theta, some):
        x, y = agents.x[q, some], agents.y[q, some]
        return reference.affine_gradient(theta, x, reference.affine(theta, x, outputs=outputs) - y)

    for runs in (1, 3):
        sample = trials.sampled(stochastic, lin, step_size=0.2, counts=counts, runs=runs, seed=3)
        params = plain(rule, start, gradient, 0.2, drawn(stochastic, agents, runs=runs, seed=3))[counts]
        assert_close(sample.run(0).params, params)
        losses = [
            [reference.mean_loss(problem.formula(row[q], agents.x[q]), agents.y[q]) for q in range(4)] for row in params
        ]
        assert_close(sample.losses[:, 0], losses)
        assert sample.losses.shape == (3, runs, 4)
    assert_close(sample.mean.losses, predict(stochastic.mean, lin, step_size=0.2).after(counts).losses)


@each_rule
def test_estimates_have_no_bias_and_the_error_that_they_say(rule):
    stochastic, counts = Stochastic(rule(CYCLE), batch=3, link_probability=0.5), [0, 5, 20, 40]
    exact = chance.expected(stochastic, moons(), step_size=1.0, counts=counts).losses
    samples = [
        trials.sampled(stochastic, moons(), step_size=1.0, counts=counts, runs=100, seed=seed) for seed in range(20)
    ]
    scores = np.array([(each.expected_losses - exact)[1:] / each.standard_errors[1:] for each in samples])
    assert (np.abs(scores) < 2.576).mean() >= 0.95
    assert 0.7 < scores.std() < 1.3
    # The loss at the mean is known, and runs tell only what is above it: better than their plain average does.
    naive = np.array([each.losses.mean(axis=1) - exact for each in samples])[:, 1:].std()
    assert np.array([each.standard_errors for each in samples])[:, 1:].mean() < naive


def test_a_sample_is_its_runs():
    stochastic = Stochastic(ATC(CYCLE), batch=3, link_probability=0.5)
    sample = trials.sampled(stochastic, moons(), step_size=1.0, counts=[4, 9], runs=6)
    for index in range(6):
        assert_close(sample.run(index).losses, sample.losses[:, index])
    outputs = np.array([sample.run(index).outputs(np.ones((1, 2))) for index in range(6)])
    assert (outputs.std(axis=0) > 0).all()
    still = trials.sampled(Stochastic(ATC(CYCLE)), moons(), step_size=1.0, counts=[4], runs=2)
    assert_close(still.expected_losses, predict(ATC(CYCLE), moons(), step_size=1.0).after([4]).losses)


@pytest.fixture(scope="module")
def wide():
    agents, model = data.half_moons(agents=4, samples=20), models.mlp(inputs=2, widths=(512,), outputs=1)
    return agents, model, linearize(model, agents, model.init(0), accuracy=1e-3, steps=100, step_size=1.0)


@each_rule
def test_a_wide_network_trains_as_the_linear_model_says(rule, wide):
    agents, model, lin = wide
    stochastic = Stochastic(rule(CYCLE), batch=4, link_probability=0.7)
    counts, finals = [50, 100], []
    for seed in range(8):
        run = trials.train(stochastic, model, agents, lin.theta0, step_size=1.0, steps=100, seed=seed)
        linear = trials.sampled(stochastic, lin, step_size=1.0, counts=counts, runs=1, seed=seed)
        finals.append(run.losses[counts])
        # With the same draws: as near as without any.
        np.testing.assert_allclose(linear.losses[:, 0], finals[-1], rtol=3e-3)
    moments = chance.expected(stochastic, lin, step_size=1.0, counts=counts)
    scores = (finals - moments.losses) / moments.losses_std
    assert np.abs(scores.mean(axis=0)).max() < 3.5 / 8**0.5 and np.abs(scores).max() < 5


PROBLEM = affine()
LIN = linearize(PROBLEM.model, PROBLEM.agents, PROBLEM.theta0)
BOTH = Stochastic(ATC(CYCLE), batch=2, link_probability=0.5)


def run(stochastic=BOTH, model=PROBLEM.model, agents=PROBLEM.agents, theta0=PROBLEM.theta0, step_size=0.1, **options):
    return trials.train(stochastic, model, agents, theta0, **({"step_size": step_size, "steps": 1} | options))


def sample(stochastic=BOTH, lin=LIN, **options):
    return trials.sampled(stochastic, lin, **({"step_size": 0.1, "counts": [1], "runs": 2} | options))


@rejects([
    (lambda: run(ATC(CYCLE)), "stochastic must be of type Stochastic, got Method"),
    (lambda: run(Stochastic(ATC(np.eye(3)))), r"W must have shape \(4, 4\), got \(3, 3\)"),
    (lambda: run(Stochastic(ATC(CYCLE), batch=4)), "batch must be at most 3, the fewest samples of an agent, got 4"),
    (lambda: run(theta0=np.ones(2)), r"theta0 must have shape \(3,\) or \(4, 3\), got \(2,\)"),
    (lambda: run(step_size=-1), "step_size must be positive, got -1"),
    (lambda: run(steps=-1), "steps must be at least 0, got -1"),
    (lambda: run(seed=0.5), "seed must be a whole number, got 0.5"),
    (lambda: sample(ATC(CYCLE)), "stochastic must be of type Stochastic, got Method"),
    (lambda: sample(Stochastic(ATC(np.eye(3)))), r"W must have shape \(4, 4\), got \(3, 3\)"),
    (lambda: sample(Stochastic(ATC(CYCLE), batch=4)), "batch must be at most 3, the fewest samples of an agent"),
    (lambda: sample(runs=0), "runs must be at least 1, got 0"),
    (lambda: sample(step_size=NAN), "step_size must be finite"),
    (lambda: sample(counts=[0.5]), "counts must be whole numbers"),
    (lambda: sample(seed=-1), "seed must be at least 0, got -1"),
    (lambda: sample(runs=1).standard_errors, "standard errors need two runs or more, got 1"),
])  # fmt: skip
def test_bad_input(call, message):
    check(call, message)
