"""Bad graphs, matrices, data and models: a ValueError says what came and what was expected."""

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
from problems import CYCLE, affine
from rejection import INF, NAN, check, rejects, with_entry

from peerflow import mixing, models
from peerflow.data import AgentData, digits, half_moons, mnist_zeros_ones, partition
from peerflow.flows import predict
from peerflow.linearize import linearize
from peerflow.methods import ATC, CTA, DGD
from peerflow.training import train

PROBLEM = affine()
MODEL, DATA, THETA0 = PROBLEM.model, PROBLEM.agents, PROBLEM.theta0
LIN = linearize(MODEL, DATA, THETA0)


GRAPHS = [
    (nx.empty_graph(3), "graph must be connected, got 3 components"),
    (nx.Graph([(0, 1), (2, 3)]), "graph must be connected, got 2 components"),
    (nx.DiGraph([(0, 1)]), r"graph must be undirected, got a directed one: use graph.to_undirected\(\)"),
    (nx.Graph(), "graph must have at least one node, got none"),
    (CYCLE, "graph must be a networkx Graph, got ndarray"),
    ("cycle", "graph must be a networkx Graph, got str"),
    (None, "graph must be a networkx Graph, got NoneType"),
]


@pytest.mark.parametrize(("graph", "message"), GRAPHS)
def test_graphs(graph, message):
    for sparse in (False, True):
        check(lambda sparse=sparse: mixing.metropolis_hastings(graph, sparse=sparse), message)
    check(lambda: mixing.max_norm_synchronization(np.ones((3, 2)), graph), message)


PATH = nx.path_graph(3)


@rejects([
    (lambda: mixing.max_norm_synchronization(np.ones((2, 2)), PATH), r"theta must have shape \(3, params\), got"),
    (lambda: mixing.max_norm_synchronization(np.ones(3), PATH), r"shape \(3, params\), got \(3,\)"),
    (lambda: mixing.max_norm_synchronization(np.full((3, 2), NAN), PATH), "theta must be finite, got 6 NaN"),
    (lambda: mixing.max_norm_synchronization([[1.0], [1.0, 2.0], [0.0]], PATH), "theta must be a rectangular array"),
    (lambda: mixing.doubly_stochastic(CYCLE, 3), r"W must have shape \(3, 3\), got \(4, 4\)"),
    (lambda: mixing.doubly_stochastic(CYCLE, "4"), "agents must be a whole number, got '4'"),
])  # fmt: skip
def test_synchronization_and_sizes(call, message):
    check(call, message)


MATRICES = [
    (np.ones((4, 3)) / 4, r"W must have shape \(\w+, \w+\), got \(4, 3\)"),
    (np.ones(4) / 4, r"W must have shape \(\w+, \w+\), got \(4,\)"),
    (with_entry(CYCLE, NAN), "W must be finite, got 1 NaN or infinite of 16 entries"),
    (with_entry(CYCLE, -INF), "W must be finite, got 1 NaN or infinite"),
    (with_entry(CYCLE, 0.5), "W must be doubly stochastic, but row 0 sums to 1.16666"),
    (CYCLE + 1e-9 * np.eye(4), "but row 0 sums to 1.00000000[01]"),
    (np.outer(np.ones(4), [0.4, 0.2, 0.2, 0.2]), "W must be doubly stochastic, but column 0 sums to 1.6"),
    (np.kron(np.eye(2), [[1.5, -0.5], [-0.5, 1.5]]), "W must be doubly stochastic, got a negative entry -0.5"),
    ([[1.0], [0.0, 1.0]], "W must be a rectangular array of numbers"),
    ([["a", "b"], ["c", "d"]], "W must be real numbers, got dtype <U1"),
    (CYCLE * 1j, "W must be real numbers, got dtype complex128"),
    (None, "W must be real numbers, got dtype object"),
    (nx.cycle_graph(4), "W must be real numbers|W must have shape"),
]


