r"""Predictions from the infinite-width kernel alone against real networks, at inputs that no peer has seen.

Four peers on a cycle hold eight points of the half moons each and train networks of one width by DGD. A seed draws
points and networks. Networks come in pairs whose outputs at the start are each other's negatives and whose kernels are
the same: the output layer of one is minus the other's. So the mean of a pair has none of the randomness of the start's
outputs, to first order, and shows the smaller part that is due to the width.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import networkx as nx
import numpy as np

from peerflow import DGD, data, from_kernel, kernels, mixing, models, predict, stability, train

PEERS, SAMPLES, UNSEEN, STEPS = 4, 8, 16, 50
HELD = PEERS * SAMPLES
WIDTHS = {1: [64, 256, 1024, 4096, 16384], 2: [64, 256, 1024], 3: [64, 256, 1024]}
# How many pairs a row trains if not eight: wide networks take long.
PAIRS = {(1, 16384): 4, (2, 1024): 2, (3, 1024): 1}
# What is changed, one at a time, to put a rule of thumb to the test; edge is a share of the largest step size.
CHANGES = {"long": {"steps": 1000}, "large targets": {"size": 10.0}, "steep": {"w_std": 4.0}, "edge": {"edge": 0.95}}
# The ensemble's mean: blocks of so many pairs, and of so many kernels where these have a bias of their own.
BLOCKS, BLOCK, KERNELS = 8, 5, 150
NARROW = {1: [64, 256, 1024], 2: [64, 128, 256, 512], 3: [64, 128, 256, 512]}
# By how much of its difference from the limit a kernel is moved to see what the difference does to first order.
SMALL = 1e-3


def settings():
    seeds = range(16)
    mean = [{"depth": L, "width": n, "seed": seed, "mean": True} for L in NARROW for n in NARROW[L] for seed in seeds]
    one = [{"depth": L, "width": n, "seed": seed} for L in WIDTHS for n in WIDTHS[L] for seed in seeds]
    changed = [
        {"depth": 1, "width": n, "seed": seed, "change": name}
        for name in CHANGES
        for n in (64, 256, 1024)
        for seed in seeds[:8]
    ]
    return mean + one + changed


def row(depth, width, seed, change="", mean=False):
    networks = Networks(infinite(depth, seed, change), width)
    result = bias(networks) if mean else errors(networks, PAIRS.get((depth, width), 8))
    return {name: float(value) for name, value in result.items()}


@cache
def infinite(depth, seed, change=""):
    return Limit(depth, seed, **{"steps": STEPS, "size": 1.0, "edge": 0.25, "w_std": 1.5, **CHANGES.get(change, {})})


@dataclass(frozen=True)
class Limit:
    """The peers with their points, and what is known of networks without drawing one."""

    depth: int
    seed: int
    steps: int
    size: float
    """Targets are this and minus this."""
    edge: float
    w_std: float

    @cached_property
    def network(self):
        return {"activation": "erf", "w_std": self.w_std, "b_std": 0.1}

    @cached_property
    def points(self):
        return data.half_moons(agents=1, samples=HELD + UNSEEN, noise=0.1, seed=self.seed).pooled()

    @cached_property
    def agents(self):
        x, y = (each[:HELD].reshape(PEERS, SAMPLES, -1) for each in self.points)
        return data.AgentData(x, self.size * (2 * y - 1))

    @cached_property
    def kernel(self):
        return kernels.infinite_width(self.points[0], hidden=self.depth, **self.network)

    @cached_property
    def method(self):
        return DGD(mixing.metropolis_hastings(nx.cycle_graph(PEERS)))

    @cached_property
    def step_size(self):
        lin = from_kernel(self.kernel[:HELD, :HELD], np.zeros((HELD, 1)), self.agents)
        return self.edge * stability.step_size_limit(self.method, lin)

    @cached_property
    def mean(self):
        """The mean prediction."""
        return self.predicted(self.kernel)

    def predicted(self, kernel, outputs0=None):
        """Return every peer's outputs at the unseen inputs, (peers, unseen), from kernel and outputs on all points."""
        outputs0 = np.zeros((len(kernel), 1)) if outputs0 is None else outputs0
        lin = from_kernel(kernel[:HELD, :HELD], outputs0[:HELD], self.agents)
        there = lin.expand_kernel(kernel[HELD:, :HELD], outputs0[HELD:])
        dynamics = predict(self.method, lin, step_size=self.step_size)
        return dynamics.after([self.steps]).outputs(there)[0, ..., 0]

    def first_order(self, kernel):
        """Return what a kernel's difference from the limit changes in the mean prediction, to first order."""
        return (self.predicted(self.kernel + SMALL * (kernel - self.kernel)) - self.mean) / SMALL

    @cached_property
    def covariance(self):
        """That of the outputs of infinitely wide erf networks at the start (Williams, 1997)."""
        w, b, x = self.w_std**2, self.network["b_std"] ** 2, self.points[0]
        covariance = w * x @ x.T / x.shape[1] + b
        for _ in range(self.depth):
            scale = np.sqrt(1 + 2 * np.diag(covariance))
            covariance = w * 2 / np.pi * np.arcsin(2 * covariance / np.outer(scale, scale)) + b
        return covariance

    @cached_property
    def deviation(self):
        """The standard deviation of every peer's output at the unseen inputs, at infinite width.

        Outputs are linear in those at the start, on the data and at the input: one at a time shows how.
        """
        units = np.eye(len(self.kernel))[..., None]
        response = np.stack([self.predicted(self.kernel, unit) - self.mean for unit in units], axis=-1)
        return np.sqrt(np.einsum("qnm,mk,qnk->qn", response, self.covariance, response))


