r"""Closed forms of the linearised dynamics: the gradient flow (12)-(14), and the iteration itself.

In the reduced basis, with :math:`z` one row an agent, :math:`r_q = f_0 - y` on agent q's data, and
:math:`c = \eta/D` (objective ``"local"``) or :math:`\eta/(DQ)` (``"global"``), every algorithm has

.. math:: A = (W - I) \otimes I - c\, B \Psi C, \qquad u = -c\, B\, [F_q^\top r_q]_q, \qquad
    \Psi = \mathrm{blockdiag}(F_q^\top F_q),

and from the common start :math:`z = 0`

.. math:: \text{flow (14):}\quad z(t) = t\,\varphi_1(tA)\,u, \qquad
    \text{iteration:}\quad z_k = \sum_{j<k} (I + A)^j u.

The paper's A is singular whenever P exceeds the rank of all agents' Jacobian. In this basis A is regular if W connects
the agents, but about as badly conditioned as the kernel, so neither form divides by it. For symmetric W both are sums
over real modes (:class:`_Modes`): under DGD always, under ATC and CTA if W or :math:`I - c\,\Psi` has a square root.
Otherwise exact propagators are multiplied (:class:`_Stepper`).
"""

from dataclasses import dataclass
from functools import cache, cached_property

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Float

from peerflow import _checks, mixing
from peerflow.algorithms import Algorithm
from peerflow.linearize import Linearization
from peerflow.objectives import LOSSES, gradient_scale

# Below this smallest eigenvalue of I - c Psi its inverse square root would cost more than three digits.
_DEFINITE = 1e-6
# Floating point knows A to this much, relative to its norm: what moves slower, moves by rounding.
_RESOLUTION = np.finfo(float).eps
# After 1/norm(A) times this the growth of rounding by repeated squaring is still small, and of what moves as fast as
# floating point can tell from rounding, hardly anything is left.
_LAST = 1e14
# Beyond a stability limit states outgrow float64: infinity or NaN is then the answer, and no warning is due.
_may_overflow = np.errstate(over="ignore", invalid="ignore")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The predicted state of every agent at some times."""

    lin: Linearization
    times: Float[np.ndarray, "time"]
    """Times, or step counts; one step of the algorithm is one unit of time."""
    coefficients: Float[np.ndarray, "time agents rank"]
    """z: each agent's displacement from the common start in the reduced basis."""
    loss: str = "mse"
    """The loss whose dynamics these are: ``"mse"``, ``"cross_entropy"`` or ``"binary_cross_entropy"``."""

    @cached_property
    @_may_overflow
    def losses(self) -> Float[np.ndarray, "time agents"]:
        """Each agent's own objective at its own parameters, in the linear model."""
        moved = np.einsum("qir,tqr->tqi", self.lin.features, self.coefficients, optimize=True)
        y = self.lin.agents.y
        outputs = (self.lin.outputs0 + moved).reshape(-1, *y.shape)
        return self._risks(outputs, y, agents_share_y=False)

    @cached_property
    @_may_overflow
    def global_losses(self) -> Float[np.ndarray, "time agents"]:
        """The global objective at each agent's parameters, in the linear model."""
        moved = self.coefficients @ self.lin.features.reshape(-1, self.lin.rank).T
        y = self.lin.agents.pooled()[1]
        outputs = (self.lin.outputs0.reshape(-1) + moved).reshape(*moved.shape[:2], *y.shape)
        return self._risks(outputs, y, agents_share_y=True)

    def _risks(self, outputs, y, agents_share_y):
        """Return the mean loss over samples at every time, of every agent."""
        _checks.double_precision()
        loss_fn = _checks.choice("loss", self.loss, LOSSES)
        one = jax.vmap(lambda f, y: jnp.mean(loss_fn(f, y)), (0, None if agents_share_y else 0))
        return np.asarray(jax.vmap(one, (0, None))(outputs, y.astype(outputs.dtype)))

    def params(self) -> Float[np.ndarray, "time agents params"]:
        """Return every agent's parameters."""
        return self.lin.theta0 + self.coefficients @ self.lin.basis.T

    def outputs(self, x) -> Float[np.ndarray, "time agents n outputs"]:
        """Return every agent's linear-model outputs on inputs (n, N)."""
        start, jacobian = self.lin.expand(x)
        return start + np.einsum("nmr,tqr->tqnm", jacobian, self.coefficients, optimize=True)


