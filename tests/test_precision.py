"""With JAX's 64-bit mode turned off after the import, what would silently lose digits says so instead."""

from functools import partial

import jax
import numpy as np
import pytest
from peerflow.algorithms import DGD
from problems import CYCLE, affine, network

from peerflow import kernels, models, objectives
from peerflow.compare import compare
from peerflow.flows import predict
from peerflow.integrate import integrate, iterate
from peerflow.linearize import linearize
from peerflow.literal import flow_equation
from peerflow.training import train

if hasattr(jax, "enable_x64"):
    disable_x64 = partial(jax.enable_x64, False)
else:  # before JAX 0.8
    from jax.experimental import disable_x64

PROBLEM = affine()
MODEL, AGENTS, THETA0, X = PROBLEM.model, PROBLEM.agents, PROBLEM.theta0, PROBLEM.agents.x[0]
LIN = linearize(MODEL, AGENTS, THETA0)
FLOW = predict(DGD, LIN, CYCLE, step_size=0.1).at([0.0, 1.0])
RUN = train(DGD, MODEL, AGENTS, CYCLE, THETA0, step_size=0.1, steps=1)
STEP = {"step_size": 0.1}

CALLS = {
    "linearize": lambda: linearize(MODEL, AGENTS, THETA0),
    "init": lambda: MODEL.init(0),
    "apply": lambda: MODEL.apply(THETA0, X),
    "jacobian": lambda: MODEL.jacobian(THETA0, X),
    "last_layer": lambda: models.last_layer(network().theta0, inputs=2, widths=(4, 3), outputs=1),
    "starts": lambda: models.starts(MODEL, AGENTS, THETA0),
    "train": lambda: train(DGD, MODEL, AGENTS, CYCLE, THETA0, steps=1, **STEP),
    "flow_equation": lambda: flow_equation(DGD, MODEL, AGENTS, CYCLE, THETA0, **STEP),
    "compare": lambda: compare(DGD, LIN, CYCLE, steps=1, **STEP),
    "integrate": lambda: integrate(DGD, LIN, CYCLE, [1.0], loss="mse", **STEP),
    "iterate": lambda: iterate(DGD, LIN, CYCLE, [1], loss="mse", **STEP),
    "empirical": lambda: kernels.empirical(MODEL, THETA0, X),
    "infinite_width": lambda: kernels.infinite_width(X),
    "expand": lambda: LIN.expand(X),
    "losses": lambda: FLOW.losses,
    "global_losses": lambda: FLOW.global_losses,
    "outputs": lambda: FLOW.outputs(X),
    "global losses of a run": lambda: RUN.global_losses,
    "outputs of a run": lambda: RUN.outputs(X),
    **{loss: lambda fn=fn: fn(np.ones((3, 2)), np.ones((3, 2))) for loss, fn in objectives.LOSSES.items()},
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_needs_64_bits_says_that_they_were_turned_off(call):
    message = r"64-bit mode was turned off after peerflow was imported: turn it on again by jax.config"
    with disable_x64(), pytest.raises(RuntimeError, match=message):
        call()
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(RuntimeError, match=message):
            call()
    finally:
        jax.config.update("jax_enable_x64", True)
    call()


def test_what_numpy_computes_does_not_care():
    with disable_x64():
        dynamics = predict(DGD, LIN, CYCLE, step_size=0.1)
        late = dynamics.at([0.0, 1.0]).params()
    np.testing.assert_array_equal(late, FLOW.params())
