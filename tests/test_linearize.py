"""The expansion against Jacobians by complex steps, and the basis against what a basis must be."""

import numpy as np
import pytest
from problems import AGENTS, SAMPLES, affine, agent_data, assert_close, network

from peerflow import models
from peerflow.data import AgentData
from peerflow.factors import from_jacobian
from peerflow.flows import predict
from peerflow.linearize import linearize
from peerflow.methods import DGD


@pytest.fixture(scope="module")
def lin(problem):
    return linearize(problem.model, problem.agents, problem.theta0)


def test_features_in_the_basis_are_the_jacobian(problem, lin):
    for q in range(AGENTS):
        f0, J = problem.linear(problem.agents.x[q])
        assert_close(lin.outputs0[q], f0.reshape(-1))
        assert_close(lin.residuals0[q], (f0 - problem.agents.y[q]).reshape(-1))
        assert_close(lin.features[q] @ lin.basis.T, J)


def test_basis_is_orthonormal_and_as_small_as_the_rank(problem, lin):
    J = np.vstack([problem.linear(x)[1] for x in problem.agents.x])
    assert lin.rank == np.linalg.matrix_rank(J, rtol=1e-10) <= min(AGENTS * SAMPLES * problem.model.outputs, J.shape[1])
    assert lin.basis.shape == (problem.model.size, lin.rank)
    assert_close(lin.basis.T @ lin.basis, np.eye(lin.rank))
    assert_close(lin.singular_values, np.linalg.svd(J, compute_uv=False)[: lin.rank])
    assert (np.diff(lin.singular_values) <= 0).all()


def test_squared_singular_values_are_the_kernels_eigenvalues(problem, lin):
    J = np.vstack([problem.linear(x)[1] for x in problem.agents.x])
    eigenvalues = np.linalg.eigvalsh(J @ J.T)[::-1][: lin.rank]
    assert_close(lin.singular_values**2, eigenvalues)


def test_expansion_on_other_inputs(problem, lin, rng):
    """Only the part of the Jacobian along directions in which parameters can move is kept."""
    x = rng.normal(size=(5, 2))
    f0, J = problem.linear(x)
    outputs, jacobian = lin.expand(x)
    assert_close(outputs, f0)
    assert_close(jacobian, (J @ lin.basis).reshape(5, problem.model.outputs, lin.rank))


@pytest.mark.parametrize("activation", models.ACTIVATIONS)
def test_every_activation_has_its_derivative(activation, rng):
    model = models.mlp(inputs=2, widths=(4,), outputs=1, activation=activation)
    agents, theta0 = agent_data(), rng.normal(size=model.size)
    lin, h = linearize(model, agents, theta0), 1e-3
    direction = lin.basis @ rng.normal(size=lin.rank)
    x = agents.x[1]
    f = {j: np.asarray(model.apply(theta0 + j * h * direction, x)) for j in (-2, -1, 1, 2)}
    slope = (f[-2] - 8 * f[-1] + 8 * f[1] - f[2]) / (12 * h)
    # Five points are good to h^4 = 1e-12 times a fifth derivative of some hundreds.
    assert_close(slope.ravel(), lin.features[1] @ (lin.basis.T @ direction), tolerance=1e-8)


def test_equal_samples_add_no_rank():
    problem = affine()
    one = problem.agents.x[:1, :1]
    agents = AgentData(np.tile(one, (AGENTS, SAMPLES, 1)), problem.agents.y)
    lin = linearize(problem.model, agents, problem.theta0)
    assert lin.rank == 1
    assert_close(lin.singular_values, [np.sqrt(AGENTS * SAMPLES * (1 + (one**2).sum()))])


def test_tolerance_drops_small_singular_values():
    problem = network(widths=(16,))
    full = linearize(problem.model, problem.agents, problem.theta0)
    middle = full.singular_values[5] / full.singular_values[0]
    assert linearize(problem.model, problem.agents, problem.theta0, tolerance=middle * 1.01).rank == 5
    assert linearize(problem.model, problem.agents, problem.theta0, tolerance=middle * 0.99).rank == 6


