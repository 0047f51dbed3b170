"""What does a prediction of Figure 1 cost, in training steps?

An affine model on MNIST's zeros and ones, Q = 8 on the complete graph, D = 200, step size 1e-4. Affine, it is its own
linearization: the iteration must equal the training itself, and the flow an independent one with whole Jacobians.
"""

import networkx as nx
import numpy as np
import plain
import timing

from peerflow import ATC, CTA, DGD, data, linearize, mixing, models, predict, train

QUESTION = "Figure 1, linearize and 201 losses"
STEPS, STEP_SIZE = 200, 1e-4
ENOUGH, SECONDS = 40, 0.5


def rows():
    agents = data.mnist_zeros_ones(agents=8, samples=200, seed=0)
    model = models.affine(inputs=784, outputs=1)
    theta0, W = np.zeros(model.size), mixing.metropolis_hastings(nx.complete_graph(8))
    times, counts = np.arange(float(STEPS + 1)), np.arange(STEPS + 1)
    methods = {"DGD": DGD(W), "ATC": ATC(W), "CTA": CTA(W)}

    def prediction(name, kind):
        dynamics = predict(methods[name], linearize(model, agents, theta0), step_size=STEP_SIZE)
        return (dynamics.at(times) if kind == "flow" else dynamics.after(counts)).losses

    def training(name):
        return train(methods[name], model, agents, theta0, step_size=STEP_SIZE, steps=STEPS, final_only=True).losses

    contenders, units = {}, {}
    for name in methods:
        contenders[f"{name} step"], units[f"{name} step"] = (lambda n=name: training(n)), STEPS
        for kind in ("flow", "iteration"):
            contenders[f"{name} {kind}"] = lambda n=name, k=kind: prediction(n, k)
    taken = timing.race(contenders, units=units, seconds=60)

    ones = np.ones((*agents.x.shape[:2], 1))
    whole = plain.Linear(np.concatenate([agents.x, ones], axis=2), -agents.y)
    for name in methods:
        step = taken.best(f"{name} step")
        for kind in ("flow", "iteration"):
            expected = whole.flow(name, W, STEP_SIZE, STEPS) if kind == "flow" else training(name)
            yield timing.Row(
                QUESTION,
                f"{name}, {kind}",
                **taken.ratio(f"{name} {kind}", f"{name} step"),
                unit="steps",
                goal=max(ENOUGH, SECONDS / step),
                error=timing.difference(prediction(name, kind), expected),
                allowed=1e-10,
                note=f"a step {step * 1e3:.3g} ms, the prediction {taken.best(f'{name} {kind}'):.2g} s",
            )


if __name__ == "__main__":
    timing.report(rows())
