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

from collections.abc import Callable
from dataclasses import replace
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
import scipy.linalg
from jax.core import Tracer
from jax.sharding import Mesh
from jaxtyping import Array, Float

from peerflow import _checks, sharding
from peerflow.methods import Method, State

# Chebyshev coefficients below this, relative to the largest value of the function, are rounding. So many times the
# square root of t times the spectrum's width are above it; at some more nodes the function is known to rounding.
_ROUNDING, _TERMS, _NODES = 1e-15, 6, 8
# A product with A runs at this share of the speed of an eigendecomposition, which takes so many n^3 operations.
_SPEED, _DECOMPOSITION = 0.25, 9.0
# Chebyshev series are used up to this t times the spectrum's width: what rounding leaves grows with t.
_SHORT = 1e4
# I - c Psi then has a condition number of at most 10, and so has its square root's square.
_CLEARLY_DEFINITE = 0.9
# What to do where matrices of all agents' size would not fit.
_INSTEAD = "after(counts) needs no such matrix"
# Beyond a stability limit states outgrow float64: infinity or NaN is then the answer, and no warning is due.
may_overflow = np.errstate(over="ignore", invalid="ignore")


class System(NamedTuple):
    """The affine dynamics of all agents in the reduced basis, from z = 0."""

    method: Method
    scale: Float[Array | np.ndarray, "agents"]
    """c: the constant in front of each agent's gradient."""
    curvature: Float[np.ndarray, "agents rank rank"] | None
    """F_q^T F_q, or None where two products with F_q are cheaper."""
    pull: Float[np.ndarray, "agents rank"]
    """F_q^T r_q: the gradient at the start, but for c."""
    features: Float[np.ndarray, "agents rows rank"] | None = None
    """F_q, where F_q^T F_q is not there."""

    @property
    def traced(self) -> bool:
        """Whether JAX is tracing the step size or W."""
        return any(isinstance(each, Tracer) for each in (self.scale, self.method.W))

    @property
    def psi(self) -> Float[Array | np.ndarray, "agents rank rank"]:
        """c F_q^T F_q."""
        if (curvature := self.curvature) is None:
            assert self.features is not None
            curvature = self.features.transpose(0, 2, 1) @ self.features
        return self.scale[:, None, None] * curvature

    def start(self) -> State:
        """Return the state from which every agent starts."""
        return self.method.start(jnp.zeros(self.pull.shape))

    def step(self, state: State, count) -> State:
        """Return the state after the step of the iteration that follows ``count`` others."""
        return self.method.step(state, lambda at: self.scale[:, None] * (self._bend(at) + self.pull), count)

    def rate(self, z: Float[Array | np.ndarray, "agents rank"]) -> Float[Array | np.ndarray, "agents rank"]:
        """Return A z, for a method that has a gradient flow."""
        return self.method.step(State(z, None), lambda at: self.scale[:, None] * self._bend(at)).theta - z

    def _bend(self, z):
        if self.features is None:
            return (self.curvature @ z[..., None])[..., 0]
        return (self.features.transpose(0, 2, 1) @ (self.features @ z[..., None]))[..., 0]

    def inputs(self) -> list[Float[Array | np.ndarray, "rows rank"]]:
        """Return u at each step of W's period."""
        push, keep = self.scale[:, None] * self.pull, memories(self.method)
        states = [each.step(each.start(0 * push), lambda _: push, 1) for each in self.method.phases]
        xp = jnp if self.traced else np
        return [theta if memory is None else xp.concatenate([theta, keep.T @ memory]) for theta, memory in states]

    def input(self) -> Float[Array | np.ndarray, "rows rank"]:
        """Return u, in rows as those of A: over one period if W varies."""
        u, *others = self.inputs()
        for A, new in zip(phases(self.method, self.psi)[1:] if others else (), others, strict=True):
            u = u + (A @ u.reshape(-1)).reshape(u.shape) + new
        return u

    def matrix(self) -> Float[Array | np.ndarray, "Qr Qr"]:
        """Return A itself."""
        _checks.fits("the state matrix of all agents", self.pull.size**2, _INSTEAD)
        return state_matrix(self.method, self.psi)

    def lowest(self) -> float:
        """Return a number below all of A's eigenvalues, if :func:`chebyshev` may be used."""
        return -2.0 - self._steepest()

    def real(self) -> bool:
        """Say whether A is known to be symmetric in coordinates that are well conditioned, with eigenvalues up to 0.

        DGD's is symmetric if W is; for ATC and CTA see :mod:`peerflow.modes`.
        """
        known = self.method.printed and self.method.symmetric
        return known and (not self.method.rule.mixes or self._steepest() < _CLEARLY_DEFINITE)

    def _steepest(self):
        """Return a bound on the largest eigenvalue of c Psi, hardly above it where few directions are steep."""
        gram: Any = self.curvature if self.features is None else self.features @ self.features.transpose(0, 2, 1)
        return float((self.scale * np.linalg.norm(gram, axis=(1, 2))).max(initial=0.0))

    def affordable(self) -> float:
        """Return about how many products with A cost as much as the eigenvectors of A."""
        Q, r = self.pull.shape
        vectors = 2 if self.method.rule.memory else 1
        return _SPEED * _DECOMPOSITION * vectors**3 * (Q * r) ** 2 / (2 * (r + Q))