@pytest.mark.parametrize(("W", "message"), MATRICES)
def test_mixing_matrices(W, message):
    message = message.replace(r"\w+", "(agents|4)")
    for call in (mixing.doubly_stochastic, mixing.spectral_gap, DGD, ATC, CTA):
        check(lambda call=call: call(W), message)


@pytest.mark.parametrize("form", [scipy.sparse.csr_array, scipy.sparse.coo_matrix, scipy.sparse.dia_array])
@pytest.mark.parametrize(
    ("W", "message"), [case for case in MATRICES if isinstance(case[0], np.ndarray) and case[0].ndim == 2]
)
def test_sparse_mixing_matrices(form, W, message):
    message = message.replace(r"\w+", "(agents|4)").replace(" of 16 entries", r" of \d+ entries")
    for call in (mixing.doubly_stochastic, mixing.spectral_gap, DGD):
        check(lambda call=call: call(form(W)), message)


@rejects([
    (lambda: mixing.doubly_stochastic(scipy.sparse.csr_array(CYCLE), 3), r"W must have shape \(3, 3\), got \(4, 4\)"),
    (lambda: mixing.doubly_stochastic(scipy.sparse.csr_array((0, 0))), "W must have at least one agent, got none"),
    (lambda: mixing.doubly_stochastic(scipy.sparse.csr_array((2, 2))), "but row 0 sums to 0.0"),
    (lambda: mixing.doubly_stochastic(scipy.sparse.coo_array(np.ones(4) / 4)), r"W must have shape \(agents, agents\)"),
    (lambda: mixing.is_symmetric(scipy.sparse.csr_array((2, 3))), r"W must have shape \(agents, agents\), got \(2,"),
    (lambda: mixing.is_symmetric(np.ones((2, 3))), r"W must have shape \(agents, agents\), got \(2, 3\)"),
    (lambda: mixing.is_symmetric([[NAN]]), "W must be finite"),
    (lambda: mixing.is_symmetric(scipy.sparse.csr_array([[NAN]])), "W must be finite"),
    (lambda: mixing.is_symmetric(scipy.sparse.csr_array([[1j]])), "W must be real numbers, got dtype complex128"),
])  # fmt: skip
def test_sparse_matrices_of_another_kind(call, message):
    check(call, message)


def test_a_mixing_matrix_of_another_size_or_of_none():
    for three, five in ((np.eye(3), np.eye(5)), (scipy.sparse.eye_array(3), scipy.sparse.eye_array(5))):
        check(lambda W=three: predict(DGD(W), LIN, step_size=0.1), r"W must have shape \(4, 4\), got \(3, 3\)")
        check(lambda W=five: train(DGD(W), MODEL, DATA, THETA0, step_size=0.1, steps=1), r"\(4, 4\), got \(5, 5\)")
    check(lambda: mixing.spectral_gap(np.empty((0, 0))), "W must have at least one agent, got none")


@rejects(
    [
        (
            lambda: mixing.disagreement(np.ones(3)),
            r"params must have shape \(\.\.\., agents, params\), none .* got \(3,\)",
        ),
        (lambda: mixing.disagreement(np.ones((2, 0, 3))), r"none of them empty, got \(2, 0, 3\)"),
        (lambda: mixing.disagreement(np.full((2, 3), NAN)), "params must be finite, got 6 NaN"),
    ]
)
def test_disagreement(call, message):
    check(call, message)


X, Y = DATA.x, DATA.y


