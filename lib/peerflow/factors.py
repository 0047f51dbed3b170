r"""How :mod:`peerflow.linearize` finds F with :math:`K = F F^\top`, however the kernel K is known.

From the Jacobian: a randomized range finder. Products of :math:`J^\top` with random vectors are orthogonalized, a block
at a time, until Gaussian vectors show that J has hardly anything outside of their span (Halko, Martinsson and Tropp
2011, section 4). Where samples are so many that J would not fit, :class:`Streamed` computes it anew for every product.

By products with :math:`K = JJ^\top` alone, where J would not fit: a block Krylov space Q is grown from Gaussian
vectors, and :math:`F = KQ\,(Q^\top K Q)^{-1/2}`. This is :math:`JV` with orthonormal
:math:`V = J^\top Q (Q^\top K Q)^{-1/2}`, which is not held either. What K has outside of it is again seen by Gaussian
vectors.
"""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Array, Float

from peerflow import _checks
from peerflow.models import Model

# What is missed is judged by up to so many of its powers, unless it is so many times too much.
# A first block of vectors and the largest; so many by which an error is seen, and the constant of the bound on it; what
# is safely above rounding: orthogonal directions made of noise would not be orthogonal. Sums of squares are known to so
# much. Sums of so many rows are multiplied.
_POWERS, _HOPELESS = 4, 50.0
_FIRST, _BLOCK, _PROBES, _CERTAIN = 48, 192, 32, 2 * (2 / np.pi) ** 0.5
_NOISE, _LOST, _SUMMED = 1e-13, 1e-12, 4
# So many numbers of a Jacobian are held where not all of them can be.
_CHUNK = 2**24
# A block of a Krylov space has at least one column for so many of those before.
_GROWING = 2
# Of a unit vector, so much of its square must be left beside V. Squares are known to about so much, relatively.
_ORTHOGONAL, _SQUARES = 0.01, 1e-15
# Singular values down to this, relative to the largest, come from their squares.
_BY_SQUARES = 1e-7


