r"""Settings chosen without training: the cheapest that reach a loss, and the weights of a graph's links.

A prediction costs so little that methods, graphs, local steps and step sizes can all be tried, and it has derivatives:
in the step size, and in each entry of W. So :func:`tune` searches a grid and then goes down by gradient.

What a setting costs is what agents send. With :attr:`~peerflow.methods.Rule.recursion` of degree d in W, a step takes d
rounds of exchange: an agent sends d vectors of parameters to each of its neighbours. Where W varies, steps by which
nobody averages cost nothing.

A graph's weights :math:`w_e`, one for each link, make :math:`W = I - \sum_e w_e (e_i - e_j)(e_i - e_j)^\top`, which is
symmetric and doubly stochastic if no weight is negative and those of no agent sum to more than 1. Over these
:func:`reweigh` minimizes what one asks for: the predicted loss, or W's slowest mode.

>>> import networkx as nx
>>> from peerflow import ATC, DGD, data, linearize, mixing, models
>>> agents, model = data.half_moons(agents=4, samples=10), models.affine(inputs=2, outputs=1)
>>> lin, W = linearize(model, agents, model.init(0)), mixing.metropolis_hastings(nx.star_graph(3))
>>> rates = [slowest(each).item() for each in (DGD(W), reweigh(DGD(W), slowest))]
>>> [round(each, 2) for each in rates]
[0.76, 0.67]
>>> found = tune([DGD(W), ATC(mixing.every(4, W))], lin, step_sizes=[0.25, 0.5, 1.0], counts=range(41))
>>> best = found.best(0.052)
>>> best.method.name, best.steps, best.cost
('ATC', 8, 3.0)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float, Int

from peerflow import _checks
from peerflow.flows import predict, sweep
from peerflow.linearize import Linearization
from peerflow.methods import Method, Rule

# W's slowest mode is taken as a norm of all its modes, by this power, which is a square: smooth where two are as slow.
_SQUARINGS = 5
# Losses that differ by less, relatively, count as one: rounding would else decide how long a front is.
_ROUNDING = 1e-9


class Setting(NamedTuple):
    """A method with its step size and number of steps, and what is predicted of it."""

    method: Method
    step_size: float
    steps: int
    cost: float
    loss: float
    """The global objective, the mean over the agents."""


def exchanges(rule: Rule) -> int:
    """Return how many vectors go to each neighbour in a step: 1, or 2 for gradient tracking and its kin."""
    return max(each.degree() for each in _checks.instance("rule", rule, Rule).recursion)


def sent(method: Method, counts) -> Float[np.ndarray, "count"]:
    """Return the parameters sent within these numbers of steps, in vectors per agent: the mean over the agents."""
    return _total(method, counts, lambda links: exchanges(method.rule) * links / method.agents)


def rounds(method: Method, counts) -> Float[np.ndarray, "count"]:
    """Return in how many of these steps agents exchange anything."""
    return _total(method, counts, lambda links: float(links > 0))


_COSTS = {"sent": sent, "rounds": rounds}


def _total(method, counts, price):
    """Return the sum of prices over the first steps, by how many links carry in each."""
    _checks.instance("method", method, Method)
    links = [np.count_nonzero(each.dense) - np.count_nonzero(each.dense.diagonal()) for each in method.phases]
    paid = np.cumsum([0.0, *map(price, links)])
    whole, rest = np.divmod(_checks.counts("counts", counts), len(links))
    return whole * paid[-1] + paid[rest]


@dataclass(frozen=True, eq=False)
class Search:
    """What is predicted of every method with every step size after every number of steps."""

    lin: Linearization
    methods: tuple[Method, ...]
    step_sizes: Float[np.ndarray, "s"]
    """In increasing order."""
    counts: Int[np.ndarray, "count"]
    cost: str
    losses: Float[np.ndarray, "m s count"]
    """The global objective, the mean over the agents; infinite where it outgrows float64."""

    @cached_property
    def costs(self) -> Float[np.ndarray, "m count"]:
        """What every method costs for every number of steps, per agent."""
        return np.stack([_COSTS[self.cost](method, self.counts) for method in self.methods])

    @cached_property
    def front(self) -> list[Setting]:
        """The Pareto front, the cheapest first: nothing has less loss, by more than rounding, for no more cost."""
        costs, losses = np.broadcast_to(self.costs[:, None], self.losses.shape), self.losses.ravel()
        order = np.lexsort((losses, costs.ravel()))
        least = np.minimum.accumulate(losses[order])
        better = []
        for at in order[np.flatnonzero(np.diff(least, prepend=np.inf) < 0)]:
            if not better or losses[at] < (1 - _ROUNDING) * losses[better[-1]]:
                better.append(at)
        places = zip(*np.unravel_index(better, self.losses.shape), strict=True)
        return [
            Setting(self.methods[m], float(self.step_sizes[s]), int(self.counts[k]), float(self.costs[m, k]), loss)
            for (m, s, k), loss in zip(places, losses[better].tolist(), strict=True)
        ]

    def within(self, budget: float) -> Setting:
        """Return the setting of least loss that costs no more than the budget.

        Raises
        ------
        ValueError
            If nothing is so cheap.
        """
        budget = _checks.nonnegative("budget", budget)
        affordable = [each for each in self.front if each.cost <= budget]
        if not affordable:
            raise ValueError(f"budget must be at least {self.front[0].cost:.3g}, what the cheapest costs, got {budget}")
        return affordable[-1]

    def best(self, target: float) -> Setting:
        """Return the cheapest setting that reaches the target, after going down by gradient in its step size.

        For the grid's best method the loss after its number of steps is minimized in the step size, between its
        neighbours on the grid; where that reaches the target in fewer steps, the same is done for these.

        Raises
        ------
        ValueError
            If no setting of the grid reaches the target.
        """
        target = _checks.positive("target", target)
        reached = [each for each in self.front if each.loss <= target]
        if not reached:
            raise ValueError(f"target must be at least {self.front[-1].loss:.3g}, the least loss found, got {target}")
        found, better = None, reached[0]
        path, slope = _along(better.method, self.lin, better.steps)
        at, last = int(np.searchsorted(self.step_sizes, better.step_size)), len(self.step_sizes) - 1
        bounds = [tuple(np.log(self.step_sizes[[max(at - 1, 0), min(at + 1, last)]]))]
        while found is None or (better.cost, better.loss) < (found.cost, found.loss):
            found = better
            end = scipy.optimize.minimize(slope, np.log([found.step_size]), (found.steps,), jac=True, bounds=bounds)
            losses = path(end.x)
            steps = int(np.argmax(losses <= target))
            if losses[steps] <= target:
                cost = float(_COSTS[self.cost](found.method, [steps])[0])
                better = Setting(found.method, float(np.exp(end.x[0])), steps, cost, float(losses[steps]))
        return found


def tune(methods: Sequence[Method], lin: Linearization, *, step_sizes, counts, cost: str = "sent") -> Search:
    """Predict the loss of every setting, and what it costs; ask the result for the best.

    Parameters
    ----------
    methods
        Rules with their graphs' matrices and local steps: ``ATC(W)``, ``GradientTracking(mixing.every(4, W))``.
    lin
        The model about its common start; as small as the accuracy that is needed allows.
    step_sizes, counts
        What is tried of step sizes (s,) and numbers of steps (count,).
    cost
        ``"sent"``: parameters sent, in vectors per agent: the mean over agents; ``"rounds"``: steps in which
        agents exchange anything.

    Raises
    ------
    ValueError
        If a method is for another number of agents, there is none, a step size is not positive or counts are negative.
    """
    _checks.choice("cost", cost, _COSTS)
    counts = _checks.counts("counts", counts)
    if counts.size == 0:
        raise ValueError("counts must hold at least one, got none")
    step_sizes = np.sort(_checks.array("step_sizes", step_sizes, ("step_sizes",)).astype(np.float64))
    losses = sweep(methods, lin, step_sizes=step_sizes, counts=counts, of="global").mean(axis=-1)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    return Search(lin, tuple(methods), step_sizes, counts, cost, losses)


def _along(method, lin, steps):
    """Return the losses up to this step as a function of log step size, and that at one step with its slope."""

    def path(log_step):
        step_size: Any = jnp.exp(log_step[0])
        dynamics = predict(method, lin, step_size=step_size)
        return dynamics.after(np.arange(steps + 1)).global_losses.mean(axis=1)

    slope = jax.jit(jax.value_and_grad(lambda log_step, at: jnp.log(path(log_step)[at])))
    return jax.jit(path), lambda *given: tuple(np.asarray(each, dtype=float) for each in slope(*given))


def final_loss(lin: Linearization, *, step_size: float, steps: int) -> Callable[[Method], Float[Array, ""]]:
    """Return what :func:`reweigh` may minimize: the logarithm of the predicted loss, global and the agents' mean."""
    step_size, steps = _checks.positive("step_size", step_size), _checks.count("steps", steps)

    def goal(method):
        dynamics = predict(method, lin, step_size=step_size)
        return jnp.log(dynamics.after([steps]).global_losses.mean())

    return goal


