r"""The stacked equations (12a)-(12c) exactly as printed, for problems small enough to look at.

.. math:: \dot{\vartheta}_t = A\,\vartheta_t + u, \qquad
    A = \hat{\mathcal W} - c\,\mathcal B\,\Psi_0\,\mathcal C, \qquad
    u = -c\,\mathcal B\,\bigl[J^\top(f_0 - y) - \Psi_0\vartheta_0\bigr], \qquad \Psi_0 = J^\top J,

with :math:`(\mathcal B, \mathcal C)` equal to :math:`(I, I)` for DGD, :math:`(\mathcal W, I)` for ATC and
:math:`(I, \mathcal W)` for CTA, :math:`\mathcal W = W \otimes I_P`, and J block diagonal, one block an agent.

This is the one module that builds matrices with QP rows and columns, and it refuses more than ``LARGEST`` of them.
It is there to be read, and to hold :mod:`peerflow.flows` against; that module solves the same equations at any size.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float

from peerflow import _checks
from peerflow.data import AgentData
from peerflow.methods import Method
from peerflow.models import Model, starts

LARGEST = 2000
"""The largest number QP of stacked parameters: A then takes 32 MB, and its exponential some seconds."""


@dataclass(frozen=True, eq=False)
class FlowEquation:
    """One of (12a)-(12c), with everything it is made of."""

    theta0: Float[np.ndarray, "agents params"]
    """Where each agent's network was expanded; stacked, it is the paper's vartheta_0."""
    outputs0: Float[np.ndarray, "QMD"]
    """f_0 of (9)-(10), agent after agent."""
    jacobian: Float[np.ndarray, "QMD QP"]
    """J, the Jacobian of all outputs in all parameters: block diagonal."""
    psi: Float[np.ndarray, "QP QP"]
    """Psi_0 = J^T J."""
    A: Float[np.ndarray, "QP QP"]
    """The state matrix."""
    u: Float[np.ndarray, "QP"]
    """The constant input."""

    def at(self, times, start=None) -> Float[np.ndarray, "time agents params"]:
        r"""Return all agents' parameters at these times, by (14).

        The exponential of t [[A, u], [0, 0]] holds both terms of (14), :math:`e^{tA}` and :math:`t\varphi_1(tA)u`,
        and inverts nothing.

        Parameters
        ----------
        times
            Finite and not negative.
        start
            Parameters at time zero (agents, params); by default those of the expansion.
        """
        augmented = np.zeros((len(self.u) + 1,) * 2)
        augmented[:-1, :-1], augmented[:-1, -1] = self.A, self.u
        state = np.append(self._stacked(start), 1.0)
        states = [(scipy.linalg.expm(t * augmented) @ state)[:-1] for t in _checks.times("times", times)]
        return np.array(states).reshape(-1, *self.theta0.shape)

    def after(self, counts, start=None) -> Float[np.ndarray, "count agents params"]:
        """Return all agents' parameters after these numbers of steps of size one of Euler's method.

        ``counts`` are whole numbers, not negative; ``start`` is as in :meth:`at`.
        """
        counts = _checks.counts("counts", counts)
        states = [self._stacked(start)]
        for _ in range(counts.max(initial=0)):
            states.append(states[-1] + self.A @ states[-1] + self.u)
        return np.array(states)[counts].reshape(-1, *self.theta0.shape)

    def _stacked(self, start):
        return (self.theta0 if start is None else _checks.array("start", start, self.theta0.shape)).reshape(-1)


def flow_equation(method: Method, model: Model, agents: AgentData, theta0, *, step_size: float) -> FlowEquation:
    r"""Return (12a), (12b) or (12c) for a small problem.

    Parameters
    ----------
    method
        ``DGD(W)`` for (12a), ``ATC(W)`` for (12b), ``CTA(W)`` for (12c). With ``objective="global"`` the constant is
        the one that the paper prints, :math:`c = \eta/(DQ)`; with ``"local"`` it is :math:`c = \eta/D`.
    theta0
        The point of expansion: one for all agents (params,), or one row per agent (agents, params).
    step_size
        As in :func:`peerflow.training.train`.

    Raises
    ------
    ValueError
        If QP is above ``LARGEST``, shapes do not fit each other, step_size is not positive, or anything holds NaN.
    """
    _checks.instance("method", method, Method)
    if not method.printed:
        raise ValueError(f"(12a)-(12c) are for DGD, ATC and CTA with one W, got {method.name} with W {method.W.shape}")
    theta0 = np.asarray(starts(model, agents, theta0), dtype=np.float64)
    Q, P = theta0.shape
    _checks.shape_of("W", method.W.shape, (Q, Q))
    if Q * P > LARGEST:
        raise ValueError(
            f"the stacked equation is for small problems, at most {LARGEST} parameters in all, "
            f"got {Q} agents x {P} = {Q * P}: use peerflow.predict"
        )
    stacked_W = np.kron(method.dense, np.eye(P))
    c = method.gain * agents.gains * _checks.positive("step_size", step_size) / agents.counts

    each = list(zip(theta0, agents.x, strict=True))
    outputs0 = np.concatenate([np.ravel(model.apply(theta, x)) for theta, x in each])
    jacobian = np.asarray(
        scipy.linalg.block_diag(*(np.reshape(model.jacobian(theta, x), (-1, P)) for theta, x in each))
    )
    psi = jacobian.T @ jacobian
    targets = np.concatenate([np.ravel(y) for y in agents.y])
    scaled = np.repeat(c, P)[:, None]
    curvature = scaled * psi
    pull = scaled[:, 0] * (jacobian.T @ (outputs0 - targets) - psi @ theta0.reshape(-1))
    if method.rule.mixes_point:
        curvature = curvature @ stacked_W
    if method.rule.mixes_gradient:
        curvature, pull = stacked_W @ curvature, stacked_W @ pull
    A = stacked_W - np.eye(Q * P) - curvature
    return FlowEquation(theta0, outputs0, jacobian, psi, A, -pull)
