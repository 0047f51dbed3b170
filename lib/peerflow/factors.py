r"""How :mod:`peerflow.linearize` finds F with :math:`K = F F^\top`, however the kernel K is known.

From the Jacobian: a randomized range finder. Products of :math:`J^\top` with a few Gaussian vectors at a time are
orthogonalized, until what is left of the next ones shows that J has hardly anything outside of their span (Halko,
Martinsson and Tropp 2011, algorithm 4.2).

By products with :math:`K = JJ^\top` alone, where J would not fit: a block Krylov space Q is grown from Gaussian vectors,
and :math:`F = KQ\,(Q^\top K Q)^{-1/2}`. This is :math:`JV` with orthonormal :math:`V = J^\top Q (Q^\top K Q)^{-1/2}`,
which is not held either. What K has outside of it is again seen by Gaussian vectors.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from peerflow import _checks
from peerflow.models import Model

# So many vectors at a time, so many to see an error by, the constant of the bound on it, and what is safely above
# rounding: orthogonal directions made of noise would not be orthogonal.
_BLOCK, _PROBES, _CERTAIN, _NOISE = 32, 8, 10 * (2 / np.pi) ** 0.5, 1e-13
# Numbers in a block of parameter vectors.
_HELD = 2**23


def from_jacobian(J: Float[np.ndarray, "n params"], tolerance: float, blocks=None):
    """Return J's singular values above the tolerance, its right singular vectors V, and F = J V.

    The tolerance is relative to J's norm, or to the largest norm of one of its blocks of so many rows.
    """
    V, F = _range(J, tolerance, blocks)
    values, kept = _trimmed(F, tolerance, blocks)
    return values, V @ kept, F @ kept


def _trimmed(F, tolerance, blocks):
    """Return the singular values of F above the tolerance, and the rotation to their directions."""
    _, s, rotation = np.linalg.svd(np.linalg.qr(F, mode="r"))
    kept = rotation[s > tolerance * _scale(F, blocks)].T
    return s[: kept.shape[1]], kept


def _scale(F, blocks):
    """Return the norm of F, or the largest of its blocks'."""
    parts = [F] if blocks is None else np.split(F, np.cumsum(blocks)[:-1])
    return max(np.linalg.norm(part, 2) if part.size else 0.0 for part in parts)


def _range(J, tolerance, blocks):
    r"""Return an orthonormal V and F = J V with :math:`\|J - F V^\top\|` at most the tolerance times the norm of J.

    If b Gaussian vectors leave residuals of norm at most e, the residual of J has a norm of at most
    :math:`10\sqrt{2/\pi}\, e` with probability :math:`1 - 10^{-b}` (Halko, Martinsson and Tropp 2011, lemma 4.1).
    """
    draw = np.random.default_rng(0)
    V, F, largest = np.zeros((J.shape[1], 0)), np.zeros((len(J), 0)), 0.0
    while (left := min(J.shape) - V.shape[1]) > 0:
        new = J.T @ draw.standard_normal((len(J), _BLOCK))
        scale = np.linalg.norm(new, axis=0).max()
        new -= V @ (V.T @ new)
        residual = np.linalg.norm(new, axis=0).max()
        if residual <= max(tolerance * largest / _CERTAIN, _NOISE * scale):
            break
        # A small residual has lost digits; what these hide of V is taken off the second time.
        new = np.linalg.qr(new)[0]
        new = np.linalg.qr(new - V @ (V.T @ new))[0][:, :left]
        V, F = np.hstack([V, new]), np.hstack([F, J @ new])
        largest = largest or _scale(F, blocks)
    return V, F


def from_products(model: Model, theta0, x, tolerance: float, blocks=None):
    r"""Return the singular values above the tolerance, the matrix D with :math:`V = J^\top D`, and F = J V.

    Only products with :math:`JJ^\top` are taken, each for the cost of a gradient and a forward pass.
    """
    size = len(x) * model.apply(theta0, x[:1]).shape[1]
    product = partial(kernel_product, model, theta0, x)
    draw = np.random.default_rng(0)
    probes = draw.standard_normal((size, _PROBES))
    seen = product(probes)
    Q, Y = np.zeros((size, 0)), np.zeros((size, 0))
    new = draw.standard_normal((size, _BLOCK))
    while (left := size - Q.shape[1]) > 0:
        for _ in range(2):
            new = np.linalg.qr(new - Q @ (Q.T @ new))[0]
        new = new[:, :left]
        image = product(new)
        Q, Y, new = np.hstack([Q, new]), np.hstack([Y, image]), image
        F, D = _nystrom(Q, Y)
        missed = np.linalg.norm(seen - F @ (F.T @ probes), axis=0).max()
        if _CERTAIN * missed <= (tolerance * _scale(F, blocks)) ** 2:
            break
    values, kept = _trimmed(F, tolerance, blocks)
    return values, D @ kept, F @ kept


