r"""Runs under random batches and failing links: of the real network, and many of the linear model.

Both take the same steps with the same draws, so that one can be held against the other step by step. The expected loss
is estimated from runs of the linear model without bias, and with a standard error: where its exact moments
(:mod:`peerflow.chance`) would take too much, and for what two moments do not tell.

>>> import networkx as nx
>>> from peerflow import ATC, data, linearize, mixing, models
>>> from peerflow.draws import Stochastic
>>> agents, model = data.half_moons(agents=4, samples=10), models.mlp(inputs=2, widths=(1024,), outputs=1)
>>> atc = ATC(mixing.metropolis_hastings(nx.cycle_graph(4)))
>>> stochastic, theta0 = Stochastic(atc, batch=2, link_probability=0.7), model.init(0)
>>> real = train(stochastic, model, agents, theta0, step_size=0.1, steps=50, seed=1)
>>> linear = sampled(stochastic, linearize(model, agents, theta0), step_size=0.1, counts=[50], runs=1, seed=1)
>>> bool((abs(real.losses[50] / linear.losses[0, 0] - 1) < 1e-2).all())
True
"""

from dataclasses import dataclass, replace
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from peerflow import _checks
from peerflow.data import AgentData
from peerflow.draws import Stochastic
from peerflow.engines import may_overflow
from peerflow.flows import Trajectory, predict
from peerflow.linearize import Linearization
from peerflow.models import Model, starts
from peerflow.objectives import squared_error
from peerflow.training import Run


def train(
    stochastic: Stochastic,
    model: Model,
    agents: AgentData,
    theta0,
    *,
    step_size: float,
    steps: int,
    seed: int = 0,
    final_only: bool = False,
) -> Run:
    """Train the real network under random batches and failing links, for the squared loss.

    Parameters
    ----------
    stochastic
        For as many agents as there are data.
    model, agents, theta0, step_size, steps, final_only
        As in :func:`peerflow.training.train`. Losses are those on all samples, whatever the batches.
    seed
        Of the draws.

    Raises
    ------
    ValueError
        If shapes do not fit, a number is out of range, or an agent has fewer samples than a batch.
    """
    method = _checks.instance("stochastic", stochastic, Stochastic).method
    theta = starts(model, agents, theta0)
    _checks.shape_of("W", method.W.shape, (agents.size,) * 2)
    steps, eta = _checks.count("steps", steps, minimum=0), _checks.positive("step_size", step_size)
    draws = stochastic.draws(agents, runs=1, seed=seed)
    drawn = (np.concatenate(each)[:steps] for each in zip(*(next(draws) for _ in range(steps + 1)), strict=True))
    data, drawn = (tuple(jnp.asarray(one, theta.dtype) for one in each) for each in (agents.padded, drawn))
    scale = jnp.asarray(eta * method.gain * agents.gains, theta.dtype)
    placed = method.placed(theta.dtype)
    losses, params = _scan(model, not final_only, placed, stochastic.links, data, scale, theta, drawn)
    return Run(np.asarray(losses), np.asarray(params), np.arange(steps + 1), model, agents, "mse")


@partial(jax.jit, static_argnums=(0, 1))
def _scan(model, keep, method, links, data, scale, theta, drawn):
    """Return losses (steps + 1, agents) and all parameters, or the last."""

    def risk(theta, x, y, weights):
        return jnp.sum(weights * squared_error(model.forward(theta, x), y))

    def losses(theta):
        return jax.lax.map(lambda own: risk(*own), (theta, *data))

    def step(theta, draw):
        weights, alive = draw

        def gradient(at):
            return scale[:, None] * jax.lax.map(lambda own: jax.grad(risk)(*own), (at, *data[:2], weights))

        new = links.carrying(method, alive).update(theta, gradient, 1.0)
        return new, (losses(new), new if keep else None)

    last, (after, every) = jax.lax.scan(step, theta, drawn)
    params = last if every is None else jnp.concatenate([theta[None], every])
    return jnp.concatenate([losses(theta)[None], after]), params