class Streamed(scipy.sparse.linalg.LinearOperator):
    """The Jacobian (n, params) of very many samples: every product computes it anew, a few samples at a time."""

    def __init__(self, model: Model, theta0, x, outputs: int, done: Callable[[int], object]):
        """Take inputs (n, ...) for so many outputs a sample; ``done`` is told how many samples were used."""
        super().__init__(np.float64, (len(x) * outputs, model.size))
        self.model, self.theta0, self.x, self.outputs, self.done = model, theta0, x, outputs, done

    def pieces(self) -> Iterator[tuple[slice, Float[np.ndarray, "rows params"]]]:
        """Yield the Jacobian of some samples after the other, with its rows."""
        for rows, J in self.model.jacobians(self.theta0, self.x, numbers=_CHUNK):
            yield rows, J
            self.done(len(J) // self.outputs)

    def _matmat(self, X):
        return np.concatenate([J @ X for _, J in self.pieces()])

    def _rmatmat(self, X):
        total = np.zeros((self.shape[1], X.shape[1]))
        for rows, J in self.pieces():
            total += J.T @ X[rows]
        return total


def from_jacobian(J: Float[np.ndarray, "n params"] | Streamed, relative: float, absolute: float = 0.0):
    """Return J's singular values above both tolerances, its right singular vectors V, and F = J V.

    One tolerance is relative to J's norm, the other is not.
    """
    V, F = _range(J, relative, absolute)
    values, kept = _trimmed(F, relative, absolute)
    return values, V @ kept, F @ kept


def _trimmed(F, relative, absolute):
    """Return the singular values of F above the tolerances, and the rotation to their directions."""
    s, rotation = _singular(F)
    least = max(relative * s.max(initial=0.0), absolute)
    if least < _BY_SQUARES * s.max(initial=0.0):
        _, s, directions = np.linalg.svd(np.linalg.qr(F, mode="r"))
        rotation = directions.T
    kept = s > least
    return s[kept], rotation[:, kept]


def _range(J, relative, absolute):
    r"""Return an orthonormal V and F = J V with :math:`\|J - F V^\top\|` at most the larger tolerance.

    The norm is at most Frobenius's, :math:`(\|J\|_F^2 - \|F\|_F^2)^{1/2}`, which costs nothing. Where that is too
    large, or lost in rounding: if b Gaussian vectors leave residuals of norm at most e, the norm is at most
    :math:`2\sqrt{2/\pi}\, e` with probability :math:`1 - 2^{-b}` (Halko, Martinsson and Tropp 2011, lemma 4.1).
    """
    draw, held = np.random.default_rng(0), not isinstance(J, Streamed)
    probes, new, scale = _begun(J, draw)
    V, F, largest = np.zeros((J.shape[1], 0)), np.zeros((J.shape[0], 0)), 0.0
    while scale and (left := min(J.shape) - V.shape[1]) > 0:
        new = _beside(V, new, np.finfo(float).eps * scale) if V.size else np.linalg.qr(new)[0]
        new = new[:, :left]
        if new.shape[1] == 0:
            break
        V, F = np.hstack([V, new]), np.hstack([F, J @ new])
        largest = largest or _singular(F)[0].max(initial=0.0)
        limit = max(relative * largest, absolute)
        if held and scale**2 * (1 + _LOST) - _square(F) <= limit**2:
            break
        probes = J.T @ draw.standard_normal((J.shape[0], _PROBES)) if probes is None else probes
        missed = np.linalg.norm(probes - V @ (V.T @ probes), axis=0).max()
        if missed <= max(limit / _CERTAIN, _NOISE * scale):
            break
        # Few blocks where many directions are to be found, and none that is much larger than what is needed.
        new = _sketch(J, draw, min(V.shape[1], _BLOCK))
    return V, F


def _begun(J, draw):
    """Return J^T times vectors that show what is missed, if there already, and a first block; and about J's norm."""
    if not isinstance(J, Streamed):
        return None, _sketch(J, draw, _FIRST), _square(J) ** 0.5
    # Every product computes J anew: one for both, with a block that will mostly do.
    probes, new = np.split(J.T @ draw.standard_normal((J.shape[0], _PROBES + _BLOCK)), [_PROBES], axis=1)
    return probes, new, np.linalg.norm(probes, axis=0).max()


def _square(A):
    """Return the sum of squares, row by row, so that few numbers are added to a large one."""
    return np.einsum("ij,ij->i", A, A).sum()


def _beside(V, X, noise):
    """Return an orthonormal basis of what X has beside V, but for directions that are small in it.

    These come with a later block, where they are all that is left. By X^T X, many times faster than by Householder's
    reflections. What is small has lost digits; what these hide of V, and of each other, is taken off the second time,
    and what then shrinks again is rounding.
    """
    for least in (_SQUARES, _ORTHOGONAL):
        X = X - V @ (V.T @ X)
        squares, vectors = np.linalg.eigh(X.T @ X)
        kept = squares > max(least * squares.max(initial=0.0), noise**2)
        X = X @ (vectors[:, kept] / np.sqrt(squares[kept]))
    return X[:, ::-1]


def _sketch(J, draw, block):
    """Return J^T times a block of random vectors: Gaussian ones of randomly signed sums of a few rows of J."""
    groups = J.shape[0] // _SUMMED
    if groups < 2 * block or isinstance(J, Streamed):
        return J.T @ draw.standard_normal((J.shape[0], block))
    place, signs = draw.permutation(len(J)) % groups, draw.choice([-1.0, 1.0], len(J))
    summed = scipy.sparse.csr_array((signs, (place, np.arange(len(J)))), shape=(groups, len(J))) @ J
    return summed.T @ draw.standard_normal((groups, block))


def from_products(product: Callable, size: int, relative: float, absolute: float = 0.0):
    r"""Return the singular values above both tolerances, the matrix D with :math:`V = J^\top D`, and F = J V.

    ``product`` maps columns (size, b) to :math:`K = JJ^\top` times them. Nothing else is asked of K.
    """
    draw = np.random.default_rng(0)
    probes, new = draw.standard_normal((size, _PROBES)), draw.standard_normal((size, _PROBES))
    seen, largest = product(probes), 0.0
    if not seen.any():
        return np.zeros(0), np.zeros((size, 0)), np.zeros((size, 0))
    Q, Y, core = np.zeros((size, 0)), np.zeros((size, 0)), np.zeros((0, 0))
    while (left := size - Q.shape[1]) > 0:
        new = _beside(Q, new, np.finfo(float).eps * np.linalg.norm(new, axis=0).max())[:, :left]
        if new.shape[1] == 0:
            break
        image = product(new)
        cross = Q.T @ image
        core = np.block([[core, cross], [cross.T, new.T @ image]])
        Q, Y, new = np.hstack([Q, new]), np.hstack([Y, image]), image
        largest = largest or np.linalg.norm(core, 2)
        if Q.shape[1] > _GROWING * image.shape[1]:
            # Few large blocks cost less than many small ones, each with a look at what is missed.
            more = Q.shape[1] // _GROWING - image.shape[1]
            new = np.hstack([image, product(draw.standard_normal((size, more)))])
        if _within(
            max(relative**2 * largest, absolute**2), partial(_approximate, Q, Y, core, largest), product, seen, probes
        ):
            break
    return _root(Q, Y, core, relative, absolute)


def _within(limit, approximate, product, seen, probes):
    """Say whether the norm of what is missed of K is certain to be within the limit.

    Gaussian vectors see all of it at once, however small its parts; its powers show the largest part better.
    """
    missed, power = seen - approximate(probes), 1
    bound = _CERTAIN * np.linalg.norm(missed, axis=0).max()
    while limit < bound <= _HOPELESS * limit and power < _POWERS:
        missed, power = product(missed) - approximate(missed), power + 1
        bound = (_CERTAIN * np.linalg.norm(missed, axis=0).max()) ** (1 / power)
    return bound <= limit


def _approximate(Q, Y, core, largest, columns):
    """Return Y (Q^T Y)^-1 Y^T times columns: K as it is known from Y = K Q."""
    # What is shifted by less than K is known makes the inverse safe (Tropp, Yurtsever, Udell and Cevher 2017).
    shift = _NOISE * largest
    factor = scipy.linalg.cho_factor((core + core.T) / 2 + shift * np.eye(len(core)), check_finite=False)
    solved = scipy.linalg.cho_solve(factor, Y.T @ columns + shift * (Q.T @ columns), check_finite=False)
    return Y @ solved + shift * (Q @ solved - columns)


def _root(Q, Y, core, relative, absolute):
    """Return singular values, D and F with F F^T close to Y (Q^T Y)^-1 Y^T and F = K D, for Y = K Q."""
    eigenvalues, vectors = np.linalg.eigh((core + core.T) / 2)
    # Directions that rounding has made carry weight as well: none is left out, but none counts as less than is known.
    coordinates = vectors / np.sqrt(eigenvalues.clip(min=np.finfo(float).eps * eigenvalues[-1]))
    values, rotation = _singular(Y @ coordinates)
    kept = values > max(relative * values.max(initial=0.0), absolute)
    coordinates = coordinates @ rotation[:, kept]
    # The final word has the space of what is kept, on which K is well conditioned.
    gram = coordinates.T @ core @ coordinates
    coordinates = scipy.linalg.solve_triangular(np.linalg.cholesky((gram + gram.T) / 2), coordinates.T, lower=True).T
    values, rotation = _singular(Y @ coordinates)
    coordinates = coordinates @ rotation
    return values, Q @ coordinates, Y @ coordinates


def _singular(F):
    """Return the singular values of F, decreasing, and the rotation to their directions."""
    squares, rotation = np.linalg.eigh(F.T @ F)
    return np.sqrt(squares.clip(min=0.0))[::-1], rotation[:, ::-1]


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


def cross_products(model: Model, theta0, x, x2, columns: Float[np.ndarray, "n2 b"]) -> Float[np.ndarray, "n b"]:
    r"""Return :math:`J(x) J(x_2)^\top` times some columns, with rows for all samples and outputs."""
    _checks.double_precision()
    count = columns.shape[1]
    # Of blocks that grow, few widths are compiled for.
    rows = np.zeros((1 << (count - 1).bit_length(), len(columns)))
    rows[:count] = columns.T
    return np.asarray(_cross(model, *map(jnp.asarray, (theta0, x, x2, rows)), count))[:count].T


@partial(jax.jit, static_argnums=0)
def _cross(model, theta0, x, x2, rows, count):
    """Return the products with each of the first rows, and zeros for the others."""
    back = _transposed(model, theta0, x2)
    outputs, forward = jax.linearize(lambda theta: model.forward(theta, x), theta0)

    def put(k, products):
        return products.at[k].set(forward(back(rows[k])).reshape(-1))

    # One by one: mapped at once, they would be slower, and take memory for as many vectors of parameters.
    return jax.lax.fori_loop(0, count, put, jnp.zeros((len(rows), outputs.size), outputs.dtype))


def pulled_back(
    model: Model, theta0, x, rows: Float[Array | np.ndarray, "*batch n"]
) -> Float[np.ndarray, "*batch params"]:
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