@dataclass(frozen=True)
class Networks:
    """Networks of one width, in pairs."""

    limit: Limit
    width: int

    @cached_property
    def model(self):
        return models.mlp(inputs=2, widths=(self.width,) * self.limit.depth, outputs=1, **self.limit.network)

    def pair(self, number):
        """Return a start, and the same with minus the output layer."""
        theta0 = np.array(self.model.init(100_000 * self.limit.seed + number))
        return theta0, np.concatenate([theta0[: -self.width - 1], -theta0[-self.width - 1 :]])

    def kernel(self, theta0):
        return kernels.empirical(self.model, theta0, self.limit.points[0])

    def outputs0(self, theta0):
        return np.asarray(self.model.apply(theta0, self.limit.points[0]))

    def trained(self, theta0):
        limit = self.limit
        setting = {"step_size": limit.step_size, "steps": limit.steps, "final_only": True}
        run = train(limit.method, self.model, limit.agents, theta0, **setting)
        return run.outputs(limit.points[0][HELD:])[..., 0]


def errors(networks, pairs):
    """Return root mean squares over networks, peers and inputs, relative to the mean prediction's; and what is inside.

    start is the kernel's distance from the limit. own and linear are errors of predictions for a network with its own
    outputs at the start, from the limit's kernel and from its own. square is the mean square of the outputs' distance
    from the limit's mean, in standard deviations, and inside the share within 1.96 of them.
    """
    limit, size = networks.limit, rms(networks.limit.mean)
    found = {"start": [], "own": [], "linear": [], "square": [], "inside": [], "pair": []}
    for number in range(pairs):
        trained = []
        for theta0 in networks.pair(number):
            kernel, outputs0 = networks.kernel(theta0), networks.outputs0(theta0)
            trained.append(networks.trained(theta0))
            found["start"].append(rms(kernel - limit.kernel) / rms(limit.kernel))
            found["own"].append(rms(trained[-1] - limit.predicted(limit.kernel, outputs0)) / size)
            found["linear"].append(rms(trained[-1] - limit.predicted(kernel, outputs0)) / size)
            scores = (trained[-1] - limit.mean) / limit.deviation
            found["square"].append(rms(scores) ** 2)
            found["inside"].append(np.mean(abs(scores) < 1.959964))
        found["pair"].append(rms(np.mean(trained, axis=0) - limit.mean) / size)
    means = {name: np.mean(found.pop(name)) for name in ("square", "inside")}
    return {**{name: rms(values) for name, values in found.items()}, **means}


def bias(networks):
    """Return the squared norm of the ensemble's mean error, relative to the mean prediction's.

    Pairs are rid of what their kernels do to first order, which is most of their scatter. Its mean, zero for one
    hidden layer, comes from many kernels without training. The square is a product of different blocks and has no
    bias; it may be negative.
    """
    limit, blocks = networks.limit, []
    for block in range(BLOCKS):
        pairs = [networks.pair(number) for number in range(block * BLOCK, (block + 1) * BLOCK)]
        trained = np.mean([networks.trained(theta0) for pair in pairs for theta0 in pair], axis=0)
        scatter = limit.first_order(np.mean([networks.kernel(one) for one, _ in pairs], axis=0))
        blocks.append(trained - limit.mean - scatter)
        if limit.depth > 1:
            more = [networks.pair(1000 + number)[0] for number in range(block * KERNELS, (block + 1) * KERNELS)]
            blocks[-1] += limit.first_order(np.mean([networks.kernel(one) for one in more], axis=0))
    return {"squared": np.mean(squared(blocks)) / rms(limit.mean) ** 2}


def squared(blocks):
    """Return the square of what independent blocks are each an estimate of: the mean product of two of them."""
    return (np.sum(blocks, axis=0) ** 2 - np.sum(np.square(blocks), axis=0)) / (len(blocks) * (len(blocks) - 1))


def rms(values):
    return np.sqrt(np.mean(np.square(values)))
