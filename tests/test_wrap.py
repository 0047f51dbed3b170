"""Any JAX function as a model: against the library's own models, formulas, and what cannot be one."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import AGENTS, CYCLE, agent_data, assert_close, unequal_data
from rejection import INF, NAN, check, rejects

from peerflow import models
from peerflow.compare import compare
from peerflow.data import AgentData, digits
from peerflow.flows import predict
from peerflow.linearize import linearize
from peerflow.methods import ATC, DGD
from peerflow.models import wrap
from peerflow.training import train


class Layer(NamedTuple):
    weight: jax.Array
    bias: jax.Array


def linear(params, x):
    """Return w^T x + b of flattened inputs."""
    return x.reshape(len(x), -1) @ params["w"] + params["b"][None]


def layered(params, x):
    """Return (1) with s_w = 1.3 and s_b = 0.4, from a list of layers."""
    for at, (weight, bias) in enumerate(params):
        x = 1.3 / weight.shape[1] ** 0.5 * x @ weight.T + 0.4 * bias[None]
        x = x if at == len(params) - 1 else jnp.tanh(x)
    return x


MLP = models.mlp(inputs=2, widths=(4, 3), outputs=2, activation="tanh", w_std=1.3, b_std=0.4)
SIZES = [(2, 4), (4, 3), (3, 2)]


def mlp_tree(seed=0, layer=Layer):
    rng = np.random.default_rng(seed)
    return [layer(rng.normal(size=(after, before)), rng.normal(size=after)) for before, after in SIZES]


def start(params):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])


def test_a_network_by_hand_is_the_library_s_own(rng):
    params, x = mlp_tree(), rng.normal(size=(5, 2))
    model, theta0 = wrap(layered, params)
    assert model.size == MLP.size and (model.inputs, model.outputs) == (None, None)
    assert_close(theta0, start(params), tolerance=0)
    assert_close(model.apply(theta0, x), MLP.apply(theta0, x), tolerance=1e-14)
    assert_close(model.jacobian(theta0, x), MLP.jacobian(theta0, x), tolerance=1e-14)


@pytest.mark.parametrize("objective", ["local", "global"])
def test_it_is_trained_and_predicted_as_the_library_s_own(rule, objective):
    agents, method, settings = unequal_data(outputs=2), rule(CYCLE, objective=objective), {"step_size": 0.3}
    model, theta0 = wrap(layered, mlp_tree())
    runs = [train(method, one, agents, theta0, steps=10, **settings) for one in (model, MLP)]
    assert_close(runs[0].params, runs[1].params)
    assert_close(runs[0].losses, runs[1].losses)
    x = agents.pooled()[0]
    assert_close(runs[0].outputs(x), runs[1].outputs(x))
    lins = [linearize(one, agents, theta0) for one in (model, MLP)]
    flows = [predict(method, lin, **settings).at([0.0, 1.0, 20.0]) for lin in lins]
    assert_close(flows[0].params, flows[1].params, tolerance=1e-10)
    assert_close(flows[0].outputs(x), flows[1].outputs(x), tolerance=1e-10)


TREES = {
    "array": jnp.arange(6.0).reshape(2, 3),
    "tuple": (jnp.arange(2.0), (jnp.arange(3.0),)),
    "dict of lists": {"b": [jnp.arange(2.0), jnp.ones((2, 1, 2))], "a": {"c": jnp.array(5.0)}},
    "named tuples": mlp_tree(),
    "tuples": mlp_tree(layer=lambda *layer: layer),
    "with a number": {"scale": 2.0, "shift": np.float64(3.0), "w": np.ones((2, 2))},
    "with None": {"w": np.ones((2, 2)), "frozen": None},
    "with an empty part": {"w": np.ones((2, 2)), "none": np.zeros((0, 3)), "nothing": []},
}


@pytest.mark.parametrize("name", TREES)
def test_a_vector_has_its_tree_and_the_tree_its_vector(name, rng):
    params, seen = TREES[name], []
    model, theta0 = wrap(lambda p, x: seen.append(p) or x, params)
    assert theta0.shape == (model.size,) and theta0.dtype == np.float64
    assert_close(theta0, start(params), tolerance=0)
    theta = rng.normal(size=model.size)
    for vector in (theta0, theta):
        tree = model.forward.tree(vector)
        assert jax.tree.structure(tree) == jax.tree.structure(params)
        for leaf, like in zip(jax.tree.leaves(tree), jax.tree.leaves(params), strict=True):
            assert leaf.shape == np.shape(like) and leaf.dtype == np.float64
        assert_close(start(tree), vector, tolerance=0)
    for leaf, like in zip(*map(jax.tree.leaves, (model.forward.tree(theta0), params)), strict=True):
        assert_close(leaf, like, tolerance=0)
    # The function is given such a tree, of the vector's dtype.
    for dtype in (np.float64, np.float32):
        model.apply(theta.astype(dtype), np.ones((3, 1)))
        assert jax.tree.structure(seen[-1]) == jax.tree.structure(params)
        assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(seen[-1])] == [
            (np.shape(leaf), dtype) for leaf in jax.tree.leaves(params)
        ]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f4", ">f8"])
def test_parameters_of_any_precision_become_double(dtype):
    params = {"w": np.array([[0.1], [0.2]]).astype(dtype), "b": np.array([0.3])}
    model, theta0 = wrap(linear, params)
    assert theta0.dtype == np.float64
    assert_close(theta0, [0.3, *params["w"].astype(float).ravel()], tolerance=0)
    assert model.apply(theta0, np.ones((1, 2), np.float32)).dtype == np.float64
    assert wrap(linear, jax.tree.map(jnp.float32, params))[1].dtype == np.float64


def test_a_later_change_of_the_parameters_changes_nothing():
    params = {"w": np.ones((2, 1)), "b": np.zeros(1)}
    _, theta0 = wrap(linear, params)
    params["w"][:] = 7
    assert_close(theta0, [0.0, 1.0, 1.0], tolerance=0)


def test_single_precision_runs_in_single_precision():
    model, theta0 = wrap(layered, mlp_tree())
    agents = agent_data(outputs=2)
    run = train(DGD(CYCLE), model, agents, theta0.astype(np.float32), step_size=0.1, steps=3)
    double = train(DGD(CYCLE), model, agents, theta0, step_size=0.1, steps=3)
    assert run.params.dtype == run.losses.dtype == np.float32
    assert_close(run.params, double.params, tolerance=1e-5)


def image_parameters(outputs=10):
    rng = np.random.default_rng(0)
    return {"w": rng.normal(size=(64, outputs)) / 8, "b": rng.normal(size=outputs)}


@pytest.mark.parametrize("samples", [3, [3, 1, 4, 2]], ids=["equal", "unequal"])
def test_images_go_in_as_they_are(rule, samples):
    """The model is affine in the pixels, so that the library's own on flattened images is the same."""
    images = digits(agents=AGENTS, samples=samples)
    flat = AgentData([x.reshape(len(x), 64) for x in images.x], list(images.y))
    model, theta0 = wrap(linear, image_parameters())
    own = models.affine(inputs=64, outputs=10)
    weights = np.concatenate([np.ravel(image_parameters()["w"].T), image_parameters()["b"]])
    x, y = images.pooled()
    assert x.shape[1:] == (8, 8) and model.apply(theta0, x).shape == (len(x), 10)
    settings = {"step_size": 0.02, "steps": 5}
    run = train(rule(CYCLE), model, images, theta0, **settings)
    expected = train(rule(CYCLE), own, flat, weights, **settings)
    assert_close(run.losses, expected.losses)
    assert_close(run.outputs(x), expected.outputs(x.reshape(-1, 64)))
    compared = compare(rule(CYCLE), linearize(model, images, theta0), **settings)
    assert compared.errors["iteration"].loss < 1e-10
    got, wanted = compared.iteration.evaluate(x, y), run.evaluate(x, y)
    assert_close(got.losses, wanted.losses, tolerance=1e-10)
    assert_close(got.accuracy, wanted.accuracy, tolerance=0)


