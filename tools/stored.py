"""Write the problems that the explorer shows in the book's pages, with real training beside them.

    python tools/stored.py [FOLDER [NAME ...]]

Each becomes a script in FOLDER, ``book/_static/explorer`` if none is named, which puts a problem under its name. A
problem has few directions: those in which peers move most on the graphs, and with the algorithms, that are trained here
as well. ``LOST`` says how far a loss may be off for that, relative to the largest: ``tests/test_explorer_stored.py``.
"""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from peerflow import ATC, CTA, DGD, data, linearize, mixing, models, predict, train
from peerflow.explorer import pack, stored_run
from peerflow.linearize import Linearization

FOLDER = Path(__file__).parent.parent / "book" / "_static" / "explorer"
AGENTS, STEPS = 8, 200
GRAPHS = {"cycle": nx.cycle_graph, "star": lambda n: nx.star_graph(n - 1), "complete": nx.complete_graph}
LOST = {"moons": 1e-3, "mnist": 1e-2, "digits": 1e-2}


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set with the model that learns it."""

    agents: Callable[[], data.AgentData]
    model: models.Model
    step_size: float
    directions: int


def _digits() -> data.AgentData:
    images = data.digits(agents=AGENTS, samples=50, seed=0)
    return data.AgentData(np.reshape(images.x, (AGENTS, 50, 64)), images.y)


SOURCES = {
    "moons": Source(
        lambda: data.half_moons(agents=AGENTS, samples=200, noise=0.1, seed=0),
        models.mlp(inputs=2, widths=(256,), outputs=1),
        1.0,
        11,
    ),
    "mnist": Source(
        lambda: data.mnist_zeros_ones(agents=AGENTS, samples=200, seed=0),
        models.affine(inputs=784, outputs=1),
        0.005,
        24,
    ),
    "digits": Source(_digits, models.mlp(inputs=64, widths=(256,), outputs=10), 0.9, 32),
}


def methods() -> list:
    """Return what is trained: every algorithm on every graph."""
    matrices = [mixing.metropolis_hastings(graph(AGENTS)) for graph in GRAPHS.values()]
    return [rule(W) for W in matrices for rule in (DGD, ATC, CTA)]


def condensed(lin: Linearization, step_size: float, directions: int) -> Linearization:
    """Return the linear model in the directions in which peers move most while they train, alone or together."""
    counts = np.unique(np.geomspace(1, STEPS, 40).round().astype(int))
    alone = DGD(np.eye(AGENTS))
    states = [predict(method, lin, step_size=step_size).after(counts).coefficients for method in [alone, *methods()]]
    basis = np.linalg.svd(np.concatenate(states).reshape(-1, lin.rank), full_matrices=False)[2][:directions].T
    features = lin.features @ basis
    # Of these directions the steepest come first, as in any linear model.
    values, rotation = np.linalg.svd(features.reshape(-1, basis.shape[1]), full_matrices=False)[1:]
    return dataclasses.replace(lin, features=features @ rotation.T, singular_values=values, basis=None)


def stored(name: str) -> dict[str, Any]:
    """Return a problem as the page's script takes it."""
    source = SOURCES[name]
    agents, model = source.agents(), source.model
    theta0 = model.init(0)
    lin = linearize(model, agents, theta0, accuracy=0.01, steps=STEPS, step_size=source.step_size)
    runs = [
        stored_run(
            train(method, model, agents, theta0, step_size=source.step_size, steps=STEPS),
            method,
            step_size=source.step_size,
        )
        for method in methods()
    ]
    problem = pack(condensed(lin, source.step_size, source.directions), precision=32)
    return {"problem": problem, "training": runs, "step_size": source.step_size, "horizon": STEPS}


def main(folder: str | Path = FOLDER, *names: str) -> int:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names or SOURCES:
        text = json.dumps(stored(name), separators=(",", ":"))
        Path(folder, f"{name}.js").write_text(f"(window.peerflowStored ??= {{}}).{name} = {text};\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
