r"""The network about its common start, (11), in a basis as small as its kernel's rank.

With :math:`J_q` agent q's Jacobian at :math:`\theta_0` and all of them stacked,
:math:`J = U\,\mathrm{diag}(\sigma)\,V^\top`, every :math:`J_q = F_q V^\top` with r columns, one for each singular
value kept. From a common start no gradient of the linear model leaves the span of V, so
:math:`\theta_q = \theta_0 + V z_q` and the whole dynamics is that of z, (Q, r), however many parameters there are.
The kernel on the data is :math:`K = J J^\top = F F^\top`, with eigenvalues :math:`\sigma^2`.

V is found without factorizing J, by a randomized range finder: products of :math:`J^\top` with a few Gaussian vectors
at a time are orthogonalized, until what is left of the next ones shows that J has hardly anything outside of their
span (Halko, Martinsson and Tropp 2011, algorithm 4.2).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from peerflow import _checks
from peerflow.data import AgentData
from peerflow.models import Model, starts

# So many vectors at a time, the constant of the range finder's bound, and what is safely above rounding: orthogonal
# directions made of noise would not be orthogonal.
_BLOCK, _CERTAIN, _NOISE = 32, 10 * (2 / np.pi) ** 0.5, 1e-13


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
        Directions with singular values up to ``tolerance`` times the largest are dropped: eigenvalues of the kernel up
        to its square. Relative to the largest singular value, the Jacobian is kept to twice the tolerance; below 1e-13
        rounding decides. In k steps a dropped direction would move by at most about ``k * step_size * tolerance``
        times the fastest direction's scale.

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
        raise ValueError(f"theta0 must be one common start (params,), got one row per agent {theta0.shape}")
    theta0 = np.asarray(starts(model, agents, theta0)[0], dtype=np.float64)
    x = agents.pooled()[0]
    outputs, jacobian = np.asarray(model.apply(theta0, x)), np.asarray(model.jacobian(theta0, x))
    singular_values, basis, features = _reduced(jacobian.reshape(-1, model.size), tolerance)
    per_agent = (agents.agents, agents.samples * model.outputs)
    features = features.reshape(*per_agent, len(singular_values))
    return Linearization(model, agents, theta0, outputs.reshape(per_agent), features, basis, singular_values)


def _reduced(J, tolerance):
    """Return J's singular values above the tolerance, its right singular vectors V, and F = J V."""
    V, F = _range(J, tolerance)
    _, s, rotation = np.linalg.svd(np.linalg.qr(F, mode="r"))
    kept = rotation[s > tolerance * s.max(initial=0.0)].T
    return s[: kept.shape[1]], V @ kept, F @ kept


def _range(J, tolerance):
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
        largest = largest or np.linalg.norm(F, 2)
    return V, F
