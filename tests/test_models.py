"""Models against (1) and (15) written out, and the statistics of their starts."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import reference
from problems import CYCLE, agent_data, assert_close, frozen, network

from peerflow import models, training
from peerflow.methods import ATC
from peerflow.models import affine, last_layer, mlp
from peerflow.networks import ACTIVATIONS


def test_affine_is_the_model_of_15(rng):
    model = affine(inputs=3, outputs=1)
    w, b, x = rng.normal(size=3), 0.7, rng.normal(size=(5, 3))
    expected = [[w[0] * s[0] + w[1] * s[1] + w[2] * s[2] + b] for s in x]
    assert model.size == 4
    assert_close(model.apply(np.append(w, b), x), expected, tolerance=1e-15)


def test_every_model_is_its_formula(problem, rng):
    x = rng.normal(size=(5, 2))
    theta = rng.normal(size=problem.model.size)
    assert_close(problem.model.apply(theta, x), problem.formula(theta, x), tolerance=1e-14)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("widths", [(1,), (6,), (3, 5, 2)])
def test_mlp_is_equation_1_layer_by_layer(activation, widths, rng):
    model = mlp(inputs=3, widths=widths, outputs=2, activation=activation, w_std=1.7, b_std=0.3)
    theta, x = rng.normal(size=model.size), rng.normal(size=(4, 3))
    sizes = (3, *widths, 2)
    assert model.size == sum(m * (n + 1) for n, m in itertools.pairwise(sizes))
    expected = reference.network(theta, x, sizes=sizes, activation=activation, w_std=1.7, b_std=0.3)
    assert_close(model.apply(theta, x), expected, tolerance=1e-14)


def test_defaults_are_the_papers_network(rng):
    theta, x = rng.normal(size=1025), rng.normal(size=(2, 2))
    expected = reference.network(theta, x, sizes=(2, 256, 1), activation="sigmoid", w_std=1.0, b_std=0.1)
    assert_close(mlp(inputs=2, widths=(256,), outputs=1).apply(theta, x), expected, tolerance=1e-14)


def test_last_layer_given_its_own_head_is_the_whole_network(rng):
    whole, part = network(outputs=2), frozen(outputs=2)
    x = rng.normal(size=(5, 2))
    head = whole.theta0[-part.model.size :]
    assert_close(part.model.apply(head, x), whole.model.apply(whole.theta0, x), tolerance=1e-15)


def test_last_layer_is_linear_in_its_parameters(rng):
    model, x = frozen(outputs=2).model, rng.normal(size=(5, 2))
    a, b = rng.normal(size=(2, model.size))
    assert_close(model.apply(2 * a - 3 * b, x), 2 * model.apply(a, x) - 3 * model.apply(b, x), tolerance=1e-14)


@pytest.mark.parametrize("kind", ["mlp", "last_layer"])
def test_entries_start_as_independent_standard_normals(kind):
    options = {"inputs": 2, "widths": (200, 100), "outputs": 40}
    model = mlp(**options)
    if kind == "last_layer":
        model = last_layer(np.zeros(model.size), **options)
    theta = np.asarray(model.init(3))
    n = len(theta)
    # Four standard errors of the mean, the variance, the kurtosis and the correlation of neighbours.
    assert abs(theta.mean()) < 4 / n**0.5
    assert abs(theta.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((theta**4).mean() - 3) < 4 * (96 / n) ** 0.5
    assert abs((theta[1:] * theta[:-1]).mean()) < 4 / n**0.5


def test_affine_weights_start_with_variance_one_over_inputs_and_biases_at_zero():
    theta = np.asarray(affine(inputs=784, outputs=10).init(0))
    weights, biases = theta[:7840], theta[7840:]
    assert_close(biases, np.zeros(10), tolerance=0)
    assert abs(784 * weights.var() - 1) < 4 * (2 / 7840) ** 0.5
    assert abs(weights.mean()) < 4 / (784 * 7840) ** 0.5


def test_a_seed_decides_the_start(problem):
    first, again, other = (np.asarray(problem.model.init(seed)) for seed in (0, 0, 1))
    assert first.dtype == np.float64
    assert_close(first, again, tolerance=0)
    assert (first[: problem.model.outputs] != other[: problem.model.outputs]).all()


def test_outputs_take_the_dtype_of_the_parameters(problem, rng):
    theta, x = rng.normal(size=problem.model.size), rng.normal(size=(3, 2))
    single = problem.model.apply(theta.astype(np.float32), x)
    assert single.dtype == jnp.float32
    assert_close(single, problem.formula(theta, x), tolerance=1e-5)  # float32 has seven digits
    assert problem.model.apply(theta, x.astype(np.float32)).dtype == jnp.float64


def test_integers_are_numbers():
    model = models.affine(inputs=2, outputs=1)
    assert_close(model.apply([1, 2, 3], [[1, 1], [0, 2]]), [[6.0], [7.0]], tolerance=0)


def test_a_jacobian_is_that_of_finite_differences(problem, rng):
    model, theta, x = problem.model, np.asarray(problem.theta0), problem.agents.x[0]
    J = model.jacobian(theta, x)
    assert J.shape == (len(x), model.outputs, model.size)
    for _ in range(3):
        direction = rng.normal(size=model.size)
        ahead, behind = (model.apply(theta + h * direction, x) for h in (1e-5, -1e-5))
        np.testing.assert_allclose(J @ direction, (ahead - behind) / 2e-5, rtol=0, atol=1e-7)


def test_scales_of_numpy_keep_single_precision():
    arguments = dict(inputs=2, widths=(8,), outputs=1, w_std=np.sqrt(2), b_std=np.float64(0.1))
    whole = models.mlp(**arguments)
    head = models.last_layer(whole.init(0), **arguments)
    assert head.apply(np.zeros(head.size, np.float32), [[0.0, 1.0]]).dtype == np.float32


def test_layers_give_the_jacobian_as_a_product(problem, rng):
    """Of each layer's weights and then biases, as they stand in the flat vector."""
    model, theta, x = problem.model, rng.normal(size=problem.model.size), rng.normal(size=(5, 2))
    parts = []
    for a, g in model.forward.layers(jnp.asarray(theta), jnp.asarray(x)):
        each = np.einsum("imo,ik->imok", g, a)
        parts += [each[..., :-1].reshape(5, model.outputs, -1), each[..., -1]]
    expected = reference.jacobian(lambda theta: problem.formula(theta, x), theta).reshape(5, model.outputs, -1)
    assert_close(np.concatenate(parts, axis=-1), expected)
    assert_close(model.jacobian(theta, x), expected)


