r"""The network about its common start, (11), in a basis as small as its kernel's rank.

With :math:`J_q` agent q's Jacobian at :math:`\theta_0` and all of them stacked,
:math:`J = U\,\mathrm{diag}(\sigma)\,V^\top`, every :math:`J_q = F_q V^\top` with r columns, one for each singular
value kept. From a common start no gradient of the linear model leaves the span of V, so
:math:`\theta_q = \theta_0 + V z_q` and the whole dynamics is that of z, (Q, r), however many parameters there are.
The kernel on the data is :math:`K = J J^\top = F F^\top`, with eigenvalues :math:`\sigma^2`.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float

from peerflow import _checks
from peerflow.data import AgentData
from peerflow.models import Model, starts


@dataclass(frozen=True, eq=False)
class Linearization:
    """A model's first-order expansion on the agents' data."""

    model: Model
    agents: AgentData
    theta0: Float[np.ndarray, "params"]
    """The common start, about which the model is expanded."""
    outputs0: Float[np.ndarray, "agents samples*outputs"]
    """The outputs at the start, f_0 of (9)-(10)."""
    features: Float[np.ndarray, "agents samples*outputs rank"]
    """F: each agent's Jacobian in the reduced basis."""
    basis: Float[np.ndarray, "params rank"]
    """V: orthonormal directions in which parameters move."""
    singular_values: Float[np.ndarray, "rank"]
    """Of the stacked Jacobian, decreasing; their squares are the kernel's eigenvalues."""

    @property
    def rank(self) -> int:
        """The number r of directions."""
        return len(self.singular_values)

    @property
    def residuals0(self) -> Float[np.ndarray, "agents samples*outputs"]:
        """f_0 - y."""
        return self.outputs0 - self.agents.y.reshape(self.outputs0.shape)

    def expand(self, x) -> tuple[Float[np.ndarray, "n outputs"], Float[np.ndarray, "n outputs rank"]]:
        """Return the outputs at the start and the reduced Jacobian for other inputs (n, N)."""
        outputs, jacobian = self.model.apply(self.theta0, x), self.model.jacobian(self.theta0, x)
        return np.asarray(outputs), np.asarray(jacobian) @ self.basis


def linearize(model: Model, agents: AgentData, theta0, *, tolerance: float = 1e-10) -> Linearization:
    r"""Expand the model about a common start.

    Parameters
    ----------
    theta0
        The common start (params,).
    tolerance
        Singular values of the stacked Jacobian up to ``tolerance`` times the largest are dropped: eigenvalues of
        the kernel up to its square. In k steps a dropped direction would move by at most about
        ``k * step_size * tolerance`` times the fastest direction's scale.

    Raises
    ------
    ValueError
        If theta0 is not one common start, shapes do not fit, or anything holds NaN.
    """
    tolerance = _checks.positive("tolerance", tolerance)
    if tolerance >= 1:
        raise ValueError(f"tolerance must be below 1, or nothing is left, got {tolerance}")
    theta0 = _checks.array("theta0", theta0)
    if theta0.ndim == 2:
        raise ValueError(f"theta0 must be one common start (params,), got one row an agent {theta0.shape}")
    theta0 = np.asarray(starts(model, agents, theta0)[0], dtype=np.float64)
    x = agents.pooled()[0]
    outputs, jacobian = np.asarray(model.apply(theta0, x)), np.asarray(model.jacobian(theta0, x))
    jacobian = jacobian.reshape(-1, model.size)
    s, basis = _right_singular(jacobian)
    rank = int((s > tolerance * s[0]).sum())
    per_agent = (agents.agents, agents.samples * model.outputs)
    s, basis = s[:rank], basis[:, :rank]
    features = (jacobian @ basis).reshape(*per_agent, rank)
    return Linearization(model, agents, theta0, outputs.reshape(per_agent), features, basis, s)


def _right_singular(matrix):
    """Return singular values and right singular vectors, but for what is zero to rounding.

    A triangular factor with pivots shows early how few directions a wide network's Jacobian has.
    """
    R, order = scipy.linalg.qr(matrix, mode="r", pivoting=True)
    pivots = np.abs(R.diagonal())
    R = R[: max(1, int((pivots > np.finfo(float).eps * pivots[0]).sum()))]
    _, s, Vt = scipy.linalg.svd(R, full_matrices=False)
    vectors = np.empty_like(Vt.T)
    vectors[order] = Vt.T
    return s, vectors
