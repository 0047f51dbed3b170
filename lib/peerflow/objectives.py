r"""What an agent minimises, (2)-(3), and the convention on which training and prediction must agree.

Agent q's objective is :math:`L_q(\theta) = \frac1D \sum_i \ell(f(x_{q,i};\theta), y_{q,i})`, the whole network's
:math:`L = \frac1Q \sum_q L_q`. The updates (4)-(6) follow the gradient of :math:`L_q`; the stacked forms (7), (8) and
(12) that of :math:`L`, which is Q times smaller in each agent's block. ``objective`` picks one of the two, everywhere.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from peerflow import _checks


def gradient_scale(objective: str, agents: int) -> float:
    """Return the factor in front of the local gradient: 1 for ``"local"``, (4)-(6); 1/Q for ``"global"``, (7)-(12)."""
    return _checks.choice("objective", objective, {"local": 1.0, "global": 1.0 / _checks.count("agents", agents)})


def squared_error(f: Float[Array, "n outputs"], y: Float[Array, "n outputs"]) -> Float[Array, "n"]:
    r"""Return :math:`\frac12 \|f - y\|_2^2` of each sample."""
    f, y = _pair(f, y)
    return jnp.sum((f - y) ** 2, axis=-1) / 2


def cross_entropy(f: Float[Array, "n outputs"], y: Float[Array, "n outputs"]) -> Float[Array, "n"]:
    r"""Return :math:`-\sum_m y_m \log \mathrm{softmax}(f)_m` of each sample: targets are one-hot, outputs logits."""
    f, y = _pair(f, y)
    return -jnp.sum(y * jax.nn.log_softmax(f), axis=-1)


def binary_cross_entropy(f: Float[Array, "n outputs"], y: Float[Array, "n outputs"]) -> Float[Array, "n"]:
    """Return the logistic loss of each sample, summed over outputs: targets are 0 or 1, outputs logits."""
    f, y = _pair(f, y)
    return jnp.sum(jax.nn.softplus(f) - y * f, axis=-1)


def _pair(f, y):
    """Check that targets have the outputs' shape: (n, 1) against (n,) would broadcast to (n, n)."""
    f = _checks.array("f", f, ("n", "outputs"))
    return f, _checks.array("y", y, f.shape)


LOSSES = {"mse": squared_error, "cross_entropy": cross_entropy, "binary_cross_entropy": binary_cross_entropy}
