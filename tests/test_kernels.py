"""Kernels against literal integrals, sums over Monte Carlo networks, and neural-tangents' own functions."""

import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from optional import needs_neural_tangents
from problems import assert_close
from rejection import check

from peerflow import data, kernels, models
from peerflow.linearize import linearize

SMOOTH = {
    "sigmoid": (scipy.special.expit, lambda t: scipy.special.expit(t) * scipy.special.expit(-t)),
    "tanh": (np.tanh, lambda t: 1 - np.tanh(t) ** 2),
    "erf": (scipy.special.erf, lambda t: 2 / np.sqrt(np.pi) * np.exp(-(t**2))),
}


@pytest.fixture
def x():
    return data.half_moons(agents=2, samples=6, seed=1).pooled()[0]


def literal(x, name, *, hidden=1, w_std=1.0, b_std=0.1, points=151):
    """The recursion of the infinite-width kernel, one pair and one expectation at a time."""
    fn, derivative = SMOOTH[name]
    node, weight = scipy.special.roots_hermitenorm(points)
    weight = weight / weight.sum()
    cov = w_std**2 * (x @ x.T) / x.shape[1] + b_std**2
    kernel = cov
    for _ in range(hidden):
        values, slopes = np.empty_like(cov), np.empty_like(cov)
        for i, j in np.ndindex(cov.shape):
            # A symmetric factor of the pair's covariance: not the triangular one of the library.
            eigenvalues, vectors = np.linalg.eigh(cov[np.ix_([i, j], [i, j])])
            root = vectors * np.sqrt(np.maximum(eigenvalues, 0))
            u, v = np.tensordot(root, np.stack(np.meshgrid(node, node, indexing="ij")), 1)
            values[i, j] = weight @ (fn(u) * fn(v)) @ weight
            slopes[i, j] = weight @ (derivative(u) * derivative(v)) @ weight
        cov = w_std**2 * values + b_std**2
        kernel = cov + w_std**2 * kernel * slopes
    return kernel


