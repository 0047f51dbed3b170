"""Splits of a pool, and what they do: by their definitions, by plain numpy, and by where the iteration ends."""

import networkx as nx
import numpy as np
import pytest
from problems import AGENTS, CYCLE, RING, assert_close
from rejection import NAN, check

from peerflow import ATC, CTA, DGD, AugDGM, ExactDiffusion, GradientTracking, data, heavy_ball, mixing, models, predict
from peerflow.linearize import linearize
from peerflow.splits import bias, by_label, by_shard, by_size, gradients, heterogeneity, optimum, split

LABELS = np.repeat(np.arange(5), 40)
X = np.arange(200.0).reshape(200, 1)
ONE_HOT = np.eye(5)[LABELS]
SEEDS = range(8)


def shares(agents):
    """Return how many samples of each label each agent holds, (agents, labels)."""
    return np.array([each.sum(axis=0) for each in agents.y])


@pytest.mark.parametrize("rule", [by_label(0.3), by_size(0.3), by_shard(2)])
def test_every_sample_has_one_owner_and_no_agent_has_none(rule):
    for seed in SEEDS:
        agents = split(X, ONE_HOT, rule, agents=8, seed=seed)
        x, y = agents.pooled()
        assert agents.counts.min() >= 1 and agents.size == 8
        assert (np.sort(x[:, 0]) == X[:, 0]).all() and (y.argmax(axis=1) == LABELS[x[:, 0].astype(int)]).all()
        again = split(X, ONE_HOT, rule, agents=8, seed=seed)
        assert all((one == other).all() for one, other in zip(agents.x, again.x, strict=True))
    assert not np.array_equal(agents.x[0], split(X, ONE_HOT, rule, agents=8, seed=0).x[0])


def test_labels_are_shared_out_in_dirichlet_s_proportions():
    """With a = alpha and A = Q a, a share has mean 1/Q and variance (1/Q)(1 - 1/Q)/(A + 1)."""
    x, y = np.zeros((4000, 1)), np.eye(20)[np.repeat(np.arange(20), 200)]
    for alpha in (0.5, 5.0):
        some = np.concatenate([shares(split(x, y, by_label(alpha), agents=4, seed=seed)) for seed in SEEDS]) / 200
        assert_close(some.mean(), 0.25)
        assert some.var() == pytest.approx(0.25 * 0.75 / (4 * alpha + 1), rel=0.15)


def test_sizes_alone_differ_or_labels_alone():
    sizes = np.concatenate(
        [split(np.zeros((800, 1)), np.zeros((800, 1)), by_size(2.0), agents=4, seed=s).counts / 800 for s in range(50)]
    )
    assert sizes.var() == pytest.approx(0.25 * 0.75 / 9, rel=0.3)
    for seed in SEEDS:
        agents = split(X, ONE_HOT, by_size(1.0), agents=2, seed=seed, least=40)
        mixed = shares(agents) / agents.counts[:, None]
        assert agents.counts.min() >= 40 and abs(mixed - 0.2).max() < 0.2
        agents = split(X, ONE_HOT, by_shard(2), agents=10, seed=seed)
        assert (agents.counts == 20).all() and ((shares(agents) > 0).sum(axis=1) <= 2).all()


def test_shards_that_do_not_come_out_even_differ_by_one():
    counts = split(X[:199], ONE_HOT[:199], by_shard(1), agents=6, seed=0).counts
    assert sorted(counts) == [33] * 5 + [34]


