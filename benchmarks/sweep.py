"""Do a thousand settings cost one call, and can a predicted loss be differentiated?

Figure 2's network, all three algorithms, twelve graphs and 28 step sizes: 1008 settings, the losses of all agents after
each of 200 steps. Some settings are compared with calls of their own, and the derivative in the step size with
differences of fourth order.
"""

import jax
import moons
import networkx as nx
import numpy as np
import timing

from peerflow import ATC, CTA, DGD, linearize, mixing, predict, sweep

QUESTION = "1,008 settings: 3 algorithms, 12 graphs, 28 step sizes"
STEP_SIZES = np.geomspace(0.05, 1.5, 28)
COUNTS = np.arange(201)


def methods():
    """Return all algorithms on all graphs."""
    graphs = [nx.cycle_graph(8), nx.star_graph(7), nx.complete_graph(8), nx.path_graph(8)]
    graphs += [nx.hypercube_graph(3), nx.wheel_graph(8), nx.circulant_graph(8, [1, 2]), nx.barbell_graph(4, 0)]
    graphs += [nx.connected_watts_strogatz_graph(8, 4, 0.5, seed=seed) for seed in range(4)]
    return [rule(mixing.metropolis_hastings(graph)) for rule in (DGD, ATC, CTA) for graph in graphs]


def rows():
    model, agents, theta0, W = moons.problem()
    lin = linearize(model, agents, theta0, accuracy=1e-10, steps=COUNTS[-1], step_size=STEP_SIZES[-1])
    all_methods = methods()
    contenders = {"sweep": lambda: sweep(all_methods, lin, step_sizes=STEP_SIZES, counts=COUNTS)}
    taken = timing.race(contenders, rounds=5)
    swept, draw = contenders["sweep"](), np.random.default_rng(0)
    picked = list(zip(draw.integers(len(all_methods), size=40), draw.integers(len(STEP_SIZES), size=40), strict=True))
    alone = [predict(all_methods[m], lin, step_size=STEP_SIZES[s]).after(COUNTS).losses for m, s in picked]
    error = timing.difference([swept[m, s] for m, s in picked], alone)
    low, high = np.quantile(taken.rounds["sweep"], [0.25, 0.75])
    note = f"rank {lin.rank}; {len(picked)} settings compared with calls of their own"
    yield timing.Row(
        QUESTION, "one call", taken.best("sweep"), low, high, "s", goal=5, error=error, allowed=1e-10, note=note
    )
    for rule in (DGD, ATC, CTA):
        yield derivative(rule(W), lin)


def derivative(method, lin):
    """Return how long the derivative of a predicted loss takes, beside the loss."""

    def loss(step_size):
        return predict(method, lin, step_size=step_size).after([200]).losses.mean()

    slope, compiled = jax.jit(jax.grad(loss)), jax.jit(loss)
    taken = timing.race(
        {"loss": lambda: compiled(1.0).block_until_ready(), "derivative": lambda: slope(1.0).block_until_ready()},
        seconds=10,
    )
    h = 1e-3
    near = {k: float(loss(1.0 + k * h)) for k in (-2, -1, 1, 2)}
    differences = (8 * (near[1] - near[-1]) - (near[2] - near[-2])) / (12 * h)
    return timing.Row(
        "derivative of a loss after 200 steps in the step size",
        method.rule.name,
        **taken.ratio("derivative", "loss"),
        unit="x the loss, both compiled",
        error=abs(float(slope(1.0)) / differences - 1),
        allowed=1e-6,
    )


if __name__ == "__main__":
    timing.report(rows())
