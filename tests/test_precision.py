"""With JAX's 64-bit mode turned off after the import, what would silently lose digits says so instead."""

from functools import partial

import jax
import numpy as np
import pytest
from problems import CYCLE, affine, network

from peerflow import (
    DGD,
    Stochastic,
    chance,
    factors,
    from_kernel,
    kernels,
    linearize,
    models,
    objectives,
    predict,
    sweep,
    train,
    trials,
)
from peerflow.compare import compare
from peerflow.literal import flow_equation

if hasattr(jax, "enable_x64"):
    disable_x64 = partial(jax.enable_x64, False)
else:  # before JAX 0.8
    from jax.experimental import disable_x64

PROBLEM = affine()
MODEL, AGENTS, THETA0, X = PROBLEM.model, PROBLEM.agents, PROBLEM.theta0, PROBLEM.agents.x[0]
LIN = linearize(MODEL, AGENTS, THETA0)
METHOD, STEP = DGD(CYCLE), {"step_size": 0.1}
DYNAMICS, OTHER = (predict(METHOD, LIN, loss=loss, **STEP) for loss in ("mse", objectives.squared_error))
FLOW = DYNAMICS.at([0.0, 1.0])
STOCHASTIC = Stochastic(METHOD, batch=2, link_probability=0.5)
RUN = train(METHOD, MODEL, AGENTS, THETA0, steps=1, **STEP)

CALLS = {
    "linearize": lambda: linearize(MODEL, AGENTS, THETA0),
    "init": lambda: MODEL.init(0),
    "apply": lambda: MODEL.apply(THETA0, X),
    "jacobian": lambda: MODEL.jacobian(THETA0, X),
    "last_layer": lambda: models.last_layer(network().theta0, inputs=2, widths=(4, 3), outputs=1),
    "starts": lambda: models.starts(MODEL, AGENTS, THETA0),
    "wrap": lambda: models.wrap(lambda params, x: x @ params, np.ones((2, 1))),
    "train": lambda: train(METHOD, MODEL, AGENTS, THETA0, steps=1, **STEP),
    "flow_equation": lambda: flow_equation(METHOD, MODEL, AGENTS, THETA0, **STEP),
    "compare": lambda: compare(METHOD, LIN, steps=1, **STEP),
    "at": lambda: DYNAMICS.at([1.0]),
    "after": lambda: DYNAMICS.after([1]),
    "at, integrated": lambda: OTHER.at([1.0]),
    "after, of any loss": lambda: OTHER.after([1]),
    "sweep": lambda: sweep([METHOD], LIN, step_sizes=[0.1], counts=[1]),
    "expected": lambda: chance.expected(STOCHASTIC, LIN, counts=[1], **STEP),
    "sampled": lambda: trials.sampled(STOCHASTIC, LIN, counts=[1], runs=2, **STEP),
    "train by chance": lambda: trials.train(STOCHASTIC, MODEL, AGENTS, THETA0, steps=1, **STEP),
    "products": lambda: factors.cross_products(MODEL, THETA0, X, X, np.eye(len(X))),
    "evaluate": lambda: FLOW.evaluate(X, np.ones((len(X), 1))),
    "evaluate of a run": lambda: RUN.evaluate(X, np.ones((len(X), 1))),
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
    kernel, outputs0 = kernels.empirical(MODEL, THETA0, AGENTS.pooled()[0]), LIN.outputs0.reshape(-1, 1)
    with disable_x64():
        system = predict(METHOD, LIN, **STEP).system()
        late = from_kernel(kernel, outputs0, AGENTS).features
    for one, other in zip(system, DYNAMICS.system(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(late, from_kernel(kernel, outputs0, AGENTS).features)