@dataclass(frozen=True, eq=False)
class Dynamics:
    """The linearised dynamics of one algorithm. Nothing is trained: ask for any time or step count."""

    algorithm: Algorithm
    lin: Linearization
    W: Float[np.ndarray, "agents agents"]
    scale: float
    """c: the constant in front of the gradient, step_size / D, or / (D Q)."""

    def at(self, times) -> Trajectory:
        """Return the gradient flow, (14), at these times, each finite and not negative."""
        times = _checks.times("times", times)
        return Trajectory(self.lin, times, self._solution.at(times))

    def after(self, counts) -> Trajectory:
        """Return the linearised iteration after these numbers of steps: what training would give, were f linear."""
        counts = _checks.counts("counts", counts)
        return Trajectory(self.lin, counts.astype(float), self._solution.after(counts))

    def system(self) -> tuple[Float[np.ndarray, "Qr Qr"], Float[np.ndarray, "agents r"]]:
        """Return A and u of (12a)-(12c) in the reduced basis, u with one row an agent."""
        psi, pull = gram(self.lin, self.scale)
        return state_matrix(self.algorithm, self.W, psi), _outer(self.algorithm, self.W) @ -pull

    def fixed_point(self) -> Trajectory:
        """Return where flow and iteration both stand still, A z = -u: where they end, if the step size is stable.

        Raises
        ------
        ValueError
            If A is singular to rounding: W does not connect all agents, or the kernel is too badly conditioned.
        """
        A, u = self.system()
        if np.linalg.matrix_rank(A) < len(A):
            raise ValueError(
                "no single fixed point: W must connect all agents and the kernel be well conditioned, "
                "got a state matrix that is singular to rounding"
            )
        z = np.linalg.solve(A, -u.reshape(-1)).reshape(1, *u.shape)
        return Trajectory(self.lin, np.array([np.inf]), z)

    @cached_property
    def _solution(self) -> "_Modes | _Adapted | _Stepper":
        W, algorithm = self.W, self.algorithm
        if mixing.is_symmetric(W):
            if algorithm.mixes_gradient == algorithm.mixes_point:
                return _Modes(*self.system(), np.eye(len(W)))
            psi, pull = gram(self.lin, self.scale)
            weights, modes = np.linalg.eigh(W)
            if weights[0] > -len(W) * np.finfo(float).eps:
                root = modes * np.sqrt(weights.clip(min=0)) @ modes.T
                return _semidefinite(algorithm, root, psi, pull)
            eigenvalues, vectors = np.linalg.eigh(np.eye(psi.shape[1]) - psi)
            if eigenvalues.min(initial=1.0) > _DEFINITE:
                return _congruent(algorithm, W, pull, eigenvalues, vectors)
        return _Stepper(*self.system())


def predict(algorithm: Algorithm, lin: Linearization, W, *, step_size: float, objective: str = "local") -> Dynamics:
    """Predict how all agents train from a common start, in closed form.

    Parameters
    ----------
    algorithm
        DGD, ATC or CTA.
    lin
        The model about that start, from :func:`peerflow.linearize.linearize`.
    W
        Doubly stochastic mixing matrix (agents, agents), symmetric or not.
    step_size, objective
        As in :func:`peerflow.training.train`; give both the same.

    Raises
    ------
    ValueError
        If W does not fit or is not doubly stochastic, step_size is not positive or objective is unknown.
    """
    _checks.instance("algorithm", algorithm, Algorithm)
    _checks.instance("lin", lin, Linearization)
    W = mixing.doubly_stochastic(W, lin.agents.agents)
    scale = gradient_scale(objective, len(W)) * _checks.positive("step_size", step_size) / lin.agents.samples
    return Dynamics(algorithm, lin, W, scale)


def gram(lin: Linearization, scale: float) -> tuple[Float[np.ndarray, "agents r r"], Float[np.ndarray, "agents r"]]:
    """Return c Psi as one block an agent, and c F_q^T r_q: the gradient is their affine function of z."""
    _checks.instance("lin", lin, Linearization)
    scale = _checks.positive("scale", scale)
    psi = scale * np.einsum("qir,qis->qrs", lin.features, lin.features, optimize=True)
    return psi, scale * np.einsum("qir,qi->qr", lin.features, lin.residuals0)


def state_matrix(algorithm: Algorithm, W, psi: Float[np.ndarray, "agents r r"]) -> Float[np.ndarray, "Qr Qr"]:
    """Return A of (12a)-(12c) in the reduced basis, from W and the blocks of c Psi."""
    _checks.instance("algorithm", algorithm, Algorithm)
    psi = _checks.array("psi", psi, ("agents", "rank", "rank"))
    W = mixing.doubly_stochastic(W, len(psi))
    Q, r = psi.shape[:2]
    inner = W if algorithm.mixes_point else np.eye(Q)
    blocks = -np.einsum("qs,sij,sp->qipj", _outer(algorithm, W), psi, inner, optimize=True)
    diagonal = np.arange(r)
    blocks[:, diagonal, :, diagonal] += W - np.eye(Q)
    return blocks.reshape(Q * r, Q * r)


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


def _outer(algorithm, W):
    return W if algorithm.mixes_gradient else np.eye(len(W))


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


def _semidefinite(algorithm, root, psi, pull) -> "_Modes | _Adapted":
    """Return the solution of ATC or CTA for W = R R with a symmetric root R, whatever the step size.

    ATC has A = W G - I with G = I - c Psi. With z = R y the matrix becomes R G R - I, which is symmetric.
    """
    Q, r = pull.shape
    G = np.eye(r) - psi
    A = np.einsum("qp,pij,ps->qisj", root, G, root, optimize=True).reshape(Q * r, Q * r) - np.eye(Q * r)
    atc = _Modes(A, -(root @ pull), root)
    return atc if algorithm.mixes_gradient else _Adapted(atc, G, -pull)


