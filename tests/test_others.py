"""What others published: every row of the chapter's tables, and the drawing of their problems.

Problems of PyTorch's generator, step counts to the step, printed values to their last digit.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from problems import COMPLETE, CYCLE, RING, STAR, assert_close
from rejection import NAN, check, rejects

from peerflow import ATC, CTA, D2, DGD, GradientTracking, chance, heavy_ball, linearize, mixing, models, predict
from peerflow.data import random_quadratics

DATA = Path(__file__).resolve().parent.parent / "book" / "data"
TABLES = json.loads((DATA / "others.json").read_text())
RULES = {"ATC": ATC, "GradientTracking": GradientTracking, "D2": D2}
# Where their tuning looks at the error.
RECORDED = np.unique(np.logspace(0, np.log2(20000), 1000, base=2).round()).astype(int)


def rows(name):
    return [dict(zip(TABLES[name]["columns"], row, strict=True)) for row in TABLES[name]["rows"]]


def named(row):
    return "-".join(str(each) for each in row.values())


def each_row(name):
    return pytest.mark.parametrize("row", rows(name), ids=named)


def ring(n):
    return mixing.metropolis_hastings(nx.cycle_graph(n))


def graph(name, n):
    """Return W: their tree is a heap that hangs on node 0."""
    if name == "tree":
        return mixing.metropolis_hastings(nx.Graph([(k // 2, k) for k in range(1, n)]))
    return ring(n) if name == "ring" else np.full((n, n), 1 / n)


@cache
def expanded(dimension, **setting):
    """Return their problem, linearized about zero: a linear model without a bias."""
    model, theta0 = models.wrap(lambda theta, x: x @ theta, jnp.zeros((dimension, 1)))
    return linearize(model, random_quadratics(dimension=dimension, **setting), theta0)


def errors(lin, params):
    """Return f of the agents' mean less the least f, as they define f: the squared norm, over the agents."""
    x, y = lin.agents.pooled()
    optimum = np.linalg.lstsq(x, y)[0]
    return np.array([np.sum((x @ (theta.mean(0)[:, None] - optimum)) ** 2) for theta in params]) / lin.agents.size


def test_the_data_are_what_their_description_says():
    text = (DATA / "README.md").read_text()
    assert hashlib.sha256((DATA / "others.json").read_bytes()).hexdigest() in text
    with np.load(DATA / "quadratics.npz") as drawn:
        arrays = b"".join(drawn[name].tobytes() for name in ("x6", "y6", "x4", "y4"))
    assert hashlib.sha256(arrays).hexdigest() in text
    assert {name: len(table["rows"]) for name, table in TABLES.items()} == {
        "relaysgd": 124, "weights": 8, "topology": 7, "neural_tangents": 10,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("6", {"agents": 6, "heterogeneity": 1, "distance": 100, "seed": 1}),
        ("4", {"agents": 4, "heterogeneity": 0.1, "distance": 10, "seed": 0}),
    ],
)
def test_problems_are_those_that_pytorch_drew(name, setting):
    """600 numbers are not a multiple of 16, 400 are; the 10 of the optimum are drawn in another way again."""
    agents = random_quadratics(dimension=10, convexity=0.5, **setting)
    with np.load(DATA / "quadratics.npz") as drawn:
        assert_close(agents.x, drawn[f"x{name}"])
        assert_close(agents.y, drawn[f"y{name}"])


@pytest.mark.parametrize("dimension", [1, 3, 17])
@pytest.mark.parametrize("heterogeneity", [0, 0.01, 1, 40])
def test_random_quadratics_have_what_they_are_asked_for(dimension, heterogeneity):
    agents = random_quadratics(
        agents=5, dimension=dimension, heterogeneity=heterogeneity, distance=3, convexity=0.2, seed=7
    )
    singular = np.linspace(1, 0.2, dimension) if dimension > 1 else [0.2]
    assert_close(np.linalg.svd(agents.x, compute_uv=False), np.tile(singular, (5, 1)))
    optimum = np.linalg.lstsq(*agents.pooled())[0]
    assert np.linalg.norm(optimum) == pytest.approx(3)
    gradients = agents.x.transpose(0, 2, 1) @ (agents.x @ optimum - agents.y)
    assert abs(np.mean(np.sum(gradients**2, axis=(1, 2))) - heterogeneity) <= 1.001e-5
    again = random_quadratics(
        agents=5, dimension=dimension, heterogeneity=heterogeneity, distance=3, convexity=0.2, seed=8
    )
    assert not np.allclose(agents.y, again.y)


