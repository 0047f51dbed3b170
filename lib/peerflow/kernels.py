r"""The neural tangent kernel: of a network as it is, and of the infinitely wide one (sec. II).

.. math:: \hat\Theta(x, x') = \frac{\partial f(x;\theta)}{\partial\theta}
    \left(\frac{\partial f(x';\theta)}{\partial\theta}\right)^\top
    \;\longrightarrow\; \Theta(x, x')\, I_M

as the hidden layers of :func:`peerflow.models.mlp` grow, at a rate of one over the square root of the width. The limit
is that of the parametrisation in (1), weights and biases of every layer trained. It comes from neural-tangents, and
this is the only module that imports it.

>>> import numpy as np
>>> from peerflow import models
>>> x = np.array([[0.0, 1.0], [1.0, 0.0]])
>>> model = models.mlp(inputs=2, widths=(4096,), outputs=1)
>>> abs(empirical(model, model.init(0), x) / infinite_width(x) - 1).max() < 0.05
np.True_
"""

import sys
import types
import warnings
from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from peerflow import _checks
from peerflow.models import ACTIVATIONS, Model

# neural_tangents imports its `experimental` subpackage, which alone needs TensorFlow: 1.8 GB for nothing used here.
# An empty module in its place lets the rest be imported without. On import it also warns of names that later
# versions of JAX deprecate; the version of JAX is pinned.
sys.modules.setdefault("neural_tangents.experimental", types.ModuleType("neural_tangents.experimental"))
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import neural_tangents as nt
    from neural_tangents import stax

_EXACT = {"relu": stax.Relu, "erf": stax.Erf}
# The quadrature of the others: its points along each axis, and the relative error that is good enough. Odd numbers
# have a point at zero and even ones do not, so that two of them cannot miss the same narrow slope there and agree.
_POINTS = (41, 80, 161, 320, 641, 1280)
_CONVERGED = 1e-6
# A tile of the kernel is this long over the points: the quadrature holds (tile * points)^2 values, here 30 MB.
_TILE_TIMES_POINTS = 1920


def empirical(model: Model, theta, x, x2=None) -> Float[np.ndarray, "n*outputs n2*outputs"]:
    r"""Return the empirical kernel :math:`\hat\Theta` of sec. II: products of Jacobians at these parameters.

    Rows and columns run over samples and, within each, over outputs, as in the stacked outputs of (9).

    Parameters
    ----------
    model, theta
        The network, and its parameters (params,).
    x, x2
        Inputs (n, N) and (n2, N); without ``x2`` the kernel is that of ``x`` with itself.

    Raises
    ------
    ValueError
        If shapes do not fit the model, or anything holds NaN.
    """
    _checks.instance("model", model, Model)
    rows, columns = _inputs(x, x2, model.inputs)
    theta = jnp.asarray(_checks.array("theta", theta, (model.size,)), jnp.float64)

    def stacked(inputs):
        return np.asarray(model.jacobian(theta, inputs)).reshape(-1, model.size)

    left = stacked(rows)
    return left @ (left if columns is None else stacked(columns)).T


def infinite_width(
    x, x2=None, *, hidden: int = 1, activation: str = "sigmoid", w_std: float = 1.0, b_std: float = 0.1
) -> Float[np.ndarray, "n n2"]:
    r"""Return the limit :math:`\Theta` for a network of (1) with infinitely wide hidden layers and one output.

    With M outputs the kernel is :math:`\Theta \otimes I_M`. ReLU and erf have closed forms. For sigmoid and tanh
    a quadrature is refined until the kernel changes by less than 1e-6 of itself where that is hardest, at the largest
    input. The larger w_std and the inputs, the more points it takes.

    Parameters
    ----------
    x, x2
        Inputs (n, N) and (n2, N); without ``x2`` the kernel is that of ``x`` with itself.
    hidden
        The number of hidden layers.
    activation, w_std, b_std
        As in :func:`peerflow.models.mlp`.

    Raises
    ------
    ValueError
        If shapes do not fit, a number is out of range, anything holds NaN, or the quadrature does not converge.
    """
    _checks.choice("activation", activation, ACTIVATIONS)
    hidden = _checks.count("hidden", hidden)
    w_std, b_std = _checks.positive("w_std", w_std), _checks.nonnegative("b_std", b_std)
    rows, columns = _inputs(x, x2)
    symmetric, columns = columns is None, rows if columns is None else columns
    limit = partial(_limit, hidden, activation, w_std, b_std)
    points = _POINTS[0] if activation in _EXACT else _enough_points(limit, np.concatenate([rows, columns]))
    kernel, tile = limit(points), _TILE_TIMES_POINTS // points
    result = np.zeros((len(rows), len(columns)))
    for i in range(0, len(rows), tile):
        # Of a symmetric kernel, only what is on and above the diagonal is computed.
        for j in range(i if symmetric else 0, len(columns), tile):
            result[i : i + tile, j : j + tile] = kernel(rows[i : i + tile], columns[j : j + tile])
    return np.triu(result) + np.triu(result, 1).T if symmetric else result


