r"""How far the linear model can be trusted, measured before anything is trained.

After k steps the linear model predicts parameters :math:`\theta_q(k)`. There the network's own outputs can be had for
one forward pass, and the linear model's are known. Their distance, relative to how far the outputs have moved, is

.. math:: \varepsilon_q(k) = \frac{\|f(X; \theta_q(k)) - \bar f(X; \theta_q(k))\|}
    {\|\bar f(X; \theta_q(k)) - f(X; \theta_0)\|},

over all samples X and outputs. :func:`horizon` says from which step on it exceeds a tolerance. A few counts suffice,
each :math:`\sqrt2` times the last, so it costs about as many gradient steps as there are counts, not as there are
steps.

Training does not pass through :math:`\theta_q(k)`, though. It starts to depart from there at the second step, in part
to correct what :math:`\varepsilon_q` shows, in part because its gradients are others. So the estimate is one of order
of magnitude: with eight draws each of perceptrons 4, 16 and 64 wide, on images, the error in training was 0.2 to 3.3
times the estimate at the same step, and smaller than it in two cases of three; for convolutional ones of 32 channels 4
to 11 % were estimated, where 10 to 15 % came. Horizons differ by more where errors grow slowly. :func:`observed` is the
same number for a run that was really trained; at the first step the two are equal.

>>> import networkx as nx
>>> from peerflow import DGD, data, linearize, mixing, models, predict
>>> agents, model = data.half_moons(agents=4, samples=10), models.mlp(inputs=2, widths=(1024,), outputs=1)
>>> lin, dgd = linearize(model, agents, model.init(0)), DGD(mixing.metropolis_hastings(nx.cycle_graph(4)))
>>> bool((horizon(predict(dgd, lin, step_size=0.1), steps=100).steps > 100).all())
True
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from peerflow import _checks
from peerflow.engines import may_overflow
from peerflow.flows import Dynamics
from peerflow.training import Run


class Horizon(NamedTuple):
    """Where the linear model stops being right."""

    steps: Float[np.ndarray, "agents"]
    """For each agent, the step at which the error first exceeds the tolerance, interpolated on logarithmic scales from
    the second count on; inf where it does not within the counts."""
    counts: Int[np.ndarray, "count"]
    """The numbers of steps that were looked at."""
    errors: Float[np.ndarray, "count agents"]
    """The relative error at each of them."""


def horizon(dynamics: Dynamics, x=None, *, tolerance: float = 0.05, steps: int = 1000) -> Horizon:
    """Estimate for how many steps a prediction can be trusted, without training.

    Parameters
    ----------
    dynamics
        From :func:`peerflow.flows.predict`, of a model whose parameters are known.
    x
        The inputs (n, N) on which outputs are compared: by default, all agents' own.
    tolerance
        The error, relative to how far the outputs have moved.
    steps
        How far to look.

    Raises
    ------
    ValueError
        If only a kernel is known, x does not fit the model, or a number is out of range.
    """
    _checks.instance("dynamics", dynamics, Dynamics)
    tolerance, counts = _checks.positive("tolerance", tolerance), _ladder(_checks.count("steps", steps))
    trajectory = dynamics.after(counts)
    return _compared(dynamics, trajectory, x, trajectory.params, tolerance)


def observed(run: Run, dynamics: Dynamics, x=None, *, tolerance: float = 0.05) -> Horizon:
    """Return what :func:`horizon` estimates, from a training run of the same method, step size and loss.

    The run must have kept its parameters; it is looked at as far as it goes.

    Raises
    ------
    ValueError
        If the run kept its final parameters only, has other shapes than the prediction, or took no step.
    """
    _checks.instance("run", run, Run)
    _checks.instance("dynamics", dynamics, Dynamics)
    tolerance, agents = _checks.positive("tolerance", tolerance), dynamics.lin.agents.size
    if run.params.ndim != 3:
        raise ValueError("the run kept its final parameters only: train with final_only=False")
    _checks.shape_of("run.params", run.params.shape, ("steps", agents, run.model.size))
    counts = _ladder(_checks.count("the run's steps", len(run.params) - 1))
    return _compared(dynamics, dynamics.after(counts), x, run.params[counts], tolerance)


def _ladder(steps):
    """Return counts up to ``steps``, each about sqrt(2) times the last."""
    rungs = 2.0 ** (np.arange(int(2 * np.log2(steps)) + 1) / 2)
    return np.unique([*np.round(rungs).astype(int), steps])


@may_overflow
def _compared(dynamics, trajectory, x, params, tolerance) -> Horizon:
    """Compare the network's outputs at some parameters with the linear model's predictions."""
    lin = dynamics.lin
    if lin.model is None or lin.theta0 is None:
        raise ValueError("a horizon needs a model, and this expansion was made from a kernel alone")
    x = lin.agents.pooled()[0] if x is None else _checks.array("x", x, ("n", ...))
    expansion, x = lin.expand(x), jnp.asarray(x, np.float64)
    predicted = trajectory.outputs(expansion)
    flat = jnp.asarray(params.reshape(-1, params.shape[-1]), np.float64)
    real = np.asarray(_outputs(lin.model, flat, x)).reshape(predicted.shape)
    away, moved = (np.linalg.norm(each, axis=(-2, -1)) for each in (real - predicted, predicted - expansion.outputs0))
    errors = np.divide(away, moved, out=np.zeros_like(away), where=moved > 0)
    errors[~np.isfinite(errors)] = np.inf
    counts = trajectory.times.astype(int)
    return Horizon(np.array([_crossing(counts, each, tolerance) for each in errors.T]), counts, errors)


def _crossing(counts, errors, tolerance) -> float:
    """Return where the errors first exceed the tolerance."""
    above = np.flatnonzero(errors > tolerance)
    if len(above) == 0:
        return np.inf
    at = above[0]
    if at == 0 or not np.isfinite(errors[at]) or errors[at - 1] == 0:
        return float(counts[at])
    (low, high), (first, last) = np.log(errors[at - 1 : at + 1]), np.log(counts[at - 1 : at + 1])
    return float(np.exp(first + (np.log(tolerance) - low) / (high - low) * (last - first)))


@partial(jax.jit, static_argnums=0)
def _outputs(model, thetas, x):
    """Return the outputs of many parameter vectors on the same inputs."""
    return jax.lax.map(lambda theta: model.forward(theta, x), thetas)
