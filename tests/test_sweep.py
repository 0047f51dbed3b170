"""A sweep is every single prediction, at once."""

from contextlib import nullcontext
from dataclasses import replace

import jax
import networkx as nx
import numpy as np
import pytest
from problems import AGENTS, CYCLE, RING, STAR, agent_data, assert_close, network
from rejection import check

from peerflow import ATC, CTA, DGD, linearize, mixing, predict, sweep
from peerflow.data import AgentData

COUNTS = [0, 3, 1, 40]


@pytest.fixture(scope="module")
def lin():
    problem = network(outputs=2)
    x, y = problem.agents.pooled()
    unequal = [slice(0, 1), slice(1, 6), slice(6, 8), slice(8, 12)]
    agents = AgentData([x[some] for some in unequal], [y[some] for some in unequal], weigh="samples")
    return linearize(problem.model, agents, problem.theta0)


def test_a_sweep_is_every_prediction(lin):
    methods = [rule(W) for W in (CYCLE, STAR, RING) for rule in (DGD, ATC, CTA)] + [ATC(RING, objective="global")]
    methods.append(DGD(mixing.metropolis_hastings(nx.cycle_graph(AGENTS), sparse=True)))
    step_sizes = [0.01, 0.2, 1.0]
    losses = sweep(methods, lin, step_sizes=step_sizes, counts=COUNTS)
    assert losses.shape == (11, 3, 4, AGENTS)
    for method, some in zip(methods, losses, strict=True):
        for step_size, one in zip(step_sizes, some, strict=True):
            assert_close(one, predict(method, lin, step_size=step_size).after(COUNTS).losses, tolerance=1e-11)
    everybody = sweep(methods[:2], lin, step_sizes=[0.2], counts=COUNTS, of="global")
    for method, (one,) in zip(methods, everybody, strict=False):
        assert_close(one, predict(method, lin, step_size=0.2).after(COUNTS).global_losses, tolerance=1e-11)


def test_what_a_sweep_refuses(lin):
    dgd = DGD(CYCLE)
    check(lambda: sweep([], lin, step_sizes=[0.1], counts=[1]), "at least one")
    check(lambda: sweep([dgd], lin, step_sizes=[0.1, -1.0], counts=[1]), "step_size must be positive, got -1.0")
    check(lambda: sweep([dgd], lin, step_sizes=0.1, counts=[1]), r"step_sizes must have shape \(step_sizes\)")
    check(lambda: sweep([dgd], lin, step_sizes=[0.1], counts=[1], of="all"), "of must be one of 'local', 'global'")
    check(lambda: sweep([dgd], lin, step_sizes=[0.1], counts=[-1]), "counts must not be negative")
    check(lambda: sweep([dgd, DGD(np.eye(3))], lin, step_sizes=[0.1], counts=[1]), r"W must have shape \(4, 4\)")


def test_other_losses_are_not_traced(lin):
    def absolute(f, y):
        return abs(f - y).sum(axis=-1)

    def final(step_size):
        return predict(DGD(CYCLE), lin, step_size=step_size, loss=absolute).after([3]).losses.sum()

    check(lambda: jax.grad(final)(0.1), 'only loss="mse" may be differentiated')


def test_sparse_matrices_are_swept_as_dense_ones(monkeypatch):
    """One by one, in pieces, with progress; and where agents have fewer samples than there are directions."""
    problem = network(2, widths=(16,))
    agents = agent_data(outputs=2, agents=6, samples=2)
    lin = linearize(problem.model, agents, problem.theta0)
    assert 2 * lin.features.shape[1] < lin.rank
    monkeypatch.setattr("peerflow.flows._SEEN", 3)
    seen = []
    monkeypatch.setattr("peerflow.flows.bar", lambda *_: nullcontext(seen.append))
    graphs = nx.cycle_graph(6), nx.star_graph(5)
    sparse = [ATC(mixing.metropolis_hastings(graph, sparse=True)) for graph in graphs]
    given = {"step_sizes": [0.2, 0.4], "counts": [0, 1, 2, 3, 9, 30, 4], "progress": True}
    losses = sweep([*sparse, DGD(sparse[0].W)], lin, **given)
    assert sum(seen) == 3 * 7
    for m, method in enumerate([*sparse, DGD(sparse[0].W)]):
        for s, step_size in enumerate(given["step_sizes"]):
            dense = predict(replace(method, W=method.dense), lin, step_size=step_size)
            assert_close(losses[m, s], dense.after(given["counts"]).losses)
            assert_close(predict(method, lin, step_size=step_size).after([30]).losses[0], losses[m, s, 5])