@rejects([
    (lambda: AgentData(X[0], Y), r"x must have shape \(agents, samples, inputs, \.\.\.\), got \(3, 2\)"),
    (lambda: AgentData(X, Y[:, :2]), r"y must have shape \(4, 3, outputs\), got \(4, 2, 1\)"),
    (lambda: AgentData(X, Y[..., 0]), r"y must have shape \(4, 3, outputs\), got \(4, 3\)"),
    (lambda: AgentData(with_entry(X, NAN), Y), "x must be finite, got 1 NaN or infinite of 24 entries"),
    (lambda: AgentData(X, with_entry(Y, INF)), "y must be finite, got 1 NaN"),
    (lambda: AgentData([[[1.0], [2.0]], [[3.0, 4.0], [5.0]]], Y), "x must be a rectangular array"),
    (lambda: AgentData(X.astype(str), Y), "x must be real numbers, got dtype <U"),
    (lambda: AgentData(X[:, :0], Y[:, :0]), r"x and y must not be empty, got shapes \(0, 2\) and \(0, 1\) of agent 0"),
    (lambda: AgentData(X, Y[..., :0]), r"x and y must not be empty, got shapes \(3, 2\) and \(3, 0\) of agent 0"),
    (lambda: AgentData(X[:0], Y[:0]), r"x and y must not be empty, got shapes \(0, 3, 2\) and \(0, 3, 1\)"),
    (lambda: AgentData([], []), r"x must have shape \(agents, samples, inputs, \.\.\.\), got \(0,\)"),
    (lambda: AgentData(X, Y, weigh="mean"), "weigh must be one of 'agents', 'samples', got 'mean'"),
    (lambda: AgentData(X, Y, weigh=None), "weigh must be one of 'agents', 'samples', got None"),
])  # fmt: skip
def test_agent_data(call, message):
    check(call, message)


# Three samples of the first agent, one of the second.
XS, YS = [X[0], X[1, :1]], [Y[0], Y[1, :1]]


@rejects([
    (lambda: AgentData(XS, YS[:1]), "x and y must hold one array for each agent, got 2 and 1"),
    (lambda: AgentData(XS, Y), "x and y must hold one array for each agent, got 2 and 4"),
    (lambda: AgentData(X, YS), "x and y must hold one array for each agent, got 4 and 2"),
    (lambda: AgentData(XS, None), "y must be a list with one array for each agent, got NoneType"),
    (lambda: AgentData(None, YS), "x must be a list with one array for each agent, got NoneType"),
    (lambda: AgentData(XS, iter(YS)), "y must be a list with one array for each agent, got list_iterator"),
    (lambda: AgentData(XS, dict(enumerate(YS))), "y must be a list with one array for each agent, got dict"),
    (lambda: AgentData(np.array(1.0), YS), "x must be a list with one array for each agent, got ndarray"),
    (lambda: AgentData(XS, [Y[0], Y[1, :2]]), r"y\[1\] must have shape \(1, outputs\), got \(2, 1\)"),
    (lambda: AgentData(XS, Y[:2]), r"y\[1\] must have shape \(1, outputs\), got \(3, 1\)"),
    (lambda: AgentData(X[:2], YS), r"y\[1\] must have shape \(3, outputs\), got \(1, 1\)"),
    (lambda: AgentData(XS, [Y[0], Y[1, :1, 0]]), r"y\[1\] must have shape \(1, outputs\), got \(1,\)"),
    (lambda: AgentData([X[0], X[1, 0]], YS), r"x\[1\] must have shape \(samples, inputs, \.\.\.\), got \(2,\)"),
    (lambda: AgentData([X[0], 3.0], YS), r"x\[1\] must have shape \(samples, inputs, \.\.\.\), got \(\)"),
    (lambda: AgentData([X[0], X[1, :1, :1]], YS), r"x must have samples of one shape, got \(1,\), \(2,\)"),
    (lambda: AgentData(XS, [Y[0], np.ones((1, 2))]), r"y must have samples of one shape, got \(1,\), \(2,\)"),
    (lambda: AgentData([X[0], X[1, :0]], [Y[0], Y[1, :0]]), r"must not be empty, got shapes \(0, 2\) .* of agent 1"),
    (lambda: AgentData([X[0, :, :0], X[1, :1, :0]], YS), r"must not be empty, got shapes \(3, 0\) .* of agent 0"),
    (lambda: AgentData([X[0], with_entry(XS[1], NAN)], YS), r"x\[1\] must be finite, got 1 NaN or infinite of 2"),
    (lambda: AgentData(XS, [with_entry(YS[0], INF), YS[1]]), r"y\[0\] must be finite, got 1 NaN or infinite of 3"),
    (lambda: AgentData([[[1.0], [2.0, 3.0]], [[4.0]]], YS), r"x\[0\] must be a rectangular array of numbers"),
    (lambda: AgentData([[["a"], ["b"], ["c"]], [["d"]]], YS), r"x\[0\] must be real numbers, got dtype <U1"),
    (lambda: AgentData(XS, YS, weigh="size"), "weigh must be one of 'agents', 'samples', got 'size'"),
])  # fmt: skip
def test_agent_data_of_lists(call, message):
    check(call, message)


