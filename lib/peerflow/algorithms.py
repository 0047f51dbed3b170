r"""DGD, ATC and CTA: one update with the mixing matrix in three places.

With one row per agent, all three of (4)-(6), and their stacked form (7), read

.. math:: \boldsymbol\Theta' = W\boldsymbol\Theta - \eta\, B\, g(C\boldsymbol\Theta), \qquad
    (B, C) = (I, I) \text{ for DGD}, \quad (W, I) \text{ for ATC}, \quad (I, W) \text{ for CTA},

where row q of g is agent q's local gradient. An algorithm is a value: its name and whether B and C are W.

>>> import numpy as np
>>> W, theta = np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([[1.0], [3.0]])
>>> for algorithm in (DGD, ATC, CTA):
...     print(algorithm.name, algorithm.update(W, theta, lambda t: t, 0.1).ravel().round(2).tolist())
DGD [1.9, 1.7]
ATC [1.8, 1.8]
CTA [1.8, 1.8]
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Array, Float

from peerflow import _checks


@dataclass(frozen=True)
class Algorithm:
    """Where W stands in the update."""

    name: str
    """What plots and tables call it."""
    mixes_gradient: bool
    """B = W: neighbours' gradients are averaged along with their parameters."""
    mixes_point: bool
    """C = W: the gradient is taken at the neighbourhood average."""

    def update(
        self,
        W: Float[Array, "agents agents"],
        theta: Float[Array, "agents params"],
        gradient: Callable[[Float[Array, "agents params"]], Float[Array, "agents params"]],
        step_size: float,
    ) -> Float[Array, "agents params"]:
        """Return all agents' parameters after one step, (7a)-(7c).

        ``gradient`` maps parameters, one row per agent, to each agent's gradient at its own row.
        """
        theta = _checks.array("theta", theta, ("agents", "params"))
        W = _checks.array("W", W, (theta.shape[0],) * 2)
        step_size = _checks.positive("step_size", step_size)
        mixed = W @ theta
        gradients = gradient(mixed if self.mixes_point else theta)
        descent = step_size * _checks.array("gradient", gradients, theta.shape)
        return mixed - (W @ descent if self.mixes_gradient else descent)


DGD = Algorithm("DGD", mixes_gradient=False, mixes_point=False)
"""Distributed gradient descent with consensus, (4)."""
ATC = Algorithm("ATC", mixes_gradient=True, mixes_point=False)
"""Adapt then combine, (5)."""
CTA = Algorithm("CTA", mixes_gradient=False, mixes_point=True)
"""Combine then adapt, (6)."""
