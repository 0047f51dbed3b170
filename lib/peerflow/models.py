r"""The networks that agents train: parameters are one flat vector, outputs a matrix.

The multilayer perceptron follows (1) with the neural tangent parametrisation: layer :math:`l` computes
:math:`\sigma(\frac{s_w}{\sqrt{n_l}} W x + s_b b)` and every trainable entry starts as a standard normal. The last
layer has no activation.

>>> model = mlp(inputs=2, widths=(256,), outputs=1, activation="sigmoid", w_std=1.0, b_std=0.1)
>>> theta = model.init(0)
>>> theta.shape, model.apply(theta, [[0.0, 1.0], [1.0, 0.0]]).shape
((1025,), (2, 1))
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from peerflow import _checks

ACTIVATIONS = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "erf": jax.scipy.special.erf,
}


@dataclass(frozen=True, eq=False)
class Model:
    """A function of parameters and inputs. Build one with :func:`mlp`, :func:`affine` or :func:`last_layer`."""

    inputs: int
    """Dimension N of an input."""
    outputs: int
    """Dimension M of an output."""
    size: int
    """Number P of parameters."""
    sample: Callable[[Array], Float[Array, "params"]]
    """Draw initial parameters from a JAX random key."""
    forward: Callable[[Float[Array, "params"], Float[Array, "n inputs"]], Float[Array, "n outputs"]]
    """The map itself, unchecked: for use inside JAX transformations."""

    def init(self, seed: int) -> Float[Array, "params"]:
        """Draw initial parameters."""
        return self.sample(jax.random.key(_checks.seed(seed)))

    def apply(self, theta, x) -> Float[Array, "n outputs"]:
        """Return the outputs (n, M) for parameters (P,) and inputs (n, N)."""
        theta = jnp.asarray(_checks.array("theta", theta, (self.size,)))
        return self.forward(theta, jnp.asarray(_checks.array("x", x, ("n", self.inputs)), theta.dtype))


def mlp(
    *,
    inputs: int,
    widths: Sequence[int],
    outputs: int,
    activation: str = "sigmoid",
    w_std: float = 1.0,
    b_std: float = 0.1,
) -> Model:
    """Return the multilayer perceptron of (1) in the neural tangent parametrisation.

    Parameters
    ----------
    inputs, widths, outputs
        Dimensions of the input, of each hidden layer (at least one) and of the output.
    activation
        One of ``ACTIVATIONS``.
    w_std, b_std
        The paper's s_w and s_b: fixed scales of weights and biases.
    """
    layers = _layers(inputs, widths, outputs)
    act = _checks.choice("activation", activation, ACTIVATIONS)
    w_std, b_std = _checks.positive("w_std", w_std), _checks.nonnegative("b_std", b_std)

    def forward(theta, x):
        hidden, (weight, bias) = _hidden(theta, x, layers, act, w_std, b_std)
        return _dense(weight, bias, hidden, w_std, b_std)

    size = sum(n_out * (n_in + 1) for n_in, n_out in layers)
    return Model(inputs, outputs, size, _standard_normal(size), forward)


def affine(*, inputs: int, outputs: int) -> Model:
    r"""Return :math:`w^\top x + b` as in (15), without the scales of (1).

    The paper does not say how the affine model starts. Here weights are drawn with variance 1/N, so that outputs
    start of order one, and the bias is zero; ``jnp.zeros(model.size)`` is the zero start.
    """
    inputs, outputs = _checks.count("inputs", inputs), _checks.count("outputs", outputs)

    def sample(key):
        weight = jax.random.normal(key, (outputs * inputs,)) / jnp.sqrt(float(inputs))
        return jnp.concatenate([weight, jnp.zeros(outputs)])

    def forward(theta, x):
        return x @ theta[:-outputs].reshape(outputs, inputs).T + theta[None, -outputs:]

    return Model(inputs, outputs, outputs * (inputs + 1), sample, forward)


def last_layer(
    theta,
    *,
    inputs: int,
    widths: Sequence[int],
    outputs: int,
    activation: str = "sigmoid",
    w_std: float = 1.0,
    b_std: float = 0.1,
) -> Model:
    """Return the network :func:`mlp` of the same arguments with all layers but the last frozen at ``theta``.

    Its parameters are the last layer's weights and biases, scaled as in (1); it is linear in them. ``theta`` is the
    whole network's vector, and its last ``size`` entries are the frozen network's own last layer.
    """
    layers = _layers(inputs, widths, outputs)
    whole = mlp(inputs=inputs, widths=widths, outputs=outputs, activation=activation, w_std=w_std, b_std=b_std)
    theta = jnp.asarray(_checks.array("theta", theta, (whole.size,)))
    n_in = layers[-1][0]
    size = outputs * (n_in + 1)

    def forward(head, x):
        hidden, _ = _hidden(theta.astype(head.dtype), x, layers, ACTIVATIONS[activation], w_std, b_std)
        return _dense(head[:-outputs].reshape(outputs, n_in), head[-outputs:], hidden, w_std, b_std)

    return Model(inputs, outputs, size, _standard_normal(size), forward)


def _layers(inputs, widths, outputs) -> list[tuple[int, int]]:
    """Return each layer's input and output dimension."""
    if not isinstance(widths, Sequence) or isinstance(widths, str) or len(widths) == 0:
        raise ValueError(f"widths must be a sequence of one width or more, like (256,), got {widths!r}")
    named = [("inputs", inputs), *(("widths", width) for width in widths), ("outputs", outputs)]
    return list(pairwise(_checks.count(name, value) for name, value in named))


def _standard_normal(size):
    return lambda key: jax.random.normal(key, (size,))


def _hidden(theta, x, layers, act, w_std, b_std):
    """Run all layers but the last; return what they give and the last layer's weight and bias."""
    start, params = 0, []
    for n_in, n_out in layers:
        middle = start + n_out * n_in
        params.append((theta[start:middle].reshape(n_out, n_in), theta[middle : middle + n_out]))
        start = middle + n_out
    for weight, bias in params[:-1]:
        x = act(_dense(weight, bias, x, w_std, b_std))
    return x, params[-1]


def _dense(weight, bias, x, w_std, b_std):
    return w_std / weight.shape[1] ** 0.5 * (x @ weight.T) + b_std * bias[None, :]