def test_dropped_directions_hardly_matter():
    """What the docstring promises: at most about k * step_size * tolerance times the fastest direction's scale."""
    problem, tolerance, k = network(widths=(16,)), 1e-3, 50
    step_size = problem.step_size(0.5)
    full, part = (
        predict(DGD(np.eye(AGENTS)), linearize(problem.model, problem.agents, problem.theta0, tolerance=t),
                step_size=step_size).after(k).params
        for t in (1e-12, tolerance)
    )  # fmt: skip
    lin = linearize(problem.model, problem.agents, problem.theta0)
    scale = lin.singular_values[0] * np.linalg.norm(lin.residuals0) / SAMPLES
    assert 0 < np.linalg.norm(full - part) <= k * step_size * tolerance * scale


def test_a_float32_start_is_expanded_in_float64(rng):
    problem = network()
    start = problem.theta0.astype(np.float32)
    lin = linearize(problem.model, problem.agents, start)
    assert lin.features.dtype == lin.theta0.dtype == np.float64
    assert_close(lin.features, linearize(problem.model, problem.agents, start.astype(float)).features, tolerance=0)


def matrix_with(singular_values, rows, columns, seed=0):
    rng, rank = np.random.default_rng(seed), len(singular_values)
    left, right = (np.linalg.qr(rng.normal(size=(n, rank)))[0] for n in (rows, columns))
    return left * singular_values @ right.T


DECAYS = {
    "geometric": 10.0 ** -np.linspace(0, 18, 150),
    "algebraic": 1.0 / np.arange(1, 151) ** 4,
    "flat": np.ones(150),
    "a gap": np.where(np.arange(150) < 70, 1.0, 1e-7),
    "a step": np.where(np.arange(150) < 90, 1.0, 4e-6),
    "a long step": np.where(np.arange(150) < 20, 1.0, 2.2e-6),
    "rank one": np.eye(1, 150)[0],
}


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6, 1e-10, 1e-13])
@pytest.mark.parametrize("shape", [(400, 300), (300, 400), (150, 1000), (1000, 150)])
@pytest.mark.parametrize("decay", DECAYS)
def test_the_range_is_found_in_several_blocks(decay, shape, tolerance):
    """Against the full decomposition: as many directions, and a residual within what the docstring states."""
    given = 3.0 * DECAYS[decay]
    J = matrix_with(given, *shape)
    s, V, F = from_jacobian(J, tolerance)
    assert np.linalg.norm(J - F @ V.T, 2) <= (2 * tolerance + 1e-14) * given[0]
    assert_close(V.T @ V, np.eye(len(s)), tolerance=1e-13)
    assert_close(s, given[: len(s)], tolerance=tolerance + 1e-13)
    clearly, hardly = (given > 2 * tolerance * given[0]).sum(), (given > tolerance * given[0] / 2).sum()
    assert clearly <= len(s) <= hardly


@pytest.mark.parametrize("decay", ["geometric", "rank one"])
def test_what_is_below_rounding_ends_the_search(decay):
    given = DECAYS[decay]
    J = matrix_with(given, 400, 300)
    s, V, F = from_jacobian(J, 1e-16)
    assert np.linalg.norm(J - F @ V.T, 2) < 1e-14
    assert len(s) < 150


def test_results_do_not_depend_on_the_draw(monkeypatch):
    J, draw = matrix_with(DECAYS["geometric"], 400, 300), np.random.default_rng
    kernels = []
    for seed in range(8):
        monkeypatch.setattr(np.random, "default_rng", lambda _, seed=seed: draw(seed))
        _, _, F = from_jacobian(J, 1e-10)
        kernels.append(F @ F.T)
    assert 0 < max(np.abs(K - kernels[0]).max() for K in kernels[1:]) < 1e-12


def test_no_gradient_no_direction():
    s, V, F = from_jacobian(np.zeros((40, 50)), 1e-10)
    assert (s.shape, V.shape, F.shape) == ((0,), (50, 0), (40, 0))
