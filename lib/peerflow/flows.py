r"""Closed forms of the linearized dynamics: the gradient flow (12)-(14), and the iteration itself.

In the reduced basis, with :math:`z` one row per agent, :math:`r_q = f_0 - y` on agent q's data, and
:math:`c = \eta/D` (objective ``"local"``) or :math:`\eta/(DQ)` (``"global"``), every algorithm has

.. math:: A = (W - I) \otimes I - c\, B \Psi C, \qquad u = -c\, B\, [F_q^\top r_q]_q, \qquad
    \Psi = \mathrm{blockdiag}(F_q^\top F_q),

and from the common start :math:`z = 0`

.. math:: \text{flow (14):}\quad z(t) = t\,\varphi_1(tA)\,u, \qquad
    \text{iteration:}\quad z_k = \sum_{j<k} (I + A)^j u.

The paper's A is singular whenever P exceeds the rank of all agents' Jacobian. In this basis A is nonsingular if W
connects the agents, but about as badly conditioned as the kernel, so neither form divides by it. For as many steps as a
training run has, both come from products with A (:mod:`peerflow.engines`); for later times from its modes
(:mod:`peerflow.modes`), whichever is cheaper.
"""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from peerflow import _checks, engines, mixing, modes
from peerflow.algorithms import Algorithm
from peerflow.engines import may_overflow
from peerflow.linearize import Linearization
from peerflow.objectives import LOSSES, gradient_scale


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
    @may_overflow
    def losses(self) -> Float[np.ndarray, "time agents"]:
        """Each agent's own objective at its own parameters, in the linear model."""
        moved = np.matmul(self.lin.features, self.coefficients.transpose(1, 2, 0)).transpose(2, 0, 1)
        y = self.lin.agents.y
        outputs = (self.lin.outputs0 + moved).reshape(-1, *y.shape)
        return self._risks(outputs, y, agents_share_y=False)

    @cached_property
    @may_overflow
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
    """The linearized dynamics of one algorithm. Nothing is trained: ask for any time or step count."""

    algorithm: Algorithm
    lin: Linearization
    W: Float[np.ndarray, "agents agents"]
    scale: float
    """c: the constant in front of the gradient, step_size / D, or / (D Q)."""

    def at(self, times) -> Trajectory:
        """Return the gradient flow, (14), at these times, each finite and not negative."""
        times = _checks.times("times", times)
        if engines.few_terms(self._system, times):
            return Trajectory(self.lin, times, engines.chebyshev(self._system, times))
        return Trajectory(self.lin, times, self._solution.at(times))

    def after(self, counts) -> Trajectory:
        """Return the linearized iteration after these numbers of steps: what training would give, were f linear."""
        counts = _checks.counts("counts", counts)
        few = counts.max(initial=0) <= self._system.affordable()
        states = engines.recursion(self._system, counts) if few else self._solution.after(counts)
        return Trajectory(self.lin, counts.astype(float), states)

    def system(self) -> tuple[Float[np.ndarray, "Qr Qr"], Float[np.ndarray, "agents r"]]:
        """Return A and u of (12a)-(12c) in the reduced basis, u with one row per agent."""
        return self._system.matrix(), self._system.input()

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
    def _system(self) -> engines.System:
        return engines.System(self.algorithm, self.W, *gram(self.lin, self.scale))

    @cached_property
    def _solution(self) -> "modes.Modes | modes.Adapted | modes.Stepper":
        return modes.solution(self._system)


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
    """Return c Psi as one block per agent, and c F_q^T r_q: the gradient is their affine function of z."""
    _checks.instance("lin", lin, Linearization)
    scale = _checks.positive("scale", scale)
    psi = scale * np.einsum("qir,qis->qrs", lin.features, lin.features, optimize=True)
    return psi, scale * np.einsum("qir,qi->qr", lin.features, lin.residuals0)