def test_equal_wrappings_are_one_model_and_trace_once():
    traces = []

    def counted(params, x):
        traces.append((jnp.shape(params["w"]), x.shape))
        return linear(params, x)

    params = {"w": np.ones((2, 1)), "b": np.zeros(1)}
    model, theta0 = wrap(counted, params)
    again, other0 = wrap(counted, jax.tree.map(lambda leaf: 3 * leaf + 1, params))
    assert model == again and hash(model) == hash(again)
    assert_close(other0, 3 * theta0 + 1, tolerance=0)
    agents = agent_data()
    first = train(ATC(CYCLE), model, agents, theta0, step_size=0.1, steps=3)
    first.outputs(np.ones((3, 2)))
    linearize(model, agents, theta0)
    before = len(traces)
    second = train(ATC(CYCLE), again, agents, other0, step_size=0.2, steps=3)
    second.outputs(np.ones((3, 2)))
    linearize(again, agents, other0)
    assert len(traces) == before > 0
    # Another shape is another program.
    model.apply(theta0, np.ones((7, 2)))
    assert len(traces) > before


def test_different_wrappings_are_different_models():
    params = {"w": np.ones((2, 1)), "b": np.zeros(1)}
    many = [
        wrap(linear, params)[0],
        wrap(lambda p, x: linear(p, x), params)[0],
        wrap(functools.partial(linear), params)[0],
        wrap(linear, params | {"w": np.ones((3, 1))})[0],
        wrap(linear, params | {"w": np.ones((1, 2))})[0],
        wrap(linear, params | {"more": None})[0],
        models.affine(inputs=2, outputs=1),
    ]
    assert len(set(many)) == len(many)
    assert all(one != other for at, one in enumerate(many) for other in many[:at])


