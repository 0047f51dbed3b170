r"""DGD, ATC, CTA and methods that remember: one affine update, written down as polynomials in the mixing matrix.

With one row per agent and :math:`g` the agents' gradients, all three of (4)-(6), and their stacked form (7), read

.. math:: \boldsymbol\Theta' = W\boldsymbol\Theta - \eta\, B\, g(C\boldsymbol\Theta), \qquad
    (B, C) = (I, I) \text{ for DGD}, \quad (W, I) \text{ for ATC}, \quad (I, W) \text{ for CTA}.

Their agents end where W's pull and their own gradients' balance, which is not the optimum. Methods without that bias
let every agent remember one more vector, a row of M, which starts at zero:

.. math:: \boldsymbol\Theta' = a\,\boldsymbol\Theta + b\,M + c\,\eta g(\boldsymbol\Theta), \qquad
    M' = d\,\boldsymbol\Theta + e\,M + f\,\eta g(\boldsymbol\Theta),

with polynomials a to f in W. Without M this is

.. math:: \boldsymbol\Theta_{k+2} = P_1\boldsymbol\Theta_{k+1} - P_0\boldsymbol\Theta_k
    - \eta\,(A\,g_{k+1} - A_0\,g_k), \qquad P_1 = a + e,\ P_0 = ae - bd,\ A = -c,\ A_0 = bf - ec:

:attr:`Rule.recursion`. If the columns of M keep the sum zero and :math:`A_0 = A`, then agents at rest agree, and their
gradients sum to zero: they are at the optimum of (2). A rule is data, so it takes one line to define another, and
training, prediction and limits are there:

>>> import numpy as np
>>> tracking = Rule("mine", (w, -w, -w), (0, w, w - 1))
>>> W, theta = np.array([[0.7, 0.3], [0.3, 0.7]]), np.array([[1.0], [3.0]])
>>> for rule in (DGD, ATC, CTA, tracking):
...     state = rule(W).start(theta)
...     for _ in range(100):
...         state = rule(W).step(state, lambda t: 0.1 * (t - [[0.0], [1.0]]))
...     print(rule.name, rule.unbiased, state.theta.ravel().round(3).tolist())
DGD False [0.429, 0.571]
ATC False [0.469, 0.531]
CTA False [0.422, 0.578]
mine True [0.5, 0.5]

W may also vary: a list of matrices is taken in turn, one a step, and from its start again. Averaging at every tau-th
step only, :func:`peerflow.mixing.every`, makes ATC local gradient descent with tau steps a round, and federated
averaging where W averages all agents.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental.sparse import BCOO
from jax.sharding import Mesh
from jaxtyping import Array, Float
from numpy.polynomial import Polynomial

from peerflow import _checks, mixing, sharding
from peerflow.objectives import gradient_scale

w = Polynomial([0.0, 1.0])
"""What stands for W where a rule is defined."""


class State(NamedTuple):
    """What all agents hold between two steps."""

    theta: Float[Array | np.ndarray, "agents params"]
    memory: Float[Array | np.ndarray, "agents params"] | None
    """None for methods that remember nothing."""


class Recursion(NamedTuple):
    """The polynomials in W of the update without its memory, over two steps."""

    P1: Polynomial
    P0: Polynomial
    A: Polynomial
    A0: Polynomial


@dataclass(frozen=True)
class Rule:
    """An update, as polynomials in W: made of numbers, and of :data:`w` or another ``Polynomial([0, 1])``.

    Raises
    ------
    ValueError
        If there are not two or three weights, they are no polynomials, or agents who agree and follow no gradient would
        not stay.
    """

    name: str
    """What plots and tables call it."""
    theta: Any
    """What the new parameters weigh: the old ones, the memory if there is one, and step size times gradient."""
    memory: Any = ()
    """The same for the new memory; empty where nothing is remembered."""
    point: Any = 1
    """C: where the step, and its gradient, begins is this times the parameters."""
    memory0: Any = 0
    """The first memory is this times step size times gradient at the start."""

    def __post_init__(self):
        for name in ("theta", "memory"):
            object.__setattr__(self, name, tuple(_coefficients(name, each) for each in getattr(self, name)))
        for name in ("point", "memory0"):
            object.__setattr__(self, name, _coefficients(name, getattr(self, name)))
        if len(self.theta) != (3 if self.memory else 2) or len(self.memory) not in (0, 3):
            raise ValueError(
                "a rule must have two weights (theta, gradient), or three of theta and three of memory "
                f"(theta, memory, gradient), got {len(self.theta)} and {len(self.memory)}"
            )
        at_one = [sum(each) for each in (self.theta[0], self.point, *self.memory[:1])]
        if np.abs(np.subtract(at_one, [1, 1, 0][: len(at_one)])).max() > 1e-12:
            raise ValueError(
                "a rule must leave agents alone who agree and follow no gradient: at W = 1 theta weighs 1 in theta "
                f"and in point, and 0 in memory, got {', '.join(f'{each:g}' for each in at_one)}"
            )

    @property
    def polynomials(self) -> tuple[tuple[Polynomial, ...], tuple[Polynomial, ...]]:
        """The weights of theta and of memory."""
        theta, memory = (
            tuple(Polynomial(np.array(p or (0.0,))) for p in weights) for weights in (self.theta, self.memory)
        )
        return theta, memory

    @property
    def recursion(self) -> Recursion:
        r"""P_1, P_0, A and A_0: trace and determinant of [[a, b], [d, e]] are the first two."""
        C, ((a, *b, c), memory) = Polynomial(np.array(self.point)), self.polynomials
        b, (d, e, f) = b[0] if b else 0 * w, memory or (0 * w,) * 3
        return Recursion(*(each.trim(1e-15) for each in (a * C + e, (a * e - b * d) * C, 0 - c, b * f - e * c)))

    @property
    def mixes_gradient(self) -> bool:
        """B = W: neighbours' gradients are averaged along with their parameters."""
        return self.theta[-1] == (0.0, -1.0)

    @property
    def mixes_point(self) -> bool:
        """C = W: the gradient is taken at the neighbourhood average."""
        return self.point == (0.0, 1.0)

    @property
    def mixes(self) -> bool:
        """Whether the state matrix is -I plus a product with W: ATC and CTA, whose spectra are one."""
        return self.mixes_gradient or self.mixes_point

    @property
    def printed(self) -> bool:
        """Whether this is the update of DGD, ATC or CTA, (4)-(6), for which more is known than for any other."""
        return not self.memory and (self.theta, self.point) in [(each.theta, each.point) for each in (DGD, ATC, CTA)]

    @property
    def conserves(self) -> bool:
        """Whether memories that sum to zero over the agents still do after a step."""
        if not self.memory:
            return False
        misses = sum(self.memory[1]) - 1, sum(self.memory[2]), sum(self.memory0)
        return bool(np.abs(misses).max() < 1e-12)

    @property
    def unbiased(self) -> bool:
        """Whether agents at rest agree on the optimum of (2), whatever their data and the step size."""
        _, _, A, A0 = self.recursion
        return self.conserves and not (A - A0).trim(1e-12).coef.any()

    def __call__(self, W, *, objective: str = "local") -> "Method":
        """Bind a mixing matrix.

        Parameters
        ----------
        W
            Doubly stochastic mixing matrix (agents, agents), symmetric or not, dense or sparse. Or a list of them, or
            an array (period, agents, agents): step k uses the one at k modulo their number.
        objective
            ``"local"``: each agent follows the gradient of its own objective, as in (4)-(6). ``"global"``: that
            gradient divided by Q, as in (7).

        Raises
        ------
        ValueError
            If W is not doubly stochastic, or objective is unknown.
        """
        method = Method(self, mixing.one_or_several(W), objective)
        gradient_scale(objective, method.agents)
        return method


