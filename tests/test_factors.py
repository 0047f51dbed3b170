"""F with K = F F^T, from a Jacobian, from products and from a matrix, against numpy's own decompositions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import assert_close
from rejection import check

from peerflow import factors, models


def matrix(n, params, values, seed=0):
    """Return a matrix with these singular values."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.normal(size=(size, len(values))))[0] for size in (n, params))
    return left * values @ right.T


SPECTRA = {
    "geometric": 10.0 ** -np.arange(0, 12, 0.2),
    "a cliff": np.concatenate([np.full(20, 3.0), np.full(30, 1e-12)]),
    "flat": np.ones(50),
    "a long tail": 1 / np.arange(1, 61) ** 3.0,
    "one": np.array([5.0]),
}


@pytest.mark.parametrize("values", SPECTRA.values(), ids=SPECTRA)
@pytest.mark.parametrize("shape", [(70, 300), (900, 80)])
@pytest.mark.parametrize("relative", [1.5e-2, 1.5e-6, 1.5e-10])
def test_a_jacobian_is_kept_to_its_tolerance(values, shape, relative):
    J = matrix(*shape, values)
    found, V, F = factors.from_jacobian(J, relative)
    assert_close(V.T @ V, np.eye(len(found)))
    assert_close(F, J @ V)
    assert np.linalg.norm(J - F @ V.T, 2) <= 2 * relative * values[0] + 1e-12
    assert len(found) == (values > relative * values[0]).sum()
    np.testing.assert_allclose(found, values[: len(found)], rtol=0, atol=relative * values[0])


@pytest.mark.parametrize("values", SPECTRA.values(), ids=SPECTRA)
@pytest.mark.parametrize("relative", [1.5e-1, 1.5e-3, 1.5e-6])
def test_products_with_the_kernel_find_as_much(values, relative):
    J = matrix(150, 400, values)
    found, D, F = factors.from_products(lambda columns: J @ (J.T @ columns), 150, relative)
    V = J.T @ D
    assert_close(V.T @ V, np.eye(len(found)), tolerance=1e-5)
    assert_close(F, J @ V, tolerance=1e-8)
    missed = J @ J.T - F @ F.T
    assert np.linalg.norm(missed, 2) <= 2 * relative**2 * values[0] ** 2 + 1e-12
    assert np.linalg.eigvalsh(missed)[0] > -1e-12 * values[0] ** 2


@pytest.mark.parametrize("chunk", [1, 60, 10_000])
def test_a_streamed_jacobian_multiplies_as_the_whole_one(monkeypatch, rng, chunk):
    """A sample after the other, a few at once, or all."""
    monkeypatch.setattr(factors, "_CHUNK", chunk)
    model, x, used = models.mlp(inputs=2, widths=(4,), outputs=2), rng.normal(size=(7, 2)), []
    theta0 = model.init(0)
    streamed = factors.Streamed(model, theta0, x, 2, used.append)
    J = jax.jacobian(model.apply)(jnp.asarray(theta0), jnp.asarray(x)).reshape(14, model.size)
    right, left = rng.normal(size=(model.size, 3)), rng.normal(size=(14, 3))
    assert_close(streamed @ right, J @ right)
    assert_close(streamed.T @ left, J.T @ left)
    assert sum(used) == 2 * len(x)


def test_an_absolute_tolerance_is_not_relative():
    values = 100 / 2.0 ** np.arange(30)
    J = matrix(80, 200, values)
    from_J, from_K = factors.from_jacobian(J, 1e-10, 0.5), factors.from_products(lambda c: J @ (J.T @ c), 80, 1e-7, 0.5)
    assert len(from_J[0]) == len(from_K[0]) == (values > 0.5).sum()


def test_results_do_not_depend_on_the_draw(monkeypatch):
    J = matrix(500, 300, SPECTRA["geometric"])
    kernels = []
    for seed in range(3):
        with monkeypatch.context() as patch:
            generator = np.random.default_rng(seed)
            patch.setattr(np.random, "default_rng", lambda _, generator=generator: generator)
            kernels += [F @ F.T for *_, F in (factors.from_jacobian(J, 1e-9),)]
    for other in kernels[1:]:
        assert_close(other, kernels[0], tolerance=1e-12)


def test_a_kernel_at_hand_is_decomposed():
    J = matrix(60, 90, SPECTRA["a long tail"])
    found, D, F = factors.from_matrix(J @ J.T, 1e-6)
    assert_close(F @ F.T, J @ J.T)
    assert_close(J @ J.T @ D, F, tolerance=1e-9)
    assert_close(found, np.linalg.svd(J)[1][: len(found)], tolerance=1e-9)


def test_nothing_that_moves_gives_no_directions():
    found, D, F = factors.from_products(np.zeros_like, 7, 1e-7)
    assert (found.shape, D.shape, F.shape) == ((0,), (7, 0), (7, 0))
    assert factors.from_jacobian(np.zeros((4, 5)), 1e-10)[2].shape == (4, 0)


def test_a_kernel_that_is_none_is_refused():
    check(lambda: factors.from_matrix(np.array([[1.0, 2.0], [0.0, 1.0]]), 1e-7), "symmetric")
    check(lambda: factors.from_matrix(np.array([[1.0, 2.0], [2.0, 1.0]]), 1e-7), "positive semidefinite")


def test_products_of_jacobians_are_those_of_the_matrices(rng):
    model, theta = models.wrap(
        lambda p, x: jnp.tanh(x.reshape(len(x), -1) @ p["a"]) @ p["b"],
        {"a": jnp.asarray(rng.normal(size=(4, 6))), "b": jnp.asarray(rng.normal(size=(6, 2)))},
    )
    x, x2 = rng.normal(size=(5, 2, 2)), rng.normal(size=(3, 2, 2))
    J, J2 = (np.asarray(model.jacobian(theta, each)).reshape(-1, model.size) for each in (x, x2))
    columns, rows = rng.normal(size=(6, 4)), rng.normal(size=(2, 3, 10))
    assert_close(factors.cross_products(model, theta, x, x2, columns), J @ J2.T @ columns)
    assert_close(factors.pulled_back(model, theta, x, rows), rows @ J)