W, B = np.ones((2, 1)), np.zeros(1)


class Unhashable:
    __hash__ = None

    def __call__(self, params, x):
        return linear(params, x)


@rejects([
    (lambda: wrap({"w": W, "b": B}, linear), r"function must be callable as function\(params, x\), got dict"),
    (lambda: wrap(None, {"w": W}), r"function must be callable as function\(params, x\), got NoneType"),
    (lambda: wrap(models.affine(inputs=2, outputs=1), {"w": W}), "function must be callable .* got Model"),
    (lambda: wrap(Unhashable(), {"w": W}), "function must be hashable, .* got Unhashable: pass lambda params, x:"),
    (lambda: wrap(linear, {}), "params must hold at least one number, got none"),
    (lambda: wrap(linear, None), "params must hold at least one number, got none"),
    (lambda: wrap(linear, [[], {}, None]), "params must hold at least one number, got none"),
    (lambda: wrap(linear, {"w": np.zeros((0, 3))}), "params must hold at least one number, got none"),
    (lambda: wrap(linear, {"w": W, "b": np.zeros(1, int)}), r"params\['b'\] must be a floating array, got int64"),
    (lambda: wrap(linear, {"w": W, "b": jnp.zeros(1, int)}), r"params\['b'\] must be a floating array, got int64"),
    (lambda: wrap(linear, [W, (B, 3)]), r"params\[1\]\[1\] must be a floating array, got int: close over what is not"),
    (lambda: wrap(linear, [Layer(W, True)]), r"params\[0\].bias must be a floating array, got bool"),
    (lambda: wrap(linear, {"w": W > 0}), r"params\['w'\] must be a floating array, got bool"),
    (lambda: wrap(linear, {"w": W + 0j}), r"params\['w'\] must be a floating array, got complex128"),
    (lambda: wrap(linear, {"w": W, "name": "affine"}), r"params\['name'\] must be a floating array, got str"),
    (lambda: wrap(linear, {"w": W, "act": jnp.tanh}), r"params\['act'\] must be a floating array, got "),
    (lambda: wrap(linear, {"w": W.astype(object)}), r"params\['w'\] must be a floating array, got object"),
    (lambda: wrap(linear, {"w": np.ma.masked_array(W)}), r"params\['w'\] must be a plain array, got a MaskedArray"),
    (lambda: wrap(linear, {"w": W.astype(np.longdouble)}), r"params\['w'\] must have 64 bits or less"),
    (lambda: wrap(linear, {"w": W, "b": np.array([NAN])}), r"params\['b'\] must be finite, got 1 NaN"),
    (lambda: wrap(linear, [W, -INF]), r"params\[1\] must be finite, got 1 NaN"),
    (lambda: wrap(linear, {"w": W, "b": B})[0].init(0), "this model came with its parameters: models.wrap returned"),
])  # fmt: skip
def test_what_cannot_be_wrapped(call, message):
    check(call, message)


AGENT_DATA = agent_data()