def deal(x=X[0], y=Y[0], agents=1, samples=1, seed=0):
    return partition(x, y, agents=agents, samples=samples, seed=seed)


@rejects([
    (lambda: deal(agents=2, samples=2), "2 agents with 2 samples need 4, got a pool of 3"),
    (lambda: deal(agents=2, samples=[1, 3]), "2 agents with 1 to 3 samples need 4, got a pool of 3"),
    (lambda: deal(x=X), r"y must have shape \(4, outputs\), got \(3, 1\)"),
    (lambda: deal(x=X[0, :, 0]), r"x must have shape \(n, inputs, \.\.\.\), got \(3,\)"),
    (lambda: deal(y=Y[0, :2]), r"y must have shape \(3, outputs\), got \(2, 1\)"),
    (lambda: deal(y=Y[0, :, 0]), r"y must have shape \(3, outputs\), got \(3,\)"),
    (lambda: deal(x=with_entry(X[0], NAN)), "x must be finite"),
    (lambda: deal(x="data"), "x must be real numbers"),
    (lambda: mnist_zeros_ones(agents=8, samples=267), "8 agents with 267 samples need 2136, got a pool of 2128"),
    (lambda: digits(agents=2, samples=899), "2 agents with 899 samples need 1798, got a pool of 1797"),
    (lambda: half_moons(agents=2, samples=2, noise=-0.1), "noise must not be negative, got -0.1"),
    (lambda: half_moons(agents=2, samples=2, noise=NAN), "noise must be finite, got nan"),
    (lambda: half_moons(agents=2, samples=2, noise="0.1"), "noise must be a number, got '0.1'"),
    (lambda: half_moons(agents=2, samples=2, noise=None), "noise must be a number, got None"),
])  # fmt: skip
def test_data_sets(call, message):
    check(call, message)


LOADERS = [half_moons, mnist_zeros_ones, digits, deal]


COUNTS = [
    (0, "must be at least 1, got 0"),
    (-2, "must be at least 1, got -2"),
    (2.0, "must be a whole number, got 2.0"),
    (True, "must be a whole number, got True"),
    ("3", "must be a whole number, got '3'"),
    (None, "must be a whole number, got None"),
    (NAN, "must be a whole number, got nan"),
]


@pytest.mark.parametrize(("count", "message"), COUNTS)
@pytest.mark.parametrize("name", ["agents", "samples"])
@pytest.mark.parametrize("load", LOADERS)
def test_numbers_of_agents_and_samples(load, name, count, message):
    check(lambda: load(**{"agents": 2, "samples": 2} | {name: count}), f"{name} {message}")


@pytest.mark.parametrize(("samples", "message"), [
    ([2], "must be one number or one for each of 2 agents, got 1"),
    ([], "must be one number or one for each of 2 agents, got 0"),
    (np.ones(3, int), "must be one number or one for each of 2 agents, got 3"),
    *[([2, count], message) for count, message in COUNTS],
    (np.ones((2, 2), int), r"must be a whole number, got array\(\[1, 1\]\)"),
    (np.ones(2), r"must be a whole number, got np.float64\(1.0\)"),
    ("12", "must be a whole number, got '12'"),
    ({1: 2}, r"must be a whole number, got \{1: 2\}"),
])  # fmt: skip
@pytest.mark.parametrize("load", LOADERS)
def test_numbers_of_samples_one_for_each_agent(load, samples, message):
    check(lambda: load(agents=2, samples=samples), f"samples {message}")