@each_row("relaysgd")
def test_steps_to_one_in_a_million(row):
    """Of what is looked at, the first step below, or that at whose end the last three lie within 1e-8 of their mean."""
    setting = {key: row[key] for key in ("agents", "heterogeneity", "distance", "seed")}
    lin = expanded(10, convexity=0.5, **setting)
    # Their gradient is not divided by the 10 rows.
    dynamics = predict(RULES[row["method"]](graph(row["graph"], row["agents"])), lin, step_size=10 * row["used"])
    # Few lengths, so that it compiles a few times.
    counts = RECORDED[min(most for most in (250, 2500, 10**4) if most >= row["steps"]) >= RECORDED]
    seen = errors(lin, dynamics.after(counts).params)
    if row["until"] == "error":
        reached = seen < 1e-6
    else:
        last = np.stack([seen[:-2], seen[1:-1], seen[2:]])
        flat = np.abs(last - last.mean(0)).max(0) < 1e-8
        reached = np.concatenate([[False, False], flat & (last.mean(0) < 1e-6)])
    assert counts[reached][0] == row["steps"]


@each_row("weights")
def test_errors_by_the_weight_of_a_neighbour(row):
    """They stop where the error is below 1e-12; it is a difference of two values of about 1.6."""
    one, w = np.eye(32), row["weight"]
    W = (1 - 2 * w) * one + w * (np.roll(one, 1, axis=0) + np.roll(one, -1, axis=0))
    lin = expanded(100, agents=32, heterogeneity=1, distance=10, convexity=0.01, seed=3)
    dynamics = predict(RULES[row["method"]](W), lin, step_size=100 * 0.1)
    seen = errors(lin, dynamics.after(np.arange(0, 1000, 5)).params)
    end = np.append(np.flatnonzero(seen < 1e-12), 199)[0]
    assert seen[end] == pytest.approx(row["error"], rel=0, abs=1e-14)


N = 32
ONE = np.eye(N)
TOPOLOGIES = {
    "none": ONE,
    "ring": ring(N),
    "torus": mixing.metropolis_hastings(nx.circulant_graph(N, [1, 8])),
    "hypercube": mixing.metropolis_hastings(nx.hypercube_graph(5)),
    "one-peer exponential": [(ONE + np.roll(ONE, -(2**j), axis=0)) / 2 for j in range(5)],
    "star": mixing.metropolis_hastings(nx.star_graph(N - 1)),
    "complete": np.full((N, N), 1 / N),
}
GRID = np.logspace(-3, 0, 100)


@each_row("topology")
def test_best_rates_and_neighbours(row):
    W = TOPOLOGIES[row["graph"]]
    rates = [chance.isotropic_rate(ATC(W), step_size=eta, zeta=50) for eta in GRID]
    assert GRID[np.argmax(rates)] == pytest.approx(row["learning_rate"], rel=0, abs=5.0001e-5)
    # On a star their formula takes the worst agent's variance for everybody's: see below.
    published = 0.0590 if row["graph"] == "star" else row["rate"]
    assert max(rates) == pytest.approx(published, rel=0, abs=5.0001e-5)
    if row["neighbours"] is not None:
        assert mixing.effective_neighbours(W, decay=0.951) == pytest.approx(row["neighbours"], rel=0, abs=5.0001e-4)


