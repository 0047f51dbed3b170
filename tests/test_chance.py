"""Expected losses and spreads: against all outcomes one by one, many plain runs, limits, and real training."""

import itertools
from functools import cache

import networkx as nx
import numpy as np
import pytest
import reference
import scipy.sparse
from problems import CYCLE, RING, affine, agent_data, assert_close, unequal_data
from rejection import NAN, check, rejects

from peerflow import chance, data, mixing, models
from peerflow.draws import Stochastic
from peerflow.flows import predict
from peerflow.linearize import linearize
from peerflow.methods import ATC, CTA, DGD

RULES = [DGD, ATC, CTA]
COUNTS = [7, 0, 2, 1]
# (batch, link probability)
CHANCES = {"batch": (2, 1.0), "links": (None, 0.7), "both": (2, 0.7), "one": (1, 0.3), "alone": (2, 0.0)}
each_rule = pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
each_chance = pytest.mark.parametrize("what", CHANCES)


PATH = mixing.metropolis_hastings(nx.path_graph(3))


def small(outputs=1, counts=(3, 3, 3), weigh="agents"):
    """Return the linear model of three agents, and their Jacobians and errors at the start as plain arrays."""
    agents = unequal_data(outputs=outputs, counts=counts, weigh=weigh)
    model = models.affine(inputs=2, outputs=outputs)
    theta0 = np.random.default_rng(1).normal(size=model.size)
    lin = linearize(model, agents, theta0)
    jacobians = [reference.jacobian(lambda t, x=x: reference.affine(t, x, outputs=outputs), theta0) for x in agents.x]
    errors = [
        reference.affine(theta0, x, outputs=outputs).ravel() - y.ravel()
        for x, y in zip(agents.x, agents.y, strict=True)
    ]
    return lin, jacobians, errors


def fates(W, p):
    """Yield every set of links that may be alive as its W, with its probability."""
    links = [(i, j) for i in range(len(W)) for j in range(i) if W[i, j]]
    for alive in itertools.product([False, True], repeat=len(links)):
        Wk = np.array(W)
        for (i, j), carries in zip(links, alive, strict=True):
            if not carries:
                Wk[i, i], Wk[j, j], Wk[i, j], Wk[j, i] = Wk[i, i] + W[i, j], Wk[j, j] + W[i, j], 0, 0
        yield Wk, np.prod([p if carries else 1 - p for carries in alive])


