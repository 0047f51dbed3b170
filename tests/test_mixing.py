"""Mixing matrices against known spectra and on random graphs; synchronization against the rule itself."""

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import assert_close
from rejection import check

from peerflow import mixing
from peerflow.mixing import (
    disagreement,
    doubly_stochastic,
    is_symmetric,
    max_norm_synchronization,
    metropolis_hastings,
    spectral_gap,
)

SPECTRA = {
    "cycle": (nx.cycle_graph(8), [1 / 3 + 2 / 3 * np.cos(2 * np.pi * k / 8) for k in range(8)]),
    "star": (nx.star_graph(7), [1.0] + [7 / 8] * 6 + [0.0]),
    "complete": (nx.complete_graph(8), [1.0] + [0.0] * 7),
    # Weights 1/3 on every edge of a path: I - W is a third of its Laplacian.
    "path": (nx.path_graph(8), [1 - (2 - 2 * np.cos(np.pi * k / 8)) / 3 for k in range(8)]),
    "pair": (nx.path_graph(2), [1.0, 0.0]),
    "single": (nx.empty_graph(1), [1.0]),
}


@st.composite
def connected_graphs(draw):
    """A random tree with random extra edges, its nodes in random order."""
    agents = draw(st.integers(1, 9))
    edges = [(draw(st.integers(0, q - 1)), q) for q in range(1, agents)]
    node = st.integers(0, agents - 1)
    edges += draw(st.lists(st.tuples(node, node), max_size=2 * agents))
    graph = nx.Graph()
    graph.add_nodes_from(draw(st.permutations(range(agents))))
    graph.add_edges_from(edges)
    return graph


@pytest.mark.parametrize("name", SPECTRA)
def test_known_spectra(name):
    graph, eigenvalues = SPECTRA[name]
    W = metropolis_hastings(graph)
    assert_close(np.linalg.eigvalsh(W), np.sort(eigenvalues), tolerance=1e-14)
    others = sorted(np.abs(eigenvalues))[:-1]
    assert spectral_gap(W) == pytest.approx(1 - max(others, default=0.0), abs=1e-14)


def test_on_the_complete_graph_everybody_averages_everybody():
    assert_close(metropolis_hastings(nx.complete_graph(8)), np.full((8, 8), 1 / 8), tolerance=1e-15)


def test_a_small_graph_by_hand():
    """A triangle 0-1-2 with the leaf 3 at 2; loops, weights and parallel edges change nothing."""
    W = [[5 / 12, 1 / 3, 1 / 4, 0], [1 / 3, 5 / 12, 1 / 4, 0], [1 / 4, 1 / 4, 1 / 4, 1 / 4], [0, 0, 1 / 4, 3 / 4]]
    graph = nx.MultiGraph([(0, 1), (0, 2), (1, 2), (2, 3), (0, 1), (3, 3)])
    graph[0][1][0]["weight"] = 9.0
    assert_close(metropolis_hastings(graph), W, tolerance=1e-15)


@settings(deadline=None, max_examples=60)
@given(connected_graphs())
def test_metropolis_hastings_on_any_connected_graph(graph):
    W, nodes = metropolis_hastings(graph), list(graph)
    np.testing.assert_array_equal(W, W.T)
    np.testing.assert_allclose(W.sum(0), 1, rtol=0, atol=1e-14)
    assert_close(doubly_stochastic(W), W, tolerance=0)
    eigenvalues = np.linalg.eigvalsh(W)
    assert eigenvalues[0] > -1 + 1e-3 and abs(eigenvalues[-1] - 1) < 1e-13
    assert len(W) == 1 or eigenvalues[-2] < 1 - 1e-3
    for q, a in enumerate(nodes):
        assert W[q, q] > 0
        for r, b in enumerate(nodes):
            if q != r:
                heavier = max(len(set(graph[node]) - {node}) for node in (a, b))
                assert W[q, r] == (1 / (1 + heavier) if graph.has_edge(a, b) else 0)