SHAPE = {"inputs": 2, "widths": (3, 4), "outputs": 2}
BODY = np.random.default_rng(8).normal(size=mlp(**SHAPE).size)


def moved(at):
    body = BODY.copy()
    body[at] += 1e-15
    return body


# Every model once, and once more as others would write it.
MODELS = {
    "affine": (lambda: affine(inputs=2, outputs=2), lambda: affine(inputs=np.int64(2), outputs=np.uint8(2))),
    "affine of three": (lambda: affine(inputs=3, outputs=2), lambda: affine(outputs=2, inputs=3)),
    "affine to one": (lambda: affine(inputs=2, outputs=1), lambda: affine(inputs=2, outputs=1)),
    "mlp": (lambda: mlp(**SHAPE), lambda: mlp(**SHAPE | {"widths": [np.int32(3), 4]}, activation="sigmoid", w_std=1)),
    "wider": (lambda: mlp(**SHAPE | {"widths": (3, 5)}), lambda: mlp(**SHAPE | {"widths": [3, 5]})),
    "deeper": (lambda: mlp(**SHAPE | {"widths": (3, 4, 4)}), lambda: mlp(**SHAPE | {"widths": [3, 4, 4]})),
    "tanh": (lambda: mlp(**SHAPE, activation="tanh"), lambda: mlp(**SHAPE, activation="tanh", b_std=0.1)),
    "steep": (lambda: mlp(**SHAPE, w_std=2.0), lambda: mlp(**SHAPE, w_std=np.float32(2))),
    "biased": (lambda: mlp(**SHAPE, b_std=0.2), lambda: mlp(**SHAPE, b_std=np.float64(0.2))),
    "head": (lambda: last_layer(BODY, **SHAPE), lambda: last_layer(jnp.array(BODY), **SHAPE)),
    "another head": (lambda: last_layer(moved(0), **SHAPE), lambda: last_layer(list(moved(0)), **SHAPE)),
    "tanh head": (
        lambda: last_layer(BODY, **SHAPE, activation="tanh"),
        lambda: last_layer(BODY.copy(), **SHAPE, activation="tanh"),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_equal_models_are_equal_and_different_ones_are_not(name):
    first, again = (build() for build in MODELS[name])
    assert first == again and hash(first) == hash(again) and first is not again
    for other in MODELS:
        if other != name:
            assert first != MODELS[other][0]() and MODELS[other][1]() != again
    assert len({build() for builds in MODELS.values() for build in builds}) == len(MODELS)


def test_equal_models_compile_once_and_different_ones_again():
    models._apply.clear_cache()
    for compiled, builds in enumerate(MODELS.values(), start=1):
        first, again = (build() for build in builds)
        for model in (first, again, first):
            model.apply(np.zeros(first.size), np.zeros((2, first.inputs)))
            assert models._apply._cache_size() == compiled


def test_training_an_equal_model_compiles_nothing_new():
    agents, widths = agent_data(), (3, 4)
    sizes = []
    for width in (widths, list(widths), (3, 5)):
        model = mlp(inputs=2, widths=width, outputs=1)
        training.train(ATC(CYCLE), model, agents, model.init(0), step_size=0.1, steps=3)
        sizes.append(training._scan._cache_size())
    assert sizes[1] == sizes[0] and sizes[2] == sizes[1] + 1


def test_the_last_layer_of_another_body_is_another_function(rng):
    one, other = (last_layer(body, **SHAPE) for body in (BODY, BODY[::-1]))
    head, x = rng.normal(size=one.size), rng.normal(size=(5, 2))
    assert one != other
    assert (one.apply(head, x) != other.apply(head, x)).all()


def test_a_body_is_kept_though_its_array_changes(rng):
    body = BODY.copy()
    model, head, x = last_layer(body, **SHAPE), rng.normal(size=BODY.size)[-10:], rng.normal(size=(5, 2))
    before = np.asarray(model.apply(head, x))
    body[:] = 0
    models._apply.clear_cache()
    np.testing.assert_array_equal(model.apply(head, x), before)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64])
def test_sizes_of_any_integer_type_are_whole_numbers(kind):
    inputs, widths, outputs = kind(100), [kind(50)], kind(3)
    body = np.zeros(100 * 50 + 50 + 51 * 3)
    for model, size in (
        (affine(inputs=inputs, outputs=outputs), 303),
        (mlp(inputs=inputs, widths=widths, outputs=outputs), len(body)),
        (last_layer(body, inputs=inputs, widths=widths, outputs=outputs), 153),
    ):
        assert model.size == size and model.init(0).shape == (size,)
        assert type(model.size) is type(model.inputs) is type(model.outputs) is int