@dataclass(frozen=True, eq=False)
class Sample:
    """Independent runs of the linear model, and the mean about which they lie."""

    mean: Trajectory
    """The mean of every agent's parameters, which is exact."""
    coefficients: Float[np.ndarray, "time runs agents rank"]
    """z of every run."""

    @cached_property
    @may_overflow
    def losses(self) -> Float[np.ndarray, "time runs agents"]:
        """Each agent's own objective at its own parameters, in every run."""
        shape = self.coefficients.shape
        flat = self.coefficients.reshape(-1, *shape[2:])
        return np.asarray(Trajectory(self.mean.lin, np.zeros(len(flat)), flat).losses).reshape(shape[:3])

    @property
    def expected_losses(self) -> Float[np.ndarray, "time agents"]:
        """An estimate of the expected losses, without bias.

        The loss at the mean is exact; what the spread adds is averaged over the runs.
        """
        return self.mean.losses + self._excess.mean(axis=1)

    @property
    def standard_errors(self) -> Float[np.ndarray, "time agents"]:
        """The standard errors of ``expected_losses``.

        Raises
        ------
        ValueError
            If there is only one run.
        """
        runs = self.coefficients.shape[1]
        if runs < 2:
            raise ValueError(f"standard errors need two runs or more, got {runs}")
        return self._excess.std(axis=1, ddof=1) / runs**0.5

    def run(self, index: int) -> Trajectory:
        """Return one of the runs."""
        return replace(self.mean, coefficients=self.coefficients[:, index])

    @cached_property
    @may_overflow
    def _excess(self) -> Float[np.ndarray, "time runs agents"]:
        """Return half the mean square of what outputs miss of those at the mean, in every run."""
        lin, (times, runs) = self.mean.lin, self.coefficients.shape[:2]
        away = (self.coefficients - self.mean.coefficients[:, None]).reshape(times * runs, *self.coefficients.shape[2:])
        moved = np.matmul(lin.features, away.transpose(1, 2, 0))
        return ((moved**2).sum(axis=1) / (2 * lin.agents.counts[:, None])).T.reshape(times, runs, -1)


def sampled(
    stochastic: Stochastic, lin: Linearization, *, step_size: float, counts, runs: int, seed: int = 0
) -> Sample:
    """Run the linear model many times, each with draws of its own.

    Each step takes about 4 Q D M r operations per run; every run's z is held at the counts. One run has the draws of
    :func:`train` with the same seed: the two can be compared step by step.

    Parameters
    ----------
    stochastic, lin, step_size, counts
        As in :func:`peerflow.chance.expected`.
    runs, seed
        How many runs, and the seed of their draws.

    Raises
    ------
    ValueError
        If shapes do not fit or a number is out of range.
    """
    _checks.instance("stochastic", stochastic, Stochastic)
    dynamics = predict(stochastic.mean, lin, step_size=step_size)
    mean = dynamics.after(counts)
    order, place = np.unique(_checks.counts("counts", counts), return_inverse=True)
    method, runs = stochastic.method, _checks.count("runs", runs)
    scale = dynamics.step_size * method.gain * lin.agents.gains
    arrays = (jnp.asarray(each) for each in (lin.features, lin.residuals0, scale))
    step = partial(_advance, method.placed(np.float64), stochastic.links, *arrays)
    draws = stochastic.draws(lin.agents, runs=runs, seed=seed)
    z, kept = jnp.zeros((runs, *lin.pull.shape)), np.zeros((len(order), runs, *lin.pull.shape))
    for at, gap in enumerate(np.diff(order, prepend=0)):
        for _ in range(gap):
            z = step(z, *next(draws))
        kept[at] = z
    return Sample(mean, kept[place])


@jax.jit
def _advance(method, links, features, residuals, scale, z, weights, alive):
    """Return z (runs, agents, rank) after one step of every run."""
    outputs = features.shape[1] // weights.shape[-1]

    def one(z, weights, alive):
        def gradient(at):
            errors = (features @ at[..., None])[..., 0] + residuals
            weighted = scale[:, None] * jnp.repeat(weights, outputs, axis=-1) * errors
            return (weighted[:, None] @ features)[:, 0]

        return links.carrying(method, alive).update(z, gradient, 1.0)

    return jax.vmap(one)(z, weights, alive)
