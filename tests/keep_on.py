"""A run with a checkpoint, in a process of its own that may be killed: a program for test_checkpoints.py.

    python keep_on.py FOLDER

Says when it begins, and in the end a digest of all it kept.
"""

import hashlib
import sys

import networkx as nx

STEPS, EVERY, COUNTS = 20_000, 500, [0, 700, 10_001, 20_000]


def run(folder, steps=STEPS, **options):
    from peerflow import GradientTracking, data, mixing, models, train

    agents = data.half_moons(agents=3, samples=2, seed=0)
    model = models.mlp(inputs=2, widths=(4,), outputs=1)
    method = GradientTracking(mixing.metropolis_hastings(nx.path_graph(3)))
    given = {"step_size": 0.05, "steps": steps, "checkpoint": folder, "every": EVERY, "counts": COUNTS} | options
    return train(method, model, agents, model.init(0), **given)


def digest(run):
    return hashlib.sha256(run.losses.tobytes() + run.params.tobytes()).hexdigest()


if __name__ == "__main__":
    print("started", flush=True)
    print(digest(run(sys.argv[1])), flush=True)
