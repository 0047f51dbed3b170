r"""The neural tangent kernel: of a network as it is, and of the infinitely wide one (sec. II).

.. math:: \widehat K(x, x') = \frac{\partial f(x;\theta)}{\partial\theta}
    \left(\frac{\partial f(x';\theta)}{\partial\theta}\right)^\top
    \;\longrightarrow\; K(x, x')\, I_M

as the hidden layers of :func:`peerflow.models.mlp` grow, at a rate of one over the square root of the width. The limit
is that of the parametrization in (1), weights and biases of every layer trained. Layer by layer,

.. math:: \Sigma^{(l+1)} = s_w^2\, E[\sigma(u)\sigma(u')] + s_b^2, \qquad
    K^{(l+1)} = \Sigma^{(l+1)} + s_w^2\, K^{(l)}\, E[\sigma'(u)\sigma'(u')],

with Gaussian u and u' of covariance :math:`\Sigma^{(l)}`, from
:math:`K^{(1)} = \Sigma^{(1)} = s_w^2\, x^\top x'/N + s_b^2`. neural-tangents, with which tests and book compare,
is there as ``kernels.nt``; this is the only module that imports it, and only when it is asked for.

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
from functools import partial
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from peerflow import _checks
from peerflow.models import Model
from peerflow.networks import ACTIVATIONS

# The series of tanh has at most so many terms, and ends where it misses so little of E[f'(u)^2], relatively.
_TERMS, _CONVERGED = 32768, 1e-7
# So many numbers of a Jacobian are held at a time.
_PIECE = 2**27


def __getattr__(name):
    """Import neural-tangents on first use, as ``kernels.nt``."""
    if name != "nt":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Its `experimental` subpackage alone needs TensorFlow: 1.8 GB for nothing used here. An empty module in its place
    # lets the rest be imported without. On import it also warns of names that later versions of JAX deprecate; the
    # version of JAX is pinned.
    sys.modules.setdefault("neural_tangents.experimental", types.ModuleType("neural_tangents.experimental"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import neural_tangents
    return neural_tangents


def empirical(model: Model, theta, x, x2=None) -> Float[np.ndarray, "rows columns"]:
    r"""Return the empirical kernel :math:`\widehat K` of sec. II: products of Jacobians at these parameters.

    For the models of dense layers no Jacobian is held, see :mod:`peerflow.networks`; of others, two pieces of one
    gigabyte each.

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
    rows, columns = _inputs(x, x2, ("n", ...) if model.inputs is None else ("n", model.inputs))
    theta = jnp.asarray(_checks.array("theta", theta, (model.size,)), jnp.float64)

    if not hasattr(model.forward, "layers"):
        return _by_pieces(model, theta, rows, columns)
    parts = [_layers(model, theta, inputs) for inputs in (rows, columns) if inputs is not None]
    parts = [[(np.asarray(a), np.asarray(g)) for a, g in part] for part in parts]
    (n, outputs), n2 = parts[0][0][1].shape[:2], len(parts[-1][0][1])
    kernel = np.zeros((n, outputs, n2, outputs))
    for (a, g), (a2, g2) in zip(parts[0], parts[-1], strict=True):
        outer = (g.reshape(-1, g.shape[-1]) @ g2.reshape(-1, g2.shape[-1]).T).reshape(*g.shape[:2], *g2.shape[:2])
        kernel += outer * (a @ a2.T)[:, None, :, None]
    return kernel.reshape(n * outputs, n2 * outputs)


def _by_pieces(model, theta, rows, columns):
    """Return products of Jacobians of some samples at a time: many gradients anew, but none of all samples at once."""
    outputs, alone = jax.eval_shape(model.apply, theta, rows).shape[1], columns is None
    others = rows if columns is None else columns
    kernel = np.empty((len(rows) * outputs, len(others) * outputs))
    for across, J in model.jacobians(theta, rows, numbers=_PIECE):
        if alone:
            kernel[across, across] = J @ J.T
        for down, other in model.jacobians(theta, others, numbers=_PIECE, start=across.stop if alone else 0):
            kernel[across, down] = J @ other.T
            if alone:
                kernel[down, across] = kernel[across, down].T
    return kernel


@partial(jax.jit, static_argnums=0)
def _layers(model, theta, x):
    return model.forward.layers(theta, x)


