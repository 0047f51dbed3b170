"""A sparse mixing matrix gives what the dense one gives."""

from time import monotonic

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
from problems import RING, agent_data, assert_close, network
from rejection import check

from peerflow import linearize, mixing, predict, stability, train
from peerflow.literal import flow_equation

Q = 6
GRAPH = nx.cycle_graph(Q)
SKEWED = 0.5 * np.eye(Q) + 0.3 * np.roll(np.eye(Q), 1, axis=1) + 0.2 * np.roll(np.eye(Q), 2, axis=1)
PAIRS = {
    "cycle": (mixing.metropolis_hastings(GRAPH, sparse=True), mixing.metropolis_hastings(GRAPH)),
    "skewed": (scipy.sparse.csr_array(SKEWED), SKEWED),
}
both = pytest.mark.parametrize(("sparse", "dense"), PAIRS.values(), ids=PAIRS)


@pytest.fixture(scope="module")
def small():
    return network(2)


@pytest.fixture(scope="module")
def lin(small):
    return linearize(small.model, agent_data(outputs=2, agents=Q), small.theta0)


@pytest.mark.parametrize(
    ("sparse", "dense"), [*PAIRS.values(), (scipy.sparse.coo_matrix(SKEWED), SKEWED)], ids=[*PAIRS, "old matrix"]
)
def test_it_stays_sparse_and_updates_alike(rule, sparse, dense, rng):
    method = rule(sparse)
    # Whatever kind of sparse matrix comes.
    assert isinstance(method.W, scipy.sparse.csr_array) and method.agents == Q
    assert_close(method.dense, dense, tolerance=0)
    assert method.symmetric == rule(dense).symmetric
    theta = rng.normal(size=(Q, 3))
    assert_close(method.update(theta, np.sin, 0.3), rule(dense).update(theta, np.sin, 0.3), tolerance=1e-14)


@both
@pytest.mark.parametrize("objective", ["local", "global"])
def test_training(small, lin, rule, sparse, dense, objective):
    runs = [
        train(rule(W, objective=objective), small.model, lin.agents, small.theta0, step_size=0.3, steps=20)
        for W in (sparse, dense)
    ]
    assert_close(runs[0].params, runs[1].params)
    assert_close(runs[0].losses, runs[1].losses)
    assert_close(runs[0].global_losses, runs[1].global_losses)


def test_a_float32_run_stays_float32(small, lin, rule):
    sparse, dense = (
        train(rule(W), small.model, lin.agents, small.theta0.astype(np.float32), step_size=0.3, steps=5)
        for W in PAIRS["cycle"]
    )
    assert sparse.params.dtype == sparse.losses.dtype == np.float32
    assert_close(sparse.params, dense.params, tolerance=1e-6)


@both
@pytest.mark.parametrize("late", [30, 10**6], ids=["products", "modes"])
def test_predictions(lin, rule, sparse, dense, late):
    one, other = (predict(rule(W), lin, step_size=0.3) for W in (sparse, dense))
    for solve in ("at", "after"):
        got, expected = (getattr(dynamics, solve)([0, 1, late]) for dynamics in (one, other))
        assert_close(got.coefficients, expected.coefficients)
        assert_close(got.losses, expected.losses)
        assert_close(got.global_losses, expected.global_losses)


def smooth(f, y):
    return ((1 + (f - y) ** 2) ** 0.5 - 1).sum(axis=-1)


@both
def test_predictions_of_another_loss(lin, rule, sparse, dense):
    one, other = (predict(rule(W), lin, step_size=0.3, loss=smooth) for W in (sparse, dense))
    # Sums in another order are other choices of steps for the flow, each right to 1e-8.
    for solve, tolerance in (("at", 1e-8), ("after", 1e-12)):
        got, expected = (getattr(dynamics, solve)([0, 1, 9]) for dynamics in (one, other))
        assert_close(got.coefficients, expected.coefficients, tolerance=tolerance)
        assert_close(got.losses, expected.losses, tolerance=tolerance)


@both
def test_stability(lin, rule, sparse, dense):
    one, other = rule(sparse), rule(dense)
    for time in ("discrete", "continuous"):
        for limit in (stability.step_size_limit, stability.sufficient_limit):
            assert_close(limit(one, lin, time=time), limit(other, lin, time=time))
    for measure in (stability.spectral_radius, stability.spectral_abscissa, stability.numerical_abscissa):
        assert_close(measure(one, lin, step_size=0.3), measure(other, lin, step_size=0.3))
    gradients = np.random.default_rng(0).normal(size=(Q, 3))
    gradients -= gradients.mean(axis=0)
    ends = [stability.final_disagreement(method, gradients, step_size=0.3) for method in (one, other)]
    assert_close(*ends)


@both
def test_the_system_its_spectrum_and_the_printed_equation(small, lin, rule, sparse, dense):
    one, other = (predict(rule(W), lin, step_size=0.3) for W in (sparse, dense))
    for got, expected in zip(one.system(), other.system(), strict=True):
        assert_close(got, expected)
    assert_close(np.sort_complex(one.eigenvalues), np.sort_complex(other.eigenvalues))
    printed = [flow_equation(rule(W), small.model, lin.agents, small.theta0, step_size=0.3) for W in (sparse, dense)]
    assert_close(printed[0].A, printed[1].A)
    assert_close(printed[0].u, printed[1].u)


@pytest.mark.parametrize(
    ("W", "message"),
    [
        (scipy.sparse.csr_array(RING[:3]), r"W must have shape \(agents, agents\), got \(3, 4\)"),
        (scipy.sparse.csr_array(2 * RING), "W must be doubly stochastic, but row 0 sums to 2"),
        (scipy.sparse.csr_array(np.array([[2.0, -1.0], [-1.0, 2.0]])), "a negative entry -1"),
        (scipy.sparse.csr_array(np.array([[np.nan, 1.0], [1.0, 0.0]])), "W must be finite, got 1 NaN"),
        (scipy.sparse.csr_array(np.array([[1.0, 0.0], [1.0, 0.0]])), "column 0 sums to 2"),
    ],
)
def test_what_is_refused(rule, W, message):
    check(lambda: rule(W), message)


def test_another_number_of_agents_is_refused(small, lin, rule):
    method = rule(scipy.sparse.csr_array(RING))
    for call in (
        lambda: predict(method, lin, step_size=0.3),
        lambda: train(method, small.model, lin.agents, small.theta0, step_size=0.3, steps=1),
        lambda: stability.step_size_limit(method, lin),
    ):
        check(call, r"W must have shape \(6, 6\), got \(4, 4\)")


def test_a_city_that_is_not_connected_is_refused_within_seconds():
    graph = nx.cycle_graph(100_000)
    graph.remove_edges_from([(0, 1), (50_000, 50_001)])
    begun = monotonic()
    check(lambda: mixing.metropolis_hastings(graph, sparse=True), "graph must be connected, got 2 components")
    assert monotonic() - begun < 10