SEEDS = [(-1, "at least 0, got -1"), (0.5, "a whole number, got 0.5"), (True, "a whole number"), (2**32, "below 2")]


@pytest.mark.parametrize(("seed", "message"), [*SEEDS, ("0", "a whole number, got '0'"), (None, "a whole number")])
def test_seeds(seed, message):
    for load in LOADERS:
        check(lambda load=load: load(agents=1, samples=1, seed=seed), f"seed must be {message}")
    check(lambda: MODEL.init(seed), f"seed must be {message}")


ZEROS = np.zeros(13)


def frozen(theta=ZEROS, **options):
    return models.last_layer(theta, **({"inputs": 2, "widths": (3,), "outputs": 1} | options))


def build_mlp(**options):
    return models.mlp(**({"inputs": 2, "widths": (3,), "outputs": 1} | options))


@pytest.mark.parametrize(("count", "message"), COUNTS)
@pytest.mark.parametrize("name", ["inputs", "outputs"])
@pytest.mark.parametrize("build", [models.affine, build_mlp, frozen])
def test_dimensions_of_models(build, name, count, message):
    check(lambda: build(**{"inputs": 2, "outputs": 1} | {name: count}), f"{name} {message}")


@pytest.mark.parametrize("build", [build_mlp, frozen])
@pytest.mark.parametrize(("options", "message"), [
    ({"widths": ()}, r"widths must be a sequence of one width or more, like \(256,\), got \(\)"),
    ({"widths": 256}, "widths must be a sequence of one width or more, .* got 256"),
    ({"widths": "256"}, "widths must be a sequence .* got '256'"),
    ({"widths": (3, 0)}, "widths must be at least 1, got 0"),
    ({"widths": (3.5,)}, "widths must be a whole number, got 3.5"),
    ({"activation": "gelu"}, "activation must be one of 'sigmoid', 'tanh', 'relu', 'erf', got 'gelu'"),
    ({"activation": np.tanh}, "activation must be one of .* got <ufunc 'tanh'>"),
    ({"w_std": 0.0}, "w_std must be positive, got 0.0"),
    ({"w_std": -1.0}, "w_std must be positive, got -1.0"),
    ({"w_std": NAN}, "w_std must be finite, got nan"),
    ({"b_std": -0.1}, "b_std must not be negative, got -0.1"),
    ({"b_std": "0.1"}, "b_std must be a number, got '0.1'"),
])  # fmt: skip
def test_networks(build, options, message):
    check(lambda: build(**options), message)


@rejects([
    (lambda: frozen(np.zeros(12)), r"theta must have shape \(13\), got \(12,\)"),
    (lambda: frozen(np.full(13, NAN)), "theta must be finite, got 13 NaN"),
    (lambda: frozen("head"), "theta must be real numbers"),
    (lambda: MODEL.apply(np.zeros(4), X[0]), r"theta must have shape \(3\), got \(4,\)"),
    (lambda: MODEL.apply(np.zeros((1, 3)), X[0]), r"theta must have shape \(3\), got \(1, 3\)"),
    (lambda: MODEL.apply(with_entry(THETA0, NAN), X[0]), "theta must be finite"),
    (lambda: MODEL.apply(MODEL, X[0]), "theta must be real numbers, got dtype object"),
    (lambda: MODEL.apply(THETA0, X[0, 0]), r"x must have shape \(n, 2\), got \(2,\)"),
    (lambda: MODEL.apply(THETA0, np.zeros((3, 5))), r"x must have shape \(n, 2\), got \(3, 5\)"),
    (lambda: MODEL.apply(THETA0, with_entry(X[0], INF)), "x must be finite"),
])  # fmt: skip
def test_parameters_and_inputs(call, message):
    check(call, message)