def infinite_width(
    x, x2=None, *, hidden: int = 1, activation: str = "sigmoid", w_std: float = 1.0, b_std: float = 0.1
) -> Float[np.ndarray, "n n2"]:
    r"""Return the limit :math:`K` for a network of (1) with infinitely wide hidden layers and one output.

    With M outputs the kernel is :math:`K \otimes I_M`. ReLU and erf have closed forms. For sigmoid and tanh
    a series is summed until the kernel is known to 1e-6 of itself where that is hardest, at the largest input. The
    larger w_std and the inputs, the more terms and quadrature points it takes.

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
    x, x2 = _inputs(x, x2)
    rows = np.asarray(x)
    columns = rows if x2 is None else np.asarray(x2)
    scale, means = w_std**2 / rows.shape[1], _MEANS[activation]
    cov = scale * (rows @ columns.T) + b_std**2
    # Variances of the rows' and the columns' inputs, kept so that they broadcast to cov.
    variances = [scale * (each**2).sum(axis=1) + b_std**2 for each in (rows, columns)]
    kernel = cov
    for _ in range(hidden):
        try:
            values, slopes = means(cov, variances[0][:, None], variances[1][None, :])
            variances = [w_std**2 * means(v, v, v)[0] + b_std**2 for v in variances]
        except ArithmeticError:
            norm = max(np.linalg.norm(each, axis=1).max() for each in (rows, columns))
            raise ValueError(
                f"the quadrature does not converge for inputs of norm {norm:.3g}: scale them, or use activation='erf'"
            ) from None
        cov = w_std**2 * values + b_std**2
        kernel = cov + w_std**2 * kernel * slopes
    return kernel


def _inputs(x, x2, shape=("n", "inputs")):
    """Return both inputs as float64 arrays of one shape but for their number; None stays None."""
    _checks.double_precision()
    x = jnp.asarray(_checks.array("x", x, shape), jnp.float64)
    if x2 is not None:
        x2 = jnp.asarray(_checks.array("x2", x2, ("n2", *x.shape[1:])), jnp.float64)
    for name, inputs in (("x", x), ("x2", x2)):
        if inputs is not None and len(inputs) == 0:
            raise ValueError(f"{name} must hold at least one input, got shape {inputs.shape}")
    return x, x2


def _relu(cov, var, var2):
    """Return E[f(u) f(v)] and E[f'(u) f'(v)] for Gaussian u and v of this covariance and these variances."""
    root = np.sqrt(np.maximum(var * var2 - cov**2, 0.0))
    angle = np.arctan2(root, cov)
    return (root + (np.pi - angle) * cov) / (2 * np.pi), (np.pi - angle) / (2 * np.pi)


def _erf(cov, var, var2):
    """As :func:`_relu`."""
    root = np.sqrt(1 + 2 * (var + var2) + 4 * np.maximum(var * var2 - cov**2, 0.0))
    return 2 / np.pi * np.arctan2(2 * cov, root), 4 / np.pi / root


def _sigmoid(cov, var, var2):
    """As :func:`_relu`: the sigmoid of u is half of 1 + tanh(u/2), and tanh is odd."""
    values, slopes = _tanh(cov / 4, var / 4, var2 / 4)
    return (1 + values) / 4, slopes / 16


def _tanh(cov, var, var2):
    r"""As :func:`_relu`, by Mehler's series in the correlation.

    With :math:`h_k` the normalized Hermite polynomials and :math:`d_k(s) = E[\tanh(sg) h_k(g)]/s`, it is
    :math:`E[f(u)f(v)] = \mathrm{cov} \sum_k d_k(s) d_k(s') \rho^{k-1}` over odd k, and k times each term of the sum
    for the derivatives. Each :math:`d_k` is an integral over one variable, so that pairs cost only the sum.
    """
    std, std2 = np.sqrt(var), np.sqrt(var2)
    terms = _enough_terms(max(std.max(), std2.max()))
    left, right = _coefficients(std, terms), _coefficients(std2, terms)
    # An input of zero without a bias has no correlation with others, and no term but the first.
    both = var * var2
    squared = np.minimum(np.divide(cov**2, both, out=np.zeros_like(cov), where=both > 0), 1.0)
    values, slopes = np.zeros_like(cov), np.zeros_like(cov)
    for k in range(2 * terms - 1, 0, -2):
        term = left[k // 2] * right[k // 2]
        values *= squared
        values += term
        slopes *= squared
        slopes += k * term
    return cov * values, slopes


def _coefficients(std, terms):
    """Return d_k of :func:`_tanh` for the first odd k, with one leading axis for k."""
    flat = std.reshape(-1)
    g, weight = _grid(flat.max())
    hidden = np.divide(np.tanh(flat * g[:, None]), flat, out=np.tile(g[:, None], len(flat)), where=flat > 0)
    hidden *= weight[:, None]
    rows, result = _odd_hermite(g), np.empty((terms, len(flat)))
    for start in range(0, terms, 256):
        some = result[start : start + 256]
        some[:] = np.stack(list(islice(rows, len(some)))) @ hidden
    return result.reshape(terms, *std.shape)


def _enough_terms(std):
    """Return how many odd k :func:`_tanh` needs up to this standard deviation, where correlation is one."""
    g, weight = _grid(std)
    hidden = np.tanh(std * g) / std if std > 0 else g
    density = np.exp(-(g**2) / 4)
    missing = whole = g[0] / np.sqrt(2 * np.pi) + weight @ (density * (1 - np.tanh(std * g) ** 2) ** 2)
    for term, row in enumerate(islice(_odd_hermite(g), _TERMS)):
        missing -= (2 * term + 1) * (row @ (weight * hidden)) ** 2
        if missing <= _CONVERGED * whole:
            return term + 1
    raise ArithmeticError


def _grid(std):
    """Return points above zero, and weights with which a trapezoidal sum is a Gaussian mean of an even function.

    The weights hold only the square root of the density, exp(-g^2/4); Hermite functions hold the other one.
    """
    # tanh(std g) has poles at a distance of 1/std and Hermite functions here oscillate about 4 std times a unit: from
    # this many points on, both are resolved to rounding. Beyond 12 the weight is below 1e-15. About 22 std^2 terms are
    # needed, so that there is no use for more points than these.
    g = np.linspace(0.0, 12.0, 60 + int(48 * min(std, (_TERMS / 20) ** 0.5)))[1:]
    return g, 2 * g[0] * np.exp(-(g**2) / 4) / np.sqrt(2 * np.pi)


def _odd_hermite(g):
    """Yield the normalized Hermite polynomials of odd degree, times exp(-g^2/4), by their three-term recursion."""
    previous, row, k = np.zeros_like(g), np.exp(-(g**2) / 4), 0
    while True:
        if k % 2:
            yield row
        previous, row, k = row, (g * row - k**0.5 * previous) / (k + 1) ** 0.5, k + 1


_MEANS = {"relu": _relu, "erf": _erf, "sigmoid": _sigmoid, "tanh": _tanh}
