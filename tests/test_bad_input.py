"""Bad graphs, matrices, data and models: a ValueError says what came and what was expected."""

import networkx as nx
import numpy as np
import pytest
from problems import CYCLE, affine
from rejection import INF, NAN, check, rejects, with_entry

from peerflow import mixing, models
from peerflow.algorithms import DGD
from peerflow.data import AgentData, half_moons, mnist_zeros_ones, partition
from peerflow.engines import state_matrix
from peerflow.flows import predict
from peerflow.linearize import linearize
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
    check(lambda: mixing.metropolis_hastings(graph), message)
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
    for call in (
        lambda: mixing.doubly_stochastic(W),
        lambda: mixing.spectral_gap(W),
        lambda: state_matrix(DGD, W, np.zeros((4, 2, 2))),
        lambda: predict(DGD, LIN, W, step_size=0.1),
        lambda: train(DGD, MODEL, DATA, W, THETA0, step_size=0.1, steps=1),
    ):
        check(call, message)


def test_a_mixing_matrix_of_another_size_or_of_none():
    check(lambda: predict(DGD, LIN, np.eye(3), step_size=0.1), r"W must have shape \(4, 4\), got \(3, 3\)")
    check(lambda: train(DGD, MODEL, DATA, np.eye(5), THETA0, step_size=0.1, steps=1), r"\(4, 4\), got \(5, 5\)")
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
    (lambda: AgentData(X[0], Y), r"x must have shape \(agents, samples, inputs\), got \(3, 2\)"),
    (lambda: AgentData(X, Y[:, :2]), r"y must have shape \(4, 3, outputs\), got \(4, 2, 1\)"),
    (lambda: AgentData(X, Y[..., 0]), r"y must have shape \(4, 3, outputs\), got \(4, 3\)"),
    (lambda: AgentData(with_entry(X, NAN), Y), "x must be finite, got 1 NaN or infinite of 24 entries"),
    (lambda: AgentData(X, with_entry(Y, INF)), "y must be finite, got 1 NaN"),
    (lambda: AgentData([[[1.0], [2.0]], [[3.0]]], Y), "x must be a rectangular array"),
    (lambda: AgentData(X.astype(str), Y), "x must be real numbers, got dtype <U"),
    (lambda: AgentData(X[:, :0], Y[:, :0]), r"x and y must not be empty, got shapes \(4, 0, 2\)"),
    (lambda: AgentData(X, Y[..., :0]), "x and y must not be empty"),
])  # fmt: skip
def test_agent_data(call, message):
    check(call, message)


def deal(x=X[0], y=Y[0], agents=1, samples=1, seed=0):
    return partition(x, y, agents=agents, samples=samples, seed=seed)


@rejects([
    (lambda: deal(agents=2, samples=2), "2 agents with 2 samples need 4, got a pool of 3"),
    (lambda: deal(x=X), r"x must have shape \(n, inputs\), got \(4, 3, 2\)"),
    (lambda: deal(y=Y[0, :2]), r"y must have shape \(3, outputs\), got \(2, 1\)"),
    (lambda: deal(y=Y[0, :, 0]), r"y must have shape \(3, outputs\), got \(3,\)"),
    (lambda: deal(x=with_entry(X[0], NAN)), "x must be finite"),
    (lambda: deal(x="data"), "x must be real numbers"),
    (lambda: mnist_zeros_ones(agents=8, samples=267), "8 agents with 267 samples need 2136, got a pool of 2128"),
    (lambda: half_moons(agents=2, samples=2, noise=-0.1), "noise must not be negative, got -0.1"),
    (lambda: half_moons(agents=2, samples=2, noise=NAN), "noise must be finite, got nan"),
    (lambda: half_moons(agents=2, samples=2, noise="0.1"), "noise must be a number, got '0.1'"),
    (lambda: half_moons(agents=2, samples=2, noise=None), "noise must be a number, got None"),
])  # fmt: skip
def test_data_sets(call, message):
    check(call, message)


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
@pytest.mark.parametrize("load", [half_moons, mnist_zeros_ones, deal])
def test_numbers_of_agents_and_samples(load, name, count, message):
    check(lambda: load(**{"agents": 2, "samples": 2} | {name: count}), f"{name} {message}")


SEEDS = [(-1, "at least 0, got -1"), (0.5, "a whole number, got 0.5"), (True, "a whole number"), (2**32, "below 2")]


@pytest.mark.parametrize(("seed", "message"), [*SEEDS, ("0", "a whole number, got '0'"), (None, "a whole number")])
def test_seeds(seed, message):
    for load in (half_moons, mnist_zeros_ones, deal):
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
