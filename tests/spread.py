"""Runs whose agents are spread over devices, in a process of its own: a program for test_sharding.py.

    python spread.py FOLDER DEVICES [COORDINATOR PROCESSES INDEX]

Every process has so many host devices, and stores what it gets in ``FOLDER/INDEX.npz``; if FOLDER is "long", it trains
for ever.
"""

import os
import sys

import networkx as nx
import numpy as np

AGENTS, SAMPLES, STEPS, STEP_SIZE = 16, 5, 30, 0.3
COUNTS = [0, 3, STEPS]
# What a process computes that has others beside it: each of them compiles it all.
SOME, FEW = (0, 5), ("one way", "tracking")


def problem():
    """Return methods by name, a model, data and a start."""
    from peerflow import ATC, CTA, DGD, GradientTracking, data, mixing, models

    agents = data.half_moons(agents=AGENTS, samples=SAMPLES, seed=1)
    model = models.mlp(inputs=2, widths=(8,), outputs=1)
    weights = mixing.metropolis_hastings
    ring, torus = nx.cycle_graph(AGENTS), nx.convert_node_labels_to_integers(nx.grid_2d_graph(4, 4, periodic=True))
    skewed = 0.5 * np.eye(AGENTS) + 0.3 * np.roll(np.eye(AGENTS), 1, axis=1) + 0.2 * np.roll(np.eye(AGENTS), 5, axis=1)
    methods = {
        "sparse ring": CTA(weights(ring, sparse=True)),
        "one way": DGD(skewed, objective="global"),
        "tracking": GradientTracking(weights(torus)),
        "taking turns": ATC(mixing.every(2, weights(ring))),
    }
    return methods, model, agents, model.init(0)


def _several():
    import jax

    return jax.process_count() > 1


def mixed(mesh=None):
    """Return products with random matrices, dense and sparse and more or less full, by name; in processes a few."""
    import jax
    import scipy.sparse

    from peerflow import sharding

    found = {}
    for seed in SOME if _several() else range(8):
        draw = np.random.default_rng(seed)
        W = np.mean([np.eye(AGENTS)[draw.permutation(AGENTS)] for _ in range(seed + 1)], axis=0)
        v = draw.standard_normal((AGENTS, 3))
        for name, same in {"dense": W, "sparse": scipy.sparse.csr_array(W)}.items():
            product = same @ v
            if mesh is not None:
                lie = (sharding.OWN, sharding.OWN), sharding.OWN
                spread = sharding.scatter(same, mesh, float), sharding.spread(v, mesh)
                product = sharding.gathered(jax.jit(sharding.mapped(lambda W, v: W @ v, mesh, *lie))(*spread))
            found[f"{name} product {seed}"] = product
    return found


def resumed(given, folder):
    """Return the last parameters of a run, which goes on from a checkpoint if there is a folder for it."""
    from peerflow import train

    run = {"step_size": STEP_SIZE, "final_only": True, "every": 10}
    if folder is not None:
        train(*given, steps=20, checkpoint=folder, **run)
    return train(*given, steps=STEPS, checkpoint=folder, **run).params


def results(mesh=None, folder=None):
    """Return what training and prediction give, by name."""
    from peerflow import linearize, predict, sharding, train

    methods, model, agents, theta0 = problem()
    agents = agents if mesh is None else sharding.place(agents, mesh)
    lin, found = linearize(model, agents, theta0), mixed(mesh)
    for name, method in methods.items():
        if _several() and name not in FEW:
            continue
        run = train(method, model, agents, theta0, step_size=STEP_SIZE, steps=STEPS)
        predicted = predict(method, lin, step_size=STEP_SIZE).after(COUNTS)
        found |= {f"{name}: losses": run.losses, f"{name}: params": run.params, f"{name}: global": run.global_losses}
        found[f"{name}: predicted"] = predicted.coefficients
    some = train(method, model, agents, theta0, step_size=STEP_SIZE, steps=STEPS, counts=COUNTS)
    found |= {"some losses": some.losses, "some params": some.params}
    return found | {"resumed": resumed((methods["tracking"], model, agents, theta0), folder)}


def moved(mesh):
    """Return what a training step on a ring sends: rows of each permutation, and other collectives, of none or all."""
    import re

    import jax

    from peerflow import DGD, mixing, sharding

    ring = DGD(mixing.metropolis_hastings(nx.cycle_graph(AGENTS))).placed(float, mesh)
    lie = (sharding.OWN, sharding.OWN), sharding.OWN
    program = jax.jit(sharding.mapped(lambda method, theta: method.W @ theta, mesh, *lie))
    text = program.lower(ring, sharding.spread(np.ones((AGENTS, 33)), mesh)).compile().as_text()
    rows = re.findall(r"= f64\[(\d+),33\]\S* collective-permute(?:-start)?\(", text)
    others = re.findall(r" (all-gather|all-reduce|all-to-all|reduce-scatter)", text)
    return {"ring sends": np.array(rows, dtype=int), "other collectives": np.array(len(others))}


def long(mesh):
    """Train until somebody stops it."""
    from peerflow import sharding, train

    methods, model, agents, theta0 = problem()
    given = methods["one way"], model, sharding.place(agents, mesh), theta0
    # Processes know each other, and programs are compiled, once something was trained.
    train(*given, step_size=1e-3, steps=10, counts=[10])
    print("started", flush=True)
    train(*given, step_size=1e-3, steps=10**9, counts=[10**9])


def main(folder, devices, coordinator=None, processes=1, index=0):
    # Before JAX is imported, that is looked at.
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    from peerflow import sharding

    if coordinator:
        sharding.join(coordinator, processes=int(processes), index=int(index), timeout=60)
    import jax

    mesh = jax.make_mesh((jax.device_count(),), ("agents",))
    if folder == "long":
        long(mesh)
    else:
        np.savez(os.path.join(folder, f"{index}.npz"), **results(mesh, os.path.join(folder, "kept")), **moved(mesh))


if __name__ == "__main__":
    main(*sys.argv[1:])
