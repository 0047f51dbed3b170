r"""The networks that agents train: parameters are one flat vector, outputs a matrix.

The multilayer perceptron follows (1) with the neural tangent parametrization: layer :math:`l` computes
:math:`\sigma(\frac{s_w}{\sqrt{n_l}} W x + s_b b)` and every trainable entry starts as a standard normal. The last
layer has no activation.

>>> model = mlp(inputs=2, widths=(256,), outputs=1, activation="sigmoid", w_std=1.0, b_std=0.1)
>>> theta = model.init(0)
>>> theta.shape, model.apply(theta, [[0.0, 1.0], [1.0, 0.0]]).shape
((1025,), (2, 1))
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from peerflow import _checks
from peerflow.data import AgentData

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
        _checks.double_precision()
        return self.sample(jax.random.key(_checks.seed(seed)))

    def apply(self, theta, x) -> Float[Array, "n outputs"]:
        """Return the outputs (n, M) for parameters (P,) and inputs (n, N)."""
        return self.forward(*self._checked(theta, x))

    def jacobian(self, theta, x) -> Float[Array, "n outputs params"]:
        """Return the outputs' Jacobian (n, M, P) in the parameters, for parameters (P,) and inputs (n, N)."""
        return _jacobian(self, *self._checked(theta, x))

    def _checked(self, theta, x):
        _checks.double_precision()
        theta = jnp.asarray(_checks.array("theta", theta, (self.size,)))
        return theta, jnp.asarray(_checks.array("x", x, ("n", self.inputs)), theta.dtype)


@partial(jax.jit, static_argnums=0)
def _jacobian(model, theta, x):
    """Return the Jacobian, compiled once per model."""
    return jax.vmap(jax.jacrev(lambda theta, one: model.forward(theta, one[None])[0]), (None, 0))(theta, x)


def mlp(
    *,
    inputs: int,
    widths: Sequence[int],
    outputs: int,
    activation: str = "sigmoid",
    w_std: float = 1.0,
    b_std: float = 0.1,
) -> Model:
    """Return the multilayer perceptron of (1) in the neural tangent parametrization.

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
    _checks.double_precision()
    layers = _layers(inputs, widths, outputs)
    whole = mlp(inputs=inputs, widths=widths, outputs=outputs, activation=activation, w_std=w_std, b_std=b_std)
    w_std, b_std = float(w_std), float(b_std)  # numpy's own float64 would turn float32 outputs into float64
    theta = jnp.asarray(_checks.array("theta", theta, (whole.size,)))
    n_in = layers[-1][0]
    size = outputs * (n_in + 1)

    def forward(head, x):
        hidden, _ = _hidden(theta.astype(head.dtype), x, layers, ACTIVATIONS[activation], w_std, b_std)
        return _dense(head[:-outputs].reshape(outputs, n_in), head[-outputs:], hidden, w_std, b_std)

    return Model(inputs, outputs, size, _standard_normal(size), forward)


def starts(model: Model, agents: AgentData, theta0) -> Float[Array, "agents params"]:
    """Return all agents' initial parameters, one row each, from a common start (params,) or one row per agent.

    Raises
    ------
    ValueError
        If the model does not fit the agents' data, theta0 fits neither, or it holds NaN.
    """
    _checks.double_precision()
    _checks.instance("model", model, Model)
    _checks.instance("agents", agents, AgentData)
    for name, have, want in (
        ("inputs", agents.x.shape[2], model.inputs),
        ("outputs", agents.y.shape[2], model.outputs),
    ):
        if have != want:
            raise ValueError(f"the model has {want} {name}, but the agents' data have {have}")
    theta = _checks.array("theta0", theta0)
    if theta.shape not in ((model.size,), (agents.agents, model.size)):
        raise ValueError(
            f"theta0 must have shape ({model.size},) or ({agents.agents}, {model.size}), got {theta.shape}"
        )
    return jnp.broadcast_to(jnp.asarray(theta), (agents.agents, model.size))


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