@needs_neural_tangents
def test_empirical_is_neural_tangents_own(x):
    model = models.mlp(inputs=2, widths=(5, 4), outputs=3, activation="tanh")
    theta, x = model.init(0), x[:4]
    own = jax.jit(kernels.nt.empirical_ntk_fn(lambda theta, x: model.forward(theta, x), trace_axes=()))
    # (n, n2, M, M) there; samples and then outputs here.
    expected = np.asarray(own(jnp.asarray(x), jnp.asarray(x[:3]), theta)).transpose(0, 2, 1, 3)
    have = kernels.empirical(model, theta, x, x[:3])
    assert have.shape == (12, 9)
    np.testing.assert_allclose(have, expected.reshape(12, 9), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(kernels.empirical(model, theta, x)[:, :9], have, rtol=1e-12, atol=1e-14)


def test_empirical_is_the_linearization_s_kernel():
    agents = data.half_moons(agents=3, samples=4, seed=0)
    model = models.mlp(inputs=2, widths=(30,), outputs=1)
    lin = linearize(model, agents, model.init(0))
    features = lin.features.reshape(12, lin.rank)
    have = kernels.empirical(model, model.init(0), agents.pooled()[0])
    np.testing.assert_allclose(have, features @ features.T, rtol=0, atol=1e-12)


def test_empirical_of_an_affine_model_is_the_inner_product(x):
    model = models.affine(inputs=2, outputs=1)
    np.testing.assert_allclose(kernels.empirical(model, model.init(0), x), x @ x.T + 1, rtol=1e-13)


@pytest.mark.parametrize("activation", SMOOTH)
def test_infinite_width_is_the_literal_recursion(x, activation):
    x, settings = x[:3] / 2, {"hidden": 2, "w_std": 1.2, "b_std": 0.3}
    have = kernels.infinite_width(x, activation=activation, **settings)
    np.testing.assert_allclose(have, literal(x, activation, **settings), rtol=1e-6)


def test_infinite_width_of_relu_is_the_arc_cosine_kernel(x):
    w, b = 1.5, 0.2
    cov = w**2 * x @ x.T / 2 + b**2
    norm = np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
    angle = np.arccos(np.clip(cov / norm, -1, 1))
    values = norm * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    expected = w**2 * values + b**2 + w**2 * cov * (np.pi - angle) / (2 * np.pi)
    # The clipped cosine costs half the digits on the diagonal.
    np.testing.assert_allclose(kernels.infinite_width(x, activation="relu", w_std=w, b_std=b), expected, rtol=1e-7)


@needs_neural_tangents
def test_the_quadrature_agrees_with_neural_tangents_own(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # stax warns of every use
        sigmoid = kernels.nt.stax.ElementwiseNumerical(jax.nn.sigmoid, deg=60)
    dense = kernels.nt.stax.Dense(1, W_std=1.0, b_std=0.1)
    own = kernels.nt.stax.serial(dense, sigmoid, dense)[2](jnp.asarray(x), None, "ntk")
    np.testing.assert_allclose(kernels.infinite_width(x), own, rtol=1e-7)


@needs_neural_tangents
def test_stax_s_sigmoid_like_is_another_kernel(x):
    dense = kernels.nt.stax.Dense(1, W_std=1.0, b_std=0.1)
    like = kernels.nt.stax.serial(dense, kernels.nt.stax.Sigmoid_like(), dense)[2](jnp.asarray(x), None, "ntk")
    kernel = kernels.infinite_width(x)
    assert 0.005 < np.linalg.norm(like - kernel) / np.linalg.norm(kernel) < 0.02


def test_large_inputs_get_a_finer_quadrature(x):
    x = 8 * x[:3]
    # Hermite points are too far apart here (that is why the library does not use them): integrate by brute force.
    g = np.linspace(-9, 9, 2001)
    weight = np.exp(-(g**2) / 2) / np.exp(-(g**2) / 2).sum()
    cov = x @ x.T / 2 + 0.01
    fn, derivative = SMOOTH["sigmoid"]
    for i in range(3):
        u = np.sqrt(cov[i, i]) * g
        expected = weight @ fn(u) ** 2 + 0.01 + cov[i, i] * (weight @ derivative(u) ** 2)
        assert kernels.infinite_width(x)[i, i] == pytest.approx(expected, rel=1e-6)


def test_the_error_falls_like_one_over_the_square_root_of_the_width(x):
    widths, seeds = (64, 256, 1024, 4096), 48
    limit, errors = kernels.infinite_width(x), []
    for width in widths:
        model = models.mlp(inputs=2, widths=(width,), outputs=1)
        sampled = np.stack([kernels.empirical(model, model.init(seed), x) for seed in range(seeds)])
        errors.append(np.sqrt(((sampled - limit) ** 2).mean()) / np.sqrt((limit**2).mean()))
    # With one hidden layer the limit is the mean at every width: 48 seeds leave a seventh of the last error.
    assert np.abs(sampled.mean(0) / limit - 1).max() < errors[-1]
    slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    assert -0.58 < slope < -0.42


def test_each_output_of_a_wide_network_has_the_limit_for_its_kernel(x):
    model = models.mlp(inputs=2, widths=(20000,), outputs=2)
    kernel = kernels.empirical(model, model.init(0), x[:3])
    expected = np.kron(kernels.infinite_width(x[:3]), np.eye(2))
    np.testing.assert_allclose(kernel, expected, rtol=0, atol=0.02 * expected.max())


@pytest.mark.parametrize("activation", models.ACTIVATIONS)
def test_a_pair_s_entry_depends_on_no_other_input(activation, x):
    settings = {"activation": activation, "hidden": 2}
    whole = kernels.infinite_width(x, **settings)
    np.testing.assert_array_equal(whole, whole.T)
    # How many terms are summed depends on the largest input, and the closed forms lose half their digits at x = x'.
    np.testing.assert_allclose(kernels.infinite_width(x, x[:5], **settings), whole[:, :5], rtol=1e-7)
    np.testing.assert_allclose(kernels.infinite_width(x[:2], x[4:5], **settings), whole[:2, 4:5], rtol=1e-7)


def brute_force(std, std2, correlation, points=1201):
    """The two expectations for the sigmoid, by a fine grid over both variables."""
    g = np.linspace(-9, 9, points)
    weight = np.exp(-(g**2) / 2) / np.exp(-(g**2) / 2).sum()
    u = std * g[:, None]
    v = std2 * (correlation * g[:, None] + np.sqrt(1 - correlation**2) * g[None, :])
    fn, derivative = SMOOTH["sigmoid"]
    return weight @ (fn(u) * fn(v)) @ weight, weight @ (derivative(u) * derivative(v)) @ weight


@pytest.mark.parametrize("sizes", [(30.0, 30.0), (0.01, 40.0), (5.0, 20.0)])
@pytest.mark.parametrize("correlation", [-0.999, 0.0, 0.7, 1.0])
def test_hard_pairs_against_brute_force(sizes, correlation):
    (a, b), turn = sizes, np.sqrt(1 - correlation**2)
    x = np.sqrt(2) * np.array([[a, 0.0], [b * correlation, b * turn]])
    values, slopes = brute_force(a, b, correlation)
    expected = values + a * b * correlation * slopes
    have = kernels.infinite_width(x, b_std=0.0)[0, 1]
    assert have == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_large_inputs_and_many_layers_take_seconds():
    x = data.half_moons(agents=2, samples=100, seed=1).pooled()[0]
    for inputs, settings in ((20 * x, {}), (x, {"hidden": 20}), (x, {"hidden": 20, "activation": "tanh"})):
        start = time.process_time()
        kernels.infinite_width(inputs, **settings)
        assert time.process_time() - start < 5


@needs_neural_tangents
@pytest.mark.parametrize("activation", models.ACTIVATIONS)
def test_a_deep_limit_is_that_of_neural_tangents(activation, x):
    # Larger variances are beyond its Hermite points: its own kernel is then not even symmetric.
    stax, inputs = kernels.nt.stax, jnp.asarray(x[:4])
    dense = stax.Dense(1, W_std=0.9, b_std=0.3, parameterization="ntk")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # stax warns of every use
        numerical = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh}
        own = {"relu": stax.Relu, "erf": stax.Erf}
        layer = own[activation]() if activation in own else stax.ElementwiseNumerical(numerical[activation], deg=100)
    theirs = stax.serial(*[dense, layer] * 4, dense)[2](inputs, None, "ntk")
    have = kernels.infinite_width(x[:4], activation=activation, hidden=4, w_std=0.9, b_std=0.3)
    np.testing.assert_allclose(have, theirs, rtol=1e-6)


def test_zero_input_without_a_bias_is_no_special_case():
    kernel = kernels.infinite_width([[0.0, 0.0], [1.0, 0.5]], b_std=0)
    assert kernel[0, 0] == pytest.approx(0.25)  # sigmoid(0)^2, and nothing else moves the output


def test_single_precision_and_integers_become_double(x):
    model = models.mlp(inputs=2, widths=(8,), outputs=1)
    theta = model.init(0).astype(jnp.float32)
    assert kernels.empirical(model, theta, [[0, 1], [1, 0]]).dtype == np.float64
    assert kernels.infinite_width(np.float32([[0, 1], [1, 0]])).dtype == np.float64


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: kernels.infinite_width([[1.0, np.nan]]), "x must be finite"),
        (lambda: kernels.infinite_width([1.0, 2.0]), "x must have shape"),
        (lambda: kernels.infinite_width([[1.0, 2.0]], [[1.0]]), "x2 must have shape"),
        (lambda: kernels.infinite_width([[1.0]], activation="swish"), "activation must be one of"),
        (lambda: kernels.infinite_width([[1.0]], hidden=0), "hidden must be at least 1"),
        (lambda: kernels.infinite_width([[1.0]], w_std=0), "w_std must be positive"),
        (lambda: kernels.infinite_width([[1.0]], b_std=-1), "b_std must not be negative"),
        (lambda: kernels.infinite_width([[-1e5]]), "the quadrature does not converge for inputs of norm 1e\\+05"),
        (lambda: kernels.infinite_width([[1.0]], w_std=300.0, hidden=2), "the quadrature does not converge"),
        (lambda: kernels.empirical("mlp", [1.0], [[1.0]]), "model must be of type Model"),
        (lambda: kernels.empirical(models.affine(inputs=1, outputs=1), [1.0], [[1.0]]), "theta must have shape"),
        (lambda: kernels.empirical(models.affine(inputs=1, outputs=1), [1.0, 0], [[1.0, 2]]), "x must have shape"),
    ],
)
def test_bad_input(call, match):
    check(call, match)


