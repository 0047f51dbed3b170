"""A hundred thousand peers: predicted for 200 steps on one machine, and how the time grows.

Half moons, ten samples a peer, on a random geometric graph and on a torus, W sparse throughout. The losses of all peers
after every step are those of the linearized iteration. At small Q the answer is compared with the one from dense
matrices, and the exponents are fits to times of problems that differ in one size.
"""

import json
import subprocess
import sys
import time

import networkx as nx
import numpy as np
import timing

from peerflow import DGD, data, linearize, mixing, models, predict, stability, sweep, train

QUESTION = "100,000 peers, a million samples, 200 steps"
PEERS, SAMPLES, WIDTH, STEPS, STEP_SIZE = 100_000, 10, 256, 200, 1.0
# Training is timed for so many steps, and extrapolated.
TIMED = 3
# Around this problem one size at a time is varied. It is the least for which no Jacobian is held.
BASE = {"peers": 10_000, "degree": 10, "width": 256, "steps": 50}
SIZES = {
    "samples": ("peers", (10_000, 20_000, 40_000, 80_000)),
    "edges": ("degree", (10, 20, 40, 80)),
    "parameters": ("width", (128, 256, 512, 1024)),
    "steps": ("steps", (50, 100, 200, 400)),
}


def geometric(peers, degree=10):
    """Return a connected part, of so many peers, of a random geometric graph with about so many neighbours each."""
    more = int(1.02 * peers) + 10
    graph = nx.random_geometric_graph(more, np.sqrt(degree / (np.pi * more)), seed=0)
    first = next(iter(max(nx.connected_components(graph), key=len)))
    near = [first, *(node for _, node in nx.bfs_edges(graph, first))]
    return graph.subgraph(near[:peers])


def torus(peers):
    """Return the most square torus of exactly so many peers."""
    side = next(side for side in range(int(np.sqrt(peers)), 0, -1) if peers % side == 0)
    return nx.grid_2d_graph(side, peers // side, periodic=True)


def circulant(peers, degree):
    """Return a graph with exactly so many neighbours each."""
    return nx.circulant_graph(peers, range(1, degree // 2 + 1))


def problem(graph, width=WIDTH):
    agents = data.half_moons(agents=len(graph), samples=SAMPLES, noise=0.1, seed=0)
    model = models.mlp(inputs=2, widths=(width,), outputs=1)
    return DGD(mixing.metropolis_hastings(graph, sparse=True)), model, agents, model.init(0)


def predicted(method, model, agents, theta0, steps=STEPS, progress=None):
    """Return the losses of all agents after every step, and the linearization."""
    lin = linearize(model, agents, theta0, progress=progress)
    losses = sweep([method], lin, step_sizes=[STEP_SIZE], counts=np.arange(steps + 1), progress=progress)
    return losses[0, 0], lin


def large(name, graph):
    method, model, agents, theta0 = problem(graph)
    begun = time.perf_counter()
    losses, lin = predicted(method, model, agents, theta0, progress=True)
    seconds = time.perf_counter() - begun
    peak = timing.peak()
    step, (run, _) = timing.slope(
        lambda n: train(method, model, agents, theta0, step_size=STEP_SIZE, steps=n, counts=[n]), TIMED
    )
    error = timing.difference(losses[TIMED], run.losses[0])
    note = f"{len(graph)} peers, {graph.number_of_edges()} edges, rank {lin.rank}; error: beside trained losses"
    yield timing.Row(QUESTION, name, seconds, unit="s", goal=300, error=error, allowed=1e-3, note=note)
    yield timing.Row(QUESTION, f"{name}, memory", peak, unit="GB", goal=12, note="the most that was held")
    yield timing.Row(QUESTION, f"{name}, training", step * STEPS, unit="s", note=f"extrapolated from {2 * TIMED} steps")
    seconds, gap = timing.once(lambda: mixing.spectral_gap(method.W))
    note = f"{gap:.3g}; steps up to {stability.sufficient_limit(method, lin):.3g} are stable"
    yield timing.Row(QUESTION, f"{name}, spectral gap", seconds, unit="s", note=note)


def small():
    """Compare with dense matrices and the eigenvectors of A."""
    graph = geometric(300)
    method, model, agents, theta0 = problem(graph, width=32)
    losses, _ = predicted(method, model, agents, theta0)
    dense = DGD(method.dense)
    expected = predict(dense, linearize(model, agents, theta0), step_size=STEP_SIZE).after(np.arange(STEPS + 1)).losses
    yield timing.Row(
        "sparse and dense, 300 peers", "losses", None, error=timing.difference(losses, expected), allowed=1e-10
    )


def exponents():
    for name, (varied, sizes) in SIZES.items():
        seconds = []
        for size in sizes:
            given = BASE | {varied: size}
            graph = circulant(given["peers"], given["degree"])
            parts = problem(graph, given["width"])
            predicted(*parts, steps=2)  # compiled
            seconds.append(
                min(timing.once(lambda p=parts, n=given["steps"]: predicted(*p, steps=n))[0] for _ in range(2))
            )
            amounts = {
                "samples": SAMPLES * len(graph),
                "edges": graph.number_of_edges(),
                "parameters": parts[1].size,
                "steps": given["steps"],
            }
            yield timing.Row("many peers, one size varied", f"{amounts[name]:,} {name}", seconds[-1], unit="s")
        slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
        yield timing.Row("exponent of time, many peers", name, slope, unit="in the exponent", goal=1.1)


GRAPHS = {"random geometric graph": geometric, "torus": torus}


def rows():
    yield from small()
    yield from exponents()
    for name in GRAPHS:
        # The most memory that was ever held is a process's own.
        told = subprocess.run([sys.executable, __file__, name], check=True, stdout=subprocess.PIPE, text=True).stdout
        yield from (timing.Row(**json.loads(line)) for line in told.splitlines())


if __name__ == "__main__":
    name = " ".join(sys.argv[1:])
    timing.report(large(name, GRAPHS[name](PEERS)) if name else rows())
