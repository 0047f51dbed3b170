"""What each agent knows: half moons, images of digits, random least squares, and a pool's partition over agents.

In the paper every agent holds the same number of samples, D. Here agent q may hold a number of its own, D_q; no two
agents share a sample.

>>> agents = half_moons(agents=8, samples=200, noise=0.1, seed=0)
>>> agents.x.shape, agents.y.shape
((8, 200, 2), (8, 200, 1))
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from peerflow import _checks

_MNIST = resources.files("peerflow") / "assets" / "mnist_zeros_ones.npz"
_MNIST_SHA256 = "142b297056e9ab4f11aa1933fa26718d5de5c92e8ed7947b6308a9270d1fcb5b"


class Padded(NamedTuple):
    """All agents' data in arrays of one shape: who has fewer samples repeats its first, with weight zero."""

    x: Float[np.ndarray, "agents samples *input"]
    y: Float[np.ndarray, "agents samples outputs"]
    weights: Float[np.ndarray, "agents samples"]
    """One over the agent's number of samples, or zero: the loss of an agent is the weighted sum of its samples'."""


@dataclass(frozen=True, eq=False, init=False)
class AgentData:
    """The local data sets of all agents (paper, sec. III-A).

    Raises
    ------
    ValueError
        If shapes do not fit, an agent has no samples, or anything holds NaN.
    """

    x: Float[np.ndarray, "agents samples *input"] | tuple[Float[np.ndarray, "samples *input"], ...]
    """Inputs, of any shape; a tuple with one array an agent, if agents hold different numbers of samples."""
    y: Float[np.ndarray, "agents samples outputs"] | tuple[Float[np.ndarray, "samples outputs"], ...]
    """Targets."""
    weigh: str = "agents"
    """What the global objective (3) weighs alike: ``"agents"``, each L_q by 1/Q, or ``"samples"``, by D_q / sum D."""

    mesh: Mesh | None = None
    """The devices over which agents are spread, see :func:`peerflow.sharding.place`."""

    def __init__(self, x, y, *, weigh: str = "agents", mesh: Mesh | None = None):
        _checks.choice("weigh", weigh, {"agents": None, "samples": None})
        if _ragged(x) or _ragged(y):
            for name, each in (("x", x), ("y", y)):
                if not isinstance(each, (list, tuple, np.ndarray)) or _length(each) is None:
                    raise ValueError(f"{name} must be a list with one array for each agent, got {type(each).__name__}")
            if len(x) != len(y):
                raise ValueError(f"x and y must hold one array for each agent, got {len(x)} and {len(y)}")
            x = tuple(_checks.array(f"x[{q}]", each, ("samples", "inputs", ...)) for q, each in enumerate(x))
            y = tuple(_checks.array(f"y[{q}]", each, (len(x[q]), "outputs")) for q, each in enumerate(y))
            for name, each in (("x", x), ("y", y)):
                if len({one.shape[1:] for one in each}) > 1:
                    shapes = sorted({one.shape[1:] for one in each})
                    raise ValueError(f"{name} must have samples of one shape, got {', '.join(map(str, shapes))}")
        else:
            x = _checks.array("x", x, ("agents", "samples", "inputs", ...))
            y = _checks.array("y", y, (*x.shape[:2], "outputs"))
        for q in range(len(x)):
            if 0 in (*x[q].shape, *y[q].shape):
                raise ValueError(f"x and y must not be empty, got shapes {x[q].shape} and {y[q].shape} of agent {q}")
        if len(x) == 0:
            raise ValueError(f"x and y must not be empty, got shapes {np.shape(x)} and {np.shape(y)}")
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", y)
        object.__setattr__(self, "weigh", weigh)
        object.__setattr__(self, "mesh", mesh)

    @property
    def size(self) -> int:
        """The number of agents, Q."""
        return len(self.x)

    @property
    def outputs(self) -> int:
        """The dimension M of a target."""
        return self.y[0].shape[-1]

    @cached_property
    def counts(self) -> Int[np.ndarray, "agents"]:
        """The number of samples of each agent, D_q."""
        return np.array([len(each) for each in self.x])

    @cached_property
    def weights(self) -> Float[np.ndarray, "agents"]:
        """What each agent's objective weighs in the global one; they sum to one."""
        return self.counts / self.counts.sum() if self.weigh == "samples" else np.full(self.size, 1 / self.size)

    @cached_property
    def gains(self) -> Float[np.ndarray, "agents"]:
        """Q times ``weights``: by this each agent's gradient counts more or less than the others'."""
        return self.size * self.weights if self.weigh == "samples" else np.ones(self.size)

    def pooled(self) -> tuple[Float[np.ndarray, "n *input"], Float[np.ndarray, "n outputs"]]:
        """Return all agents' inputs and targets as one data set, agent after agent."""
        return np.concatenate(self.x), np.concatenate(self.y)

    @cached_property
    def padded(self) -> Padded:
        """All agents' data in arrays of one shape, with weights that tell samples from padding."""
        most = self.counts.max()
        weights = (np.arange(most) < self.counts[:, None]) / self.counts[:, None]
        if isinstance(self.x, np.ndarray) and isinstance(self.y, np.ndarray):
            return Padded(self.x, self.y, weights)
        order = [np.where(np.arange(most) < count, np.arange(most), 0) for count in self.counts]
        x, y = (np.stack([one[at] for one, at in zip(each, order, strict=True)]) for each in (self.x, self.y))
        return Padded(x, y, weights)


