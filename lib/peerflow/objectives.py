r"""What an agent minimizes, (2)-(3), and the convention on which training and prediction must agree.

Agent q's objective is :math:`L_q(\theta) = \frac1D \sum_i \ell(f(x_{q,i};\theta), y_{q,i})`, the whole network's
:math:`L = \frac1Q \sum_q L_q`. The updates (4)-(6) follow the gradient of :math:`L_q`; the stacked forms (7), (8) and
(12) that of :math:`L`, which is Q times smaller in each agent's block. ``objective`` picks one of the two, everywhere.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from peerflow import _checks


def gradient_scale(objective: str, agents: int) -> float:
    """Return the factor in front of the local gradient: 1 for ``"local"``, (4)-(6); 1/Q for ``"global"``, (7)-(12)."""
    return _checks.choice("objective", objective, {"local": 1.0, "global": 1.0 / _checks.count("agents", agents)})


def squared_error(f, y) -> Float[Array, "n"]:
    r"""Return :math:`\frac12 \|f - y\|_2^2` of each sample, for outputs and targets (n, outputs)."""
    f, y = _pair(f, y)
    return jnp.sum((f - y) ** 2, axis=-1) / 2


def cross_entropy(f, y) -> Float[Array, "n"]:
    r"""Return :math:`-\sum_m y_m \log \mathrm{softmax}(f)_m` of each sample.

    Outputs (n, outputs) are logits, targets (n, outputs) one-hot.
    """
    f, y = _pair(f, y)
    return -jnp.sum(y * jax.nn.log_softmax(f), axis=-1)


def binary_cross_entropy(f, y) -> Float[Array, "n"]:
    """Return the logistic loss of each sample, summed over outputs.

    Outputs (n, outputs) are logits, targets (n, outputs) 0 or 1.
    """
    f, y = _pair(f, y)
    return jnp.sum(jax.nn.softplus(f) - y * f, axis=-1)


def _pair(f, y):
    """Check that targets have the outputs' shape: (n, 1) against (n,) would broadcast to (n, n).

    Both get the higher precision of the two, or a softmax would be taken in the lower one.
    """
    _checks.double_precision()
    f = _checks.array("f", f, ("n", "outputs"))
    y = _checks.array("y", y, f.shape)
    dtype = np.promote_types(f.dtype, y.dtype)
    return f.astype(dtype), y.astype(dtype)


def loss_function(loss: str | Callable, y) -> Callable:
    """Return the loss of this name from ``LOSSES``, if it suits targets (..., outputs); return a callable as it is.

    Raises
    ------
    ValueError
        If the name is unknown, or a cross-entropy is asked for targets that are not probabilities, or for one output;
        or if a callable does not return one number for each sample.
    """
    if callable(loss):
        _one_a_sample(loss, np.shape(y)[-2:])
        return loss
    function = _checks.choice("loss", loss, LOSSES)
    if loss == "mse":
        return function
    y = _checks.array("y", y)
    if loss == "cross_entropy" and y.shape[-1] == 1:
        # The softmax of one logit is 1 whatever the parameters: nothing would ever move.
        raise ValueError("cross_entropy needs two outputs or more, got 1: use loss='binary_cross_entropy'")
    if (y < 0).any() or (y > 1).any():
        # Labels -1 and 1, say: the loss would have no lower bound.
        raise ValueError(f"{loss} needs targets from 0 to 1, got values from {y.min()} to {y.max()}")
    if loss == "cross_entropy" and (np.abs(y.sum(axis=-1) - 1) > 1e-6).any():
        raise ValueError("cross_entropy needs targets that sum to 1 over the outputs, as one-hot ones do")
    return function


def _one_a_sample(loss, shape):
    """Refuse a function that returns (n, 1), say: times the samples' weights (n,) it would broadcast to (n, n)."""
    outputs = jax.ShapeDtypeStruct(shape, jnp.float64)
    try:
        losses = jax.eval_shape(loss, outputs, outputs)
    except (TypeError, ValueError) as error:
        raise ValueError(f"loss must be a JAX function of outputs and targets {shape}: {error}") from error
    have = getattr(losses, "shape", type(losses).__name__)
    if have != shape[:1]:
        raise ValueError(f"loss must return one number for each of {shape[0]} samples, shape {shape[:1]}, got {have}")


class Evaluation(NamedTuple):
    """How good outputs are on a data set."""

    losses: Float[np.ndarray, "*batch"]
    """The mean loss over the samples."""
    accuracy: Float[np.ndarray, "*batch"]
    """The share of samples whose class is right: the largest output's, or for one output the side of the middle.
    NaN, as a diverging run may give it, is never right."""


def evaluate(outputs, y, loss: str | Callable = "mse") -> Evaluation:
    """Return mean loss and accuracy of outputs (..., n, outputs) against targets (n, outputs).

    With one output the classes are 0 and 1, and the middle is 1/2; for the binary cross-entropy, whose outputs are
    logits, it is 0.

    Raises
    ------
    ValueError
        If shapes do not fit, the targets do not suit the loss, or anything but a diverging run's outputs holds NaN.
    """
    _checks.double_precision()
    outputs = _checks.array("outputs", outputs, finite=False)
    if outputs.ndim < 2 or 0 in outputs.shape[-2:]:
        raise ValueError(f"outputs must have shape (..., n, outputs), not empty, got {outputs.shape}")
    y = _checks.array("y", y, outputs.shape[-2:])
    loss_fn = loss_function(loss, y)
    flat = outputs.reshape(math.prod(outputs.shape[:-2]), *y.shape)
    losses = _means(loss_fn, flat, y.astype(flat.dtype))
    middle = 0.0 if loss == "binary_cross_entropy" else 0.5
    said, meant = (f[..., 0] > m if y.shape[-1] == 1 else f.argmax(axis=-1) for f, m in ((flat, middle), (y, 0.5)))
    right = (said == meant) & ~np.isnan(flat).any(axis=-1)
    return Evaluation(*(np.asarray(each).reshape(outputs.shape[:-2]) for each in (losses, right.mean(axis=-1))))


@partial(jax.jit, static_argnums=0)
def _means(loss_fn, outputs, y):
    """Return the mean loss of each of these outputs, compiled once per loss and shape."""
    return jax.lax.map(lambda f: jnp.mean(loss_fn(f, y)), outputs)


LOSSES = {"mse": squared_error, "cross_entropy": cross_entropy, "binary_cross_entropy": binary_cross_entropy}