def by_formula(W, eta, zeta, which):
    """Return their fixed point r = 1 - (1 - eta)^2 - (zeta - 1) eta^2 / n, by the variance that ``which`` takes."""
    values, vectors = np.linalg.eigh(W)
    r = 0.0
    for _ in range(1000):
        gamma = (1 - eta) ** 2 / (1 - r)
        if not gamma < 1:
            return -np.inf
        variances = np.diag(vectors * (values**2 / (1 - gamma * values**2)) @ vectors.T)
        r = 1 - (1 - eta) ** 2 - (zeta - 1) * eta**2 * (1 - gamma) * which(variances)
    return r


def test_the_star_s_rate_by_their_formula_is_a_bound():
    W, (row,) = TOPOLOGIES["star"], [row for row in rows("topology") if row["graph"] == "star"]
    bounds = [by_formula(W, eta, 50, np.max) for eta in GRID]
    assert max(bounds) == pytest.approx(row["rate"], rel=0, abs=5.0001e-5)
    exact = chance.isotropic_rate(ATC(W), step_size=GRID[np.argmax(bounds)], zeta=50)
    assert exact > max(bounds)


@pytest.mark.parametrize("name", ["ring", "torus", "hypercube"])
def test_where_all_agents_are_alike_their_formula_is_exact(name):
    for eta in (0.02, 0.08):
        exact = chance.isotropic_rate(ATC(TOPOLOGIES[name]), step_size=eta, zeta=50)
        assert by_formula(TOPOLOGIES[name], eta, 50, np.max) == pytest.approx(exact, rel=1e-9)


MATRICES = {
    "cycle": CYCLE, "star": STAR, "complete": COMPLETE, "ring": RING, "alone": np.eye(1),
    "varies": [STAR, RING, np.eye(4)],
}  # fmt: skip


@pytest.mark.parametrize("W", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("rule", [DGD, ATC, CTA], ids=lambda rule: rule.name)
@pytest.mark.parametrize(("eta", "zeta"), [(0.1, 5.0), (0.9, 2.0), (1.0, 1.0), (0.3, 50.0)])
def test_isotropic_rate_is_the_radius_of_the_whole_map(rule, W, eta, zeta):
    """The map of all Q^2 inner products, by Kronecker products: y = C x, then W x - eta B D y."""
    several = W if isinstance(W, list) else [W]
    Q = len(several[0])
    own = np.diag(np.eye(Q).reshape(-1))
    whole = np.eye(Q**2)
    for each in several:
        B, C = {"DGD": (np.eye(Q), np.eye(Q)), "ATC": (each, np.eye(Q)), "CTA": (np.eye(Q), each)}[rule.name]
        mean = each - eta * B @ C
        noise = eta**2 * (zeta - 1) * np.kron(B, B) @ own @ np.kron(C, C)
        whole = (np.kron(mean, mean) + noise) @ whole
    radius = np.abs(np.linalg.eigvals(whole)).max() ** (1 / len(several))
    rate = chance.isotropic_rate(rule(W), step_size=eta, zeta=zeta)
    # Where the radius is zero, that of a matrix with rounding is not.
    assert rate == pytest.approx(1 - radius, abs=1e-3 if radius < 1e-3 else 1e-8)
    glob = chance.isotropic_rate(rule(W, objective="global"), step_size=eta * Q, zeta=zeta)
    assert glob == pytest.approx(rate, abs=1e-10)


def test_isotropic_rate_of_gaussian_directions(rng):
    """Half a million pairs of agents, one step: inner products as the map has them, with zeta = N + 2."""
    runs, size, eta = 500_000, 3, 0.3
    W = np.array([[0.8, 0.2], [0.2, 0.8]])
    start = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]])
    d = rng.normal(size=(runs, 2, size))
    after = W @ (start - eta * d * (d * start).sum(-1, keepdims=True))
    C = start @ start.T
    expected = W @ ((1 - eta) ** 2 * C + eta**2 * (size + 1) * np.diag(np.diag(C))) @ W.T
    assert_close(np.einsum("kqn,ksn->qs", after, after) / runs, expected, tolerance=0.01)