def _nystrom(Q, Y):
    """Return F with F F^T = Y (Q^T Y)^-1 Y^T, and D with F = K D, for Y = K Q."""
    core = Q.T @ Y
    eigenvalues, vectors = np.linalg.eigh((core + core.T) / 2)
    kept = eigenvalues > _NOISE * eigenvalues[-1]
    D = vectors[:, kept] / np.sqrt(eigenvalues[kept])
    return Y @ D, Q @ D


def from_matrix(K: Float[np.ndarray, "n n"], tolerance: float):
    """Return the same as :func:`from_products` of a kernel that is at hand.

    Raises
    ------
    ValueError
        If K is not symmetric or has a negative eigenvalue, each to 1e-8 of the largest.
    """
    scale = np.abs(K).max(initial=0.0)
    if np.abs(K - K.T).max(initial=0.0) > 1e-8 * scale:
        raise ValueError(f"kernel must be symmetric, got entries that differ by {np.abs(K - K.T).max():.3g}")
    eigenvalues, vectors = np.linalg.eigh((K + K.T) / 2)
    if eigenvalues[0] < -1e-8 * max(eigenvalues[-1], scale):
        raise ValueError(f"kernel must be positive semidefinite, got the eigenvalue {eigenvalues[0]:.3g}")
    kept = eigenvalues > tolerance**2 * max(eigenvalues[-1], 0.0)
    values, vectors = np.sqrt(eigenvalues[kept][::-1]), vectors[:, kept][:, ::-1]
    return values, vectors / values, vectors * values


def kernel_product(model: Model, theta0, x, columns: Float[np.ndarray, "n b"]) -> Float[np.ndarray, "n b"]:
    r"""Return :math:`JJ^\top` times some columns, with rows for all samples and outputs."""
    return cross_products(model, theta0, x, x, columns)


def cross_products(model: Model, theta0, x, x2, columns: Float[np.ndarray, "n2 b"]) -> Float[np.ndarray, "n b"]:
    r"""Return :math:`J(x) J(x_2)^\top` times some columns."""
    _checks.double_precision()
    each = max(1, min(_BLOCK, _HELD // model.size))
    parts = [columns[:, at : at + each] for at in range(0, columns.shape[1], each)]
    theta0, x, x2 = jnp.asarray(theta0), jnp.asarray(x), jnp.asarray(x2)
    return np.hstack([np.asarray(_cross(model, theta0, x, x2, jnp.asarray(part))) for part in parts])


@partial(jax.jit, static_argnums=0)
def _cross(model, theta0, x, x2, columns):
    """Return the products for a block of columns."""
    back = _transposed(model, theta0, x2)
    _, forward = jax.linearize(lambda theta: model.forward(theta, x), theta0)
    return jax.vmap(lambda column: forward(back(column)).reshape(-1), 1, 1)(columns)


def pulled_back(model: Model, theta0, x, rows: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch params"]:
    r"""Return :math:`J^\top` times each row, one vector-Jacobian product a row."""
    _checks.double_precision()
    flat = jnp.asarray(rows.reshape(-1, rows.shape[-1]))
    return np.asarray(_pulled(model, jnp.asarray(theta0), jnp.asarray(x), flat)).reshape(*rows.shape[:-1], model.size)


@partial(jax.jit, static_argnums=0)
def _pulled(model, theta0, x, rows):
    return jax.lax.map(_transposed(model, theta0, x), rows)


def _transposed(model, theta0, x):
    """Return the product with the Jacobian's transpose."""
    outputs, pull = jax.vjp(lambda theta: model.forward(theta, x), theta0)
    return lambda row: pull(row.reshape(outputs.shape))[0]
