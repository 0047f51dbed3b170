r"""How :mod:`peerflow.flows` gets its states without a matrix of all agents' size: products with A only.

The affine system :math:`\dot z = Az + u`, or :math:`z' = z + Az + u`, is applied block by block: one product with each
agent's :math:`c\Psi_q`, and one with W. For as many steps as a training run has, that costs far less than the
eigenvectors of A. :func:`recursion` and :func:`exponential` may be traced by JAX: differentiated in the step size and
in W, and mapped over them.

>>> import numpy as np
>>> from peerflow.methods import DGD
>>> system = System(DGD(np.eye(1)), np.ones(1), np.full((1, 1, 1), 0.5), np.ones((1, 1)))
>>> recursion(system, np.array([0, 1, 2])).ravel().tolist()
[0.0, -1.0, -1.5]
>>> bool(abs(chebyshev(system, [1.0]).item() + 2 * (1 - np.exp(-0.5))) < 1e-14)
True
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jax.core import Tracer
from jaxtyping import Array, Float

from peerflow import _checks
from peerflow.methods import Method

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

    method: Method
    scale: Float[Array | np.ndarray, "agents"]
    """c: the constant in front of each agent's gradient."""
    curvature: Float[np.ndarray, "agents rank rank"]
    """F_q^T F_q."""
    pull: Float[np.ndarray, "agents rank"]
    """F_q^T r_q: the gradient at the start, but for c."""

    @property
    def traced(self) -> bool:
        """Whether JAX is tracing the step size or W."""
        return any(isinstance(each, Tracer) for each in (self.scale, self.method.W))

    @property
    def psi(self) -> Float[Array | np.ndarray, "agents rank rank"]:
        """c F_q^T F_q."""
        return self.scale[:, None, None] * self.curvature

    def rate(self, z: Float[Array | np.ndarray, "agents rank"]) -> Float[Array | np.ndarray, "agents rank"]:
        """Return A z."""
        mixed = self.method.W @ z
        at = mixed if self.method.rule.mixes_point else z
        return mixed - z - self._outer((self.curvature @ at[..., None])[..., 0])

    def input(self) -> Float[Array | np.ndarray, "agents rank"]:
        """Return u."""
        return -self._outer(self.pull)

    def _outer(self, gradient):
        descent = self.scale[:, None] * gradient
        return self.method.W @ descent if self.method.rule.mixes_gradient else descent

    def matrix(self) -> Float[Array | np.ndarray, "Qr Qr"]:
        """Return A itself."""
        return state_matrix(self.method, self.psi)

    def lowest(self) -> float:
        """Return a number below all of A's eigenvalues, if :func:`chebyshev` may be used."""
        return -2.0 - self._steepest()

    def real(self) -> bool:
        """Say whether A is known to be symmetric in coordinates that are well conditioned, with eigenvalues up to 0.

        DGD's is symmetric if W is; for ATC and CTA see :mod:`peerflow.modes`.
        """
        return self.method.symmetric and (not self.method.rule.mixes or self._steepest() < _CLEARLY_DEFINITE)

    def _steepest(self):
        """Return a bound on the largest eigenvalue of c Psi, hardly above it where few directions are steep."""
        return float((self.scale * np.linalg.norm(self.curvature, axis=(1, 2))).max(initial=0.0))

    def affordable(self) -> float:
        """Return about how many products with A cost as much as the eigenvectors of A."""
        Q, r = self.pull.shape
        return _SPEED * _DECOMPOSITION * (Q * r) ** 2 / (2 * (r + Q))


