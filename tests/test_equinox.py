"""Convolutions of equinox as models: one that equals a perceptron, and one by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from problems import AGENTS, CYCLE, RING, assert_close

from peerflow import kernels, linearize, models, predict, train
from peerflow.data import AgentData

WIDTH = 5
TIMES = np.array([0.0, 0.4, 3.0])


def images(outputs=1, side=4):
    rng = np.random.default_rng(0)
    return AgentData(rng.normal(size=(AGENTS, 3, side, side)), rng.normal(size=(AGENTS, 3, outputs)))


def flattened(agents):
    return AgentData(agents.x.reshape(AGENTS, 3, -1), agents.y)


class Convolution(eqx.Module):
    """A convolution as large as the image, and a linear layer: a perceptron in other clothes."""

    conv: eqx.nn.Conv2d
    out: eqx.nn.Linear

    def __init__(self, size, outputs):
        keys = jax.random.split(jax.random.key(0))
        self.conv = eqx.nn.Conv2d(1, WIDTH, size, key=keys[0])
        self.out = eqx.nn.Linear(WIDTH * (4 - size + 1) ** 2, outputs, key=keys[1])

    def __call__(self, image):
        return self.out(jax.nn.sigmoid(self.conv(image[None])).reshape(-1))


def convolution():
    """Return a perceptron, the same as an equinox module partitioned, and where the entries of its vector are."""
    mlp = models.mlp(inputs=16, widths=(WIDTH,), outputs=2, w_std=4.0, b_std=1.0)  # w_std over its root is one
    flat = np.random.default_rng(1).normal(size=mlp.size)
    params, static = eqx.partition(Convolution(4, 2), eqx.is_inexact_array)

    def tree(flat):
        w1, b1, w2, b2 = np.split(flat, np.cumsum([16 * WIDTH, WIDTH, 2 * WIDTH]))
        leaves = w1.reshape(WIDTH, 1, 4, 4), b1.reshape(WIDTH, 1, 1), w2.reshape(2, WIDTH), b2
        where = lambda p: (p.conv.weight, p.conv.bias, p.out.weight, p.out.bias)  # noqa: E731
        return eqx.tree_at(where, params, tuple(map(jnp.asarray, leaves)))

    def function(p, x):
        # models.mlp scales the last layer by 4 over the root of the width.
        whole = eqx.combine(p, static)
        scaled = eqx.tree_at(lambda m: m.out.weight, whole, 4 / WIDTH**0.5 * whole.out.weight)
        return jax.vmap(scaled)(x)

    order = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree(np.arange(mlp.size, dtype=float)))])
    return mlp, flat, function, tree(flat), order.astype(int)


@pytest.fixture(scope="module")
def pair():
    """Return a perceptron and its start, the wrapped function and its start, and the order of entries."""
    mlp, flat, function, params, order = convolution()
    model, theta0 = models.wrap(function, params)
    return mlp, flat, model, np.asarray(theta0), order


def test_the_vector_holds_the_trees_numbers(pair):
    mlp, flat, model, theta0, order = pair
    assert model.size == mlp.size and (model.inputs, model.outputs) == (None, None)
    assert sorted(order) == list(range(mlp.size))
    assert_close(theta0, flat[order], tolerance=0)
    tree = model.forward.tree(jnp.asarray(theta0))
    assert_close(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]), theta0, tolerance=0)


def test_outputs_and_jacobian_are_the_perceptrons(pair):
    mlp, flat, model, theta0, order = pair
    x = images(2).x[0]
    assert_close(model.apply(theta0, x), mlp.apply(flat, x.reshape(3, 16)), tolerance=1e-14)
    assert_close(model.jacobian(theta0, x), np.asarray(mlp.jacobian(flat, x.reshape(3, 16)))[..., order])
    assert_close(kernels.empirical(model, theta0, x), kernels.empirical(mlp, flat, x.reshape(3, 16)))


def test_it_trains_as_the_perceptron(pair, rule):
    mlp, flat, model, theta0, order = pair
    agents = images(2)
    got = train(rule(RING), model, agents, theta0, step_size=0.4, steps=12)
    expected = train(rule(RING), mlp, flattened(agents), flat, step_size=0.4, steps=12)
    assert_close(got.params, expected.params[..., order])
    assert_close(got.losses, expected.losses)
    assert_close(got.global_losses, expected.global_losses)
    assert_close(got.outputs(agents.x[1]), expected.outputs(agents.x[1].reshape(3, 16)))


def test_it_is_predicted_as_the_perceptron(pair, rule):
    mlp, flat, model, theta0, order = pair
    agents = images(2)
    got, expected = (
        predict(rule(CYCLE), linearize(*arguments), step_size=0.4)
        for arguments in ((model, agents, theta0), (mlp, flattened(agents), flat))
    )
    for a, b in ((got.at(TIMES), expected.at(TIMES)), (got.after([0, 1, 9]), expected.after([0, 1, 9]))):
        assert_close(a.params, b.params[..., order], tolerance=1e-11)
        assert_close(a.losses, b.losses, tolerance=1e-11)
        assert_close(a.outputs(agents.x[1]), b.outputs(agents.x[1].reshape(3, 16)), tolerance=1e-11)


@pytest.fixture(scope="module")
def sliding():
    """A convolution that is smaller than the image."""
    params, static = eqx.partition(Convolution(3, 2), eqx.is_inexact_array)
    return params, static, models.wrap(lambda p, x: jax.vmap(eqx.combine(p, static))(x), params)


def by_hand(weight, bias, out, shift, image):
    """Return the convolution of one image, product by product."""
    hidden = np.zeros((WIDTH, 2, 2))
    for channel, row, column in np.ndindex(hidden.shape):
        patch = image[row : row + 3, column : column + 3]
        hidden[channel, row, column] = (weight[channel, 0] * patch).sum() + bias[channel, 0, 0]
    return out @ (1 / (1 + np.exp(-hidden))).reshape(-1) + shift


def test_a_convolution_is_its_formula(sliding):
    params, _, (model, theta0) = sliding
    numbers = [np.asarray(leaf) for leaf in (params.conv.weight, params.conv.bias, params.out.weight, params.out.bias)]
    x = images(2).x[2]
    assert_close(model.apply(theta0, x), [by_hand(*numbers, image) for image in x], tolerance=1e-14)
    J, h = np.asarray(model.jacobian(theta0, x)), 1e-5
    for p in range(0, model.size, 7):
        move = h * np.eye(model.size)[p]
        slope = (np.asarray(model.apply(theta0 + move, x)) - np.asarray(model.apply(theta0 - move, x))) / (2 * h)
        np.testing.assert_allclose(J[..., p], slope, rtol=0, atol=1e-9)


def test_a_convolution_trains_as_the_plain_loop_over_its_tree(sliding, rule):
    _, static, (model, theta0) = sliding
    agents = images(2)

    def risk(params, x, y):
        return jnp.mean(jnp.sum((jax.vmap(eqx.combine(params, static))(x) - y) ** 2, axis=-1)) / 2

    def gradient(q, theta):
        slopes = jax.grad(risk)(model.forward.tree(jnp.asarray(theta)), agents.x[q], agents.y[q])
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(slopes)])

    run = train(rule(RING), model, agents, theta0, step_size=0.4, steps=6)
    start = np.tile(theta0, (AGENTS, 1))
    assert_close(run.params, reference.iterate(rule.name, RING, gradient, start, 0.4, 6))
    losses = [[risk(model.forward.tree(jnp.asarray(row[q])), agents.x[q], agents.y[q]) for q in range(AGENTS)]
              for row in run.params]  # fmt: skip
    assert_close(run.losses, losses)
