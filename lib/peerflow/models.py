r"""The networks that agents train: parameters are one flat vector, outputs a matrix.

The multilayer perceptron follows (1) with the neural tangent parametrization: layer :math:`l` computes
:math:`\sigma(\frac{s_w}{\sqrt{n_l}} W x + s_b b)` and every trainable entry starts as a standard normal. The last
layer has no activation.

>>> model = mlp(inputs=2, widths=(256,), outputs=1, activation="sigmoid", w_std=1.0, b_std=0.1)
>>> theta = model.init(0)
>>> theta.shape, model.apply(theta, [[0.0, 1.0], [1.0, 0.0]]).shape
((1025,), (2, 1))
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from peerflow import _checks
from peerflow.data import AgentData
from peerflow.networks import ACTIVATIONS, Affine, AffineStart, LastLayer, Perceptron, StandardNormal, Wrapped


@dataclass(frozen=True)
class Model:
    """A function of parameters and inputs, built by :func:`mlp`, :func:`affine`, :func:`last_layer` or :func:`wrap`.

    Equal models are one to JAX: what was compiled for one serves the other.
    """

    inputs: int | None
    """Dimension N of an input; None if inputs may have any shape that ``forward`` takes."""
    outputs: int | None
    """Dimension M of an output; None if it follows from ``forward``."""
    size: int
    """Number P of parameters."""
    sample: Callable[[Array], Float[Array, "params"]] | None
    """Draw initial parameters from a JAX random key; None if the parameters came with the model."""
    forward: Callable[[Float[Array, "params"], Float[Array, "n *input"]], Float[Array, "n outputs"]]
    """The map itself, unchecked: for use inside JAX transformations. A map of :mod:`peerflow.networks` also knows its
    Jacobian layer by layer."""

    def init(self, seed: int) -> Float[Array, "params"]:
        """Draw initial parameters."""
        _checks.double_precision()
        if self.sample is None:
            raise ValueError("this model came with its parameters: models.wrap returned them beside it")
        return self.sample(jax.random.key(_checks.seed(seed)))

    def apply(self, theta, x) -> Float[Array, "n outputs"]:
        """Return the outputs (n, M) for parameters (P,) and inputs (n, N), or (n, ...)."""
        return _apply(self, *self._checked(theta, x))

    def jacobian(self, theta, x) -> Float[Array, "n outputs params"]:
        """Return the outputs' Jacobian (n, M, P) in the parameters, for parameters (P,) and inputs (n, N)."""
        return _jacobian(self, *self._checked(theta, x))

    def jacobians(
        self, theta, x, *, numbers: int, start: int = 0
    ) -> Iterator[tuple[slice, Float[np.ndarray, "rows params"]]]:
        """Yield the Jacobian of the stacked outputs (n * M, P) in pieces of whole samples, each with its rows.

        A piece has at most so many numbers, unless one sample has more. The first begins at row ``start``.
        """
        theta, x = self._checked(theta, x)
        outputs = _output_shape(self, x)[1]
        samples = max(1, numbers // (outputs * self.size))
        for first in range(start // outputs, len(x), samples):
            J = np.asarray(self.jacobian(theta, x[first : first + samples])).reshape(-1, self.size)
            yield slice(first * outputs, first * outputs + len(J)), J

    def fits(self, x, outputs: int):
        """Refuse inputs and a number of outputs that are not the model's."""
        for name, have, want in (("inputs", x.shape[1:], self.inputs), ("outputs", (outputs,), self.outputs)):
            if want is not None and have != (want,):
                given = have[0] if len(have) == 1 else f"inputs of shape {have}"
                raise ValueError(f"the model has {want} {name}, but the agents' data have {given}")
        if self.inputs is None:
            have = _output_shape(self, x)
            if have != (len(x), outputs):
                raise ValueError(f"the model must return outputs of shape {(len(x), outputs)}, got {have}")

    def _checked(self, theta, x):
        _checks.double_precision()
        theta = jnp.asarray(_checks.array("theta", theta, (self.size,)))
        x = _checks.array("x", x, ("n", ...) if self.inputs is None else ("n", self.inputs))
        if self.inputs is None:
            _output_shape(self, x)
        return theta, jnp.asarray(x, theta.dtype)


def _output_shape(model, x):
    """Return the shape of the outputs, or say that the model's function does not take such inputs."""
    theta = jax.ShapeDtypeStruct((model.size,), jnp.float64)
    try:
        outputs = jax.eval_shape(model.forward, theta, jax.ShapeDtypeStruct(x.shape, jnp.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the model does not take inputs of shape {x.shape}: {error}") from error
    if not isinstance(outputs, jax.ShapeDtypeStruct) or outputs.ndim != 2 or len(x) != outputs.shape[0]:
        given = jax.tree.map(lambda leaf: leaf.shape, outputs)
        raise ValueError(f"the model must return outputs of shape (n, outputs), got {given} for inputs {x.shape}")
    return outputs.shape


@partial(jax.jit, static_argnums=0)
def _apply(model, theta, x):
    """Return the outputs, compiled once per model."""
    return model.forward(theta, x)


@partial(jax.jit, static_argnums=0)
def _jacobian(model, theta, x):
    """Return the Jacobian, compiled once per model.

    Row by row: side by side, the gradients of a convolution become a grouped one, hundreds of times slower on CPUs.
    Dense layers need no gradients: their parts are products.
    """
    if hasattr(model.forward, "layers"):
        parts = [part for layer in model.forward.layers(theta, x) for part in layer.jacobian()]
        return jnp.concatenate(parts, axis=-1)

    def rows(one):
        outputs, pull = jax.vjp(lambda theta: model.forward(theta, one[None])[0], theta)
        return jax.lax.map(lambda row: pull(row)[0], jnp.eye(len(outputs), dtype=outputs.dtype))

    return jax.lax.map(rows, x)


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
    network = _perceptron(inputs, widths, outputs, activation, w_std, b_std)
    return Model(network.inputs, network.outputs, network.size, StandardNormal(network.size), network)


def affine(*, inputs: int, outputs: int) -> Model:
    r"""Return :math:`w^\top x + b` as in (15), without the scales of (1).

    The paper does not say how the affine model starts. Here weights are drawn with variance 1/N, so that outputs
    start of order one, and the bias is zero; ``jnp.zeros(model.size)`` is the zero start.
    """
    inputs, outputs = _checks.count("inputs", inputs), _checks.count("outputs", outputs)
    return Model(inputs, outputs, outputs * (inputs + 1), AffineStart(inputs, outputs), Affine(inputs, outputs))


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
    whole = _perceptron(inputs, widths, outputs, activation, w_std, b_std)
    body = _checks.array("theta", theta, (whole.size,))
    head = LastLayer(whole, body.astype(np.float64).tobytes())
    size = whole.outputs * (whole.sizes[-1][0] + 1)
    return Model(whole.inputs, whole.outputs, size, StandardNormal(size), head)


def wrap(function: Callable[[PyTree, Array], Float[Array, "n outputs"]], params: PyTree) -> tuple[Model, Array]:
    """Return any JAX function of parameters and inputs as a model, and its parameters as one vector (P,).

    Parameters
    ----------
    function
        ``function(params, x)`` returns the outputs (n, M) for inputs (n, ...) of any shape.
    params
        The parameters, in any pytree of floating arrays: a dict, the parameters of flax or haiku, or what
        ``equinox.partition(module, equinox.is_inexact_array)`` gives first.

    Returns
    -------
    model, theta0
        Parameters are one vector of float64 here, and reach ``function`` in their own tree, with the vector's dtype.
        The tree of a vector theta is ``model.forward.tree(theta)``.

    Raises
    ------
    ValueError
        If a parameter is not a floating array, there is none, it holds NaN, or function is not a hashable callable.

    Examples
    --------
    >>> model, theta0 = wrap(lambda p, x: x @ p["w"] + p["b"], {"w": jnp.ones((3, 2)), "b": jnp.zeros((1, 2))})
    >>> theta0.shape, model.apply(theta0, [[1.0, 2.0, 3.0]]).tolist()
    ((8,), [[6.0, 6.0]])
    """
    _checks.double_precision()
    if not callable(function):
        raise ValueError(f"function must be callable as function(params, x), got {type(function).__name__}")
    try:
        hash(function)
    except TypeError:
        raise ValueError(
            f"function must be hashable, or JAX would not know it again, got {type(function).__name__}: "
            f"pass lambda params, x: function(params, x)"
        ) from None
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)
    numbers = []
    for place, leaf in leaves:
        name = f"params{jax.tree_util.keystr(place)}"
        if getattr(getattr(leaf, "dtype", None), "kind", type(leaf).__name__) not in ("f", "float"):
            given = getattr(leaf, "dtype", type(leaf).__name__)
            raise ValueError(f"{name} must be a floating array, got {given}: close over what is not trained")
        numbers.append(_checks.array(name, leaf).astype(np.float64))
    if not any(each.size for each in numbers):
        raise ValueError("params must hold at least one number, got none")
    wrapped = Wrapped(function, tree, tuple(each.shape for each in numbers))
    theta0 = jnp.concatenate([jnp.asarray(each).reshape(-1) for each in numbers])
    return Model(None, None, len(theta0), None, wrapped), theta0


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
    model.fits(agents.x[0], agents.outputs)
    theta = _checks.array("theta0", theta0)
    if theta.shape not in ((model.size,), (agents.size, model.size)):
        raise ValueError(f"theta0 must have shape ({model.size},) or ({agents.size}, {model.size}), got {theta.shape}")
    return jnp.broadcast_to(jnp.asarray(theta), (agents.size, model.size))


def _perceptron(inputs, widths, outputs, activation, w_std, b_std) -> Perceptron:
    """Check the arguments of :func:`mlp`."""
    if not isinstance(widths, Sequence) or isinstance(widths, str) or len(widths) == 0:
        raise ValueError(f"widths must be a sequence of one width or more, like (256,), got {widths!r}")
    named = [("inputs", inputs), *(("widths", width) for width in widths), ("outputs", outputs)]
    sizes = tuple(pairwise(_checks.count(name, value) for name, value in named))
    _checks.choice("activation", activation, ACTIVATIONS)
    return Perceptron(sizes, activation, _checks.positive("w_std", w_std), _checks.nonnegative("b_std", b_std))