@partial(jax.tree_util.register_dataclass, data_fields=["W"], meta_fields=["rule", "objective"])
@dataclass(frozen=True, eq=False)
class Method:
    """A rule with its mixing matrix and objective, made by calling the rule; to JAX a tree whose one leaf is W."""

    rule: Rule
    W: Any = field(repr=False)
    """(agents, agents), checked: an array of numpy or scipy.sparse, as it came, or one of JAX, see :meth:`placed`;
    (period, agents, agents) if it varies."""
    objective: str

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.rule.name

    @property
    def agents(self) -> int:
        """The number of agents, Q."""
        return self.W.shape[-1]

    @property
    def varies(self) -> bool:
        """Whether W is another from step to step."""
        return self.W.ndim == 3

    @property
    def printed(self) -> bool:
        """Whether this is one of (4)-(6), with one W."""
        return self.rule.printed and not self.varies

    @property
    def phases(self) -> "tuple[Method, ...]":
        """The method at each step of a period, with one W each."""
        return tuple(replace(self, W=W) for W in self.W) if self.varies else (self,)

    @property
    def gain(self) -> float:
        """What the local gradient is multiplied by: 1, or 1/Q for the global objective."""
        return gradient_scale(self.objective, self.agents)

    @cached_property
    def symmetric(self) -> bool:
        """Whether W is symmetric to rounding."""
        return all(mixing.is_symmetric(each.W) for each in self.phases)

    @cached_property
    def dense(self) -> Float[np.ndarray, "*period agents agents"]:
        """W as a dense array."""
        _checks.fits("a dense W", self.W.shape[0] * self.agents, "what needs only products with W takes it sparse")
        return self.W if isinstance(self.W, np.ndarray) else self.W.toarray()

    def check_flow(self) -> None:
        """Refuse a method that discretizes no gradient flow: it remembers, or W varies."""
        if self.rule.memory or self.varies:
            why = "remembers more than its parameters" if self.rule.memory else "has another W at other steps"
            raise ValueError(f"a gradient flow is of parameters and one W, and {self.name} {why}: use after(counts)")

    def placed(self, dtype, mesh: Mesh | None = None) -> "Method":
        """Return the method with W as JAX takes it, dense or sparse, or over the devices of a mesh."""
        if mesh is not None:
            return replace(self, W=sharding.scatter(self.W, mesh, dtype))
        if scipy.sparse.issparse(self.W):
            return replace(self, W=BCOO.from_scipy_sparse(self.W.astype(dtype)))
        return replace(self, W=jnp.asarray(self.W, dtype))

    def polynomial(self, p: Polynomial | tuple[float, ...]) -> Float[Array | np.ndarray, "agents agents"]:
        """Return p(W), for a polynomial or its coefficients."""
        return mixing.combine((tuple(getattr(p, "coef", p)),), self.W, [np.eye(self.agents)])

    def start(self, theta) -> State:
        """Return the state before the first step.

        Raises
        ------
        ValueError
            If theta has other rows than agents, or holds NaN.
        """
        theta = _checks.array("theta", theta, (self.agents, "params"))
        return State(theta, 0 * theta if self.rule.memory else None)

    def step(
        self,
        state: State,
        descent: Callable[[Float[Array | np.ndarray, "agents params"]], Float[Array | np.ndarray, "agents params"]],
        done=0,
    ) -> State:
        """Return all agents' state after the step that follows ``done`` others; nothing is checked.

        ``descent`` maps parameters, one row per agent, to step size times the gradient that each agent follows.
        """
        rule, W = self.rule, self.W[done % len(self.W)] if self.varies else self.W
        theta = state.theta if rule.point == (1.0,) else mixing.combine((rule.point,), W, [state.theta])
        down = descent(theta)
        if state.memory is None:
            return State(mixing.combine(rule.theta, W, [theta, down]), None)
        memory = state.memory
        if any(rule.memory0):
            memory = jnp.where(done == 0, mixing.combine((rule.memory0,), W, [down]), memory)
        return State(*(mixing.combine(each, W, [theta, memory, down]) for each in (rule.theta, rule.memory)))

    def update(
        self,
        theta,
        gradient: Callable[[Float[Array | np.ndarray, "agents params"]], Float[Array | np.ndarray, "agents params"]],
        step_size: float,
    ) -> Float[Array | np.ndarray, "agents params"]:
        """Return all agents' parameters after one step from theta (agents, params), (7a)-(7c).

        ``gradient`` maps parameters, one row per agent, to the gradient that each agent follows from its own row.

        Raises
        ------
        ValueError
            If shapes do not fit, anything holds NaN, the step size is not positive, or the method needs to know which
            step this is.
        """
        if self.rule.memory or self.varies:
            raise ValueError(f"{self.name} with this W needs more than parameters to go on: use start and step")
        state, step_size = self.start(theta), _checks.positive("step_size", step_size)
        shape = state.theta.shape
        return self.step(state, lambda at: step_size * _checks.array("gradient", gradient(at), shape)).theta


def _coefficients(name, value) -> tuple[float, ...]:
    """Return a polynomial's coefficients, without zeros at the end, and none for zero itself."""
    trimmed = np.trim_zeros(_checks.array(name, np.atleast_1d(getattr(value, "coef", value)), ("degrees",)), "b")
    return tuple((trimmed + 0.0).tolist())


DGD = Rule("DGD", (w, -1))
"""Distributed gradient descent with consensus, (4)."""
ATC = Rule("ATC", (w, -w))
"""Adapt then combine, (5)."""
CTA = Rule("CTA", (1, -1), point=w)
"""Combine then adapt, (6)."""
