r"""Peers that differ: how a pool of samples is split among them, how much they then differ, and where that leaves them.

A rule says who holds which sample, from the samples' labels: :func:`by_label`, :func:`by_size` and :func:`by_shard`,
or any function of labels (n,), the number of agents and a generator that returns each sample's owner (n,).

How much peers differ is one number, :math:`\zeta^2` (:func:`heterogeneity`). Where methods with a bias end, the linear
model says to first order in the step size (:func:`bias`).

>>> from peerflow import data, linearize, models
>>> x, y = data.digits(agents=1, samples=200).pooled()
>>> model = models.affine(inputs=8, outputs=10)
>>> for alpha in (10, 0.1):
...     agents = split(x.mean(axis=1), y, by_label(alpha), agents=4, seed=0)
...     print(agents.counts.tolist(), f"{heterogeneity(linearize(model, agents, model.init(0))):.0e}")
[46, 62, 45, 47] 2e-02
[51, 50, 70, 29] 3e-01
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from peerflow import _checks
from peerflow.data import AgentData
from peerflow.flows import Trajectory
from peerflow.linearize import Linearization
from peerflow.methods import Method
from peerflow.stability import final_disagreement

Owners = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
"""A rule: from labels (n,), the number of agents and a generator, the owner (n,) of each sample."""

# So often a rule may draw anew before somebody's having nothing counts as what it asks for.
_DRAWS = 1000


def by_label(alpha: float) -> Owners:
    r"""Return the rule by which labels are skewed: each label's samples are shared out in proportions of their own.

    The proportions are drawn from a symmetric Dirichlet distribution with parameter ``alpha``, anew for each label
    (Yurochkin et al., 2019; Li, Diao, Chen and He, 2022): the smaller, the fewer hold a label. Sizes differ as well.
    """
    alpha = _checks.positive("alpha", alpha)

    def owners(labels, agents, rng):
        owner = np.empty(len(labels), dtype=int)
        for label in np.unique(labels):
            at = rng.permutation(np.flatnonzero(labels == label))
            owner[at] = _shared(len(at), rng.dirichlet(np.full(agents, alpha)))
        return owner

    return owners


def by_size(alpha: float) -> Owners:
    """Return the rule by which sizes alone are skewed: shuffled samples are shared out in Dirichlet's proportions."""
    alpha = _checks.positive("alpha", alpha)

    def owners(labels, agents, rng):
        return rng.permutation(_shared(len(labels), rng.dirichlet(np.full(agents, alpha))))

    return owners


