r"""The maps behind :mod:`peerflow.models`, as values: equal ones compare equal, so that JAX compiles them once.

Those that are made of dense layers know their Jacobian without its P columns. With :math:`a_l` the input of layer l,
its bias's one among it and scaled as in (1), and :math:`g_l` the derivative of the outputs in what the layer gives,

.. math:: \frac{\partial f_m(x_i)}{\partial (\theta_l)_{ok}} = g_l[i, m, o]\; a_l[i, k], \qquad
    \widehat K = \sum_l (a_l a_l^\top)_{ij}\, (g_l g_l^\top)_{im, jm'},

so that the kernel costs products of activations, and of gradients in activations.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Up to so many inputs a layer is a sum of columns. The compiler takes it in one pass with the activation, and is faster
# than with a matrix product: 1.6 times with two inputs, 1.2 with four, and slower from six on.
_FEW = 4

# exp(r) = (q + p) / (q - p) to 2e-16 for |r| <= log(2)/2, p = r P(r^2) and q = Q(r^2): Cephes, exp.c. The last two
# are log(2) in two parts, the first of so few bits that small integers times it are exact.
_P = 1.26177193074810590878e-4, 3.02994407707441961300e-2, 9.99999999999999999910e-1
_Q = 3.00198505138664455042e-6, 2.52448340349684104192e-3, 2.27265548208155028766e-1, 2.0
_LOG2 = 6.93145751953125e-1, 1.42860682030941723212e-6


@jax.custom_jvp
def sigmoid(x):
    """Return 1 / (1 + exp(-x)), for float64 four times as fast as JAX's own, whose exponential is taken one by one.

    Beyond 708 in absolute value x counts as 708: what should vanish there is 3e-308.
    """
    if x.dtype != jnp.float64:
        return jax.nn.sigmoid(x)
    # Not jnp.clip and jnp.round: jaxlib 0.5.3 takes them of transposed constants wrongly, when it compiles.
    x = jax.lax.clamp(-708.0, x, 708.0)
    n = jnp.floor(x * (-1 / math.log(2)) + 0.5)
    r = -x - n * _LOG2[0] - n * _LOG2[1]
    p, q = r * _polynomial(_P, r * r), _polynomial(_Q, r * r)
    # Added to 1.5 * 2^52, an integer shows in the last bits; from there the exponent of 2^n moves to its place.
    bits = jax.lax.bitcast_convert_type(n + (1.5 * 2**52 + 1023), jnp.int64)
    power = jax.lax.bitcast_convert_type(bits << 52, jnp.float64)
    return (q - p) / ((q - p) + power * (q + p))


def _polynomial(coefficients: tuple[float, ...], x):
    value = coefficients[0]
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


@sigmoid.defjvp
def _sigmoid_jvp(primals, tangents):
    s = sigmoid(*primals)
    return s, s * (1 - s) * tangents[0]


ACTIVATIONS = {
    "sigmoid": sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "erf": jax.scipy.special.erf,
}


class Layer(NamedTuple):
    """The Jacobian in one layer's weights and biases, as a product."""

    a: Float[Array, "n k"]
    """What the layer's weights and biases are multiplied by."""
    g: Float[Array, "n outputs o"]
    """The derivative of the outputs in what the layer gives."""

    def jacobian(self) -> tuple[Float[Array, "n outputs ok"], Float[Array, "n outputs o"]]:
        """Return the Jacobian in the layer's weights, and in its biases."""
        weights = self.g[..., None] * self.a[:, None, None, :-1]
        return weights.reshape(*self.g.shape[:2], -1), self.g * self.a[:, None, -1:]


@dataclass(frozen=True)
class StandardNormal:
    """Draw this many standard normal numbers."""

    size: int

    def __call__(self, key):
        return jax.random.normal(key, (self.size,))


