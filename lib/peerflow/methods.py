r"""DGD, ATC and CTA: one update with the mixing matrix in three places.

With one row per agent, all three of (4)-(6), and their stacked form (7), read

.. math:: \boldsymbol\Theta' = W\boldsymbol\Theta - \eta\, B\, g(C\boldsymbol\Theta), \qquad
    (B, C) = (I, I) \text{ for DGD}, \quad (W, I) \text{ for ATC}, \quad (I, W) \text{ for CTA},

where row q of g is agent q's local gradient. A rule says where W stands. Called with a mixing matrix it gives a method,
which is what is trained, predicted and judged: W is checked there, once.

>>> import numpy as np
>>> W, theta = np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([[1.0], [3.0]])
>>> for rule in (DGD, ATC, CTA):
...     print(rule.name, rule(W).update(theta, lambda t: t, 0.1).ravel().round(2).tolist())
DGD [1.9, 1.7]
ATC [1.8, 1.8]
CTA [1.8, 1.8]
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental.sparse import BCOO
from jaxtyping import Array, Float

from peerflow import _checks, mixing
from peerflow.objectives import gradient_scale


@dataclass(frozen=True)
class Rule:
    """Where W stands in the update."""

    name: str
    """What plots and tables call it."""
    mixes_gradient: bool
    """B = W: neighbours' gradients are averaged along with their parameters."""
    mixes_point: bool
    """C = W: the gradient is taken at the neighbourhood average."""

    @property
    def mixes(self) -> bool:
        """Whether the state matrix is -I plus a product with W: ATC and CTA, whose spectra are one."""
        return self.mixes_gradient or self.mixes_point

    def __call__(self, W, *, objective: str = "local") -> "Method":
        """Bind a mixing matrix.

        Parameters
        ----------
        W
            Doubly stochastic mixing matrix (agents, agents), symmetric or not, dense or sparse.
        objective
            ``"local"``: each agent follows the gradient of its own objective, as in (4)-(6). ``"global"``: that
            gradient divided by Q, as in (7).

        Raises
        ------
        ValueError
            If W is not doubly stochastic, or objective is unknown.
        """
        method = Method(self, mixing.doubly_stochastic(W), objective)
        gradient_scale(objective, method.agents)
        return method


@partial(jax.tree_util.register_dataclass, data_fields=["W"], meta_fields=["rule", "objective"])
@dataclass(frozen=True, eq=False)
class Method:
    """A rule with its mixing matrix and objective, made by calling the rule; to JAX a tree whose one leaf is W."""

    rule: Rule
    W: Any = field(repr=False)
    """(agents, agents), checked: an array of numpy or scipy.sparse, as it came, or one of JAX, see :meth:`placed`."""
    objective: str

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.rule.name

    @property
    def agents(self) -> int:
        """The number of agents, Q."""
        return self.W.shape[0]

    @property
    def gain(self) -> float:
        """What the local gradient is multiplied by: 1, or 1/Q for the global objective."""
        return gradient_scale(self.objective, self.agents)

    @cached_property
    def symmetric(self) -> bool:
        """Whether W is symmetric to rounding."""
        return mixing.is_symmetric(self.W)

    @cached_property
    def dense(self) -> Float[np.ndarray, "agents agents"]:
        """W as a dense array."""
        return self.W if isinstance(self.W, np.ndarray) else self.W.toarray()

    def placed(self, dtype) -> "Method":
        """Return the method with W as JAX takes it, dense or sparse."""
        if scipy.sparse.issparse(self.W):
            return replace(self, W=BCOO.from_scipy_sparse(self.W.astype(dtype)))
        return replace(self, W=jnp.asarray(self.W, dtype))

    def update(
        self,
        theta,
        gradient: Callable[[Float[Array | np.ndarray, "agents params"]], Float[Array | np.ndarray, "agents params"]],
        step_size: float,
    ) -> Float[Array | np.ndarray, "agents params"]:
        """Return all agents' parameters after one step from theta (agents, params), (7a)-(7c).

        ``gradient`` maps parameters, one row per agent, to the gradient that each agent follows from its own row.
        """
        theta = _checks.array("theta", theta, (self.agents, "params"))
        step_size = _checks.positive("step_size", step_size)
        mixed = self.W @ theta
        gradients = gradient(mixed if self.rule.mixes_point else theta)
        descent = step_size * _checks.array("gradient", gradients, theta.shape)
        return mixed - (self.W @ descent if self.rule.mixes_gradient else descent)


DGD = Rule("DGD", mixes_gradient=False, mixes_point=False)
"""Distributed gradient descent with consensus, (4)."""
ATC = Rule("ATC", mixes_gradient=True, mixes_point=False)
"""Adapt then combine, (5)."""
CTA = Rule("CTA", mixes_gradient=False, mixes_point=True)
"""Combine then adapt, (6)."""
