r"""What is drawn anew in every step: the batches that agents see, and the links that carry.

A method is made stochastic by saying what is left to chance. Agent q then takes its gradient from B of its
:math:`D_q` samples, drawn without replacement, and every link carries with probability p:

.. math:: W_k = I - \sum_{e\ \text{alive}} a_e L_e, \qquad
    L_e = (\mathbf e_i - \mathbf e_j)(\mathbf e_i - \mathbf e_j)^\top, \quad a_e = w_{ij} \text{ of the link } e = ij .

Who loses a link keeps its weight: each :math:`W_k` is symmetric and doubly stochastic, since W is. All draws are
independent, and their means are the whole gradient and :math:`\bar W = (1 - p) I + p W`.

:mod:`peerflow.trials` runs networks under such draws; :mod:`peerflow.chance` says what to expect of them.

>>> import numpy as np
>>> from peerflow.methods import ATC
>>> Stochastic(ATC(np.full((2, 2), 0.5)), link_probability=0.8).mean.W.round(2).tolist()
[[0.6, 0.4], [0.4, 0.6]]
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from peerflow import _checks
from peerflow.data import AgentData
from peerflow.methods import ATC, CTA, DGD, Method


class Links(NamedTuple):
    """The links that may fail: none of them where all always carry."""

    first: Int[np.ndarray, "links"]
    second: Int[np.ndarray, "links"]
    weights: Float[np.ndarray, "links"]
    """a: each link's entry of W."""

    def carrying(self, method: Method, alive) -> Method:
        """Return the method with the W of those links that carry, ``alive`` (links,) of 0 and 1."""
        if len(self.weights) == 0:
            return method
        a = alive * jnp.asarray(self.weights, alive.dtype)
        off = jnp.zeros((method.agents,) * 2, alive.dtype).at[self.first, self.second].set(a)
        off = off + off.T
        return replace(method, W=off + jnp.diag(1 - off.sum(axis=1)))


@dataclass(frozen=True, eq=False)
class Stochastic:
    """A method with what is left to chance in every step.

    Raises
    ------
    ValueError
        If the method is another, a number is out of range, or links may fail and W is not symmetric.
    """

    method: Method
    """``DGD(W)``, ``ATC(W)`` or ``CTA(W)``."""
    batch: int | None = None
    """B: how many samples every agent draws; None for all of them."""
    link_probability: float = 1.0
    """p: the probability with which a link carries, from 0, every agent alone, to 1."""

    def __post_init__(self):
        _checks.instance("method", self.method, Method)
        if self.method.rule not in (DGD, ATC, CTA) or self.method.W.ndim != 2:
            raise ValueError(f"method must be DGD, ATC or CTA with one W, got {self.method.name}")
        if self.batch is not None:
            _checks.count("batch", self.batch)
        if _checks.nonnegative("link_probability", self.link_probability) > 1:
            raise ValueError(f"link_probability must be at most 1, got {self.link_probability}")
        if self.link_probability < 1 and not self.method.symmetric:
            raise ValueError("W must be symmetric where links may fail, or what is left would not be doubly stochastic")

    @cached_property
    def mean(self) -> Method:
        """The method with the mean W."""
        p, W = self.link_probability, self.method.W
        if p == 1:
            return self.method
        return self.method.rule((1 - p) * np.eye(len(self.method.dense)) + p * W, objective=self.method.objective)

    @cached_property
    def links(self) -> Links:
        """The links that may fail."""
        first, second = np.nonzero(np.triu(self.method.dense, 1) * (self.link_probability < 1))
        return Links(first, second, self.method.dense[first, second])

    def dispersion(self, agents: AgentData) -> Float[np.ndarray, "agents"]:
        r"""Return :math:`\kappa = (D - B) / ((D - 1) B)`.

        The variance of a mean over B of D numbers, over that of one number of the D.

        Raises
        ------
        ValueError
            If an agent has fewer samples than a batch.
        """
        D = agents.counts
        return (D - self._sizes(agents)) / (np.maximum(D - 1, 1) * self._sizes(agents))

    def draws(self, agents: AgentData, *, runs: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield, step by step, every sample's weight (runs, agents, samples) and links alive (runs, links).

        An agent's weights sum to one, and are zero outside its batch. Batches and links have streams of their own: what
        one does may be compared with and without the other.
        """
        sizes, whole = self._sizes(agents), agents.padded.weights
        batches, fates = map(np.random.default_rng, np.random.SeedSequence(_checks.seed(seed)).spawn(2))
        while True:
            weights = np.broadcast_to(whole, (runs, *whole.shape))
            if self.batch is not None:
                # Those with the lowest numbers are taken; padding has none below 1.
                numbers = batches.random(weights.shape) + (whole == 0)
                taken = np.argpartition(numbers, self.batch - 1, axis=-1)[..., : self.batch]
                weights = np.zeros(weights.shape)
                np.put_along_axis(weights, taken, 1 / sizes[0], axis=-1)
            yield weights, (fates.random((runs, len(self.links.weights))) < self.link_probability).astype(float)

    def _sizes(self, agents):
        """Return the size of each agent's batch."""
        if self.batch is None:
            return agents.counts
        if self.batch > agents.counts.min():
            raise ValueError(
                f"batch must be at most {agents.counts.min()}, the fewest samples of an agent, got {self.batch}"
            )
        return np.full(agents.size, self.batch)
