"""Step-size limits of agents with different numbers of samples, and of sparse W: against a search on dense matrices."""

import networkx as nx
import numpy as np
import pytest
import reference
import scipy.sparse
from problems import CYCLE, RING, STAR, assert_close, unequal_data

from peerflow import models, stability
from peerflow.flows import predict
from peerflow.linearize import linearize
from peerflow.methods import ATC, CTA, DGD
from peerflow.mixing import metropolis_hastings

COUNTS = (3, 1, 5, 2)
MODEL = models.affine(inputs=3, outputs=1)
THETA0 = np.linspace(-1.0, 1.0, MODEL.size)
GRAPHS = {"path": nx.path_graph(4), "star": nx.star_graph(3), "complete": nx.complete_graph(4)}
TIMES = ["discrete", "continuous"]


def expansion(weigh, seed=0):
    """Return the affine model on unequal data, and by hand the roots of each agent's Hessian times its weight."""
    agents = unequal_data(3, counts=COUNTS, weigh=weigh, seed=seed)
    weight = [4 / sum(COUNTS)] * 4 if weigh == "samples" else [1 / count for count in COUNTS]
    roots = [np.sqrt(c) * np.hstack([x, np.ones((len(x), 1))]) for c, x in zip(weight, agents.x, strict=True)]
    return linearize(MODEL, agents, THETA0), roots


def dense(name, W, roots, step_size):
    """Return A of (12) over all parameters of all agents, each with its own constant."""
    zero = np.zeros(sum(COUNTS))
    return reference.flow(name, W, roots, zero, zero, np.zeros(4), step_size)[0]


def growth(name, W, roots, step_size, time):
    spectrum = np.linalg.eigvals(dense(name, W, roots, step_size))
    return spectrum.real.max() if time == "continuous" else np.abs(1 + spectrum).max() - 1


def first_crossing(name, W, roots, time):
    """Go up by one per cent until something grows, and bisect; inf if nothing does up to a hundred times s = 1."""
    unit = 1 / max(np.linalg.norm(root, 2) ** 2 for root in roots)
    below, above = None, 0.01 * unit
    while growth(name, W, roots, above, time) < 1e-9:
        below, above = above, 1.01 * above
        if above > 100 * unit:
            return np.inf
    for _ in range(40):
        middle = (below + above) / 2
        below, above = (below, middle) if growth(name, W, roots, middle, time) >= 1e-9 else (middle, above)
    return below


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("weigh", ["agents", "samples"])
@pytest.mark.parametrize("W", [CYCLE, STAR, RING], ids=["cycle", "star", "ring"])
def test_the_limit_is_where_the_dense_matrix_first_grows(rule, W, weigh, time):
    for seed in range(2):
        lin, roots = expansion(weigh, seed)
        limit = stability.step_size_limit(rule(W), lin, time=time)
        assert limit == pytest.approx(first_crossing(rule.name, W, roots, time), rel=1e-5)
        assert 0 < stability.sufficient_limit(rule(W), lin, time=time) <= limit
        total = stability.step_size_limit(rule(W, objective="global"), lin, time=time)
        assert total == pytest.approx(4 * limit, rel=1e-6)


def test_how_objectives_are_weighed_moves_the_limit():
    limits = [stability.step_size_limit(DGD(CYCLE), expansion(weigh)[0]) for weigh in ("agents", "samples")]
    assert abs(limits[0] / limits[1] - 1) > 0.1


@pytest.mark.parametrize("weigh", ["agents", "samples"])
def test_the_sufficient_bound_is_that_of_the_steepest_objective(weigh):
    """The iteration of DGD is stable below s = 1 + lambda_min(W), here 2/3, with the largest weighed curvature."""
    lin, roots = expansion(weigh)
    steepest = max(np.linalg.norm(root, 2) ** 2 for root in roots)
    assert stability.sufficient_limit(DGD(CYCLE), lin) == pytest.approx(2 / 3 / steepest)
    assert stability.sufficient_limit(ATC(CYCLE), lin) == pytest.approx(2 / steepest)


@pytest.mark.parametrize("weigh", ["agents", "samples"])
@pytest.mark.parametrize("W", [CYCLE, RING], ids=["cycle", "ring"])
def test_spectra_of_unequal_agents_are_those_of_the_dense_matrix(rule, W, weigh):
    lin, roots = expansion(weigh)
    for method, step_size in ((rule(W), 0.3), (rule(W, objective="global"), 1.2)):
        A, settings = dense(rule.name, W, roots, 0.3), {"step_size": step_size}
        expected, got = np.linalg.eigvals(A), predict(method, lin, **settings).eigenvalues
        assert len(got) == len(expected)
        assert np.abs(got[:, None] - expected[None]).min(axis=0).max() < 1e-6
        assert stability.spectral_radius(method, lin, **settings) == pytest.approx(np.abs(1 + expected).max())
        assert stability.spectral_abscissa(method, lin, **settings) == pytest.approx(expected.real.max())
        symmetric = np.linalg.eigvalsh((A + A.T) / 2).max()
        assert stability.numerical_abscissa(method, lin, **settings) == pytest.approx(symmetric)


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_a_sparse_w_has_the_limit_of_the_dense_matrix(rule, graph, time):
    method, W = rule(metropolis_hastings(GRAPHS[graph], sparse=True)), metropolis_hastings(GRAPHS[graph])
    assert scipy.sparse.issparse(method.W)
    lin, roots = expansion("agents")
    limit = stability.step_size_limit(method, lin, time=time)
    assert limit == pytest.approx(first_crossing(rule.name, W, roots, time), rel=1e-5)
    for bound in (stability.step_size_limit, stability.sufficient_limit):
        assert bound(method, lin, time=time) == pytest.approx(bound(rule(W), lin, time=time), rel=1e-12)


def test_a_sparse_w_has_the_dense_one_s_spectra_and_disagreement(rule):
    lin, gradients = expansion("agents")[0], np.array([[1.0, 0.5], [-1.0, 0.25], [0.5, -0.25], [-0.5, -0.5]])
    for W in (CYCLE, RING):
        sparse, full = rule(scipy.sparse.csr_array(W)), rule(W)
        for spectrum in (stability.spectral_radius, stability.spectral_abscissa, stability.numerical_abscissa):
            for step_size in (0.1, 10.0):
                got, expected = (spectrum(method, lin, step_size=step_size) for method in (sparse, full))
                assert got == pytest.approx(expected, rel=1e-12)
        got, expected = (stability.final_disagreement(one, gradients, step_size=0.1) for one in (sparse, full))
        assert_close(got, expected)


def test_a_sparse_w_that_leaves_agents_unconnected_has_no_one_optimum():
    with pytest.raises(ValueError, match="W must connect all agents"):
        stability.final_disagreement(CTA(scipy.sparse.eye_array(4)), np.zeros((4, 2)), step_size=1.0)
