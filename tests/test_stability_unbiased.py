"""Step-size limits of methods that remember: one per cent on either side of them, and in closed form."""

from functools import cache

import networkx as nx
import numpy as np
import pytest
import reference
import scipy.linalg
from problems import AGENTS, CYCLE, RING, assert_close
from rejection import check
from test_stability import from_features, random_blocks
from test_unbiased import METHODS, MINE, MOMENTUM, UNBIASED

from peerflow import data, models, stability
from peerflow.flows import predict
from peerflow.linearize import linearize
from peerflow.methods import ATC, CTA, DGD
from peerflow.mixing import every, metropolis_hastings
from peerflow.training import train

GRAPHS = {
    "cycle": nx.cycle_graph(5),
    "star": nx.star_graph(4),
    "path": nx.path_graph(4),
    "complete": nx.complete_graph(4),
    "ladder": nx.ladder_graph(3),
    "barbell": nx.barbell_graph(3, 0),
}
MATRICES = {name: metropolis_hastings(graph) for name, graph in GRAPHS.items()} | {"one way": RING}
DOUBLINGS = 14


@cache
def problem(kind, agents):
    """Return a linearization, and each agent's Jacobian in its basis, (agents, samples, rank)."""
    if kind == "random":
        blocks = random_blocks(agents, seed=agents)
        return from_features(blocks), blocks
    model = models.mlp(inputs=2, widths=(32,), outputs=1)
    lin = linearize(model, data.half_moons(agents=agents, samples=8, seed=agents), model.init(0), tolerance=0.1)
    return lin, lin.features


def grown(name, matrices, blocks, step_size):
    """Return where the authors' loop is after 2^14 periods, and after as many more.

    Whole periods are one matrix, made column by column from plain steps, and squared.
    """
    samples = blocks.shape[1]
    targets = np.random.default_rng(1).normal(size=blocks.shape[:2])
    curvature = np.einsum("qdp,qdr->qpr", blocks, blocks) / samples
    pull = np.einsum("qdp,qd->qp", blocks, targets) / samples

    def linear(theta):
        return np.einsum("qpr,qr->qp", curvature, theta)

    loop = reference.LITERAL[name](matrices, linear, step_size)
    affine = reference.LITERAL[name](matrices, lambda theta: linear(theta) - pull, step_size)
    shape = pull.shape
    state = np.ravel(affine.begin(loop.matrices[0], np.zeros(shape)))
    M, offset = np.eye(len(state)), np.zeros(len(state))
    for W in np.roll(loop.matrices, -1, axis=0):
        step = loop.linear(W, shape)
        offset = step @ offset + np.ravel(affine.go(W, *np.zeros((loop.variables, *shape))))
        M = step @ M
    augmented = np.block([[M, offset[:, None]], [np.zeros((1, len(M))), np.ones((1, 1))]])
    state, ends = np.append(state, 1.0), []
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(DOUBLINGS):
            augmented = augmented @ augmented
        for _ in range(2):
            state = augmented @ state
            ends.append(state[: pull.size])
    return ends


def assert_one_per_cent(name, matrices, blocks, limit):
    first, second = grown(name, matrices, blocks, 0.99 * limit)
    assert_close(second, first, tolerance=1e-6)
    assert not np.abs(grown(name, matrices, blocks, 1.01 * limit)[0]).max() < 1e12 * np.abs(first).max()


@pytest.mark.parametrize("graph", MATRICES)
@pytest.mark.parametrize("kind", ["random", "half moons"])
@pytest.mark.parametrize("name", METHODS)
def test_the_authors_loop_converges_below_the_limit_and_blows_up_above(name, kind, graph):
    W = MATRICES[graph]
    lin, blocks = problem(kind, len(W))
    limit = stability.step_size_limit(METHODS[name](W), lin)
    assert 0 < limit < np.inf
    assert_one_per_cent(name, W, blocks, limit)
    below, above = (stability.spectral_radius(METHODS[name](W), lin, step_size=f * limit) for f in (0.99, 1.01))
    assert below < 1 < above


def closed(name, w, beta=0.6):
    """Return the largest stable s where all agents hold the same data and W's smallest eigenvalue is w."""
    return {
        "EXTRA": (5 + 3 * w) / 4,
        "ExactDiffusion": 2.0,
        "GradientTracking": min(2.0, (1 - w**2) / abs(w)) if w < 0 else 2.0,
        "AugDGM": min(2.0, (1 + w) ** 2 / max(2 * w**2, 1e-9)),
        "DIGing": (1 + w) ** 2 / 2,
        "D2": 2.0,
        "DGD with momentum": (1 + beta) * (1 + w),
        "ATC with momentum": min(2 * (1 + beta), (1 - w) * (1 - beta) / max(-w, 1e-9)),
        "CTA with momentum": min(2 * (1 + beta), (1 - w) * (1 - beta) / max(-w, 1e-9)),
    }[name]


LAZY = (np.eye(AGENTS) + CYCLE) / 2
FAR = np.array([[0.1, 0.9], [0.9, 0.1]])


@pytest.mark.parametrize("W", [CYCLE, LAZY, MATRICES["star"], MATRICES["path"], FAR], ids=str)
@pytest.mark.parametrize("name", [*UNBIASED, *MOMENTUM])
def test_limits_in_closed_form_where_all_agents_hold_the_same(name, W):
    blocks = random_blocks(1).repeat(len(W), 0)
    w = np.linalg.eigvalsh(W)[0]
    if name == "D2" and w < -1 / 3 - 1e-9:
        assert stability.step_size_limit(METHODS[name](W), from_features(blocks)) == 0
        return
    s = stability.step_size_limit(METHODS[name](W), from_features(blocks)) / 3 * np.linalg.norm(blocks[0], 2) ** 2
    assert s == pytest.approx(closed(name, w), rel=1e-5)