def uses(function, params=W, agents=AGENT_DATA):
    """Yield every call that runs a wrapped function on inputs."""
    model, theta0 = wrap(function, params)
    x = agents.x[0]
    yield lambda: model.apply(theta0, x)
    yield lambda: model.jacobian(theta0, x)
    yield lambda: linearize(model, agents, theta0)
    yield lambda: train(DGD(CYCLE), model, agents, theta0, step_size=0.1, steps=1)


OUTPUTS = "the model must return outputs of shape"


@pytest.mark.parametrize(("function", "message"), [
    (lambda w, x: (x @ w)[:, 0], rf"{OUTPUTS} \(n, outputs\), got \(3,\) for inputs \(3, 2\)"),
    (lambda w, x: (x @ w)[None], rf"{OUTPUTS} \(n, outputs\), got \(1, 3, 1\) for inputs \(3, 2\)"),
    (lambda w, x: (x @ w).mean(axis=0, keepdims=True), rf"{OUTPUTS} \(n, outputs\), got \(1, 1\) for inputs \(3, 2\)"),
    (lambda w, x: (x @ w).T, rf"{OUTPUTS} \(n, outputs\), got \(1, 3\) for inputs \(3, 2\)"),
    (lambda w, x: (x @ w)[1:], rf"{OUTPUTS} \(n, outputs\), got \(2, 1\) for inputs \(3, 2\)"),
    (lambda w, x: (x @ w).sum(), rf"{OUTPUTS} \(n, outputs\), got \(\) for inputs \(3, 2\)"),
    (lambda w, x: (x @ w, {"state": x}), rf"{OUTPUTS} \(n, outputs\), got \(\(3, 1\), \{{'state': \(3, 2\)\}}\)"),
    (lambda w, x: None, rf"{OUTPUTS} \(n, outputs\), got None"),
    (lambda w, x: 1.0, rf"{OUTPUTS} \(n, outputs\), got \(\)"),
    (lambda w, x: x @ w.T, r"the model does not take inputs of shape \(3, 2\): dot_general requires contracting"),
    (lambda w, x: x.reshape(-1, 8, 8), r"the model does not take inputs of shape \(3, 2\): cannot reshape"),
    (lambda w, x: np.asarray(x) @ w, r"the model does not take inputs of shape \(3, 2\): The numpy.ndarray conversion"),
    (lambda w: w, r"the model does not take inputs of shape \(3, 2\): .* takes 1 positional argument"),
    (lambda w, x: "outputs", "the model does not take inputs|the model must return outputs"),
])  # fmt: skip
def test_a_function_of_another_form_is_refused_where_it_is_used(function, message):
    for call in uses(function):
        check(call, message)


def test_a_number_of_outputs_that_the_data_do_not_have():
    for call in list(uses(linear, image_parameters(3) | {"w": np.ones((2, 3))}))[2:]:
        check(call, rf"{OUTPUTS} \(3, 1\), got \(3, 3\)")


def test_inputs_that_the_function_does_not_take():
    model, theta0 = wrap(linear, image_parameters())
    assert model.apply(theta0, np.ones((2, 8, 8))).shape == model.apply(theta0, np.ones((2, 64))).shape == (2, 10)
    for call in (model.apply, model.jacobian):
        check(
            lambda call=call: call(theta0, np.ones((2, 8, 7))),
            r"does not take inputs of shape \(2, 8, 7\): dot_general",
        )
        check(lambda call=call: call(theta0, 1.0), r"x must have shape \(n, \.\.\.\), got \(\)")
        check(lambda call=call: call(theta0, np.full((2, 8, 8), NAN)), "x must be finite, got 128 NaN")
        check(lambda call=call: call(theta0[:-1], np.ones((2, 8, 8))), r"theta must have shape \(650\), got \(649,\)")
    run = train(DGD(CYCLE), model, digits(agents=4, samples=2), theta0, step_size=0.1, steps=1)
    check(lambda: run.outputs(1.0), r"x must have shape \(n, \.\.\.\), got \(\)")


def test_own_models_say_which_inputs_they_take():
    images = digits(agents=4, samples=2)
    model = models.affine(inputs=64, outputs=10)
    check(
        lambda: linearize(model, images, np.zeros(model.size)),
        r"the model has 64 inputs, but the agents' data have inputs of shape \(8, 8\)",
    )
