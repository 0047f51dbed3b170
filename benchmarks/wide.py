"""Ten million parameters a peer: predicted where no Jacobian fits, beside what training costs.

Eight peers hold 200 images of MNIST's zeros and ones each, and a network with two hidden layers. Its Jacobian would
take 128 GB; the kernel comes from products of activations. Trained for a few steps, it must stay near the prediction.
"""

import networkx as nx
import numpy as np
import timing

from peerflow import DGD, data, linearize, mixing, models, predict, stability, train

QUESTION = "10^7 parameters a peer, 200 steps"
PEERS, SAMPLES, WIDTHS, STEPS, ACCURACY = 8, 200, (2740, 2870), 200, 1e-6
# Training is timed for so many steps, and extrapolated.
TIMED = 3


def rows():
    agents = data.mnist_zeros_ones(agents=PEERS, samples=SAMPLES, seed=0)
    model = models.mlp(inputs=784, widths=WIDTHS, outputs=1)
    yield from predicted(QUESTION, model, agents, model.init(0), step_size=1.0, goal=120)


def predicted(question, model, agents, theta0, *, step_size, goal=None):
    """Predict, ask for a prediction's parameters, and train for a few steps beside it."""
    method = DGD(mixing.metropolis_hastings(nx.cycle_graph(agents.size)))

    def prediction():
        lin = linearize(model, agents, theta0, accuracy=ACCURACY, steps=STEPS, step_size=step_size)
        return lin, predict(method, lin, step_size=step_size).after(np.arange(STEPS + 1)).losses

    seconds, (lin, losses) = timing.once(prediction)
    peak = timing.peak()
    dynamics = predict(method, lin, step_size=step_size)
    pulled, _ = timing.once(lambda: dynamics.after([STEPS]).params)
    step, (_, run) = timing.slope(
        lambda n: train(method, model, agents, theta0, step_size=step_size, steps=n, counts=[n]), TIMED
    )
    error = timing.difference(losses[2 * TIMED], run.losses[0])
    limit = stability.sufficient_limit(method, lin)
    note = f"P = {model.size:,}, rank {lin.rank}; steps up to {limit:.3g} are stable; error: beside trained losses"
    fields = {"unit": "s", "goal": goal, "error": error, "allowed": 1e-2, "note": note}
    yield timing.Row(question, "linearize and predict", seconds, **fields)
    yield timing.Row(question, "memory", peak, unit="GB", goal=6, note="the most that was held")
    yield timing.Row(question, "parameters at the end", pulled, unit="s", note="one product with the Jacobian an agent")
    yield timing.Row(question, "training", step * STEPS, unit="s", note=f"extrapolated from {2 * TIMED} steps")


if __name__ == "__main__":
    timing.report(rows())