def outcomes(name, W, jacobians, errors, gains, batch, p, outputs):
    """Yield every affine step that may be drawn, in all parameters and a constant one, with its probability."""
    P = jacobians[0].shape[1]
    size = len(W) * P
    picks = [list(itertools.combinations(range(len(e) // outputs), batch or len(e) // outputs)) for e in errors]
    for Wk, likely in fates(W, p):
        mix = np.kron(Wk, np.eye(P))
        for taken in itertools.product(*picks):
            slope, constant = np.zeros((size, size)), np.zeros(size)
            for q, samples in enumerate(taken):
                rows = [outputs * i + m for i in samples for m in range(outputs)]
                J, at = jacobians[q][rows], slice(q * P, q * P + P)
                slope[at, at] = gains[q] / len(samples) * J.T @ J
                constant[at] = gains[q] / len(samples) * J.T @ errors[q][rows]
            A, u = {
                "DGD": (mix - slope, -constant),
                "ATC": (mix - mix @ slope, -mix @ constant),
                "CTA": (mix - slope @ mix, -constant),
            }[name]
            yield (
                np.block([[A, u[:, None]], [np.zeros((1, size)), np.ones((1, 1))]]),
                likely / np.prod([*map(len, picks)]),
            )


def second_moment(steps, counts):
    """Return E [z 1][z 1]^T after these numbers of steps: the average over all outcomes of every step."""
    size = len(steps[0][0])
    S = np.zeros((size, size))
    S[-1, -1] = 1
    history = [S]
    for _ in range(max(counts)):
        history.append(sum(likely * step @ history[-1] @ step.T for step, likely in steps))
    return np.array(history)[counts]


@each_rule
@pytest.mark.parametrize(
    ("options", "objective"),
    [({}, "local"), ({"outputs": 2}, "global"), ({"counts": (3, 2, 4), "weigh": "samples"}, "local")],
    ids=["equal", "two outputs", "unequal"],
)
@each_chance
def test_moments_are_those_of_all_outcomes(rule, options, objective, what):
    (batch, p), outputs, eta = CHANCES[what], options.get("outputs", 1), 0.3
    lin, jacobians, errors = small(**options)
    W = PATH
    Q, P, agents = len(W), jacobians[0].shape[1], lin.agents
    gains = eta * agents.gains / (Q if objective == "global" else 1)
    steps = list(outcomes(rule.name, W, jacobians, errors, gains, batch, p, outputs))
    assert abs(sum(likely for _, likely in steps) - 1) < 1e-12
    S = second_moment(steps, COUNTS)
    stochastic = Stochastic(rule(W, objective=objective), batch=batch, link_probability=p)
    moments = chance.expected(stochastic, lin, step_size=eta, counts=COUNTS)
    means = S[:, :-1, -1].reshape(len(COUNTS), Q, P)
    blocks = S[:, :-1, :-1].reshape(len(COUNTS), Q, P, Q, P)
    own = np.stack([blocks[:, q, :, q] - means[:, q, :, None] * means[:, q, None] for q in range(Q)], axis=1)

    def loss(q, of):
        J, e = jacobians[of], errors[of]
        second = own[:, q] + means[:, q, :, None] * means[:, q, None]
        return (np.einsum("ki,tij,kj->t", J, second, J) + 2 * means[:, q] @ J.T @ e + e @ e) / (2 * agents.counts[of])

    assert_close(moments.mean.params, means + lin.theta0)
    assert_close(moments.losses, np.transpose([loss(q, q) for q in range(Q)]))
    total = [sum(weight * loss(q, of) for of, weight in enumerate(agents.weights)) for q in range(Q)]
    assert_close(moments.global_losses, np.transpose(total))
    variances = np.einsum("tqii->tqi", own)
    assert_close(moments.params_std**2, variances)
    x = np.array([[0.5, -1.0], [2.0, 0.0]])
    J = reference.jacobian(lambda t: reference.affine(t, x, outputs=outputs), lin.theta0)
    spread = moments.outputs(x)
    assert_close(spread.std**2, np.einsum("ki,tqij,kj->tqk", J, own, J).reshape(spread.std.shape))
    assert_close(spread.mean, moments.mean.outputs(x))
    assert (moments.covariances[1] == 0).all() and moments.covariances[0].max() > 0


def plain_runs(name, W, x, y, theta0, step_size, batch, p, runs, steps, seed):
    """Yield all parameters (runs, agents, params) of many affine runs, all drawn anew, in numpy."""
    rng = np.random.default_rng(seed)
    Q, D = x.shape[:2]
    X = np.concatenate([x, np.ones((Q, D, 1))], axis=-1)
    theta = np.tile(theta0, (runs, Q, 1))
    links = np.argwhere(np.triu(W, 1))
    for _ in range(steps):
        yield theta
        Wk = np.tile(np.eye(Q), (runs, 1, 1))
        for i, j in links:
            a = W[i, j] * (rng.random(runs) < p)
            for one, other, sign in ((i, i, -1), (j, j, -1), (i, j, 1), (j, i, 1)):
                Wk[:, one, other] += sign * a
        order = rng.permuted(np.tile(np.arange(D), (runs, Q, 1)), axis=-1)
        shares = (order < (batch or D)) / (batch or D)

        def gradient(at, shares=shares):
            return np.einsum("qdp,rqd->rqp", X, shares * (np.einsum("qdp,rqp->rqd", X, at) - y[..., 0]))

        if name == "DGD":
            theta = Wk @ theta - step_size * gradient(theta)
        elif name == "ATC":
            theta = Wk @ (theta - step_size * gradient(theta))
        else:
            theta = Wk @ theta - step_size * gradient(Wk @ theta)
    yield theta


RUNS, STEPS = 10_000, 40
WHEEL = mixing.metropolis_hastings(nx.wheel_graph(5))


@cache
def many(rule, what, step_size, seed):
    """Return the mean and deviation of the losses (steps + 1, agents) of 10^4 plain runs, and the moments."""
    batch, p = CHANCES[what]
    agents, theta0 = agent_data(agents=5, samples=5), np.zeros(3)
    mean, std = [], []
    for theta in plain_runs(rule.name, WHEEL, agents.x, agents.y, theta0, step_size, batch, p, RUNS, STEPS, seed):
        errors = np.einsum("qdn,rqn->rqd", agents.x, theta[..., :2]) + theta[..., 2:] - agents.y[..., 0]
        losses = (errors**2).sum(axis=-1) / 2 / 5
        mean.append(losses.mean(axis=0))
        std.append(losses.std(axis=0, ddof=1))
    lin = linearize(models.affine(inputs=2, outputs=1), agents, theta0)
    stochastic = Stochastic(rule(WHEEL), batch=batch, link_probability=p)
    moments = chance.expected(stochastic, lin, step_size=step_size, counts=np.arange(STEPS + 1))
    return np.array(mean), np.array(std), moments


three = pytest.mark.parametrize("what", ["batch", "links", "both"])


@each_rule
@three
def test_expected_losses_are_the_averages_of_plain_runs(rule, what):
    seed = RULES.index(rule) + 3 * ["batch", "links", "both"].index(what)
    mean, std, moments = many(rule, what, 0.2, seed)
    away = np.abs(moments.losses - mean) / (std / RUNS**0.5).clip(min=1e-12)
    # From the second step on all agents' losses are random. The interval holds 99 %, of times that are not independent.
    assert (away[2:] < 2.576).mean() >= 0.95
    assert away[2:].max() < 5
    assert np.abs(moments.losses - moments.mean.losses)[2:].max() > 3 * (std / RUNS**0.5).max()


@each_rule
@three
def test_small_losses_spreads_are_those_of_gaussian_parameters(rule, what):
    _, std, moments = many(rule, what, 0.05, 0)
    assert np.abs(moments.losses_std / std.clip(min=1e-12) - 1)[5:].max() < 0.1


@each_rule
def test_without_chance_moments_are_the_prediction(rule):
    lin, *_ = small()
    for batch in (None, 3):
        moments = chance.expected(Stochastic(rule(PATH), batch=batch), lin, step_size=0.3, counts=COUNTS)
        assert_close(moments.losses, predict(rule(PATH), lin, step_size=0.3).after(COUNTS).losses)
        assert (moments.covariances == 0).all()


@each_rule
@pytest.mark.parametrize("batch", [None, 2])
def test_without_links_agents_are_alone(rule, batch):
    lin, *_ = small()
    moments = chance.expected(
        Stochastic(rule(PATH), batch=batch, link_probability=0), lin, step_size=0.3, counts=COUNTS
    )
    alone = chance.expected(Stochastic(rule(np.eye(3)), batch=batch), lin, step_size=0.3, counts=COUNTS)
    assert_close(moments.mean.params, predict(rule(np.eye(3)), lin, step_size=0.3).after(COUNTS).params)
    assert_close(moments.losses, alone.losses)
    assert_close(moments.covariances, alone.covariances)


@each_rule
def test_a_matrix_that_is_not_symmetric_or_sparse(rule):
    problem = affine()
    lin = linearize(problem.model, problem.agents, problem.theta0)
    ring = chance.expected(Stochastic(rule(RING), batch=2), lin, step_size=0.1, counts=[9])
    assert_close(ring.mean.losses, predict(rule(RING), lin, step_size=0.1).after([9]).losses)
    assert (ring.losses > ring.mean.losses).all()
    dense, sparse = (
        chance.expected(Stochastic(rule(W), batch=2, link_probability=0.5), lin, step_size=0.1, counts=[9])
        for W in (CYCLE, scipy.sparse.csr_array(CYCLE))
    )
    assert_close(sparse.losses, dense.losses)


def test_common_samples_make_common_means_and_own_batches():
    """All agents hold the same and average at once: their mean's variance is 1/Q of one agent's, at the first step."""
    x, y = (np.tile(each[:1], (8, 1, 1)) for each in (agent_data().x, agent_data().y))
    lin = linearize(models.affine(inputs=2, outputs=1), data.AgentData(x, y), np.ones(3))
    alone, together = (
        chance.expected(Stochastic(ATC(W), batch=1), lin, step_size=0.1, counts=[1]).covariances
        for W in (np.eye(8), np.full((8, 8), 1 / 8))
    )
    assert_close(together, alone / 8)


def test_an_interpolating_network_has_no_noise_floor():
    """Where all errors can vanish, the noise does with them: it is made of errors."""
    stochastic = Stochastic(ATC(CYCLE), batch=1, link_probability=0.5)
    for inputs, floor in ((40, False), (2, True)):  # for eight samples in all
        agents, model = agent_data(inputs, agents=4, samples=2), models.affine(inputs=inputs, outputs=1)
        lin = linearize(model, agents, np.zeros(inputs + 1))
        moments = chance.expected(stochastic, lin, step_size=0.02, counts=[0, 3000])
        assert (moments.losses[1] > 1e-9 * moments.losses[0]).all() == floor
        assert (moments.covariances[1].max() > 1e-9) == floor


def test_fewer_directions_are_enough():
    model = models.mlp(inputs=2, widths=(256,), outputs=1)
    agents, theta0 = data.half_moons(agents=4, samples=20), model.init(0)
    stochastic = Stochastic(ATC(CYCLE), batch=4, link_probability=0.6)
    lins = [
        linearize(model, agents, theta0, **some) for some in ({}, {"accuracy": 0.01, "steps": 60, "step_size": 1.0})
    ]
    assert lins[1].rank < lins[0].rank / 3
    whole, few = (chance.expected(stochastic, lin, step_size=1.0, counts=[60]) for lin in lins)
    np.testing.assert_allclose(few.losses, whole.losses, rtol=1e-4)
    np.testing.assert_allclose(few.losses_std, whole.losses_std, rtol=1e-3)


def test_an_overflow_is_an_answer_and_no_warning():
    lin, *_ = small()
    moments = chance.expected(Stochastic(DGD(PATH), batch=1), lin, step_size=1e3, counts=[200])
    assert not np.isfinite(moments.losses).any() and not np.isfinite(moments.losses_std).any()


LIN = small()[0]
ATOMS = Stochastic(ATC(PATH), batch=2)


def foresee(stochastic=ATOMS, lin=LIN, step_size=0.1, counts=(1,)):
    return chance.expected(stochastic, lin, step_size=step_size, counts=counts)


@rejects([
    (lambda: foresee(ATC(PATH)), "stochastic must be of type Stochastic, got Method"),
    (lambda: foresee(lin=None), "lin must be of type Linearization, got NoneType"),
    (lambda: foresee(Stochastic(ATC(CYCLE))), r"W must have shape \(3, 3\), got \(4, 4\)"),
    (lambda: foresee(Stochastic(ATC(PATH), batch=4)), "batch must be at most 3, the fewest samples of an agent, got 4"),
    (lambda: foresee(step_size=0), "step_size must be positive, got 0"),
    (lambda: foresee(step_size=NAN), "step_size must be finite"),
    (lambda: foresee(counts=[-1]), "counts must not be negative"),
    (lambda: foresee(counts=[0.5]), "counts must be whole numbers"),
    (lambda: foresee().outputs(np.ones((1, 3))), r"x must have shape \(n, 2\), got \(1, 3\)"),
])  # fmt: skip
def test_bad_input(call, message):
    check(call, message)


def test_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(chance, "_HELD", 3 * 3 * 9 * 2)
    foresee(counts=range(6))
    message = (
        "covariances must have 162 numbers or less, got 3 agents in (3|6) directions at . counts: .* trials.sampled"
    )
    check(lambda: foresee(counts=range(7)), message)
    check(lambda: foresee(lin=small(outputs=2)[0]), message)
