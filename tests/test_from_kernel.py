"""Predictions from a kernel alone: against those of the model, and the dynamics of outputs in plain numpy."""

import numpy as np
import pytest
from problems import CYCLE, RING, affine, agent_data, assert_close, frozen, network, unequal_data
from rejection import INF, NAN, check, rejects, with_entry

from peerflow import DGD, from_kernel, linearize, predict, stability
from peerflow.data import AgentData
from peerflow.kernels import infinite_width

TIMES = np.array([0.0, 0.4, 3.0, 40.0])
COUNTS = np.array([0, 1, 9, 40])
PROBLEMS = {
    "affine": affine(),
    "affine-2": affine(2),
    "mlp": network(widths=(16,)),
    "mlp-2": network(2, widths=(16,)),
    "last_layer-2": frozen(2),
}


def kernel_of(problem, x, x2):
    """Return J J^T by complex steps."""
    return problem.linear(x)[1] @ problem.linear(x2)[1].T


def both(problem, agents):
    """Return the expansion of the model, and that of its kernel."""
    x = agents.pooled()[0]
    f0, _ = problem.linear(x)
    return linearize(problem.model, agents, problem.theta0), from_kernel(kernel_of(problem, x, x), f0, agents)


@pytest.mark.parametrize("data", ["equal", "unequal", "samples"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_predictions_are_those_of_the_model(name, data, rule, rng):
    problem, new = PROBLEMS[name], rng.normal(size=(5, 2))
    outputs = problem.model.outputs
    weigh = "samples" if data == "samples" else "agents"
    agents = problem.agents if data == "equal" else unequal_data(outputs=outputs, weigh=weigh)
    lin, kernel = both(problem, agents)
    cross = kernel_of(problem, new, agents.pooled()[0])
    other = kernel.expand_kernel(cross, problem.linear(new)[0])
    for W in (CYCLE, RING):
        expected, got = (predict(rule(W), each, step_size=0.2) for each in (lin, kernel))
        for a, b in ((got.at(TIMES), expected.at(TIMES)), (got.after(COUNTS), expected.after(COUNTS))):
            assert_close(a.losses, b.losses, tolerance=1e-10)
            assert_close(a.global_losses, b.global_losses, tolerance=1e-10)
            assert_close(a.outputs(other), b.outputs(new), tolerance=1e-10)


def test_other_losses_and_stability_are_those_of_the_model(rule):
    problem = network(widths=(16,))
    agents = AgentData(problem.agents.x, (problem.agents.y > 0).astype(float))
    expected, got = both(problem, agents)
    settings = {"step_size": 0.3, "loss": "binary_cross_entropy"}
    expected_dynamics, dynamics = (predict(rule(RING), each, **settings) for each in (expected, got))
    assert_close(dynamics.after(COUNTS).losses, expected_dynamics.after(COUNTS).losses, tolerance=1e-10)
    assert_close(dynamics.at(TIMES).losses, expected_dynamics.at(TIMES).losses, tolerance=1e-6)
    limits = [stability.step_size_limit(rule(CYCLE), each) for each in (got, expected)]
    assert_close(*limits, tolerance=1e-6)


def in_function_space(name, W, K, f0, y, counts, c):
    """Follow every agent's outputs on all samples by (4), (5) or (6): no parameters, no basis, one output.

    K multiplies each agent's own residuals; f is (agents, samples of all).
    """
    own = np.split(np.arange(len(y)), np.cumsum(counts)[:-1])
    f = np.tile(f0, (len(W), 1))
    history = [f]

    def step(f):
        return np.stack([c[q] * K[:, at] @ (f[q, at] - y[at]) for q, at in enumerate(own)])

    for _ in range(40):
        if name == "DGD":
            f = W @ f - step(f)
        elif name == "ATC":
            f = W @ (f - step(f))
        else:
            f = W @ f - step(W @ f)
        history.append(f)
    losses = [[((f[q, at] - y[at]) ** 2).mean() / 2 for q, at in enumerate(own)] for f in history]
    return np.array(history), np.array(losses)


@pytest.mark.parametrize("W", [CYCLE, RING], ids=["cycle", "ring"])
@pytest.mark.parametrize("kind", ["equal", "unequal"])
def test_the_infinitely_wide_network_follows_its_kernel(rule, W, kind):
    agents = agent_data() if kind == "equal" else unequal_data()
    x, y = agents.pooled()
    new = np.random.default_rng(6).normal(size=(4, 2))
    everywhere = np.concatenate([x, new])
    K = infinite_width(everywhere, w_std=1.5)
    f0 = np.random.default_rng(7).normal(size=len(everywhere))
    n = len(x)
    # Targets on the new inputs are never asked for.
    counts, c = agents.counts, 0.2 / agents.counts
    outputs, losses = in_function_space(rule.name, W, K[:, :n], f0, y[:, 0], counts, c)
    kernel = from_kernel(K[:n, :n], f0[:n, None], agents)
    got = predict(rule(W), kernel, step_size=0.2).after(COUNTS)
    assert_close(got.losses, losses[COUNTS], tolerance=1e-10)
    expansion = kernel.expand_kernel(K[n:, :n], f0[n:, None])
    assert_close(got.outputs(expansion)[..., 0], outputs[COUNTS][:, :, n:], tolerance=1e-10)


def test_one_kernel_for_every_output(rule):
    """Outputs that share a kernel and nothing else train as so many networks with one output."""
    agents = unequal_data(outputs=2)
    x, new = agents.pooled()[0], np.random.default_rng(6).normal(size=(4, 2))
    K, cross = infinite_width(x), infinite_width(new, x)
    start = np.random.default_rng(7).normal(size=(len(x) + 4, 2))
    f0, new0 = start[:-4], start[-4:]
    whole = from_kernel(K, f0, agents)
    explicit = from_kernel(np.kron(K, np.eye(2)), f0, agents)
    single = [
        from_kernel(K, f0[:, m : m + 1], AgentData(agents.x, [y[:, m : m + 1] for y in agents.y])) for m in (0, 1)
    ]
    assert whole.rank == explicit.rank == 2 * single[0].rank

    def after(lin, kernel, outputs0):
        trajectory = predict(rule(RING), lin, step_size=0.4).after(COUNTS)
        return trajectory, trajectory.outputs(lin.expand_kernel(kernel, outputs0))

    one, outputs = after(whole, cross, new0)
    other, outputs2 = after(explicit, np.kron(cross, np.eye(2)), new0)
    parts = [after(lin, cross, new0[:, m : m + 1]) for m, lin in enumerate(single)]
    assert_close(one.losses, other.losses)
    assert_close(one.losses, sum(part.losses for part, _ in parts), tolerance=1e-10)
    assert_close(one.global_losses, sum(part.global_losses for part, _ in parts), tolerance=1e-10)
    assert_close(outputs, outputs2)
    assert_close(outputs, np.concatenate([part for _, part in parts], axis=-1), tolerance=1e-10)


def test_its_parts_are_the_kernels_square_root():
    problem = PROBLEMS["mlp-2"]
    lin, kernel = both(problem, problem.agents)
    K = kernel_of(problem, problem.agents.pooled()[0], problem.agents.pooled()[0])
    F = kernel.features.reshape(-1, kernel.rank)
    assert_close(F @ F.T, K)
    assert_close(kernel.singular_values, lin.singular_values[: kernel.rank], tolerance=1e-7)
    assert_close(kernel.residuals0, lin.residuals0)
    assert kernel.model is kernel.theta0 is kernel.basis is None


def test_a_tolerance_drops_directions():
    problem = PROBLEMS["mlp"]
    x = problem.agents.pooled()[0]
    K, f0 = kernel_of(problem, x, x), problem.linear(x)[0]
    values = np.sqrt(np.linalg.eigvalsh(K)[::-1])
    middle = values[5] / values[0]
    assert from_kernel(K, f0, problem.agents, tolerance=middle * 1.01).rank == 5
    assert from_kernel(K, f0, problem.agents, tolerance=middle * 0.99).rank == 6
    low = from_kernel(K, f0, problem.agents, tolerance=middle * 0.99)
    F = low.features.reshape(-1, 6)
    assert np.linalg.norm(K - F @ F.T, 2) == pytest.approx(values[6] ** 2)


def test_nothing_moves_without_a_kernel(rule):
    agents = agent_data()
    lin = from_kernel(np.zeros((12, 12)), np.ones((12, 1)), agents)
    assert lin.rank == 0
    losses = predict(rule(CYCLE), lin, step_size=1.0).at([0, 5]).losses
    assert_close(losses, np.tile(((1 - agents.y) ** 2).sum((1, 2)) / 6, (2, 1)))


DATA = agent_data()
X = DATA.pooled()[0]
K = infinite_width(X)
F0 = np.zeros((len(X), 1))
KERNEL = from_kernel(K, F0, DATA)
FLOW = predict(DGD(CYCLE), KERNEL, step_size=0.1).at([0.0, 1.0])
INDEFINITE = K - 2 * np.linalg.eigvalsh(K)[-1] * np.ones((12, 12)) / 12
MODEL = PROBLEMS["affine"]


@rejects([
    (lambda: FLOW.params, "parameters need a model, and this expansion was made from a kernel alone"),
    (lambda: FLOW.outputs(X), "outputs on other inputs need a model, and this expansion was made from a kernel alone"),
    (lambda: FLOW.evaluate(X, F0), "outputs on other inputs need a model"),
    (lambda: KERNEL.expand(X), "outputs on other inputs need a model"),
    (lambda: KERNEL.displacement(np.zeros(KERNEL.rank)), "parameters need a model"),
    (lambda: KERNEL.null_directions, "parameters need a model"),
    (lambda: from_kernel(K + np.eye(12, k=1), F0, DATA), "kernel must be symmetric, got entries that differ by 1"),
    (lambda: from_kernel(INDEFINITE, F0, DATA), "kernel must be positive semidefinite, got the eigenvalue -"),
    (lambda: from_kernel(-K, F0, DATA), "kernel must be positive semidefinite, got the eigenvalue -"),
    (lambda: from_kernel(K[:11, :11], F0, DATA), r"kernel must have shape \(12, 12\), got \(11, 11\)"),
    (lambda: from_kernel(K[0], F0, DATA), r"kernel must have shape \(n, m\), got \(12,\)"),
    (lambda: from_kernel(with_entry(K, NAN), F0, DATA), "kernel must be finite, got 1 NaN"),
    (lambda: from_kernel(K, F0[:, 0], DATA), r"outputs0 must have shape \(12, 1\), got \(12,\)"),
    (lambda: from_kernel(K, F0[:11], DATA), r"outputs0 must have shape \(12, 1\), got \(11, 1\)"),
    (lambda: from_kernel(K, with_entry(F0, INF), DATA), "outputs0 must be finite"),
    (lambda: from_kernel(K, F0, (DATA.x, DATA.y)), "agents must be of type AgentData, got tuple"),
    (lambda: from_kernel(K, F0, DATA, tolerance=0.0), "tolerance must be positive, got 0.0"),
    (lambda: from_kernel(K, F0, DATA, tolerance=1.0), "tolerance must be below 1, or nothing is left, got 1.0"),
    (lambda: from_kernel(np.eye(12), np.zeros((12, 2)), DATA), r"outputs0 must have shape \(12, 1\), got \(12, 2\)"),
    (lambda: KERNEL.expand_kernel(K[:, :5], F0), r"kernel must have shape \(12, 12\), got \(12, 5\)"),
    (lambda: KERNEL.expand_kernel(K, F0[:, 0]), r"outputs0 must have shape \(n, 1\), got \(12,\)"),
    (lambda: KERNEL.expand_kernel(with_entry(K, NAN), F0), "kernel must be finite"),
    (lambda: linearize(MODEL.model, MODEL.agents, MODEL.theta0).expand_kernel(K, F0), r"use expand\(x\)"),
])  # fmt: skip
def test_what_is_refused(call, message):
    check(call, message)


def test_asymmetry_and_negative_eigenvalues_of_rounding_are_taken():
    noise = np.random.default_rng(0).normal(size=K.shape) * 1e-12 * np.abs(K).max()
    low = np.outer(X[:, 0], X[:, 0])  # of rank one: half of what noise adds is negative
    assert from_kernel(low + noise, F0, DATA, tolerance=1e-5).rank == 1
