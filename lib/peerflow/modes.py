r"""Solutions at any time, however late: by modes where A is symmetric in some coordinates, else by propagators.

For symmetric W, DGD's A is symmetric; those of ATC and CTA are so in other coordinates if W or :math:`I - c\Psi` has a
square root. Both the flow and the iteration are then sums over real modes, each with its own scalar function of time:
:func:`phi_1` and :func:`geometric`. Otherwise exact propagators are multiplied (:class:`Stepper`).

>>> float(phi_1(0.0)), float(geometric(-0.5, 2))
(1.0, 1.5)
"""

import math
from dataclasses import replace
from functools import cache, reduce

import numpy as np
import scipy.linalg

from peerflow import _checks
from peerflow.engines import System, may_overflow, memories, phases

# Below this smallest eigenvalue of I - c Psi its inverse square root would cost more than three digits.
_DEFINITE = 1e-6
# Floating point knows A to this much, relative to its norm: what moves slower, moves by rounding.
_RESOLUTION = np.finfo(float).eps
# After 1/norm(A) times this the growth of rounding by repeated squaring is still small, and of what moves as fast as
# floating point can tell from rounding, hardly anything is left.
_LAST = 1e14


def solution(system: System) -> "Modes | Adapted | Stepper":
    """Return what solves this system: ``.at(times)`` for the flow, ``.after(counts)`` for the iteration."""
    method, psi, push = system.method, system.psi, system.scale[:, None] * system.pull
    if method.printed and method.symmetric:
        if not method.rule.mixes:
            return Modes(system.matrix(), system.input(), np.eye(method.agents))
        weights, modes = np.linalg.eigh(method.dense)
        if weights[0] > -method.agents * np.finfo(float).eps:
            root = modes * np.sqrt(weights.clip(min=0)) @ modes.T
            return _semidefinite(method.rule, root, psi, push)
        eigenvalues, vectors = np.linalg.eigh(np.eye(psi.shape[1]) - psi)
        if eigenvalues.min(initial=1.0) > _DEFINITE:
            return _congruent(method, push, eigenvalues, vectors)
    first = replace(method, W=method.phases[0].dense).polynomial(method.rule.memory0) @ push
    memory0 = memories(method).T @ first if method.rule.memory else ()
    return Stepper(phases(method, psi), system.inputs(), push.shape, memory0)


def phi_1(x):
    r"""Return :math:`\varphi_1(x) = (e^x - 1)/x`, and 1 at zero: (14)'s integral is :math:`t\,\varphi_1(tA)`."""
    x = _checks.array("x", x).astype(np.float64)
    return np.divide(np.expm1(x), x, out=np.ones_like(x), where=x != 0)


def geometric(eigenvalue, count):
    r"""Return :math:`\sum_{j<k} (1 + \lambda)^j = ((1+\lambda)^k - 1)/\lambda`, and k at zero: phi_1's counterpart."""
    k = _checks.array("count", count).astype(np.float64)
    if (k < 0).any() or (k % 1).any():
        raise ValueError(f"count must be whole numbers, not negative, got {count!r}")
    x, k = np.broadcast_arrays(_checks.array("eigenvalue", eigenvalue).astype(np.float64), k)
    # Near zero the power is close to one and the difference would cancel.
    near = x > -0.5
    grown = np.where(near, np.expm1(k * np.log1p(np.where(near, x, 0.0))), (1 + x) ** k - 1)
    return np.divide(grown, x, out=k.copy(), where=x != 0)


def _delayed(eigenvalue, t):
    r"""Return :math:`\int_0^t e^{-(t-s)} s\,\varphi_1(s\lambda)\,ds`: a mode of ATC's flow as CTA's agents follow it.

    It is :math:`(t\varphi_1(t\lambda) - 1 + e^{-t})/(1 + \lambda)`, and near that pole the same without the pole.
    """
    x, t = np.broadcast_arrays(eigenvalue, t)
    factor = 1 + x
    pole = np.abs(factor) < 0.5
    far = np.divide(t * phi_1(t * x) + np.expm1(-t), factor, out=np.zeros(x.shape), where=~pole)
    near = t * np.exp(t * np.maximum(x, -1)) * phi_1(-t * np.abs(factor))
    return np.divide(np.expm1(-t) + near, x, out=far, where=pole)


def _semidefinite(rule, root, psi, pull) -> "Modes | Adapted":
    """Return the solution of ATC or CTA for W = R R with a symmetric root R, whatever the step size.

    ATC has A = W G - I with G = I - c Psi. With z = R y the matrix becomes R G R - I, which is symmetric.
    """
    Q, r = pull.shape
    G = np.eye(r) - psi
    A = np.einsum("qp,pij,ps->qisj", root, G, root, optimize=True).reshape(Q * r, Q * r) - np.eye(Q * r)
    atc = Modes(A, -(root @ pull), root)
    return atc if rule.mixes_gradient else Adapted(atc, G, -pull)


def _congruent(method, pull, eigenvalues, vectors) -> "Modes":
    """Return the solution of ATC or CTA for symmetric W and positive definite G = I - c Psi.

    CTA has A = G W - I. With L the square root of G and z = L y, the matrix becomes L W L - I, which is symmetric.
    From a common start ATC is W times CTA.
    """
    W, (Q, r) = method.dense, pull.shape
    root = np.einsum("qij,qj,qkj->qik", vectors, np.sqrt(eigenvalues), vectors, optimize=True)
    inverse = np.einsum("qij,qj,qkj->qik", vectors, 1 / np.sqrt(eigenvalues), vectors, optimize=True)
    A = np.einsum("qij,qp,pjk->qipk", root, W, root, optimize=True).reshape(Q * r, Q * r) - np.eye(Q * r)
    pushed = -np.einsum("qij,qj->qi", inverse, pull)
    return Modes(A, pushed, W if method.rule.mixes_gradient else np.eye(Q), root, least=-2.0)


