"""What each agent knows: half moons, MNIST's zeros and ones, and their partition over agents.

Every agent holds the same number of samples, D in the paper, and no two agents share one.

>>> agents = half_moons(agents=8, samples=200, noise=0.1, seed=0)
>>> agents.x.shape, agents.y.shape
((8, 200, 2), (8, 200, 1))
"""

import hashlib
from dataclasses import dataclass
from importlib import resources

import numpy as np
from jaxtyping import Float
from sklearn.datasets import make_moons

from peerflow import _checks

_MNIST = resources.files("peerflow") / "assets" / "mnist_zeros_ones.npz"
_MNIST_SHA256 = "142b297056e9ab4f11aa1933fa26718d5de5c92e8ed7947b6308a9270d1fcb5b"


@dataclass(frozen=True, eq=False)
class AgentData:
    """The local data sets of all agents (paper, sec. III-A)."""

    x: Float[np.ndarray, "agents samples inputs"]
    """Inputs."""
    y: Float[np.ndarray, "agents samples outputs"]
    """Targets."""

    def __post_init__(self):
        x = _checks.array("x", self.x, ("agents", "samples", "inputs"))
        y = _checks.array("y", self.y, (*x.shape[:2], "outputs"))
        if 0 in (*x.shape, y.shape[2]):
            raise ValueError(f"x and y must not be empty, got shapes {x.shape} and {y.shape}")
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", y)

    @property
    def agents(self) -> int:
        """The number of agents, Q."""
        return self.x.shape[0]

    @property
    def samples(self) -> int:
        """The number of samples per agent, D."""
        return self.x.shape[1]

    def pooled(self) -> tuple[Float[np.ndarray, "n inputs"], Float[np.ndarray, "n outputs"]]:
        """Return all agents' inputs and targets as one data set, agent after agent."""
        return self.x.reshape(-1, self.x.shape[2]), self.y.reshape(-1, self.y.shape[2])


def partition(x, y, *, agents: int, samples: int, seed: int) -> AgentData:
    """Deal a pool of samples to agents at random, without replacement.

    Parameters
    ----------
    x, y
        The pool: inputs (n, N) and targets (n, M).
    agents, samples
        How many agents, and how many samples each gets.
    seed
        Seed of the shuffle.

    Raises
    ------
    ValueError
        If the pool holds fewer than ``agents * samples`` samples.
    """
    x = _checks.array("x", x, ("n", "inputs"))
    y = _checks.array("y", y, (len(x), "outputs"))
    agents, samples = _checks.count("agents", agents), _checks.count("samples", samples)
    seed = _checks.seed(seed)
    if agents * samples > len(x):
        raise ValueError(f"{agents} agents with {samples} samples need {agents * samples}, got a pool of {len(x)}")
    dealt = np.random.default_rng(seed).permutation(len(x))[: agents * samples].reshape(agents, samples)
    return AgentData(x[dealt], y[dealt])


def half_moons(*, agents: int, samples: int, noise: float = 0.1, seed: int = 0) -> AgentData:
    """Return the half moons, labelled 0 (upper) and 1 (lower), dealt to the agents.

    scikit-learn spaces the points evenly along each arc and adds Gaussian noise of standard deviation ``noise``;
    half of the pool lies on each moon, and the deal is random.
    """
    agents, samples = _checks.count("agents", agents), _checks.count("samples", samples)
    seed, noise = _checks.seed(seed), _checks.nonnegative("noise", noise)
    x, label = make_moons(agents * samples, shuffle=False, noise=noise, random_state=seed)
    return partition(x, label[:, None], agents=agents, samples=samples, seed=seed)


def mnist_zeros_ones(*, agents: int, samples: int, seed: int = 0) -> AgentData:
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
