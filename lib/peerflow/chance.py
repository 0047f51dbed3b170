r"""What to expect where chance has a hand in every step: exact moments of the linear model.

Under :class:`~peerflow.draws.Stochastic` the linear model takes a random affine step, whose first two moments follow
from those before it. The mean m is what :func:`peerflow.flows.predict` says of :math:`\bar W`: chance does not bias it.
The covariance C of all agents' z, with blocks :math:`C_{qs}`, grows out of what the mean leaves to chance. With
:math:`S = C + mm^\top`,

.. math:: \text{adapt:}\quad C' = (I - c\Psi)\, C\, (I - c\Psi) + \mathrm{blockdiag}(N_q(S)), \qquad
    \text{combine:}\quad C' = \bar W C \bar W + p(1 - p) \sum_e a_e^2\, L_e S L_e ,

where W and :math:`L_e` stand for :math:`W \otimes I` and :math:`L_e \otimes I`. ATC adapts, then combines; CTA
combines, then adapts; DGD does both from the same point, with :math:`\bar W - c\Psi` on either side of C and the sum of
both noises. :math:`N_q` is the covariance of the mean of B of :math:`D = D_q` samples' gradients
:math:`g_i = F_i^\top e_i`, of the errors :math:`e_i = F_i z_q + f_0 - y`:

.. math:: N_q = (c_q D)^2\, \frac{D - B}{(D - 1) B}\, \Bigl( \tfrac1D \sum_i \mathbb E\, g_i g_i^\top
    - \mathbb E\, \bar g \bar g^\top \Bigr) .

The expected squared loss needs nothing else, so :func:`expected` is exact. Where C, (Q r)^2 numbers, is too much, there
are two cheaper ways: fewer directions, by ``linearize(accuracy=..., steps=..., step_size=...)``, and many runs, which
have no bias and a standard error: :func:`peerflow.trials.sampled`.

>>> import networkx as nx
>>> from peerflow import ATC, data, linearize, mixing, models
>>> from peerflow.draws import Stochastic
>>> agents, model = data.half_moons(agents=4, samples=10), models.mlp(inputs=2, widths=(64,), outputs=1)
>>> lin, atc = linearize(model, agents, model.init(0)), ATC(mixing.metropolis_hastings(nx.cycle_graph(4)))
>>> moments = expected(Stochastic(atc, batch=2, link_probability=0.7), lin, step_size=0.5, counts=[0, 100])
>>> bool((moments.losses[1] > moments.mean.losses[1]).all())
True
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from peerflow import _checks
from peerflow.draws import Links, Stochastic
from peerflow.engines import may_overflow
from peerflow.flows import Trajectory, predict
from peerflow.linearize import Expansion, Linearization
from peerflow.methods import Method

# A spectral radius is found to this much of itself, in at most so many directions.
_FOUND, _DIRECTIONS = 1e-13, 300
# More numbers than this, a gigabyte, are never held.
_HELD = 2**27


class Spread(NamedTuple):
    """Mean and standard deviation over all draws."""

    mean: Float[np.ndarray, "time agents n outputs"]
    std: Float[np.ndarray, "time agents n outputs"]


@dataclass(frozen=True, eq=False)
class Moments:
    """The linear model's first two moments after some numbers of steps."""

    mean: Trajectory
    """The mean of every agent's parameters, as a trajectory: its losses are those at the mean, not the mean losses."""
    covariances: Float[np.ndarray, "time agents rank rank"]
    """Of each agent's z about its mean."""

    @cached_property
    @may_overflow
    def losses(self) -> Float[np.ndarray, "time agents"]:
        """The expectation of each agent's own objective at its own parameters."""
        lin = self.mean.lin
        return self.mean.losses + np.einsum("qij,tqij->tq", lin.curvature, self.covariances) / (2 * lin.agents.counts)

    @cached_property
    @may_overflow
    def global_losses(self) -> Float[np.ndarray, "time agents"]:
        """The expectation of the global objective at each agent's parameters."""
        lin = self.mean.lin
        curvature = np.tensordot(lin.agents.weights / lin.agents.counts, lin.curvature, axes=1)
        return self.mean.global_losses + np.einsum("ij,tqij->tq", curvature, self.covariances) / 2

    @cached_property
    @may_overflow
    def losses_std(self) -> Float[np.ndarray, "time agents"]:
        r"""The standard deviation of an agent's own objective over the draws, as if z were Gaussian.

        It is :math:`(g^\top C g + \frac12 \mathrm{tr}\, HCHC)^{1/2}`, with the gradient g and the Hessian H of the loss
        at the mean. The true one takes moments up to the fourth, which two do not tell. While the spread is small the
        first term is all that counts, and right for any z.
        """
        lin, counts = self.mean.lin, self.mean.lin.agents.counts[:, None]
        hessian = lin.curvature / counts[..., None]
        slope = np.einsum("qij,tqj->tqi", hessian, self.mean.coefficients) + lin.pull / counts
        turned = np.matmul(hessian, self.covariances)
        variance = np.einsum("tqi,tqij,tqj->tq", slope, self.covariances, slope, optimize=True)
        return np.sqrt(variance + np.einsum("tqij,tqji->tq", turned, turned) / 2)

    def outputs(self, x) -> Spread:
        """Return mean and standard deviation of every agent's outputs on inputs (n, N) or an expansion.

        Each standard deviation is one output's own: different outputs vary together.
        """
        expansion = x if isinstance(x, Expansion) else self.mean.lin.expand(x)
        features = expansion.features
        variance = np.einsum("nmr,tqrs,nms->tqnm", features, self.covariances, features, optimize=True)
        return Spread(np.asarray(self.mean.outputs(expansion)), np.sqrt(variance.clip(min=0.0)))

    @cached_property
    def params_std(self) -> Float[np.ndarray, "time agents params"]:
        """The standard deviation of every parameter."""
        basis = self.mean.lin.displacement(np.eye(self.mean.lin.rank))
        variance = [np.sum((C @ basis) * basis, axis=1) for C in self.covariances]
        return np.sqrt(np.reshape(variance, (*self.covariances.shape[:2], -1)).clip(min=0.0))