def test_labels_may_be_other_than_targets_and_a_rule_one_s_own():
    y = np.sin(X)
    agents = split(X, y, by_shard(1), agents=5, seed=0, labels=LABELS, weigh="samples")
    assert sorted(each[0, 0] // 40 for each in agents.x) == [0, 1, 2, 3, 4] and agents.weigh == "samples"
    agents = split(X, y, lambda labels, agents, rng: np.arange(200) % agents, agents=3, seed=0)
    assert_close(agents.x[1], X[1::3], tolerance=0)


def least_squares(weigh="agents"):
    """Return unequal agents' least squares, and every agent's matrix and targets with its own weight."""
    rng = np.random.default_rng(2)
    counts = (6, 9, 4, 7)
    xs, ys = ([rng.normal(size=(count, size)) for count in counts] for size in (3, 2))
    model = models.affine(inputs=3, outputs=2)
    lin = linearize(model, data.AgentData(xs, ys, weigh=weigh), model.init(0))
    return lin, [np.column_stack([x, np.ones(len(x))]) for x in xs], ys


@pytest.mark.parametrize("weigh", ["agents", "samples"])
def test_optimum_and_heterogeneity_are_those_of_normal_equations(weigh):
    lin, matrices, ys = least_squares(weigh)
    p = np.array([len(y) for y in ys]) / 26 if weigh == "samples" else np.full(4, 1 / 4)
    left = sum(weight / len(y) * A.T @ A for weight, A, y in zip(p, matrices, ys, strict=True))
    right = sum(weight / len(y) * A.T @ y for weight, A, y in zip(p, matrices, ys, strict=True))
    best = np.linalg.solve(left, right)
    # With one output after the other, the affine model scales nothing: its gradients are these in another order.
    each = [4 * w / len(y) * A.T @ (A @ best - y) for w, A, y in zip(p, matrices, ys, strict=True)]
    assert_close(heterogeneity(lin), np.mean([(one**2).sum() for one in each]))
    assert_close(np.linalg.norm(gradients(lin), axis=1), [np.linalg.norm(one) for one in each])
    assert np.abs(gradients(lin).sum(axis=0)).max() < 1e-12
    outputs = lin.outputs0[0, :12] + lin.features[0, :12] @ optimum(lin)
    assert_close(outputs.reshape(6, 2), matrices[0] @ best)


def test_heterogeneity_is_what_random_quadratics_are_asked_for():
    agents = data.random_quadratics(agents=4, dimension=6, heterogeneity=0.5, distance=1.0, convexity=0.3)
    model, theta0 = models.wrap(lambda params, x: x @ params, np.zeros((6, 1)))
    assert heterogeneity(linearize(model, agents, theta0)) * 36 == pytest.approx(0.5, abs=1e-4)


def test_a_model_that_fits_everything_knows_no_heterogeneity():
    agents = data.half_moons(agents=AGENTS, samples=3, seed=0)
    model = models.mlp(inputs=2, widths=(32,), outputs=1, activation="erf", w_std=3.0)
    assert heterogeneity(linearize(model, agents, model.init(0))) < 1e-12


RULES = (DGD, ATC, CTA, heavy_ball(CTA, 0.5), heavy_ball(ATC, 0.5))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize(
    ("W", "weigh", "objective"), [(CYCLE, "agents", "local"), (RING, "samples", "global")], ids=["cycle", "ring"]
)
def test_the_bias_is_the_fixed_point_s_to_first_order(rule, W, weigh, objective):
    lin, _, _ = least_squares(weigh)
    method, off = rule(W, objective=objective), []
    for step_size in (4e-3, 2e-3):
        ends = predict(method, lin, step_size=step_size).fixed_point().coefficients
        got = bias(method, lin, step_size=step_size).coefficients
        assert np.abs(ends - got).max() < 0.1 * np.abs(got - optimum(lin)).max()
        off.append(np.abs(ends - got).max())
    assert off[0] / off[1] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("rule", [GradientTracking, AugDGM, ExactDiffusion], ids=lambda rule: rule.name)
def test_methods_without_bias_end_at_the_optimum(rule):
    lin, _, _ = least_squares()
    ends = bias(rule(CYCLE), lin, step_size=0.1)
    assert_close(ends.coefficients, np.tile(optimum(lin), (1, AGENTS, 1)))
    assert_close(ends.global_losses, predict(rule(CYCLE), lin, step_size=0.1).after([10**5]).global_losses)


def test_what_is_refused():
    def asked(x=X, y=ONE_HOT, rule=None, **changed):
        return lambda: split(x, y, rule or by_label(1.0), **({"agents": 4, "seed": 0} | changed))

    check(lambda: by_label(0), "alpha must be positive, got 0.0")
    check(lambda: by_size(NAN), "alpha must be finite, got nan")
    check(lambda: by_shard(0), "shards must be at least 1, got 0")
    check(asked(y=ONE_HOT[:-1]), r"y must have shape \(200, outputs\), got \(199, 5\)")
    check(asked(labels=LABELS[:-1]), r"labels must have shape \(200\), got \(199,\)")
    check(asked(agents=0), "agents must be at least 1, got 0")
    check(asked(agents=201), "201 agents with at least 1 samples need 201, got a pool of 200")
    check(asked(seed=-1), "seed must be at least 0")
    check(asked(least=0), "least must be at least 1")
    check(asked(rule=by_size(0.01), agents=40), "every agent 1 samples or more, got fewer in each of 1000 draws")
    check(asked(rule=by_shard(51)), "4 agents with 51 shards need as many samples, got 200")
    check(asked(rule=lambda labels, agents, rng: labels), "owners must be whole numbers from 0 to 3, got 0 to 4")
    check(asked(rule=lambda labels, agents, rng: labels / 5), "owners must be whole numbers")
    check(asked(rule=lambda labels, agents, rng: [0]), r"owners must have shape \(200\), got \(1,\)")
    check(asked(weigh="everybody"), "weigh must be one of")
    lin, _, _ = least_squares()
    check(lambda: bias(DGD(np.eye(3)), lin, step_size=0.1), r"W must have shape \(4, 4\), got \(3, 3\)")
    check(lambda: bias(DGD(np.eye(4)), lin, step_size=0.1), "W must connect all agents")
    check(lambda: bias(DGD(mixing.every(2, CYCLE)), lin, step_size=0.1), "W must have shape")
    check(lambda: bias(DGD(CYCLE), lin, step_size=0), "step_size must be positive")
    check(lambda: heterogeneity("lin"), "lin must be of type Linearization, got str")
    assert bias(DGD(mixing.metropolis_hastings(nx.cycle_graph(4), sparse=True)), lin, step_size=0.1).losses.shape
