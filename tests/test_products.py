"""The expansion by products with the kernel alone, against the one from the Jacobian and against complex steps."""

from contextlib import nullcontext
from importlib import import_module

import jax.numpy as jnp
import numpy as np
import pytest
from problems import AGENTS, CYCLE, RING, affine, agent_data, assert_close, network, unequal_data

from peerflow import data, factors, kernels, models, predict, stability, train
from peerflow.data import AgentData

module = import_module("peerflow.linearize")  # the package gives the function of this name
linearize = module.linearize
TIMES = np.array([0.0, 0.4, 3.0, 40.0])
COUNTS = np.array([0, 1, 9, 40])


@pytest.fixture(params=["products", "held kernel"])
def by_products(monkeypatch, request):
    """Let no Jacobian be held, neither by the library nor by anyone it asks: only its products, or their kernel."""

    def expand(model, agents, theta0, **options):
        size = agents.counts.sum() * agents.outputs
        with monkeypatch.context() as forced:
            forced.setattr(module, "_HELD", 0 if request.param == "products" else min(size**2, size * model.size - 1))
            forced.setattr(module, "_tall", lambda model, rows: False)
            forced.setattr(kernels, "_PIECE", 1)
            if request.param == "products" or hasattr(model.forward, "layers"):
                forced.setattr(models.Model, "jacobian", None)
            return linearize(model, agents, theta0, **options)

    return expand