def state_matrix(method: Method, psi) -> Float[Array | np.ndarray, "n n"]:
    """Return A of (12a)-(12c) in the reduced basis, from the blocks of c Psi, (agents, r, r).

    I + A takes the agents' deviations one step further, or a period if W varies. If the method remembers, memories
    stand below, in the coordinates of :func:`memories`.
    """
    first, *others = phases(method, psi)
    if not others:
        return first
    one = np.eye(len(first))
    return reduce(lambda M, A: M + A @ M, others, one + first) - one


def phases(method: Method, psi) -> list[Float[Array | np.ndarray, "n n"]]:
    """Return A at each step of W's period."""
    _checks.instance("method", method, Method)
    psi = _checks.array("psi", psi, (method.agents, "rank", "rank"))
    traced = any(isinstance(each, Tracer) for each in (psi, method.W))
    return [_matrix(jnp if traced else np, each, psi) for each in method.phases]


def _matrix(xp, method, psi):
    """Return A for one W: a block for each pair of what is remembered, parameters first."""
    if not isinstance(method.W, Tracer):
        method = replace(method, W=method.dense)
    rule, C, rank = method.rule, method.polynomial(method.rule.point), psi.shape[1]
    spaces = [np.eye(method.agents), *[memories(method)] * bool(rule.memory)]
    rows = []
    for to, weights in zip(spaces, (rule.theta, rule.memory), strict=False):
        *straight, descent = (to.T @ method.polynomial(each) for each in weights)
        row = []
        for of, each in zip(spaces, straight, strict=True):
            own = each @ (C if of is spaces[0] else of) - (to.T @ of if of is to else 0.0)
            row.append(xp.einsum("kp,ij->kipj", own, np.eye(rank)))
        row[0] = row[0] + xp.einsum("ks,sij,sp->kipj", descent, psi, C, optimize=True)
        rows.append(xp.concatenate([each.reshape(each.shape[0] * rank, each.shape[2] * rank) for each in row], axis=1))
    return xp.concatenate(rows)


def memories(method: Method) -> Float[np.ndarray, "agents k"]:
    """Return orthonormal coordinates, as columns, of what the agents' memories may be.

    Where a rule conserves their sum, which is zero at first, those that sum to zero are all there are: the iteration
    would else seem to have an eigenvalue 1 that no start excites.
    """
    return scipy.linalg.helmert(method.agents).T if method.rule.conserves else np.eye(method.agents)


def recursion(system: System, counts, mesh: Mesh | None = None) -> Float[Array | np.ndarray, "count agents rank"]:
    """Return the iteration after these numbers of steps, one step after the other, over the devices of a mesh."""
    order, place = np.unique(counts, return_inverse=True)
    _checks.fits("all agents' states", len(counts) * system.pull.size, "ask for fewer counts, or by sweep for losses")
    if len(order) == 0:
        return np.zeros((0, *system.pull.shape))
    if system.traced:
        return _every(system, int(order[-1]))[order[place]]
    gaps = np.diff(order, prepend=0)
    with sharding.others():
        return sharding.gathered(_some(mesh, *placed(system, mesh), gaps))[place]


def placed(system: System, mesh: Mesh | None) -> tuple[System, State]:
    """Return a system and its start as JAX takes them: on the devices of a mesh, if there is one."""

    def one(part):
        return part.placed(np.float64, mesh) if isinstance(part, Method) else sharding.spread(part, mesh)

    return jax.tree.map(one, (system, system.start()), is_leaf=lambda part: isinstance(part, Method))


@partial(jax.jit, static_argnums=1)
def _every(system, steps):
    """Return all states up to this step; reverse differentiation needs them."""
    start = system.start()

    def advance(state, count):
        state = system.step(state, count)
        return state, state.theta

    after = jax.lax.scan(advance, start, jnp.arange(steps))[1]
    return jnp.concatenate([start.theta[None], after])


@partial(jax.jit, static_argnums=0)
def _some(mesh, system, start, gaps):
    def states(system, start, gaps):
        return walk(system.step, start, gaps, lambda state: state.theta)[1]

    lie = (sharding.OWN, sharding.OWN, sharding.ALL), sharding.STEPS
    return sharding.mapped(states, mesh, *lie)(system, start, gaps)


def walk(step: Callable, start: State, gaps, seen: Callable, done=0):
    """Take gaps[0], then gaps[1], ... steps after ``done`` others, under a JAX trace.

    Return the number of steps and the state at the end, and what is seen where each gap ends.
    """

    def advance(carry, gap):
        count, state = carry
        state = jax.lax.fori_loop(count, count + gap, lambda k, state: step(state, k), state)
        return (count + gap, state), seen(state)

    return jax.lax.scan(advance, (jnp.zeros((), gaps.dtype) + done, start), gaps)


def exponential(system: System, times) -> Float[Array | np.ndarray, "time agents rank"]:
    """Return the flow at these times, by the exponential of [[A, u], [0, 0]]: derivatives are right for every A.

    (Those of an eigendecomposition are not defined where eigenvalues repeat, as they do on a cycle.)
    """
    order, place = np.unique(times, return_inverse=True)
    # A grid's gaps differ in the last digit; twelve digits keep one propagator for all of them.
    gaps, which = np.unique([float(f"{gap:.12g}") for gap in np.diff(order, prepend=0.0)], return_inverse=True)
    A, u = system.matrix(), system.input().reshape(-1)
    augmented = jnp.zeros((len(u) + 1,) * 2).at[:-1, :-1].set(A).at[:-1, -1].set(u)
    # One after the other: from jaxlib 0.10 on, batches of matrices that are factorized beside each other may wait for
    # each other without end.
    propagators = jax.lax.map(lambda gap: jax.scipy.linalg.expm(gap * augmented, max_squarings=64), gaps)

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