@settings(deadline=None, max_examples=60)
@given(connected_graphs())
def test_a_sparse_matrix_holds_the_dense_one_s_entries_and_no_others(graph):
    sparse, W = metropolis_hastings(graph, sparse=True), metropolis_hastings(graph)
    assert scipy.sparse.issparse(sparse) and isinstance(sparse, scipy.sparse.sparray) and sparse.dtype == np.float64
    np.testing.assert_array_equal(sparse.toarray(), W)
    links = {frozenset(edge) for edge in graph.edges if edge[0] != edge[1]}
    assert sparse.nnz == len(graph) + 2 * len(links)
    checked = doubly_stochastic(sparse, len(graph))
    assert scipy.sparse.issparse(checked)
    np.testing.assert_array_equal(checked.toarray(), W)
    assert is_symmetric(sparse) and spectral_gap(sparse) == pytest.approx(spectral_gap(W), abs=1e-14)


def test_a_sparse_matrix_of_many_agents_is_made_without_a_dense_one():
    """Twenty thousand agents: a dense W would take 3.2 GB."""
    W = metropolis_hastings(nx.cycle_graph(20000), sparse=True)
    assert W.nnz == 60000
    assert_close(np.unique(W.data.round(15)), [np.round(1 / 3, 15)], tolerance=1e-14)
    assert doubly_stochastic(W).nnz == 60000 and is_symmetric(W)


@pytest.mark.parametrize("form", ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_a_sparse_matrix_of_any_format_is_taken(form, kind):
    build = getattr(scipy.sparse, f"{form}_{kind}")
    ring = 0.5 * np.eye(4) + 0.3 * np.roll(np.eye(4), 1, axis=1) + 0.2 * np.roll(np.eye(4), 2, axis=1)
    checked = doubly_stochastic(build(ring))
    assert isinstance(checked, scipy.sparse.csr_array) and checked.dtype == np.float64
    np.testing.assert_array_equal(checked.toarray(), ring)
    assert not is_symmetric(build(ring)) and is_symmetric(build((ring + ring.T) / 2))
    assert spectral_gap(build(ring)) == pytest.approx(spectral_gap(ring), abs=1e-14)
    swap = build(np.array([[0, 1], [1, 0]]))  # whole numbers, no diagonal
    assert doubly_stochastic(swap).dtype == np.float64 and is_symmetric(swap)


def test_the_gap_bounds_disagreement_and_mixing_keeps_the_mean(rng):
    W, theta = metropolis_hastings(nx.cycle_graph(8)), rng.normal(size=(8, 3))
    gap, apart = spectral_gap(W), np.linalg.norm(theta - theta.mean(0))
    for k in range(1, 30):
        mixed = np.linalg.matrix_power(W, k) @ theta
        assert_close(mixed.mean(0), theta.mean(0))
        assert np.linalg.norm(mixed - theta.mean(0)) <= (1 - gap) ** k * apart * (1 + 1e-12)


def test_the_gap_sees_negative_and_complex_eigenvalues():
    assert spectral_gap([[0.1, 0.9], [0.9, 0.1]]) == pytest.approx(0.2)
    rotation = np.roll(np.eye(3), 1, axis=1)  # its eigenvalues are the third roots of one
    assert spectral_gap(rotation) == pytest.approx(0.0, abs=1e-14)
    assert spectral_gap(0.5 * np.eye(3) + 0.5 * rotation) == pytest.approx(0.5)


@settings(deadline=None, max_examples=60)
@given(connected_graphs(), st.data())
def test_synchronization_on_any_connected_graph(graph, draw):
    """Norms from a small set, so that ties are common."""
    agents = len(graph)
    norms = draw.draw(st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=agents, max_size=agents))
    theta = np.array([[norm * (-1) ** q, 0.0] for q, norm in enumerate(norms)])
    params, origin = max_norm_synchronization(theta, graph)
    rounds, nodes = nx.diameter(graph), list(graph)
    assert params.shape == (rounds + 1, agents, 2) and origin.shape == (rounds + 1, agents)
    winner = int(np.argmax(norms))  # the first of the largest
    np.testing.assert_array_equal(params[-1], np.tile(theta[winner], (agents, 1)))
    for k in range(rounds + 1):
        for q in range(agents):
            reach = [r for r in range(agents) if nx.shortest_path_length(graph, nodes[q], nodes[r]) <= k]
            best = max(reach, key=lambda r: (norms[r], -r))
            assert origin[k, q] == best
            np.testing.assert_array_equal(params[k, q], theta[best])


