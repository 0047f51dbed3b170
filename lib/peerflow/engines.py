r"""How :mod:`peerflow.flows` gets its states without a matrix of all agents' size: products with A only.

The affine system :math:`\dot z = Az + u`, or :math:`z' = z + Az + u`, is applied block by block: one product with each
agent's :math:`c\Psi_q`, and one with W. For as many steps as a training run has, that costs far less than the
eigenvectors of A.

>>> import numpy as np
>>> from peerflow.algorithms import DGD
>>> system = System(DGD, np.eye(1), np.full((1, 1, 1), 0.5), np.ones((1, 1)))
>>> recursion(system, np.array([0, 1, 2])).ravel().tolist()
[0.0, -1.0, -1.5]
>>> bool(abs(chebyshev(system, [1.0]).item() + 2 * (1 - np.exp(-0.5))) < 1e-14)
True
"""

from typing import NamedTuple

import numpy as np
import scipy.fft
from jaxtyping import Float

from peerflow import _checks, mixing
from peerflow.algorithms import Algorithm

# Chebyshev coefficients below this, relative to the largest value of the function, are rounding. So many times the
# square root of t times the spectrum's width are above it; at some more nodes the function is known to rounding.
_ROUNDING, _TERMS, _NODES = 1e-15, 6, 8
# A product with A runs at this share of the speed of an eigendecomposition, which takes so many n^3 operations.
_SPEED, _DECOMPOSITION = 0.25, 9.0
# Chebyshev series are used up to this t times the spectrum's width: what rounding leaves grows with t.
_SHORT = 1e4
# I - c Psi then has a condition number of at most 10, and so has its square root's square.
_CLEARLY_DEFINITE = 0.9
# Beyond a stability limit states outgrow float64: infinity or NaN is then the answer, and no warning is due.
may_overflow = np.errstate(over="ignore", invalid="ignore")


class System(NamedTuple):
    """The affine dynamics of all agents in the reduced basis, from z = 0."""

    algorithm: Algorithm
    W: Float[np.ndarray, "agents agents"]
    psi: Float[np.ndarray, "agents rank rank"]
    """c F_q^T F_q."""
    pull: Float[np.ndarray, "agents rank"]
    """c F_q^T r_q: the gradient at the start."""

    def rate(self, z: Float[np.ndarray, "agents rank"]) -> Float[np.ndarray, "agents rank"]:
        """Return A z."""
        mixed = self.W @ z
        at = mixed if self.algorithm.mixes_point else z
        return mixed - z - self._outer((self.psi @ at[..., None])[..., 0])

    def input(self) -> Float[np.ndarray, "agents rank"]:
        """Return u."""
        return -self._outer(self.pull)

    def _outer(self, gradient):
        return self.W @ gradient if self.algorithm.mixes_gradient else gradient

    def matrix(self) -> Float[np.ndarray, "Qr Qr"]:
        """Return A itself."""
        return state_matrix(self.algorithm, self.W, self.psi)

    def lowest(self) -> float:
        """Return a number below all of A's eigenvalues, if :func:`chebyshev` may be used."""
        return -2.0 - self._curvature()

    def real(self) -> bool:
        """Say whether A is known to be symmetric in coordinates that are well conditioned, with eigenvalues up to 0.

        DGD's is symmetric if W is; for ATC and CTA see :mod:`peerflow.modes`.
        """
        mixes = self.algorithm.mixes_gradient or self.algorithm.mixes_point
        return mixing.is_symmetric(self.W) and (not mixes or self._curvature() < _CLEARLY_DEFINITE)

    def _curvature(self):
        """Return a bound on the largest eigenvalue of c Psi, hardly above it where few directions are steep."""
        return float(np.linalg.norm(self.psi, axis=(1, 2)).max(initial=0.0))

    def affordable(self) -> float:
        """Return about how many products with A cost as much as the eigenvectors of A."""
        Q, r = self.pull.shape
        return _SPEED * _DECOMPOSITION * (Q * r) ** 2 / (2 * (r + Q))


def state_matrix(algorithm: Algorithm, W, psi: Float[np.ndarray, "agents r r"]) -> Float[np.ndarray, "Qr Qr"]:
    """Return A of (12a)-(12c) in the reduced basis, from W and the blocks of c Psi."""
    _checks.instance("algorithm", algorithm, Algorithm)
    psi = _checks.array("psi", psi, ("agents", "rank", "rank"))
    W = mixing.doubly_stochastic(W, len(psi))
    Q, r = psi.shape[:2]
    outer = W if algorithm.mixes_gradient else np.eye(Q)
    inner = W if algorithm.mixes_point else np.eye(Q)
    blocks = -np.einsum("qs,sij,sp->qipj", outer, psi, inner, optimize=True)
    diagonal = np.arange(r)
    blocks[:, diagonal, :, diagonal] += W - np.eye(Q)
    return blocks.reshape(Q * r, Q * r)


@may_overflow
def recursion(system: System, counts) -> Float[np.ndarray, "count agents rank"]:
    """Return the iteration after these numbers of steps, one step after the other."""
    order, place = np.unique(counts, return_inverse=True)
    states, u = np.zeros((len(order), *system.pull.shape)), system.input()
    z, k = np.zeros_like(u), 0
    for index, count in enumerate(order):
        for _ in range(count - k):
            z = z + system.rate(z) + u
        states[index], k = z, count
    return states[place]


def few_terms(system: System, times) -> bool:
    """Say whether :func:`chebyshev` is accurate at these times, and cheaper than the eigenvectors of A."""
    reach = np.max(times, initial=0.0) * -system.lowest()
    return reach <= _SHORT and _TERMS * np.sqrt(reach) + 32 <= system.affordable() and system.real()


def chebyshev(system: System, times) -> Float[np.ndarray, "time agents rank"]:
    r"""Return the flow at all of these times, from one sequence of products with A.

    :math:`t\,\varphi_1(tA)\,u` is expanded in Chebyshev polynomials of A, whose eigenvalues must be real, see
    :func:`few_terms`, and lie between ``lowest()`` and 0. The coefficients fall faster than geometrically from a degree
    of about a few times :math:`\sqrt{t\,|\mathrm{lowest}|}`.
    """
    lowest = system.lowest()
    coefficients = _coefficients(np.asarray(times, dtype=float), lowest)
    terms = np.zeros((coefficients.shape[1], *system.pull.shape))
    terms[0] = system.input()
    for n in range(1, len(terms)):
        scaled = terms[n - 1] - (2 / lowest) * system.rate(terms[n - 1])
        terms[n] = scaled if n == 1 else 2 * scaled - terms[n - 2]
    return np.tensordot(coefficients, terms, axes=1)


def _coefficients(times, lowest):
    """Return the coefficients of t phi_1(t x) on [lowest, 0] for all times, up to the last that matters."""
    size = int(_NODES * np.sqrt(times.max(initial=0.0) * -lowest)) + 64
    x = lowest / 2 * (1 - np.cos(np.pi * (np.arange(size) + 0.5) / size))
    values = np.expm1(times[:, None] * x) / x
    coefficients = scipy.fft.dct(values) / size
    coefficients[:, 0] /= 2
    matter = np.abs(coefficients) > _ROUNDING * values.max(axis=1, keepdims=True, initial=0.0)
    return coefficients[:, : int(np.flatnonzero(matter.any(axis=0)).max(initial=0)) + 1]