def _symmetric(A):
    """Return eigenvalues and eigenvectors, by the method that is fast, or by the one that always converges."""
    try:
        return scipy.linalg.eigh(A, driver="evd")
    except np.linalg.LinAlgError:  # seen: divide and conquer fails on some finite matrices with many equal eigenvalues
        return scipy.linalg.eigh(A, driver="evr")


class Modes:
    """The solution for a symmetric state matrix: every mode grows by its own scalar function.

    No eigenvalue of A is positive, since W and I - c Psi have none above 1, nor is any below ``least``. The slowest are
    rounding; they are kept inside, or else rounding would grow with time without bounds.
    """

    def __init__(self, A, u, mix, root=None, least=-np.inf):
        self.shape = u.shape
        self.mix, self.root = mix, root
        eigenvalues, self.vectors = _symmetric(A)
        margin = _RESOLUTION * np.abs(eigenvalues).max(initial=0.0)
        self.eigenvalues = np.clip(eigenvalues, least + margin, -margin)
        self.weights = self.vectors.T @ u.reshape(-1)

    @may_overflow
    def at(self, times):
        t = times[:, None]
        return self._synthesize(t * phi_1(t * self.eigenvalues))

    @may_overflow
    def after(self, counts):
        return self._synthesize(geometric(self.eigenvalues, counts[:, None]))

    def _synthesize(self, growth):
        y = ((growth * self.weights) @ self.vectors.T).reshape(len(growth), *self.shape)
        if self.root is not None:
            y = np.einsum("qij,tqj->tqi", self.root, y, optimize=True)
        return self.mix @ y


class Adapted:
    """The solution of CTA from that of ATC, by which CTA's agents adapt: z_{k+1} = G z_k^ATC + u, with z_0 = 0.

    In continuous time z' = G z^ATC + u - z. Unlike W z = z^ATC, neither needs an inverse of W.
    """

    def __init__(self, atc, G, u):
        self.atc, self.G, self.u = atc, G, u

    @may_overflow
    def at(self, times):
        t = times[:, None]
        states = self.atc._synthesize(_delayed(self.atc.eigenvalues, t))
        return self._adapt(states) - np.expm1(-t[:, None]) * self.u

    @may_overflow
    def after(self, counts):
        states = self._adapt(self.atc.after(np.maximum(counts - 1, 0))) + self.u
        return np.where(counts[:, None, None] > 0, states, 0.0)

    def _adapt(self, states):
        return np.einsum("qij,tqj->tqi", self.G, states, optimize=True)


class Stepper:
    """The solution for any state matrix: exact propagators over the gaps between times, multiplied in order.

    The augmented matrix [[A, u], [0, 0]] carries the constant input along, so nothing is inverted. Where W varies there
    is one for each step of its period, and where agents remember, ``memory0`` stands below parameters of this shape.
    Late times count as the last one at which rounding has not grown, late counts as the last of the same parity.
    """

    def __init__(self, A, u, shape=None, memory0=()):
        self.shape = np.shape(u) if shape is None else shape
        A = np.reshape(A, (-1, *np.shape(A)[-2:]))
        self.augmented = np.zeros((len(A), *np.add(A.shape[1:], 1)))
        self.augmented[:, :-1, :-1] = A
        self.augmented[:, :-1, -1] = np.reshape(u, (len(A), -1))
        self.start = np.concatenate([np.zeros(math.prod(self.shape)), np.ravel(memory0), [1.0]])
        self.steps = np.eye(len(self.start)) + self.augmented
        self.period = reduce(lambda M, step: step @ M, self.steps)
        norm = np.linalg.norm(self.period[:-1, :-1] - np.eye(len(self.start) - 1), 2) if self.start.size > 1 else 0.0
        self.last = 2 * int(_LAST / max(2.0, 2 * norm))

    def at(self, times):
        exponential = cache(lambda gap: scipy.linalg.expm(gap * self.augmented[0]))
        # A grid's gaps differ in the last digit; twelve digits keep one propagator for all of them.
        return self._walk(np.minimum(times, self.last), lambda gap: exponential(float(f"{gap:.12g}")))

    def after(self, counts):
        power = cache(lambda gap: np.linalg.matrix_power(self.period, gap))
        whole, rest = np.divmod(counts, len(self.steps))
        late = self.last + (whole - self.last) % 2
        return self._walk(np.minimum(whole, late), lambda gap: power(int(gap)), rest)

    @may_overflow
    def _walk(self, times, propagator, rest=0):
        """Return the parameters at these times, or so many periods and the rest after them."""
        order, place = np.unique(times, return_inverse=True)
        state, states = self.start, []
        for gap in np.diff(order, prepend=0):
            state = propagator(gap) @ state
            states.append(state)
        states = np.array(states).reshape(len(states), len(self.start))[place]
        for k, step in enumerate(self.steps[:-1]):
            on = np.greater(rest, k)
            states[on] = states[on] @ step.T
        return states[:, : math.prod(self.shape)].reshape(-1, *self.shape)