def state_matrix(method: Method, psi) -> Float[Array | np.ndarray, "Qr Qr"]:
    """Return A of (12a)-(12c) in the reduced basis, from the blocks of c Psi, (agents, r, r)."""
    _checks.instance("method", method, Method)
    psi = _checks.array("psi", psi, (method.agents, "rank", "rank"))
    traced = any(isinstance(each, Tracer) for each in (psi, method.W))
    xp, W = (jnp, method.W) if traced else (np, method.dense)
    Q, r = psi.shape[:2]
    outer = W if method.rule.mixes_gradient else np.eye(Q)
    inner = W if method.rule.mixes_point else np.eye(Q)
    blocks = xp.einsum("qp,ij->qipj", W - np.eye(Q), np.eye(r))
    blocks -= xp.einsum("qs,sij,sp->qipj", outer, psi, inner, optimize=True)
    return blocks.reshape(Q * r, Q * r)


def recursion(system: System, counts) -> Float[Array | np.ndarray, "count agents rank"]:
    """Return the iteration after these numbers of steps, one step after the other."""
    order, place = np.unique(counts, return_inverse=True)
    if len(order) == 0:
        return np.zeros((0, *system.pull.shape))
    if system.traced:
        return _every(system, int(order[-1]))[order[place]]
    placed = system._replace(method=system.method.placed(np.float64))
    return np.asarray(_some(placed, jnp.asarray(np.diff(order, prepend=0))))[place]


def step(system: System, z: Float[Array | np.ndarray, "agents rank"]) -> Float[Array | np.ndarray, "agents rank"]:
    """Return the state after one step of the iteration."""
    return z + system.rate(z) + system.input()


@partial(jax.jit, static_argnums=1)
def _every(system, steps):
    """Return all states up to this step; reverse differentiation needs them."""
    start = jnp.zeros(system.pull.shape)

    def advance(z, _):
        z = jnp.asarray(step(system, z))
        return z, z

    after = jax.lax.scan(advance, start, length=steps)[1]
    return jnp.concatenate([start[None], after])


@jax.jit
def _some(system, gaps):
    """Take gaps[0], then gaps[1], ... steps; return where each of them ends."""

    def advance(z, gap):
        return (jax.lax.fori_loop(0, gap, lambda _, z: step(system, z), z),) * 2

    return jax.lax.scan(advance, jnp.zeros(system.pull.shape), gaps)[1]


def exponential(system: System, times) -> Float[Array | np.ndarray, "time agents rank"]:
    """Return the flow at these times, by the exponential of [[A, u], [0, 0]]: derivatives are right for every A.

    (Those of an eigendecomposition are not defined where eigenvalues repeat, as they do on a cycle.)
    """
    order, place = np.unique(times, return_inverse=True)
    # A grid's gaps differ in the last digit; twelve digits keep one propagator for all of them.
    gaps, which = np.unique([float(f"{gap:.12g}") for gap in np.diff(order, prepend=0.0)], return_inverse=True)
    A, u = system.matrix(), system.input().reshape(-1)
    augmented = jnp.zeros((len(u) + 1,) * 2).at[:-1, :-1].set(A).at[:-1, -1].set(u)
    propagators = jnp.stack([jax.scipy.linalg.expm(gap * augmented, max_squarings=64) for gap in gaps])

    def advance(state, propagator):
        return (propagators[propagator] @ state,) * 2

    states = jax.lax.scan(advance, jnp.zeros(len(u) + 1).at[-1].set(1.0), which)[1]
    return states[:, :-1].reshape(-1, *system.pull.shape)[place]


def few_terms(system: System, times) -> bool:
    """Say whether :func:`chebyshev` is accurate at these times, and cheaper than the eigenvectors of A."""
    reach = np.max(times, initial=0.0) * -system.lowest()
    return bool(reach <= _SHORT and _TERMS * np.sqrt(reach) + 32 <= system.affordable() and system.real())


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
    coefficients = np.asarray(scipy.fft.dct(values)) / size
    coefficients[:, 0] /= 2
    matter = np.abs(coefficients) > _ROUNDING * values.max(axis=1, keepdims=True, initial=0.0)
    return coefficients[:, : int(np.flatnonzero(matter.any(axis=0)).max(initial=0)) + 1]