def _congruent(algorithm, W, pull, eigenvalues, vectors) -> "_Modes":
    """Return the solution of ATC or CTA for symmetric W and positive definite G = I - c Psi.

    CTA has A = G W - I. With L the square root of G and z = L y, the matrix becomes L W L - I, which is symmetric.
    From a common start ATC is W times CTA.
    """
    Q, r = pull.shape
    root = np.einsum("qij,qj,qkj->qik", vectors, np.sqrt(eigenvalues), vectors, optimize=True)
    inverse = np.einsum("qij,qj,qkj->qik", vectors, 1 / np.sqrt(eigenvalues), vectors, optimize=True)
    A = np.einsum("qij,qp,pjk->qipk", root, W, root, optimize=True).reshape(Q * r, Q * r) - np.eye(Q * r)
    pushed = -np.einsum("qij,qj->qi", inverse, pull)
    return _Modes(A, pushed, W if algorithm.mixes_gradient else np.eye(Q), root, least=-2.0)


class _Modes:
    """The solution for a symmetric state matrix: every mode grows by its own scalar function.

    No eigenvalue of A is positive, since W and I - c Psi have none above 1, nor is any below ``least``. The slowest are
    rounding; they are kept inside, or else rounding would grow with time without bounds.
    """

    def __init__(self, A, u, mix, root=None, least=-np.inf):
        self.shape = u.shape
        self.mix, self.root = mix, root
        eigenvalues, self.vectors = scipy.linalg.eigh(A, overwrite_a=True, driver="evd")
        margin = _RESOLUTION * np.abs(eigenvalues).max(initial=0.0)
        self.eigenvalues = np.clip(eigenvalues, least + margin, -margin)
        self.weights = self.vectors.T @ u.reshape(-1)

    @_may_overflow
    def at(self, times):
        t = times[:, None]
        return self._synthesise(t * phi_1(t * self.eigenvalues))

    @_may_overflow
    def after(self, counts):
        return self._synthesise(geometric(self.eigenvalues, counts[:, None]))

    def _synthesise(self, growth):
        y = ((growth * self.weights) @ self.vectors.T).reshape(len(growth), *self.shape)
        if self.root is not None:
            y = np.einsum("qij,tqj->tqi", self.root, y, optimize=True)
        return self.mix @ y


class _Adapted:
    """The solution of CTA from that of ATC, by which CTA's agents adapt: z_{k+1} = G z_k^ATC + u, with z_0 = 0.

    In continuous time z' = G z^ATC + u - z. Unlike W z = z^ATC, neither needs an inverse of W.
    """

    def __init__(self, atc, G, u):
        self.atc, self.G, self.u = atc, G, u

    @_may_overflow
    def at(self, times):
        t = times[:, None]
        states = self.atc._synthesise(_delayed(self.atc.eigenvalues, t))
        return self._adapt(states) - np.expm1(-t[:, None]) * self.u

    @_may_overflow
    def after(self, counts):
        states = self._adapt(self.atc.after(np.maximum(counts - 1, 0))) + self.u
        return np.where(counts[:, None, None] > 0, states, 0.0)

    def _adapt(self, states):
        return np.einsum("qij,tqj->tqi", self.G, states, optimize=True)


class _Stepper:
    """The solution for any state matrix: exact propagators over the gaps between times, multiplied in order.

    The augmented matrix [[A, u], [0, 0]] carries the constant input along, so nothing is inverted. Late times count as
    the last one at which rounding has not grown, late counts as the last of the same parity.
    """

    def __init__(self, A, u):
        self.shape = u.shape
        self.augmented = np.zeros((u.size + 1, u.size + 1))
        self.augmented[:-1, :-1] = A
        self.augmented[:-1, -1] = u.reshape(-1)
        self.last = 2 * int(_LAST / max(2.0, 2 * np.linalg.norm(A, 2)))

    def at(self, times):
        exponential = cache(lambda gap: scipy.linalg.expm(gap * self.augmented))
        # A grid's gaps differ in the last digit; twelve digits keep one propagator for all of them.
        return self._walk(np.minimum(times, self.last), lambda gap: exponential(float(f"{gap:.12g}")))

    def after(self, counts):
        step = np.eye(len(self.augmented)) + self.augmented
        power = cache(lambda gap: np.linalg.matrix_power(step, gap))
        late = self.last + (counts - self.last) % 2
        return self._walk(np.minimum(counts, late), lambda gap: power(int(gap)))

    @_may_overflow
    def _walk(self, times, propagator):
        order, place = np.unique(times, return_inverse=True)
        state = np.zeros(len(self.augmented))
        state[-1] = 1.0
        states = []
        for gap in np.diff(order, prepend=0):
            state = propagator(gap) @ state
            states.append(state[:-1].reshape(self.shape))
        return np.array(states).reshape(len(states), *self.shape)[place]
