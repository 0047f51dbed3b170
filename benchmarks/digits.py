"""What does a prediction cost where the kernel is not of low rank: scikit-learn's digits in ten classes?

Q = 8, D = 40, width 1024 (P = 76,810), 1,000 steps of size 1, labels skewed by Dirichlet(0.3). The losses are held
against the full linear recursion with the whole (3200 x 3200) kernel. One linearization serves all methods and graphs.
"""

import json
import subprocess
import sys
from functools import cache

import networkx as nx
import numpy as np
import plain
import timing
from sklearn.datasets import load_digits

from peerflow import ATC, CTA, DGD, data, linearize, mixing, models, predict, train

NETWORK = plain.Network(64, 1024, 10)
# The bound on residuals is for the worst case; losses are right to far more, and to 1e-4 in any case.
STEPS, STEP_SIZE, ACCURACY = 1000, 1.0, 0.1
# Steps by which training is timed.
SOME = 50


@cache
def problem():
    """Return the model, the agents, their common start, and test images with their labels."""
    pool, draw = load_digits(), np.random.default_rng(0)
    images, labels = pool.images.reshape(-1, 64) / 16, pool.target
    order = draw.permutation(len(labels))
    wanted, taken = draw.dirichlet(np.full(10, 0.3), size=8), np.zeros(len(labels), bool)
    agents = []
    for shares in wanted:
        # Images that suit the agent's labels come first; what its labels lack, others fill up.
        keys = draw.exponential(size=len(labels)) / (shares[labels] + 1e-6)
        mine = order[np.argsort(np.where(taken, np.inf, keys)[order], kind="stable")[:40]]
        taken[mine] = True
        agents.append(mine)
    x, y = images[np.array(agents)], np.eye(10)[labels[np.array(agents)]]
    model = models.mlp(inputs=64, widths=(1024,), outputs=10)
    return model, data.AgentData(x, y), np.asarray(model.init(0)), images[~taken], labels[~taken]


def expand():
    """Linearize for as many steps, to the accuracy that is asked for."""
    model, agents, theta0, *_ = problem()
    return lambda: linearize(model, agents, theta0, accuracy=ACCURACY, steps=STEPS, step_size=STEP_SIZE)


def memory():
    """Print the most memory that a process of its own holds, in GB, before and after linearizing."""
    run, before = expand(), timing.peak()
    run()
    print(json.dumps([before, timing.peak()]))


def right(outputs, labels):
    """Return the share of right answers of each agent, from outputs (agents, n, M)."""
    return (outputs.argmax(axis=-1) == labels).mean(axis=-1)


def training(method, step_size, steps):
    """Train for so many steps."""
    model, agents, theta0, *_ = problem()
    return train(method, model, agents, theta0, step_size=step_size, steps=steps, final_only=True)


def settings():
    """Return some methods and step sizes, by name."""
    cycle = mixing.metropolis_hastings(nx.cycle_graph(8))
    star = mixing.metropolis_hastings(nx.star_graph(7))
    return {
        "DGD, cycle, 1": (DGD(cycle), 1.0),
        "ATC, star, 1": (ATC(star), 1.0),
        "CTA, cycle, 0.5": (CTA(cycle), 0.5),
    }


def prediction(method, lin, step_size):
    """Return the losses of all agents after every step."""
    return predict(method, lin, step_size=step_size).after(np.arange(STEPS + 1)).losses


def misses(lin):
    """Return how far predicted losses are from the full linear recursion's, by setting."""
    _, agents, theta0, *_ = problem()
    x = agents.pooled()[0]
    residuals, kernel = NETWORK.forward(theta0, x).reshape(agents.y.shape) - agents.y, NETWORK.kernel(theta0, x)
    errors = {}
    for name, (method, step_size) in settings().items():
        full = plain.dual([method.rule.name], np.asarray(method.W), kernel, residuals, step_size, STEPS)[0]
        errors[name] = timing.difference(prediction(method, lin, step_size), full)
    return errors


def rows():
    (method, step_size), *_ = settings().values()
    contenders = {"linearize": expand(), "step": lambda: training(method, step_size, SOME)}
    taken = timing.race(contenders, units={"step": SOME}, rounds=3, seconds=120)
    lin = contenders["linearize"]()
    errors, note = misses(lin), f"rank {lin.rank}; a step {taken.best('step') * 1e3:.3g} ms"
    question, judged = f"digits, linearize for {STEPS} steps", {"error": max(errors.values()), "allowed": 1e-4}
    yield timing.Row(question, "time", **taken.ratio("linearize", "step"), unit="steps", goal=500, **judged, note=note)
    printed = subprocess.run([sys.executable, __file__, "--memory"], capture_output=True, text=True, check=True).stdout
    before, after = json.loads(printed)
    note = f"{before:.2f} GB before, with all imports"
    yield timing.Row(question, "peak memory", after, unit="GB", goal=2, **judged, note=note)
    for name, setting in settings().items():
        yield beside_training(name, lin, *setting, errors[name])
    for name, setting in settings().items():
        yield answers(name, lin, *setting)


def beside_training(name, lin, method, step_size, error):
    """Return the time of a further prediction, in units of the training that it predicts."""
    contenders = {
        "predict": lambda: prediction(method, lin, step_size),
        "train": lambda: training(method, step_size, SOME),
    }
    taken = timing.race(contenders, units={"train": SOME / STEPS}, rounds=5, seconds=30)
    return timing.Row(
        "digits, each further prediction",
        name,
        **taken.ratio("predict", "train"),
        unit="x its training",
        goal=0.1,
        error=error,
        allowed=1e-4,
        note=f"training {taken.best('train'):.3g} s, extrapolated from {SOME} steps",
    )


def answers(name, lin, method, step_size):
    """Return how far each agent's predicted share of right answers is from its trained one, on images held back."""
    *_, images, labels = problem()
    predicted = predict(method, lin, step_size=step_size).after([STEPS]).outputs(images)[0]
    ours, theirs = (right(each, labels) for each in (predicted, training(method, step_size, STEPS).outputs(images)))
    shown = ", ".join(f"{one:.3f}/{other:.3f}" for one, other in zip(ours, theirs, strict=True))
    return timing.Row(
        "digits, share of right answers, largest difference",
        name,
        float(np.abs(ours - theirs).max()),
        unit="",
        note=f"{len(labels)} images, predicted/trained by agent: {shown}",
    )


if __name__ == "__main__":
    memory() if "--memory" in sys.argv else timing.report(rows())