def test_empirical_takes_inputs_of_any_shape(rng):
    """A wrapped model has no fixed number of inputs; on images the kernel is that of the flattened ones."""
    images, weights = rng.normal(size=(5, 8, 8)), rng.normal(size=(64, 3))
    model, theta = models.wrap(lambda p, x: jnp.tanh(x.reshape(len(x), -1) @ p), weights)
    have = kernels.empirical(model, theta, images, images[:2])
    slopes = 1 - np.tanh(images.reshape(5, 64) @ weights) ** 2
    blocks = [[np.diag(slopes[i] * slopes[j]) * np.vdot(images[i], images[j]) for j in range(2)] for i in range(5)]
    np.testing.assert_allclose(have, np.block(blocks), rtol=0, atol=1e-12 * np.abs(have).max())
    with pytest.raises(ValueError, match=r"x2 must have shape \(n2, 8, 8\), got \(5, 64\)"):
        kernels.empirical(model, theta, images, images.reshape(5, 64))
    with pytest.raises(ValueError, match=r"the model does not take inputs of shape \(5, 4\)"):
        kernels.empirical(model, theta, images.reshape(5, 64)[:, :4])


@pytest.mark.parametrize("piece", [1, 3 * 2 * 40, 10**6])
def test_the_kernel_of_any_function_is_found_piece_by_piece(monkeypatch, piece, rng):
    model, theta0 = models.wrap(
        lambda p, x: jnp.tanh(x @ p["w"]) @ p["v"], {"w": rng.normal(size=(3, 8)), "v": rng.normal(size=(8, 2))}
    )
    x, x2 = rng.normal(size=(7, 3)), rng.normal(size=(4, 3))
    J, J2 = (np.asarray(model.jacobian(theta0, each)).reshape(-1, model.size) for each in (x, x2))
    monkeypatch.setattr(kernels, "_PIECE", piece)
    assert_close(kernels.empirical(model, theta0, x), J @ J.T, tolerance=1e-14)
    assert_close(kernels.empirical(model, theta0, x, x2), J @ J2.T, tolerance=1e-14)