def _inputs(x, x2, size="inputs"):
    """Return both inputs as float64 arrays of one width; None stays None."""
    _checks.double_precision()
    x = jnp.asarray(_checks.array("x", x, ("n", size)), jnp.float64)
    if x2 is not None:
        x2 = jnp.asarray(_checks.array("x2", x2, ("n2", x.shape[1])), jnp.float64)
    for name, inputs in (("x", x), ("x2", x2)):
        if inputs is not None and len(inputs) == 0:
            raise ValueError(f"{name} must hold at least one input, got shape {inputs.shape}")
    return x, x2


def _enough_points(limit, x) -> int:
    """Return the first number of quadrature points after which doubling it changes nothing."""
    norms = np.linalg.norm(x, axis=1)
    largest = x[norms.argmax()][None]
    coarse = limit(_POINTS[0])(largest, largest).item()
    for points, more in pairwise(_POINTS):
        fine = limit(more)(largest, largest).item()
        if abs(coarse - fine) <= _CONVERGED * abs(fine):
            return points
        coarse = fine
    raise ValueError(
        f"the quadrature does not converge for inputs of norm {norms.max():.3g}: scale them, or use activation='erf'"
    )


@cache
def _limit(hidden, activation, w_std, b_std, points):
    """Return the compiled kernel of two blocks of inputs."""
    # Widths do not enter the limit, but stax asks for numbers.
    dense = stax.Dense(1, W_std=w_std, b_std=b_std, parameterization="ntk")
    if activation in _EXACT:
        nonlinear = _EXACT[activation]()
    else:
        act = ACTIVATIONS[activation]
        nonlinear = stax.Elementwise(act, _product_mean(act, points), _product_mean(jax.grad(act), points))
    kernel = stax.serial(*[dense, nonlinear] * hidden, dense)[2]
    return jax.jit(lambda x, x2: kernel(x, x2, "ntk"))


def _product_mean(fn, points):
    r"""Return (cov, var, var2) -> E[fn(u) fn(v)] for Gaussian u and v.

    With :math:`u = s g`, :math:`v = \frac{\mathrm{cov}}{s} g + s' g'` and g, g' independent, it is a trapezoidal sum
    over both, which converges geometrically for analytic functions. stax has a sigmoid and a quadrature of its own:
    ``Sigmoid_like`` is an erf, whose kernel is off by one per cent, and ``ElementwiseNumerical`` spaces its
    Gauss-Hermite points too widely for sigmoids of large inputs.
    """
    # Beyond 9 standard deviations the weight is below 1e-17.
    g = np.linspace(-9.0, 9.0, points)
    weight = np.exp(-(g**2) / 2) / np.exp(-(g**2) / 2).sum()
    fn = jnp.vectorize(fn)

    def mean(cov, var, var2):
        std = jnp.sqrt(jnp.maximum(var, 1e-30))  # an input of zero without a bias has none
        slope = cov / std
        rest = jnp.sqrt(jnp.maximum(var2 - slope**2, 0.0))
        inner = jnp.sum(fn(slope * g[:, None] + rest * g[None, :]) * weight[None, :], axis=1)
        return jnp.sum(weight * fn(std * g) * inner)

    return mean
