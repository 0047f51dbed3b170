"""The sigmoid against scipy's, and Jacobians layer by layer against those of the map itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from problems import assert_close

from peerflow import kernels, models
from peerflow.networks import ACTIVATIONS, sigmoid


def test_the_sigmoid_is_scipys_to_a_few_roundings(rng):
    x = np.concatenate([np.linspace(-707.9, 707.9, 20001), rng.normal(size=20000), 1e-9 * rng.normal(size=100), [0.0]])
    np.testing.assert_allclose(jax.jit(sigmoid)(x), scipy.special.expit(x), rtol=1e-15, atol=0)


def test_a_network_of_constants_is_itself(rng):
    """Then all of it is computed while compiling, by other code than that which runs."""
    model = models.mlp(inputs=7, widths=(64,), outputs=1)
    theta, x = model.init(0), jnp.asarray(10 * rng.normal(size=(6, 7)))
    assert_close(jax.jit(lambda: model.forward(theta, x))(), model.apply(theta, x), tolerance=1e-14)


def test_the_sigmoid_ends_at_zero_and_one():
    x = jnp.asarray([-np.inf, -1e300, -709.0, 709.0, 1e300, np.inf])
    assert_close(sigmoid(x), [0, 0, 0, 1, 1, 1], tolerance=1e-300)
    assert_close(1 + jax.vmap(jax.grad(sigmoid))(x), np.ones(6), tolerance=0)


def test_the_sigmoid_of_nan_is_nan():
    assert np.isnan(sigmoid(jnp.asarray([np.nan, 0.0]))).tolist() == [True, False]
    assert np.isnan(jax.grad(sigmoid)(jnp.asarray(np.nan)))


def test_derivatives_of_the_sigmoid_go_forward_backward_and_on(rng):
    x = jnp.asarray(3 * rng.normal(size=50))
    s = scipy.special.expit(np.asarray(x))
    first, second, third = s * (1 - s), s * (1 - s) * (1 - 2 * s), s * (1 - s) * (1 - 6 * s + 6 * s**2)
    for one in (jax.grad, jax.jacfwd):
        assert_close(jax.vmap(one(sigmoid))(x), first, tolerance=1e-15)
        for other in (jax.grad, jax.jacfwd):
            assert_close(jax.vmap(other(one(sigmoid)))(x), second, tolerance=1e-14)
            assert_close(jax.vmap(jax.grad(other(one(sigmoid))))(x), third, tolerance=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_lower_precision_is_jaxs_own(dtype, rng):
    x = jnp.asarray(rng.normal(size=50).astype(dtype))
    assert sigmoid(x).dtype == jax.grad(lambda x: sigmoid(x).sum())(x).dtype == dtype
    np.testing.assert_array_equal(sigmoid(x), jax.nn.sigmoid(x))


SCALES = {"w_std": 1.7, "b_std": 0.3}


def build(kind, activation, rng):
    if kind == "affine":
        return models.affine(inputs=5, outputs=3), 5
    # Layers of few inputs and of many, to more outputs, as many and fewer.
    inputs, widths = {"few": (2, (7,)), "many": (6, (9, 9, 4))}[kind.split()[0]]
    shape = {"inputs": inputs, "widths": widths, "outputs": 3, "activation": activation, **SCALES}
    model = models.mlp(**shape)
    return (models.last_layer(rng.normal(size=model.size), **shape) if "last" in kind else model), inputs


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["few", "many", "few last", "many last", "affine"])
def test_layers_are_the_jacobian_and_their_products_the_kernel(kind, activation, rng):
    model, inputs = build(kind, activation, rng)
    theta, x = jnp.asarray(rng.normal(size=model.size)), jnp.asarray(rng.normal(size=(4, inputs)))
    blocks = []
    for a, g in model.forward.layers(theta, x):
        weights = np.asarray(g)[..., None] * np.asarray(a)[:, None, None, :-1]
        blocks += [weights.reshape(4, 3, -1), np.asarray(g) * np.asarray(a)[:, None, -1:]]
    J = np.asarray(model.jacobian(theta, x))
    assert_close(np.concatenate(blocks, axis=2), J, tolerance=1e-13)
    flat = J.reshape(12, -1)
    assert_close(kernels.empirical(model, theta, x), flat @ flat.T, tolerance=1e-13)