@dataclass(frozen=True)
class Perceptron:
    """The map (1)."""

    sizes: tuple[tuple[int, int], ...]
    """Of each layer, its inputs and its outputs."""
    activation: str
    w_std: float
    b_std: float

    @property
    def inputs(self) -> int:
        """The dimension of an input."""
        return self.sizes[0][0]

    @property
    def outputs(self) -> int:
        """The dimension of an output."""
        return self.sizes[-1][1]

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(n_out * (n_in + 1) for n_in, n_out in self.sizes)

    def __call__(self, theta, x):
        hidden, head = self.hidden(theta, x)
        return self.dense(head, hidden)

    def hidden(self, theta, x):
        """Run all layers but the last; return what they give and the last layer's weight and bias."""
        *body, head = self.split(theta)
        for layer in body:
            x = ACTIVATIONS[self.activation](self.dense(layer, x))
        return x, head

    def split(self, theta) -> list[tuple[Array, Array]]:
        """Return each layer's weight and bias."""
        # Not by slices: their gradients would be padded with zeros to the whole length, and added.
        sizes = [part for n_in, n_out in self.sizes for part in (n_out * n_in, n_out)]
        parts = iter(jnp.split(theta, np.cumsum(sizes)[:-1]))
        return [(next(parts).reshape(n_out, n_in), next(parts)) for n_in, n_out in self.sizes]

    def dense(self, layer, x):
        """Return what a layer gives, before the activation."""
        weight, bias = layer
        n_out, n_in = weight.shape
        scale = self.w_std / n_in**0.5
        if n_in <= _FEW:
            x = scale * x
            given = self.b_std * bias[None]
            for k in range(n_in):
                given = given + x[:, k, None] * weight[None, :, k]
            return given
        # The smaller of input and result is scaled, never the weights: gradients then are products as they stand, and
        # so are those of biases, by a column in place of a sum. The order of factors spares a transpose.
        column = jnp.full((len(x), 1), self.b_std, x.dtype)
        if n_in < n_out:
            return (weight @ (scale * x).T + bias[:, None] @ column.T).T
        return scale * (x @ weight.T) + column @ bias[None]

    def scaled(self, x):
        """Return what a layer's weights and biases are multiplied by."""
        return jnp.hstack([self.w_std / x.shape[1] ** 0.5 * x, jnp.full((len(x), 1), self.b_std, x.dtype)])

    def layers(self, theta, x) -> list[Layer]:
        """Return the Jacobian layer by layer."""
        *body, head = self.split(theta)
        inputs, slopes = [x], []
        for layer in body:
            before = self.dense(layer, x)
            x, slope = jax.jvp(ACTIVATIONS[self.activation], (before,), (jnp.ones_like(before),))
            inputs.append(x)
            slopes.append(slope)
        g = jnp.broadcast_to(jnp.eye(len(head[1]), dtype=x.dtype), (len(x), len(head[1]), len(head[1])))
        found = [Layer(self.scaled(inputs[-1]), g)]
        for at in range(len(body) - 1, -1, -1):
            weight = (*body, head)[at + 1][0]
            g = self.w_std / weight.shape[1] ** 0.5 * (g @ weight) * slopes[at][:, None, :]
            found.append(Layer(self.scaled(inputs[at]), g))
        return found[::-1]


@dataclass(frozen=True)
class AffineStart:
    """Draw weights of variance 1/N, and biases of zero."""

    inputs: int
    outputs: int

    def __call__(self, key):
        weight = jax.random.normal(key, (self.outputs * self.inputs,)) / jnp.sqrt(float(self.inputs))
        return jnp.concatenate([weight, jnp.zeros(self.outputs)])


@dataclass(frozen=True)
class Affine:
    """The affine map (15)."""

    inputs: int
    outputs: int

    def __call__(self, theta, x):
        return x @ theta[: -self.outputs].reshape(self.outputs, self.inputs).T + theta[None, -self.outputs :]

    def layers(self, theta, x) -> list[Layer]:
        """Return the Jacobian as that of one layer."""
        g = jnp.broadcast_to(jnp.eye(self.outputs, dtype=x.dtype), (len(x), self.outputs, self.outputs))
        return [Layer(jnp.hstack([x, jnp.ones((len(x), 1), x.dtype)]), g)]


@dataclass(frozen=True)
class LastLayer:
    """A network with a frozen body, whose numbers are part of its value."""

    whole: Perceptron
    body: bytes

    def __call__(self, head, x):
        n_in, outputs = self.whole.sizes[-1]
        layer = head[:-outputs].reshape(outputs, n_in), head[-outputs:]
        return self.whole.dense(layer, self._hidden(x, head.dtype))

    def layers(self, head, x) -> list[Layer]:
        """Return the Jacobian as that of one layer."""
        outputs = self.whole.sizes[-1][1]
        g = jnp.broadcast_to(jnp.eye(outputs, dtype=x.dtype), (len(x), outputs, outputs))
        return [Layer(self.whole.scaled(self._hidden(x, head.dtype)), g)]

    def _hidden(self, x, dtype):
        return self.whole.hidden(jnp.asarray(np.frombuffer(self.body), dtype), x)[0]


@dataclass(frozen=True)
class Wrapped:
    """A function of a tree of parameters as one of a vector."""

    function: Callable
    structure: Any
    shapes: tuple[tuple[int, ...], ...]

    def tree(self, theta):
        """Return the parameters (P,) in their own tree."""
        cuts = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1]
        parts = jnp.split(theta, cuts)
        return self.structure.unflatten([part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)])

    def __call__(self, theta, x):
        return self.function(self.tree(theta), x)