def expected(stochastic: Stochastic, lin: Linearization, *, step_size: float, counts) -> Moments:
    """Return the exact moments of the linear model under random batches and failing links, for the squared loss.

    Each step takes about 4 Q^2 r^3 operations.

    Parameters
    ----------
    stochastic
        For as many agents as ``lin`` has.
    lin, step_size
        As in :func:`peerflow.flows.predict`.
    counts
        Numbers of steps.

    Raises
    ------
    ValueError
        If shapes do not fit, a number is out of range, or more than a gigabyte would have to be held.
    """
    _checks.instance("stochastic", stochastic, Stochastic)
    dynamics = predict(stochastic.mean, lin, step_size=step_size)
    mean = dynamics.after(counts)
    order, place = np.unique(_checks.counts("counts", counts), return_inverse=True)
    (Q, r), times = lin.pull.shape, len(order)
    if max(Q, times) * Q * r**2 > _HELD:
        raise ValueError(
            f"covariances must have {_HELD} numbers or less, got {Q} agents in {r} directions at {times} counts: ask "
            f"for fewer counts or, by linearize(accuracy=...), directions, or use trials.sampled"
        )
    covariances = _followed(_walk(stochastic, lin, dynamics.step_size), np.diff(order, prepend=0))
    return Moments(mean, covariances[place])


def isotropic_rate(method: Method, *, step_size: float, zeta: float) -> float:
    r"""Return by what part each step shrinks the agents' expected squared distance from the optimum, in the end.

    Every agent follows :math:`dd^\top x` in every step, with a direction d drawn afresh, all directions alike:
    :math:`\mathbb E\, dd^\top = I` and :math:`\mathbb E\, \|d\|^2 dd^\top = \zeta I`; the optimum is zero. These are
    the random quadratics of Vogels, Hendrikx and Jaggi (2023), with :math:`\zeta = N + 2` for N Gaussian entries. The
    inner products :math:`C_{qs} = \mathbb E\, x_q^\top x_s` follow

    .. math:: \text{adapt:}\quad C' = (1 - \eta)^2 C + \eta^2 (\zeta - 1)\, \mathrm{diag}(C), \qquad
        \text{combine:}\quad C' = W C W^\top ,

    and the rate is one minus the spectral radius of that map: negative where the agents diverge. Where W varies it is
    the mean over a period.

    Parameters
    ----------
    method
        One that remembers nothing, like ``ATC(W)``.
    zeta
        At least 1.

    Raises
    ------
    ValueError
        If the method remembers, or a number is out of range.
    """
    _checks.instance("method", method, Method)
    if method.rule.memory:
        raise ValueError(f"method must be one that remembers nothing, got {method.name}")
    eta, zeta = _checks.positive("step_size", step_size) * method.gain, _checks.positive("zeta", zeta)
    if zeta < 1:
        raise ValueError(f"zeta must be at least 1, got {zeta}")
    stages = []
    for each in method.phases:
        each = replace(each, W=each.dense)
        keep, descend = (each.polynomial(weights) for weights in each.rule.theta)
        stages.append((keep + eta * descend, eta * descend, each.polynomial(each.rule.point)))

    def period(flat):
        C = flat.reshape(len(one), -1)
        for mean, descend, point in stages:
            at = point @ C @ point.T
            C = mean @ at @ mean.T + (zeta - 1) * (descend * at.diagonal()) @ descend.T
        return C.reshape(-1)

    one = np.eye(method.agents)
    return float(1 - _positive_radius(period, one.reshape(-1)) ** (1 / len(stages)))


