"""What does a prediction of Figure 2 cost, in training steps, and beside the literal exponential of (14)?

Half moons, Q = 8 on the cycle, D = 200, width 256 (P = 1025), step size 1: linearize, then all 201 losses of all
agents. The literal matrix of (12) has 8201 rows with the constant. With ``--long`` its exponential is taken, once, by
scipy; without, one product of that size is timed and the exponential counted in products. Either way the losses
are held against an independent solution with whole Jacobians.
"""

import sys

import networkx as nx
import numpy as np
import plain
import scipy.linalg
import timing

from peerflow import ATC, CTA, DGD, data, linearize, mixing, models, predict, train

QUESTION = "Figure 2, linearize and 201 losses"
STEPS, STEP_SIZE = 200, 1.0
NETWORK = plain.Network(2, 256, 1)
# scipy's expm of a matrix of norm about 4: a Pade approximant of degree 13 takes 6 products and a solve with as many
# right-hand sides, 4/3 of a product, and one squaring undoes the scaling by 2.
PRODUCTS = 6 + 4 / 3 + 1


def problem():
    """Return the model, the agents, their common start and the cycle's mixing matrix."""
    agents = data.half_moons(agents=8, samples=200, noise=0.1, seed=0)
    model = models.mlp(inputs=2, widths=(256,), outputs=1)
    return model, agents, np.asarray(model.init(0)), mixing.metropolis_hastings(nx.cycle_graph(8))


def linear(agents, theta0):
    """Return the same linear model with whole Jacobians."""
    jacobians = np.stack([NETWORK.jacobian(theta0, x) for x in agents.x])
    return plain.Linear(jacobians, np.stack([NETWORK.forward(theta0, x) for x in agents.x]) - agents.y)


def literal(W, whole):
    """Return the matrix of the literal equation (12a), with the constant as a last column."""
    Q, D, P = whole.jacobians.shape
    augmented = np.zeros((Q * P + 1,) * 2)
    augmented[:-1, :-1] = np.kron(W - np.eye(Q), np.eye(P))
    for q, J in enumerate(whole.jacobians):
        own = slice(q * P, (q + 1) * P)
        augmented[own, own] -= STEP_SIZE / D * J.T @ J
        augmented[own, -1] = -STEP_SIZE / D * J.T @ whole.residuals[q].ravel()
    return augmented


def exponential(W, whole):
    """Return the losses of (14) at times 0, 1, ...: one exponential, then its powers."""
    step = scipy.linalg.expm(literal(W, whole))
    states = [np.append(np.zeros(len(step) - 1), 1.0)]
    for _ in range(STEPS):
        states.append(step @ states[-1])
    return whole.losses(np.array(states)[:, :-1].reshape(STEPS + 1, len(W), -1))


def product(W, whole):
    """Return the seconds that one product of the literal matrix's size takes."""
    matrix = literal(W, whole)
    return timing.once(lambda: matrix @ matrix)[0]


def rows():
    model, agents, theta0, W = problem()
    times, counts = np.arange(float(STEPS + 1)), np.arange(STEPS + 1)
    methods = {"DGD": DGD(W), "ATC": ATC(W), "CTA": CTA(W)}

    def expand():
        # The bound on residuals is for the worst case; losses are right to far more, and have to be to 1e-10 below.
        return linearize(model, agents, theta0, accuracy=1e-6, steps=STEPS, step_size=STEP_SIZE)

    def prediction(method, kind):
        dynamics = predict(method, expand(), step_size=STEP_SIZE)
        return (dynamics.at(times) if kind == "flow" else dynamics.after(counts)).losses

    def training(method):
        return train(method, model, agents, theta0, step_size=STEP_SIZE, steps=STEPS, final_only=True)

    contenders, units = {"linearize": expand}, {}
    for name, method in methods.items():
        contenders[f"{name} step"], units[f"{name} step"] = (lambda m=method: training(m)), STEPS
        for kind in ("flow", "iteration"):
            contenders[f"{name} {kind}"] = lambda m=method, k=kind: prediction(m, k)
    taken = timing.race(contenders, units=units, rounds=9, seconds=60)

    whole = linear(agents, theta0)
    step = f"a step {taken.best('DGD step') * 1e3:.3g} ms"
    yield timing.Row("Figure 2, linearize alone", "", **taken.ratio("linearize", "DGD step"), unit="steps", note=step)
    exact = {}
    for name, method in methods.items():
        for kind, solve in (("flow", whole.flow), ("iteration", whole.iterate)):
            exact[name, kind] = solve(name, W, STEP_SIZE, STEPS)
            error = timing.difference(prediction(method, kind), exact[name, kind])
            fields = taken.ratio(f"{name} {kind}", f"{name} step")
            yield timing.Row(QUESTION, f"{name}, {kind}", **fields, unit="steps", goal=20, error=error, allowed=1e-10)
    yield against_literal(W, whole, taken.best("DGD flow"), prediction(methods["DGD"], "flow"), exact["DGD", "flow"])


def against_literal(W, whole, seconds, predicted, flow):
    """Return how much longer the literal exponential takes than the prediction of DGD's flow."""
    if "--long" in sys.argv:
        longer, expected = timing.once(lambda: exponential(W, whole))
        note = f"scipy's expm, once, {longer:.0f} s"
    else:
        longer, expected = PRODUCTS * product(W, whole), flow
        note = f"extrapolated from one product, {longer:.0f} s; the losses are from the exponential's Taylor series"
    return timing.Row(
        "the literal (8200 x 8200) exponential",
        "DGD, flow",
        longer / seconds,
        unit="x the prediction",
        goal=1000,
        at_least=True,
        error=timing.difference(predicted, expected),
        allowed=1e-10,
        note=note,
    )


if __name__ == "__main__":
    timing.report(rows())