def _ragged(values) -> bool:
    """Say whether agents' arrays, given as a list or tuple, differ in length."""
    return isinstance(values, (list, tuple)) and len({_length(each) for each in values}) > 1


def _length(values) -> int | None:
    """Return how long an array or a list is, or None if it has no length."""
    if getattr(values, "shape", ()):
        return values.shape[0]
    try:
        return len(values)
    except TypeError:
        return None


def partition(x, y, *, agents: int, samples: int | Collection[int], seed: int) -> AgentData:
    """Deal a pool of samples to agents at random, without replacement.

    Parameters
    ----------
    x, y
        The pool: inputs (n, ...) and targets (n, M).
    agents, samples
        How many agents, and how many samples each gets: one number for all, or one for each.
    seed
        Seed of the shuffle.

    Raises
    ------
    ValueError
        If the pool holds fewer samples than are dealt.
    """
    x = _checks.array("x", x, ("n", "inputs", ...))
    y = _checks.array("y", y, (len(x), "outputs"))
    counts = _counts(agents, samples)
    seed = _checks.seed(seed)
    if sum(counts) > len(x):
        each = counts[0] if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
        raise ValueError(f"{len(counts)} agents with {each} samples need {sum(counts)}, got a pool of {len(x)}")
    dealt = np.split(np.random.default_rng(seed).permutation(len(x))[: sum(counts)], np.cumsum(counts)[:-1])
    return AgentData([x[some] for some in dealt], [y[some] for some in dealt])


def _counts(agents, samples) -> list[int]:
    """Return how many samples each agent gets."""
    agents = _checks.count("agents", agents)
    if not isinstance(samples, (list, tuple)) and np.ndim(samples) == 0:
        return [_checks.count("samples", samples)] * agents
    if len(samples) != agents:
        raise ValueError(f"samples must be one number or one for each of {agents} agents, got {len(samples)}")
    return [_checks.count("samples", each) for each in samples]


def half_moons(*, agents: int, samples: int | Collection[int], noise: float = 0.1, seed: int = 0) -> AgentData:
    """Return the half moons, labelled 0 (upper) and 1 (lower), dealt to the agents.

    scikit-learn spaces the points evenly along each arc and adds Gaussian noise of standard deviation ``noise``;
    half of the pool lies on each moon, and the deal is random.
    """
    counts = _counts(agents, samples)
    seed, noise = _checks.seed(seed), _checks.nonnegative("noise", noise)
    from sklearn.datasets import make_moons

    x, label = make_moons(sum(counts), shuffle=False, noise=noise, random_state=seed)
    return partition(x, np.reshape(label, (-1, 1)), agents=agents, samples=samples, seed=seed)


def mnist_zeros_ones(*, agents: int, samples: int | Collection[int], seed: int = 0) -> AgentData:
    """Return MNIST's zeros and ones, dealt to the agents: pixels in [0, 1], x (Q, D, 784), targets 0 and 1.

    The pool is 1001 zeros and 1127 ones of the training set, which come with the package.

    Raises
    ------
    ValueError
        If more than 2128 samples are asked for, or the packaged file is not the one it should be.
    """
    images, labels = _read_mnist(_MNIST)
    x = images.reshape(len(images), -1) / 255.0
    return partition(x, labels[:, None], agents=agents, samples=samples, seed=seed)