def _positive_radius(product, start) -> float:
    """Return the spectral radius of a map that keeps matrices positive semidefinite, by Arnoldi from within them.

    Such a map has an eigenvalue at its radius, which the identity excites.
    """
    most = min(len(start), _DIRECTIONS)
    basis, hessenberg = [start / np.linalg.norm(start)], np.zeros((most + 1, most))
    for k in range(most):
        new, Q = product(basis[k]), np.array(basis)
        for _ in range(2):
            along = Q @ new
            hessenberg[: k + 1, k] += along
            new = new - along @ Q
        hessenberg[k + 1, k] = left = np.linalg.norm(new)
        values, vectors = np.linalg.eig(hessenberg[: k + 1, : k + 1])
        largest = np.abs(values).argmax()
        if left * np.abs(vectors[-1, largest]) <= _FOUND * np.abs(values[largest]):
            break
        basis.append(new / left)
    return np.abs(values[largest])


@may_overflow
def _followed(walk, gaps):
    """Take gaps[0], then gaps[1], ... steps; return every agent's covariance where each of them ends."""
    Q, r = walk.lin.pull.shape
    mean, C, kept = np.zeros((Q, r)), np.zeros((Q, Q, r, r)), np.zeros((len(gaps), Q, r, r))
    for at, gap in enumerate(gaps):
        for _ in range(gap):
            for mixes, adapts in walk.stages:
                mean, C = walk.stage(mean, C, mixes, adapts)
        kept[at] = C[np.arange(Q), np.arange(Q)]
    return kept


class _Walk(NamedTuple):
    """One step of the moments."""

    stages: tuple[tuple[bool, bool], ...]
    """Of each, whether it combines and whether it adapts."""
    W: Float[np.ndarray, "agents agents"]
    scale: Float[np.ndarray, "agents"]
    """c."""
    lin: Linearization
    links: Links
    fickleness: float
    """p (1 - p)."""
    noise: Float[np.ndarray, "agents"]
    """What N_q has before it, where sums stand for its means over samples."""

    def stage(self, mean, C, mixes, adapts):
        """Return mean (agents, rank) and covariance (agents, agents, rank, rank) after one stage."""
        new = self._side(self._side(C, mixes, adapts).transpose(1, 0, 3, 2), mixes, adapts)
        if mixes:
            self._add_links(new, mean, C)
        if adapts and self.noise.any():
            own = np.arange(len(mean))
            new[own, own] += self._batches(mean, C[own, own])
        moved = self.W @ mean if mixes else mean
        if adapts:
            slope = np.matmul(self.lin.curvature, mean[..., None])[..., 0] + self.lin.pull
            moved = moved - self.scale[:, None] * slope
        return moved, new

    def _side(self, C, mixes, adapts):
        """Return (W - c Psi) C, with I for what is not asked for: W, or c Psi's zero."""
        new = np.tensordot(self.W, C, axes=1) if mixes else C
        return new - np.matmul((self.scale[:, None, None] * self.lin.curvature)[:, None], C) if adapts else new

    def _add_links(self, new, mean, C):
        """Add p (1 - p) a_e^2 L_e S L_e for every link."""
        i, j, weight = self.links
        apart = mean[i] - mean[j]
        swing = C[i, i] + C[j, j] - C[i, j] - C[j, i] + apart[:, :, None] * apart[:, None]
        swing *= (self.fickleness * weight**2)[:, None, None]
        # No two links have the same ends.
        new[i, j] -= swing
        new[j, i] -= swing
        own = np.arange(len(mean))
        new[own, own] += np.tensordot((own[:, None] == i) | (own[:, None] == j), swing, axes=1)

    def _batches(self, mean, own):
        """Return N_q, for the agents' own covariances (agents, rank, rank)."""
        lin, (Q, r) = self.lin, mean.shape
        F = lin.features.reshape(Q, -1, lin.agents.outputs, r)
        errors = np.matmul(lin.features, mean[..., None])[..., 0] + lin.residuals0
        gradients = np.einsum("qdmr,qdm->qdr", F, errors.reshape(F.shape[:3]))
        varied = np.matmul(np.matmul(F, np.matmul(lin.features, own).reshape(F.shape).swapaxes(2, 3)), F)
        sums = np.matmul(lin.features.swapaxes(1, 2), varied.reshape(Q, -1, r))
        sums += np.matmul(gradients.swapaxes(1, 2), gradients)
        total, turned = gradients.sum(axis=1), np.matmul(np.matmul(lin.curvature, own), lin.curvature)
        sums -= (turned + total[:, :, None] * total[:, None, :]) / lin.agents.counts[:, None, None]
        return self.noise[:, None, None] * sums


def _walk(stochastic, lin, step_size) -> _Walk:
    """Return the step of the moments."""
    mean, p = stochastic.mean, stochastic.link_probability
    stages = ((False, True), (True, False)) if mean.rule.mixes_gradient else ((True, False), (False, True))
    stages = stages if mean.rule.mixes else ((True, True),)
    counts = lin.agents.counts
    scale = step_size * mean.gain * lin.agents.gains / counts
    noise = scale**2 * counts * stochastic.dispersion(lin.agents)
    return _Walk(stages, mean.dense, scale, lin, stochastic.links, p * (1 - p), noise)