def test_on_a_path_the_news_takes_every_round():
    theta = np.array([[3.0, 4.0], [1.0, 1.0], [2.0, 0.0], [0.0, 4.9]])
    params, origin = max_norm_synchronization(theta, nx.path_graph(4))
    np.testing.assert_array_equal(origin, [[0, 1, 2, 3], [0, 0, 3, 3], [0, 0, 0, 3], [0, 0, 0, 0]])
    np.testing.assert_array_equal(params, theta[origin])


def test_disagreement_is_the_root_mean_square_distance_from_the_mean(rng):
    params = rng.standard_normal((3, 4, 5))
    for k in range(3):
        mean = sum(params[k]) / 4
        squares = [np.linalg.norm(params[k, q] - mean) ** 2 for q in range(4)]
        assert_close(disagreement(params[k]), np.sqrt(sum(squares) / 4))
        assert_close(disagreement(params)[k], disagreement(params[k]))
    assert disagreement(np.ones((4, 5))) == 0


def test_symmetry_is_seen_through_rounding():
    assert is_symmetric(np.eye(3)) and is_symmetric([[0.1 + 0.2, 0.7], [0.7, 0.3]])
    assert not is_symmetric(np.roll(np.eye(3), 1, axis=1))


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_large_w_stays_sparse(monkeypatch, symmetric):
    """The eigenvalues that ARPACK finds are those of the dense matrix; the gap of a torus is known."""
    monkeypatch.setattr(mixing, "_LANCZOS", 80)
    W = metropolis_hastings(nx.random_regular_graph(4, 150, seed=1), sparse=True)
    W = W if symmetric else 0.7 * W + 0.3 * scipy.sparse.csr_array(np.roll(np.eye(150), 1, axis=1))
    monkeypatch.setattr(mixing.csr_array, "toarray", None)
    assert abs(spectral_gap(W) - dense_gap(W)) < 1e-9
    if symmetric:
        assert abs(mixing.smallest_eigenvalue(W) - np.linalg.eigvalsh(W @ np.eye(150))[0]) < 1e-9


def dense_gap(W):
    return 1 - np.sort(abs(np.linalg.eigvals(W @ np.eye(W.shape[0]))))[-2]


def test_the_gap_of_a_large_torus_and_of_averaging(monkeypatch):
    W = metropolis_hastings(nx.grid_2d_graph(40, 40, periodic=True), sparse=True)
    assert abs(spectral_gap(W) - 0.4 * (1 - np.cos(2 * np.pi / 40))) < 1e-9
    monkeypatch.setattr(mixing, "_LANCZOS", 10)
    assert spectral_gap(scipy.sparse.csr_array(np.full((20, 20), 0.05))) == 1


def test_smallest_eigenvalue():
    assert abs(mixing.smallest_eigenvalue(metropolis_hastings(nx.cycle_graph(4))) + 1 / 3) < 1e-15
    check(lambda: mixing.smallest_eigenvalue(np.roll(np.eye(3), 1, axis=1)), "W must be symmetric")


def test_a_large_graph_in_pieces_is_refused_within_seconds():
    graph = nx.disjoint_union(nx.cycle_graph(50_000), nx.cycle_graph(50_000))
    check(lambda: metropolis_hastings(graph, sparse=True), "graph must be connected, got 2 components")