def test_alone_the_rate_is_a_formula():
    for eta, zeta in ((0.1, 5.0), (0.02, 50.0), (0.5, 50.0)):
        assert chance.isotropic_rate(ATC(np.eye(3)), step_size=eta, zeta=zeta) == pytest.approx(2 * eta - zeta * eta**2)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.951])
@pytest.mark.parametrize("W", [each for name, each in MATRICES.items() if name != "varies"])
def test_effective_neighbours_are_those_of_the_walk(W, decay):
    """The covariance of the walk, summed term by term."""
    covariance, power, Q = np.zeros_like(W), W, len(W)
    for k in range(2000):
        covariance, power = covariance + decay**k * power @ power.T, W @ power
    expected = 1 / ((1 - decay) * np.trace(covariance) / Q)
    assert mixing.effective_neighbours(W, decay=decay) == pytest.approx(expected)


def test_effective_neighbours_where_W_varies():
    """The mean variance over a period, from a walk of many steps."""
    covariance, variances = np.zeros((4, 4)), []
    for k in range(3000):
        W = MATRICES["varies"][k % 3]
        covariance = W @ (0.9 * covariance + np.eye(4)) @ W.T
        variances.append(np.trace(covariance) / 4)
    expected = 1 / (0.1 * np.mean(variances[-3:]))
    assert mixing.effective_neighbours(MATRICES["varies"], decay=0.9) == pytest.approx(expected)
    assert mixing.effective_neighbours([CYCLE], decay=0.9) == mixing.effective_neighbours(CYCLE, decay=0.9)


def test_nobody_and_everybody():
    assert mixing.effective_neighbours(np.eye(5), decay=0.3) == pytest.approx(1)
    assert mixing.effective_neighbours(np.full((5, 5), 0.2), decay=0.3) == pytest.approx(5)
    sparse = mixing.metropolis_hastings(nx.cycle_graph(6), sparse=True)
    assert mixing.effective_neighbours(sparse, decay=0.9) == pytest.approx(
        mixing.effective_neighbours(sparse.toarray(), decay=0.9)
    )


SOME = {"agents": 4, "dimension": 3, "heterogeneity": 1, "distance": 1, "convexity": 0.5}


@rejects(
    [
        (lambda: random_quadratics(**SOME | {"agents": 1}), "agents must be at least 2, got 1"),
        (lambda: random_quadratics(**SOME | {"dimension": 0}), "dimension must be at least 1, got 0"),
        (lambda: random_quadratics(**SOME | {"heterogeneity": -1}), "heterogeneity must not be negative"),
        (lambda: random_quadratics(**SOME | {"distance": 0}), "distance must be positive"),
        (lambda: random_quadratics(**SOME | {"convexity": 1}), "convexity must be below 1, got 1"),
        (lambda: random_quadratics(**SOME | {"convexity": NAN}), "convexity"),
        (lambda: random_quadratics(**SOME, seed=-1), "seed"),
        (lambda: mixing.effective_neighbours(CYCLE, decay=1.0), "decay must be below 1, got 1"),
        (lambda: mixing.effective_neighbours(CYCLE, decay=-0.1), "decay must not be negative"),
        (lambda: mixing.effective_neighbours(2 * CYCLE, decay=0.5), "W must be doubly stochastic"),
        (lambda: chance.isotropic_rate(CYCLE, step_size=0.1, zeta=5), "method must be of type Method"),
        (lambda: chance.isotropic_rate(D2(CYCLE), step_size=0.1, zeta=5), "remembers nothing, got D2"),
        (lambda: chance.isotropic_rate(heavy_ball(ATC, 0.5)(CYCLE), step_size=0.1, zeta=5), "remembers nothing"),
        (lambda: chance.isotropic_rate(ATC(CYCLE), step_size=0.0, zeta=5), "step_size must be positive"),
        (lambda: chance.isotropic_rate(ATC(CYCLE), step_size=0.1, zeta=0.5), "zeta must be at least 1, got 0.5"),
    ]
)
def test_bad_input(call, message):
    check(call, message)