def slowest(method: Method) -> Float[Array, ""]:
    r"""Return how slowly disagreement dies: the largest modulus of symmetric W's eigenvalues but for 1, within 5 %.

    It is :math:`\|W - \mathbf{1}\mathbf{1}^\top/Q\|` in the Schatten norm of order 64: above the spectral norm, by a
    factor of :math:`Q^{1/64}` at most, and smooth where two modes are as slow.
    """
    W = jnp.asarray(method.W) - 1 / method.agents
    for _ in range(_SQUARINGS):
        W = W @ W
    return jnp.sum(W**2) ** 0.5 ** (_SQUARINGS + 1)


def reweigh(method: Method, goal: Callable[[Method], Float[Array, ""]]) -> Method:
    r"""Return the method with other weights on the same links, by which the goal is least nearby.

    Weights start as they are, and go down the goal's gradient by sequential quadratic programming (SLSQP), within
    :math:`w_e \ge 0` and, for each agent, :math:`\sum_{e \ni q} w_e \le 1`. A local minimum is found, no worse than
    where it starts. For ``slowest`` the problem is convex (Boyd, Diaconis and Xiao, 2004), and the minimum global.

    Parameters
    ----------
    method
        With one symmetric W, whose entries other than zero are the links.
    goal
        A function of a method, which JAX can differentiate in W: ``final_loss(lin, step_size=, steps=)``, ``slowest``,
        or one's own.

    Raises
    ------
    ValueError
        If W varies or is not symmetric.
    """
    _checks.instance("method", method, Method)
    if method.varies or not method.symmetric:
        raise ValueError("W must be one symmetric matrix, whose weights are those of links")
    W = method.dense
    i, j = np.nonzero(np.triu(W, 1))
    ends = np.zeros((method.agents, len(i)))
    ends[i, np.arange(len(i))] = ends[j, np.arange(len(i))] = 1
    slope = jax.jit(jax.value_and_grad(lambda W: goal(replace(method, W=W))))

    def along(weights):
        value, G = (np.asarray(each) for each in slope(_weighted(weights, i, j, ends)))
        return float(value), G[i, j] + G[j, i] - G[i, i] - G[j, j]

    within = scipy.optimize.LinearConstraint(ends, ub=1)
    end = scipy.optimize.minimize(
        along, W[i, j], jac=True, method="SLSQP", bounds=[(0, 1)] * len(i), constraints=within, options={"ftol": 1e-9}
    )
    weights = end.x.clip(0) / max(1.0, (ends @ end.x.clip(0)).max())
    better = along(weights)[0] <= along(W[i, j])[0]
    return replace(method, W=_weighted(weights if better else W[i, j], i, j, ends))


def _weighted(weights, i, j, ends):
    """Return W for the weights of links between i and j."""
    W = np.diag(1 - ends @ weights)
    W[i, j] = W[j, i] = weights
    return W
