"""What does choosing among tens of thousands of settings cost, beside training with all of them?

Figure 2's network; five methods and two numbers of local steps on four graphs, 16 step sizes, up to 80 steps. One
training gives the losses after all numbers of steps, so 448 would be needed. Five are timed, one of each method.
"""

import moons
import networkx as nx
import numpy as np
import timing

from peerflow import ATC, CTA, DGD, ExactDiffusion, GradientTracking, linearize, mixing, predict, train, tune

RULES = (DGD, ATC, CTA, ExactDiffusion, GradientTracking)
GRAPHS = (nx.cycle_graph(8), nx.star_graph(7), nx.hypercube_graph(3), nx.complete_graph(8))
STEP_SIZES, STEPS = np.geomspace(0.05, 1.5, 16), 80


def rows():
    model, agents, theta0, W = moons.problem()
    Ws = [mixing.metropolis_hastings(graph) for graph in GRAPHS]
    methods = [rule(each) for rule in RULES for each in Ws]
    methods += [ATC(mixing.every(tau, each)) for tau in (4, 8) for each in Ws]
    trainings = len(methods) * len(STEP_SIZES)

    def search():
        lin = linearize(model, agents, theta0, accuracy=1e-6, steps=STEPS, step_size=STEP_SIZES[-1])
        return tune.tune(methods, lin, step_sizes=STEP_SIZES, counts=range(STEPS + 1))

    def training():
        for rule in RULES:
            train(rule(W), model, agents, theta0, step_size=0.5, steps=STEPS, final_only=True)

    taken = timing.race({"training": training, "search": search}, units={"training": len(RULES) / trainings}, rounds=5)
    found = search()
    alone = predict(methods[0], found.lin, step_size=STEP_SIZES[3]).after(range(STEPS + 1)).global_losses.mean(axis=1)
    yield timing.Row(
        f"{found.losses.size:,} settings: all trainings over the whole search",
        "tune, with linearize",
        **taken.ratio("training", "search"),
        at_least=True,
        error=timing.difference(found.losses[0, 3], alone),
        allowed=1e-10,
        note=f"{trainings} trainings of {STEPS} steps, from five",
    )


if __name__ == "__main__":
    timing.report(rows())