def by_shard(shards: int) -> Owners:
    """Return the rule of McMahan et al. (2017): sort by label, cut into equal shards, and deal each agent so many.

    With n samples and Q agents, shards hold n/(Q shards) samples, up to one.
    """
    shards = _checks.count("shards", shards)

    def owners(labels, agents, rng):
        if shards * agents > len(labels):
            raise ValueError(f"{agents} agents with {shards} shards need as many samples, got {len(labels)}")
        order = rng.permutation(len(labels))
        order = order[np.argsort(labels[order], kind="stable")]
        dealt = np.repeat(np.arange(agents), shards)[rng.permutation(agents * shards)]
        owner = np.empty(len(labels), dtype=int)
        owner[order] = dealt[np.arange(len(labels)) * (agents * shards) // len(labels)]
        return owner

    return owners


def _shared(size, proportions):
    """Return the owners of samples in a row: as many of each as its proportion, up to one."""
    return np.searchsorted(np.round(np.cumsum(proportions)[:-1] * size), np.arange(size), side="right")


def split(
    x, y, rule: Owners, *, agents: int, seed: int, labels=None, least: int = 1, weigh: str = "agents"
) -> AgentData:
    """Give every sample of a pool to one agent.

    Parameters
    ----------
    x, y
        The pool: inputs (n, ...) and targets (n, M).
    rule
        ``by_label(alpha)``, ``by_size(alpha)``, ``by_shard(shards)``, or a function of one's own.
    agents, seed
        How many agents, and the seed of the rule's draws.
    labels
        Each sample's label (n,), where that is not the target.
    least
        Draws are made anew until every agent holds at least so many samples.
    weigh
        As in :class:`peerflow.data.AgentData`.

    Raises
    ------
    ValueError
        If shapes do not fit, the rule names owners that do not exist, or 1000 draws leave somebody with too little.
    """
    x = _checks.array("x", x, ("n", "inputs", ...))
    y = _checks.array("y", y, (len(x), "outputs"))
    labels = y if labels is None else _checks.array("labels", labels, (len(x),))
    labels = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    agents, least = _checks.count("agents", agents), _checks.count("least", least)
    if agents * least > len(x):
        raise ValueError(f"{agents} agents with at least {least} samples need {agents * least}, got a pool of {len(x)}")
    rng = np.random.default_rng(_checks.seed(seed))
    for _ in range(_DRAWS):
        counts = np.bincount(owner := _owner(rule, labels, agents, rng), minlength=agents)
        if counts.min() >= least:
            held = [owner == q for q in range(agents)]
            xs, ys = ([each[some] for some in held] for each in (x, y))
            return AgentData(xs, ys, weigh=weigh)
    raise ValueError(
        f"rule must leave every agent {least} samples or more, got fewer in each of {_DRAWS} draws: take a larger "
        f"alpha, fewer agents or a smaller least"
    )


def _owner(rule, labels, agents, rng) -> Int[np.ndarray, "n"]:
    """Return each sample's owner, after checking that there are such agents."""
    owner = np.asarray(rule(labels, agents, rng))
    _checks.shape_of("owners", owner.shape, (len(labels),))
    if owner.dtype.kind not in "iu" or owner.min() < 0 or owner.max() >= agents:
        raise ValueError(f"owners must be whole numbers from 0 to {agents - 1}, got {owner.min()} to {owner.max()}")
    return owner


def optimum(lin: Linearization) -> Float[np.ndarray, "rank"]:
    r"""Return :math:`z^\star`, where the linear model's global objective (3) is least, in the reduced basis."""
    _checks.instance("lin", lin, Linearization)
    root = np.sqrt(lin.agents.weights / lin.agents.counts)[:, None]
    rows = (root[..., None] * lin.features).reshape(-1, lin.rank)
    return np.linalg.lstsq(rows, -(root * lin.residuals0).reshape(-1), rcond=None)[0]


def gradients(lin: Linearization) -> Float[np.ndarray, "agents rank"]:
    r"""Return :math:`g^\star`: each agent's gradient at the optimum, which sum to zero.

    :math:`g_q^\star = \frac{Q p_q}{D_q} F_q^\top(F_q z^\star + r_q)`, with :math:`p_q` what (3) weighs agent q.
    """
    z = np.tile(optimum(lin), (lin.agents.size, 1))
    bent = (lin.curvature @ z[..., None])[..., 0] + lin.pull
    return (lin.agents.gains / lin.agents.counts)[:, None] * bent


def heterogeneity(lin: Linearization) -> float:
    r"""Return :math:`\zeta^2 = \frac1Q \sum_q \|g_q^\star\|^2`: the mean squared local gradient at the optimum.

    Of the linear model, whose gradients are those of its parameters. Zero if one vector of parameters suits everybody,
    as it does where the model fits all samples: then no method has a bias. At an optimum it is the :math:`\zeta^2` by
    which Koloskova, Loizou, Boreiri, Jaggi and Stich (2020) bound how far peers' gradients may be apart.
    """
    return float((gradients(lin) ** 2).sum(axis=1).mean())


def bias(method: Method, lin: Linearization, *, step_size: float) -> Trajectory:
    r"""Return where the agents end, to first order in the step size: at the optimum plus a bias.

    Their differences are :math:`d` of :func:`~peerflow.stability.final_disagreement`. Summed over the agents, gradients
    vanish at rest. They are taken at :math:`Cd`, with the rule's C, so all are off together by

    .. math:: \bar\delta = -\Bigl(\sum_q H_q\Bigr)^+ \sum_q H_q (Cd)_q, \qquad
        H_q = \tfrac{Q p_q}{D_q} F_q^\top F_q.

    Zero for methods without bias. What is exact to all orders is :meth:`~peerflow.flows.Dynamics.fixed_point`.

    Parameters
    ----------
    method
        ``DGD(W)``, ``ATC(W)`` or any other, with one W that connects the agents.
    lin
        The model about the common start.
    step_size
        As in :func:`peerflow.training.train`.

    Raises
    ------
    ValueError
        If the method is for another number of agents, its W varies or leaves agents unconnected, or the step size is
        not positive.
    """
    _checks.instance("method", method, Method)
    _checks.shape_of("W", method.W.shape, (lin.agents.size,) * 2)
    apart = final_disagreement(method, gradients(lin), step_size=step_size)
    at = replace(method, W=method.dense).polynomial(method.rule.point) @ apart
    H = (lin.agents.gains / lin.agents.counts)[:, None, None] * lin.curvature
    together = -np.linalg.lstsq(H.sum(axis=0), (H @ at[..., None]).sum(axis=0)[:, 0], rcond=None)[0]
    return Trajectory(lin, np.array([np.inf]), (optimum(lin) + together + apart)[None])