def test_a_rule_of_ones_own_has_its_limit():
    """Gradient tracking by a positive definite matrix has s = 2."""
    blocks = random_blocks(1).repeat(AGENTS, 0)
    s = stability.step_size_limit(MINE(CYCLE), from_features(blocks)) / 3 * np.linalg.norm(blocks[0], 2) ** 2
    assert s == pytest.approx(2, rel=1e-5)


PERIODS = {"three a round": every(3, CYCLE), "average": every(4, np.full((4, 4), 0.25)), "in turn": [CYCLE, RING, LAZY]}


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("name", ["DGD", "ATC", "CTA", "DIGing", "ATC with momentum"])
def test_where_w_varies_the_limit_is_that_of_a_period(name, period):
    rule = {"DGD": DGD, "ATC": ATC, "CTA": CTA, **METHODS}[name]
    lin, blocks = problem("random", AGENTS)
    method = rule(PERIODS[period])
    limit = stability.step_size_limit(method, lin)
    if name in METHODS:
        assert_one_per_cent(name, method.W, blocks, limit)
    else:
        assert limit >= stability.sufficient_limit(method, lin) > 0
        assert not stability.sufficient_limit(method, lin) > min(
            stability.sufficient_limit(rule(W), lin) for W in method.W
        )
        psi = [block.T @ block / 3 for block in blocks]
        for factor in (0.99, 1.01):
            M = np.eye(20)
            for W in method.W:
                G = np.eye(20) - factor * limit * scipy.linalg.block_diag(*psi)
                mix = np.kron(W, np.eye(5))
                M = {"DGD": mix + G - np.eye(20), "ATC": mix @ G, "CTA": G @ mix}[name] @ M
            radius = np.abs(np.linalg.eigvals(M)).max()
            assert (radius < 1) == (factor < 1)
            got = stability.spectral_radius(method, lin, step_size=factor * limit)
            assert got == pytest.approx(radius ** (1 / len(method.W)), abs=1e-9)


@pytest.mark.parametrize("name", UNBIASED)
def test_real_training_converges_below_the_limit_and_blows_up_above(name):
    model = models.affine(inputs=2, outputs=1)
    agents = data.half_moons(agents=5, samples=6)
    lin = linearize(model, agents, np.zeros(3))
    method = METHODS[name](MATRICES["cycle"])
    limit = stability.step_size_limit(method, lin)
    ends = [
        train(method, model, agents, np.zeros(3), step_size=f * limit, steps=4000, final_only=True).params
        for f in (0.99, 1.01)
    ]
    x, y = agents.pooled()
    optimum = np.linalg.lstsq(np.concatenate([x, np.ones((30, 1))], axis=1), y.ravel())[0]
    assert_close(ends[0], np.tile(optimum, (5, 1)), tolerance=1e-6)
    assert not np.abs(ends[1]).max() < 1e6


def test_the_eigenvalues_are_those_of_the_authors_loop():
    """But for an eigenvalue 1 for every direction: a sum of memories that no start gives."""
    lin, blocks = problem("random", AGENTS)
    curvature = np.einsum("qdp,qdr->qpr", blocks, blocks) / 3
    for name in ("GradientTracking", "DIGing", "AugDGM", "ExactDiffusion", "ATC with momentum"):
        loop = reference.LITERAL[name](CYCLE, lambda theta: np.einsum("qpr,qr->qp", curvature, theta), 0.1)
        expected = np.linalg.eigvals(loop.linear(CYCLE, (AGENTS, 5)))
        got = 1 + predict(METHODS[name](CYCLE), lin, step_size=0.1).eigenvalues
        assert len(got) == 40 - 5 * (name in UNBIASED)
        assert np.abs(got[:, None] - expected).min(axis=1).max() < 1e-6
        assert np.abs(got - 1).min() > 1e-6
        radius = np.abs(got).max()
        assert stability.spectral_radius(METHODS[name](CYCLE), lin, step_size=0.1) == pytest.approx(radius)


def test_a_search_that_finds_nothing_to_grow():
    still = from_features(np.zeros((4, 1, 3)))
    assert stability.step_size_limit(METHODS["EXTRA"](CYCLE), still) == np.inf
    assert stability.spectral_radius(METHODS["EXTRA"](CYCLE), still, step_size=1.0) == 0


def test_what_needs_a_flow_or_a_proof_is_refused():
    lin, _ = problem("random", AGENTS)
    extra, local = METHODS["EXTRA"](CYCLE), ATC(every(2, CYCLE))
    check(lambda: stability.sufficient_limit(extra, lin), "sufficient limits are known for DGD, ATC and CTA, got EXTRA")
    for method in (extra, local):
        for refused in (
            lambda: stability.step_size_limit(method, lin, time="continuous"),  # noqa: B023
            lambda: stability.sufficient_limit(method, lin, time="continuous"),  # noqa: B023
            lambda: stability.spectral_abscissa(method, lin, step_size=0.1),  # noqa: B023
        ):
            check(refused, "a gradient flow is of parameters and one W")
        check(lambda: stability.numerical_abscissa(method, lin, step_size=0.1), "of the flows of DGD, ATC and CTA")  # noqa: B023