CASES = {
    "affine": (affine(), agent_data()),
    "mlp": (network(widths=(16,)), agent_data(samples=6)),
    "mlp-2": (network(2, widths=(16, 8)), agent_data(outputs=2, samples=6)),
    "unequal": (network(2, widths=(16,)), unequal_data(outputs=2)),
    # 100 rows: a block is 32 columns.
    "blocks": (network(widths=(40,)), agent_data(samples=25)),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def explicit(problem, agents, tolerance=1e-7):
    return linearize(problem.model, agents, problem.theta0, tolerance=tolerance)


def test_the_kernel_is_that_of_complex_steps(case, by_products):
    problem, agents = case
    lin = by_products(problem.model, agents, problem.theta0)
    f0, J = problem.linear(agents.pooled()[0])
    rows = np.concatenate([F[: count * agents.outputs] for F, count in zip(lin.features, agents.counts, strict=True)])
    assert lin.basis is None and lin.dual.shape == (len(J), lin.rank)
    # Up to the square of the tolerance, 1e-7, times the constant of the estimate.
    assert_close(rows @ rows.T, J @ J.T, tolerance=1e-12)
    assert_close(
        np.concatenate([f[: c * agents.outputs] for f, c in zip(lin.outputs0, agents.counts, strict=True)]), f0.ravel()
    )
    s = np.linalg.svd(J, compute_uv=False)
    assert_close(lin.singular_values, s[: lin.rank], tolerance=1e-8)
    assert (s > 1e-6 * s[0]).sum() <= lin.rank <= (s > 1e-8 * s[0]).sum()


def test_directions_are_orthonormal_and_the_features_theirs(case, by_products):
    problem, agents = case
    lin = by_products(problem.model, agents, problem.theta0, tolerance=1e-4)
    V = lin.displacement(np.eye(lin.rank))
    J = problem.linear(agents.pooled()[0])[1]
    assert V.shape == (lin.rank, problem.model.size)
    # What K knows of a direction is its eigenvalue, at least 1e-8 of the largest.
    assert_close(V @ V.T, np.eye(lin.rank), tolerance=1e-6)
    rows = np.concatenate([F[: count * agents.outputs] for F, count in zip(lin.features, agents.counts, strict=True)])
    assert_close(rows, J @ V.T, tolerance=1e-9)


@pytest.mark.parametrize("W", [CYCLE, RING], ids=["cycle", "ring"])
def test_predictions_are_those_of_the_jacobian(case, by_products, rule, W, rng):
    problem, agents = case
    lin, new = by_products(problem.model, agents, problem.theta0), rng.normal(size=(5, 2))
    step_size = 0.5 * stability.sufficient_limit(rule(W), lin)
    got, expected = (predict(rule(W), each, step_size=step_size) for each in (lin, explicit(problem, agents)))
    for a, b in ((got.at(TIMES), expected.at(TIMES)), (got.after(COUNTS), expected.after(COUNTS))):
        assert_close(a.losses, b.losses, tolerance=1e-10)
        assert_close(a.global_losses, b.global_losses, tolerance=1e-10)
        assert_close(a.params - problem.theta0, b.params - problem.theta0, tolerance=1e-7)
        assert_close(a.outputs(new), b.outputs(new), tolerance=1e-7)


def test_expansion_on_other_inputs(case, by_products, rng):
    problem, agents = case
    lin, new = by_products(problem.model, agents, problem.theta0, tolerance=1e-4), rng.normal(size=(5, 2))
    f0, J = problem.linear(new)
    outputs, features = lin.expand(new)
    assert_close(outputs, f0)
    V = lin.displacement(np.eye(lin.rank))
    assert_close(features, (J @ V.T).reshape(5, agents.outputs, lin.rank), tolerance=1e-9)
    cross = J @ problem.linear(agents.pooled()[0])[1].T
    assert_close(lin.expand_kernel(cross, f0).features, features, tolerance=1e-9)


def test_an_affine_model_trains_as_predicted(by_products, rule):
    problem = affine()
    run = train(rule(CYCLE), problem.model, problem.agents, problem.theta0, step_size=0.2, steps=40)
    lin = by_products(problem.model, problem.agents, problem.theta0)
    got = predict(rule(CYCLE), lin, step_size=0.2).after(np.arange(41))
    assert_close(got.params, run.params, tolerance=1e-10)
    assert_close(got.losses, run.losses, tolerance=1e-10)


def test_null_directions_move_no_output(by_products):
    problem = network(widths=(16,))
    lin = by_products(problem.model, problem.agents, problem.theta0)
    null = lin.null_directions
    assert null.shape == (problem.model.size, problem.model.size - lin.rank)
    J = np.vstack([problem.linear(x)[1] for x in problem.agents.x])
    assert np.abs(J @ null).max() < 1e-6 * np.linalg.norm(J, 2)


def test_batches_of_displacements(by_products, rng):
    problem = network(widths=(16,))
    lin = by_products(problem.model, problem.agents, problem.theta0, tolerance=1e-4)
    z = rng.normal(size=(2, 3, lin.rank))
    V = lin.displacement(np.eye(lin.rank))
    assert_close(lin.displacement(z), z @ V)
    assert_close(lin.displacement(z[0, 0]), z[0, 0] @ V)


@pytest.mark.parametrize("seed", range(8))
def test_a_wide_network_on_half_moons(by_products, seed):
    """Eigenvalues fall far below rounding, and half of the directions are found in the first block."""
    agents = data.half_moons(agents=AGENTS, samples=40, seed=seed)
    model = models.mlp(inputs=2, widths=(64,), outputs=1)
    theta0 = model.init(seed)
    J = np.asarray(model.jacobian(theta0, agents.pooled()[0])).reshape(160, -1)
    for tolerance in (1e-2, 1e-4, 1e-7):
        lin = by_products(model, agents, theta0, tolerance=tolerance)
        F, scale = lin.features.reshape(160, -1), np.linalg.norm(J, 2)
        assert np.linalg.norm(J @ J.T - F @ F.T, 2) <= (2 * tolerance * scale) ** 2 + 1e-13 * scale**2
        s = np.linalg.svd(J, compute_uv=False)
        assert (s > 2 * tolerance * scale).sum() <= lin.rank <= (s > tolerance * scale / 2).sum() < 160


def test_an_accuracy_is_obeyed_here_too(by_products, rule):
    problem = network(widths=(40,))
    agents, options = agent_data(samples=25), {"accuracy": 1e-3, "steps": 50, "step_size": 0.3}
    lin = by_products(problem.model, agents, problem.theta0, **options)
    whole = linearize(problem.model, agents, problem.theta0, tolerance=1e-12)
    assert lin.rank == linearize(problem.model, agents, problem.theta0, **options).rank < whole.rank
    method = rule(CYCLE)
    step_size = min(0.3, stability.sufficient_limit(method, whole) / 2)
    z, exact = (predict(method, each, step_size=step_size).after(np.arange(51)).coefficients for each in (lin, whole))
    some, every = (np.einsum("qnr,tqr->tqn", each.features, zs) for each, zs in ((lin, z), (whole, exact)))
    away = np.sqrt(((some - every) ** 2).sum((1, 2)).mean())
    assert away <= 1e-3 * np.linalg.norm(whole.residuals0)


def test_any_function_and_input(by_products):
    """Images and a dictionary of parameters."""
    rng = np.random.default_rng(0)
    start = {"w": rng.normal(size=(9, 7)) / 3, "v": rng.normal(size=(7, 2))}
    model, theta0 = models.wrap(lambda p, x: jnp.tanh(x.reshape(len(x), -1) @ p["w"]) @ p["v"], start)
    agents = AgentData(rng.normal(size=(AGENTS, 5, 3, 3)), rng.normal(size=(AGENTS, 5, 2)))
    lin = by_products(model, agents, theta0)
    expected = linearize(model, agents, theta0, tolerance=1e-7)
    F, J = (each.features.reshape(40, -1) for each in (lin, expected))
    assert_close(F @ F.T, J @ J.T, tolerance=1e-12)


@pytest.mark.parametrize("chunk", [1, 20, 10_000])
def test_a_jacobian_of_many_samples_is_computed_anew(monkeypatch, chunk, rng):
    """Row by row, in some pieces, or at once; where parameters are fewer than rows."""
    problem, agents = network(2, widths=(4,)), unequal_data(outputs=2, counts=(8, 3, 11, 5))
    expected = linearize(problem.model, agents, problem.theta0)
    seen = []
    monkeypatch.setattr(module, "_HELD", 0)
    monkeypatch.setattr(factors, "_CHUNK", chunk)
    monkeypatch.setattr(module, "bar", lambda *_: nullcontext(seen.append))
    lin = linearize(problem.model, agents, problem.theta0, progress=True)
    assert lin.dual is None and lin.rank == expected.rank and sum(seen) % agents.counts.sum() == 0
    assert_close(lin.singular_values, expected.singular_values)
    assert_close(lin.basis @ lin.basis.T, expected.basis @ expected.basis.T)
    x = rng.normal(size=(3, 2))
    assert_close(lin.features @ lin.expand(x).features[:, 0].T, expected.features @ expected.expand(x).features[:, 0].T)


def test_a_small_jacobian_is_held_and_a_large_one_is_not(monkeypatch):
    problem = network(widths=(16,))
    size = 12 * problem.model.size
    for held, explicit in ((size, True), (size - 1, False)):
        monkeypatch.setattr(module, "_HELD", held)
        lin = linearize(problem.model, problem.agents, problem.theta0)
        assert (lin.basis is not None) == explicit == (lin.dual is None)