def digits(*, agents: int, samples: int | Collection[int], seed: int = 0) -> AgentData:
    """Return scikit-learn's digits in ten classes, dealt to the agents: x (Q, D, 8, 8) in [0, 1], targets one-hot.

    Raises
    ------
    ValueError
        If more than the 1797 samples are asked for.
    """
    from sklearn.datasets import load_digits

    pool: Any = load_digits()
    return partition(pool.images / 16, np.eye(10)[pool.target], agents=agents, samples=samples, seed=seed)


def random_quadratics(
    *, agents: int, dimension: int, heterogeneity: float, distance: float, convexity: float, seed: int = 0
) -> AgentData:
    r"""Return the random least squares of Vogels et al. (2021): agent q has as many samples as inputs, and no bias.

    The singular values of each agent's x, (dimension, dimension), are evenly spaced from ``convexity`` to 1. Their
    agents follow :math:`x_q^\top(x_q\theta - y_q)`, without dividing by the samples: their learning rate times
    ``dimension`` is our step size. Drawn as their code draws it, by PyTorch's generator with this seed, so that their
    problems are these, to rounding.

    Parameters
    ----------
    agents
        At least 2.
    heterogeneity
        The mean squared norm of the agents' gradients at the optimum of all, to 1e-5, which is what their search by
        halves leaves.
    distance
        Of that optimum from zero.
    """
    agents, dimension = _checks.count("agents", agents, minimum=2), _checks.count("dimension", dimension)
    heterogeneity, distance = (
        _checks.nonnegative("heterogeneity", heterogeneity),
        _checks.positive("distance", distance),
    )
    convexity = _checks.below_one("convexity", _checks.positive("convexity", convexity))
    state = np.random.RandomState(_checks.seed(seed))
    left, _, right = np.linalg.svd(_torch_normal(state, agents, dimension, dimension))
    x = (left * np.linspace(convexity, 1, dimension)) @ right
    y = x @ _torch_normal(state, agents, dimension, 1)
    y -= x @ np.linalg.lstsq(x.reshape(-1, dimension), y.reshape(-1, 1))[0]
    y *= _halved(np.mean(np.sum((x.transpose(0, 2, 1) @ y) ** 2, axis=1)), heterogeneity)
    optimum = _torch_normal(state, dimension, 1)
    return AgentData(x, y + x @ (optimum * distance / np.linalg.norm(optimum)))


def _halved(unit, target) -> float:
    """Return the first scale that doubling and halving finds with scale^2 * unit within 1e-5 of the target."""
    scale, tried, low, high = 1.0, 0.0, 0.0, np.inf
    while abs(tried**2 * unit - target) > 1e-5 and scale != tried:
        tried = scale
        low, high = (max(low, scale), high) if scale**2 * unit < target else (low, min(high, scale))
        scale = 2 * scale if np.isinf(high) else (low + high) / 2
    return tried


def _torch_normal(state, *shape) -> np.ndarray:
    """Return what PyTorch's ``randn`` gives in double precision on a CPU; its generator is numpy's old one.

    Pairs for Box and Muller's transform lie eight apart, or are neighbours where fewer than 16 numbers are asked for.
    The last 16 are drawn anew where 16 does not divide the number.
    """
    size = int(np.prod(shape))
    if size < 16:
        normal = _box_muller(_uniform(state, size + size % 2).reshape(-1, 2, 1)[:, ::-1])
    else:
        normal = _box_muller(_uniform(state, size)[: size // 16 * 16].reshape(-1, 2, 8))
        if size % 16:
            normal = np.concatenate([normal[: size - 16], _box_muller(_uniform(state, 16).reshape(-1, 2, 8))])
    return normal[:size].reshape(shape)


def _uniform(state, size):
    words = state.randint(2**32, size=(size, 2), dtype=np.uint64)
    return (words[:, 0] << np.uint64(32) | words[:, 1]) % np.uint64(2**53) * 2.0**-53


def _box_muller(pairs):
    radius, angle = np.sqrt(-2 * np.log1p(-pairs[:, 0])), 2 * np.pi * pairs[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)


def _read_mnist(path) -> tuple[np.ndarray, np.ndarray]:
    """Read the packaged digits and verify them."""
    try:
        with path.open("rb") as file, np.load(file) as archive:
            images, labels = archive["images"], archive["labels"]
    except Exception as error:  # numpy raises many kinds on a damaged archive
        raise ValueError(f"{path} cannot be read: reinstall peerflow ({error})") from error
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    if digest != _MNIST_SHA256:
        raise ValueError(f"{path} is damaged: reinstall peerflow (sha256 {digest}, expected {_MNIST_SHA256})")
    return images, labels
