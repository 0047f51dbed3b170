"""Expected losses of the linear model against ten thousand runs, and against real training, seed by seed.

The setting is that of the chapter on chance: eight peers in a square, 20 points of the half moons each, width 1024. A
seed draws data, network and all batches and links.
"""

import networkx as nx
import numpy as np

from peerflow import ATC, CTA, DGD, Stochastic, chance, data, linearize, mixing, models, trials

RULES = {rule.name: rule for rule in (DGD, ATC, CTA)}
KINDS = {"batches": {"batch": 4}, "links": {"link_probability": 0.7}, "both": {"batch": 4, "link_probability": 0.7}}
RUNS, PART, NETWORKS = 10_000, 2_000, 8
COUNTS = np.arange(0, 101, 5)
STEP_SIZE = 1.0
# What a standard normal variable exceeds in absolute value with probability 5 % and 1 %.
QUANTILES = {"95": 1.959964, "99": 2.575829}


def settings():
    return [{"algorithm": name, "kind": kind, "seed": seed} for seed in range(8) for name in RULES for kind in KINDS]


def row(algorithm, kind, seed, runs=RUNS):
    """Return the shares of times and peers within the intervals of 10^4 runs, and how far the real network is."""
    W = mixing.metropolis_hastings(nx.random_geometric_graph(8, radius=0.5, seed=2))
    agents = data.half_moons(agents=8, samples=20, noise=0.1, seed=seed)
    model = models.mlp(inputs=2, widths=(1024,), outputs=1)
    theta0, setting = model.init(seed), {"step_size": STEP_SIZE}
    lin = linearize(model, agents, theta0, accuracy=0.01, steps=100, **setting)
    stochastic = Stochastic(RULES[algorithm](W), **KINDS[kind])
    expected = chance.expected(stochastic, lin, counts=COUNTS, **setting).losses
    first, second = np.zeros(expected.shape), np.zeros(expected.shape)
    for part in range(0, runs, PART):
        losses = trials.sampled(stochastic, lin, counts=COUNTS, runs=PART, seed=10 * seed + part, **setting).losses
        # Away from the expectation, so that the squares lose no digits.
        first, second = first + (losses - expected[:, None]).sum(1), second + ((losses - expected[:, None]) ** 2).sum(1)
    error = np.sqrt((second - first**2 / runs) / (runs - 1) / runs)
    # Nothing is random at the start.
    away = np.abs(first[1:] / runs / error[1:])
    # A network and its linear twin have the same draws: the mean of their difference has little of the draws' spread.
    apart = [
        trials.train(stochastic, model, agents, theta0, steps=100, seed=one, final_only=True, **setting).losses[COUNTS]
        - trials.sampled(stochastic, lin, counts=COUNTS, runs=1, seed=one, **setting).losses[:, 0]
        for one in range(NETWORKS)
    ]
    return {
        "rank": lin.rank,
        **{f"within {level}": float(np.mean(away < q)) for level, q in QUANTILES.items()},
        "furthest": float(away.max()),
        "expected": float(expected[-1].mean()),
        "average": float((expected + first / runs)[-1].mean()),
        "network": float(np.abs(np.mean(apart, axis=0) / expected).max()),
    }
