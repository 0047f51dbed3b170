"""Predicted against trained final losses: of many settings, and of a graph's weights, on images of digits.

Eight peers hold 96 of scikit-learn's digits, and learn whether a digit is even or odd. A seed draws images, split and
network. What is chosen is chosen on another draw (of images and network, or of the network alone) than it is trained
on.
"""

from itertools import count, islice

import networkx as nx
import numpy as np

from peerflow import (
    ATC,
    DGD,
    ExactDiffusion,
    GradientTracking,
    data,
    linearize,
    mixing,
    models,
    predict,
    splits,
    sweep,
    train,
    tune,
)

AGENTS, SAMPLES, STEPS = 8, 96, 40
LOCAL = 4
RULES = {rule.name: rule for rule in (DGD, ATC, GradientTracking, ExactDiffusion)}
GRAPHS = {"cycle": nx.cycle_graph(8), "star": nx.star_graph(7), "cube": nx.hypercube_graph(3)}
SPLITS = {"labels": splits.by_label(0.2), "sizes": splits.by_size(0.5)}
STEP_SIZES = [0.2, 0.4, 0.8, 1.6]


def settings():
    names = [*RULES, "local steps"]
    parts = [
        {"width": width, "seed": seed, "rule": rule} for width in (64, 1024) for seed in range(8) for rule in names
    ]
    return parts + [{"graph": graph, "seed": seed} for graph in range(10) for seed in range(8)]


def row(seed, **setting):
    return weights(seed, **setting) if "graph" in setting else settings_of(seed, **setting)


def settings_of(seed, width, rule):
    """Return the losses of 24 settings of one rule, by split, graph and step size: trained, and predicted twice.

    "predicted" is from the very network and images that are trained on, "chosen" from another draw of both.
    """
    graphs = [mixing.metropolis_hastings(graph) for graph in GRAPHS.values()]
    methods = [ATC(mixing.every(LOCAL, W)) if rule == "local steps" else RULES[rule](W) for W in graphs]
    result = {"predicted": [], "chosen": [], "trained": []}
    for split in SPLITS.values():
        for name, one in (("predicted", seed), ("chosen", seed + 100)):
            lin = linearize(*problem(one, one, split, width))
            losses = sweep(methods, lin, step_sizes=STEP_SIZES, counts=[STEPS], of="global")
            result[name] += losses.mean(axis=(2, 3)).ravel().tolist()
        result["trained"] += [
            trained(method, problem(seed, seed, split, width), step_size)
            for method in methods
            for step_size in STEP_SIZES
        ]
    return result


def weights(seed, graph):
    """Return the gap and the losses, predicted and trained, under three weights of one graph's links.

    Weights are found on one network, and predicted and trained on another.
    """
    seen, held_out = (problem(seed, draw, SPLITS["labels"], 1024) for draw in (seed + 100, seed))
    metropolis = ATC(mixing.metropolis_hastings(graphs(10)[graph]))
    goal = tune.final_loss(linearize(*seen), step_size=STEP_SIZES[2], steps=STEPS)
    lin = linearize(*held_out)
    result = {}
    for name, method in {
        "metropolis": metropolis,
        "fastest": tune.reweigh(metropolis, tune.slowest),
        "loss": tune.reweigh(metropolis, goal),
    }.items():
        told = predict(method, lin, step_size=STEP_SIZES[2]).after([STEPS]).global_losses.mean()
        real = trained(method, held_out, STEP_SIZES[2])
        result[name] = [mixing.spectral_gap(method.W), float(told), real]
    return result


def graphs(number):
    """Return the first connected ones of random graphs with eight nodes."""
    drawn = (nx.gnp_random_graph(AGENTS, 0.35, seed=seed) for seed in count())
    return list(islice(filter(nx.is_connected, drawn), number))


def problem(images, network, split, width):
    """Return model, agents and start; pixels are centred, and their mean square is 1."""
    x, y = data.digits(agents=1, samples=SAMPLES, seed=images).pooled()
    x, digit = x.reshape(SAMPLES, -1) - x.mean(axis=0).reshape(-1), y.argmax(axis=1)
    targets = 2.0 * (digit % 2)[:, None] - 1
    agents = splits.split(x / x.std(), targets, split, agents=AGENTS, seed=images, labels=digit, least=3)
    model = models.mlp(inputs=64, widths=(width,), outputs=1, activation="erf", w_std=1.0, b_std=0.1)
    return model, agents, model.init(network)


def trained(method, of, step_size):
    """Return the global loss at the end, the mean over the agents."""
    run = train(method, *of, step_size=step_size, steps=STEPS, final_only=True)
    return float(np.mean(run.global_losses))
