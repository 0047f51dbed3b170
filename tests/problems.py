"""Small problems, each with its model a second time as plain formulas, and the one way to compare arrays."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial

import networkx as nx
import numpy as np
import reference

from peerflow import mixing, models
from peerflow.data import AgentData, half_moons
from peerflow.linearize import Linearization, linearize
from peerflow.models import Model

AGENTS, SAMPLES, INPUTS = 4, 3, 2

CYCLE = mixing.metropolis_hastings(nx.cycle_graph(AGENTS))
"""Symmetric, with the eigenvalue -1/3."""
STAR = mixing.metropolis_hastings(nx.star_graph(AGENTS - 1))
"""Symmetric, with the eigenvalue 0."""
COMPLETE = np.full((AGENTS, AGENTS), 1 / AGENTS)
"""Averaging, with the eigenvalue 0 three times."""
RING = 0.5 * np.eye(AGENTS) + 0.3 * np.roll(np.eye(AGENTS), 1, axis=1) + 0.2 * np.roll(np.eye(AGENTS), 2, axis=1)
"""Doubly stochastic and not symmetric."""
MATRICES = {"cycle": CYCLE, "star": STAR, "complete": COMPLETE, "ring": RING}


def assert_close(actual, expected, *, tolerance: float = 1e-12):
    """Compare shapes exactly, and entries up to ``tolerance`` times the largest expected one."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    scale = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


@dataclass(frozen=True, eq=False)
class Problem:
    """A model, its data and a common start; ``formula`` is the model as plain numpy."""

    model: Model
    agents: AgentData
    theta0: np.ndarray
    formula: Callable[[np.ndarray, np.ndarray], np.ndarray]
    seen: dict = field(default_factory=dict)

    def linear(self, x) -> tuple[np.ndarray, np.ndarray]:
        """Return the outputs at the start and the Jacobian of the stacked outputs (9)."""
        key = x.tobytes()
        if key not in self.seen:
            jacobian = reference.jacobian(lambda theta: self.formula(theta, x), self.theta0)
            self.seen[key] = self.formula(self.theta0, x), jacobian
        return self.seen[key]

    def linear_outputs(self, params, x) -> np.ndarray:
        """Return (11) on inputs x for parameters (time, agents, P)."""
        f0, jacobian = self.linear(x)
        moved = np.array([[jacobian @ (theta - self.theta0) for theta in row] for row in params])
        return f0 + moved.reshape(*moved.shape[:2], *f0.shape)

    def step_size(self, s: float, objective: str = "local") -> float:
        """Return the step for which the largest eigenvalue of c Psi is s."""
        largest = max(np.linalg.norm(self.linear(x)[1], 2) ** 2 for x in self.agents.x)
        return s / largest * SAMPLES * (AGENTS if objective == "global" else 1)

    def literal(self, name, W, step_size, objective="local") -> tuple[np.ndarray, np.ndarray]:
        """Return A and u of (12a)-(12c) as printed, or for the local objective."""
        f0, jacobians = zip(*map(self.linear, self.agents.x), strict=True)
        gain = step_size / (SAMPLES * AGENTS) if objective == "global" else step_size / SAMPLES
        stacked = np.concatenate(f0).reshape(-1), self.agents.y.reshape(-1)
        return reference.flow(name, W, jacobians, *stacked, self.theta0, gain)


def agent_data(inputs=INPUTS, outputs=1, *, agents=AGENTS, samples=SAMPLES, seed=0) -> AgentData:
    rng = np.random.default_rng(seed)
    return AgentData(rng.normal(size=(agents, samples, inputs)), rng.normal(size=(agents, samples, outputs)))


def unequal_data(inputs=INPUTS, outputs=1, *, counts=(3, 1, 5, 2), weigh="agents", seed=0) -> AgentData:
    """Return agents with different numbers of samples."""
    rng = np.random.default_rng(seed)
    xs, ys = ([rng.normal(size=(count, size)) for count in counts] for size in (inputs, outputs))
    return AgentData(xs, ys, weigh=weigh)


def affine(outputs=1) -> Problem:
    model = models.affine(inputs=INPUTS, outputs=outputs)
    theta0 = np.random.default_rng(1).normal(size=model.size)
    return Problem(model, agent_data(outputs=outputs), theta0, partial(reference.affine, outputs=outputs))


def network(outputs=1, widths=(4, 3), activation="sigmoid") -> Problem:
    scales = {"w_std": 1.3, "b_std": 0.4}
    model = models.mlp(inputs=INPUTS, widths=widths, outputs=outputs, activation=activation, **scales)
    theta0 = np.random.default_rng(2).normal(size=model.size)
    sizes = (INPUTS, *widths, outputs)
    formula = partial(reference.network, sizes=sizes, activation=activation, **scales)
    return Problem(model, agent_data(outputs=outputs), theta0, formula)


def frozen(outputs=1) -> Problem:
    """Return the last layer of ``network``, started away from that network's own."""
    whole = network(outputs)
    model = models.last_layer(
        whole.theta0, inputs=INPUTS, widths=(4, 3), outputs=outputs, activation="sigmoid", w_std=1.3, b_std=0.4
    )
    body = whole.theta0[: -model.size]
    theta0 = np.random.default_rng(3).normal(size=model.size)
    return Problem(model, whole.agents, theta0, lambda head, x: whole.formula(np.concatenate([body, head]), x))


@cache
def moons() -> Linearization:
    """Return a wide network on half moons: its kernel's eigenvalues fall far below rounding."""
    model = models.mlp(inputs=2, widths=(64,), outputs=1)
    return linearize(model, half_moons(agents=AGENTS, samples=20), model.init(0))
