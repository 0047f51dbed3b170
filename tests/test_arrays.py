"""Arrays as people have them: every public function gives the right answer, or says what to do instead."""

import importlib
import inspect
import pkgutil

import jax.numpy as jnp
import matplotlib.pyplot as plt
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import peerflow
from peerflow import (
    chance,
    compare,
    data,
    engines,
    flows,
    frames,
    kernels,
    literal,
    mixing,
    models,
    modes,
    objectives,
    plots,
    splits,
    training,
    trials,
    trust,
    tune,
)
from peerflow.draws import Stochastic
from peerflow.linearize import from_kernel, linearize
from peerflow.methods import ATC, Rule
from peerflow.stability import final_disagreement, step_size_limit

# All numbers have few binary digits, so that every precision holds them exactly.
Q, D = 4, 3
WHOLE = np.random.default_rng(3).integers(-2, 3, (Q, D, 2)).astype(float)
X, Y = WHOLE / 4, WHOLE[..., :1] / 2
W = np.eye(Q) / 2 + (np.roll(np.eye(Q), 1, axis=0) + np.roll(np.eye(Q), -1, axis=0)) / 4
MODEL = models.mlp(inputs=2, widths=(3,), outputs=1)
THETA = np.random.default_rng(4).integers(-4, 5, MODEL.size) / 4
EACH = np.stack([THETA, THETA / 2, -THETA, THETA / 4])
AGENTS = data.AgentData(X, Y)
METHOD, STEP = ATC(W), {"step_size": 0.5}
LIN = linearize(MODEL, AGENTS, THETA)
DYNAMICS = flows.predict(METHOD, LIN, **STEP)
INTEGRATED = flows.predict(METHOD, LIN, **STEP, loss=objectives.squared_error)
RUN = training.train(METHOD, MODEL, AGENTS, THETA, **STEP, steps=2)
EQUATION = literal.flow_equation(METHOD, MODEL, AGENTS, THETA, **STEP)
STOCHASTIC = Stochastic(METHOD, batch=2, link_probability=0.5)
MOMENTS = chance.expected(STOCHASTIC, LIN, **STEP, counts=[0, 1, 2])
COMPARED = compare.compare(METHOD, LIN, **STEP, steps=2)
GRADIENTS = np.array([[1.0, 0.5], [-1.0, 0.25], [0.5, -0.25], [-0.5, -0.5]])
TIMES, COUNTS, POINTS, LEVELS = np.array([0.0, 1.0, 2.5]), np.array([0, 1, 2]), X[0], np.array([-0.5, 0.0, 0.5])
KERNEL, OUTPUTS0 = np.eye(Q * D) * 2 + 1, WHOLE[..., 1].reshape(Q * D, 1)
FROM_KERNEL = from_kernel(KERNEL, OUTPUTS0, AGENTS)
CROSS = KERNEL[::-1][:5]


def mixed(W):
    """Use a mixing matrix in every way."""
    method = ATC(W)
    trained = training.train(method, MODEL, AGENTS, THETA, **STEP, steps=2)
    every = [
        method.update(EACH, lambda theta: theta, 0.5),
        trained.params,
        flows.predict(method, LIN, **STEP).at(TIMES).losses,
        flows.predict(method, LIN, **STEP, loss=objectives.squared_error).after(COUNTS).losses,
        literal.flow_equation(method, MODEL, AGENTS, THETA, **STEP).A,
        step_size_limit(method, LIN),
        final_disagreement(method, GRADIENTS, **STEP),
    ]
    return np.concatenate([np.ravel(each) for each in every])


def pieces(theta, x):
    return np.concatenate([J for _, J in MODEL.jacobians(theta, x, numbers=20)])


def learned(x=X, y=Y):
    lin = linearize(MODEL, data.AgentData(x, y), THETA)
    return flows.predict(METHOD, lin, **STEP).at(TIMES).losses


def from_known(kernel=KERNEL, outputs0=OUTPUTS0):
    return flows.predict(METHOD, from_kernel(kernel, outputs0, AGENTS), **STEP).at(TIMES).losses


def expanded(kernel=CROSS, outputs0=OUTPUTS0[:5]):
    expansion = FROM_KERNEL.expand_kernel(kernel, outputs0)
    return flows.predict(METHOD, FROM_KERNEL, **STEP).at(TIMES).outputs(expansion)


def dealt(x=POINTS, y=Y[0]):
    agents = data.partition(x, y, agents=1, samples=2, seed=0)
    return np.concatenate([agents.x, agents.y], axis=-1)


def shared_out(x=POINTS, y=Y[0]):
    agents = splits.split(x, y, splits.by_shard(1), agents=3, seed=0)
    return np.concatenate([agents.x, agents.y], axis=-1)


def drawn(fig):
    lines = [line.get_ydata() for ax in fig.axes for line in ax.lines if len(line.get_ydata()) > 1]
    lines += [path.vertices.ravel() for ax in fig.axes for one in ax.collections for path in one.get_paths()]
    plt.close(fig)
    return np.concatenate(lines)


def contours(x=POINTS, levels=LEVELS):
    return drawn(plots.output_contours(COMPARED, x, agent=0, steps=[0, 2], levels=levels))


def looked_at(loss):
    return lambda **one: loss(**({"f": Y[0], "y": np.abs(Y[0]) / 2} | one))


# Each call, by "module.function:parameter", with the array that it takes there.
CALLS = {
    "mixing.doubly_stochastic:W": (lambda a: dense(mixing.doubly_stochastic(a)), W),
    "mixing.is_symmetric:W": (mixing.is_symmetric, W),
    "mixing.spectral_gap:W": (mixing.spectral_gap, W),
    "mixing.smallest_eigenvalue:W": (mixing.smallest_eigenvalue, W),
    "mixing.effective_neighbours:W": (lambda a: mixing.effective_neighbours(a, decay=0.5), W),
    "mixing.disagreement:params": (mixing.disagreement, EACH),
    "mixing.max_norm_synchronization:theta": (
        lambda a: mixing.max_norm_synchronization(a, peerflow.mixing.nx.cycle_graph(Q)).params, EACH,
    ),
    "data.AgentData:x": (lambda a: learned(x=a), X),
    "data.AgentData:y": (lambda a: learned(y=a), Y),
    "data.partition:x": (lambda a: dealt(x=a), POINTS),
    "data.partition:y": (lambda a: dealt(y=a), Y[0]),
    "splits.split:x": (lambda a: shared_out(x=a), POINTS),
    "splits.split:y": (lambda a: shared_out(y=a), Y[0]),
    "trust.horizon:x": (lambda a: trust.horizon(DYNAMICS, a, steps=2).errors, POINTS),
    "trust.observed:x": (lambda a: trust.observed(RUN, DYNAMICS, a).errors, POINTS),
    "models.Model.apply:theta": (lambda a: MODEL.apply(a, POINTS), THETA),
    "models.Model.apply:x": (lambda a: MODEL.apply(THETA, a), POINTS),
    "models.Model.jacobian:theta": (lambda a: MODEL.jacobian(a, POINTS), THETA),
    "models.Model.jacobian:x": (lambda a: MODEL.jacobian(THETA, a), POINTS),
    "models.Model.jacobians:theta": (lambda a: pieces(a, POINTS), THETA),
    "models.Model.jacobians:x": (lambda a: pieces(THETA, a), POINTS),
    "models.last_layer:theta": (
        lambda a: models.last_layer(a, inputs=2, widths=(3,), outputs=1).apply(THETA[-4:], POINTS), THETA,
    ),
    "models.starts:theta0": (lambda a: models.starts(MODEL, AGENTS, a), EACH),
    "kernels.empirical:theta": (lambda a: kernels.empirical(MODEL, a, POINTS), THETA),
    "kernels.empirical:x": (lambda a: kernels.empirical(MODEL, THETA, a), POINTS),
    "kernels.empirical:x2": (lambda a: kernels.empirical(MODEL, THETA, POINTS, a), POINTS),
    "kernels.infinite_width:x": (lambda a: kernels.infinite_width(a, activation="erf"), POINTS),
    "kernels.infinite_width:x2": (lambda a: kernels.infinite_width(POINTS, a, activation="erf"), POINTS),
    **{
        f"objectives.{loss.__name__}:{name}": (lambda a, loss=loss, name=name: looked_at(loss)(**{name: a}), Y[0] ** 2)
        for loss in (objectives.squared_error, objectives.cross_entropy, objectives.binary_cross_entropy)
        for name in ("f", "y")
    },
    "objectives.loss_function:y": (
        lambda a: objectives.loss_function("binary_cross_entropy", a)(Y[0], Y[0] ** 2), Y[0] ** 2,
    ),
    "objectives.evaluate:outputs": (lambda a: objectives.evaluate(a, Y[0]).losses, Y),
    "objectives.evaluate:y": (lambda a: np.stack(objectives.evaluate(Y, a)), Y[0] ** 2),
    "methods.Rule.__call__:W": (mixed, W),
    "mixing.every:W": (lambda a: mixing.every(2, a), W),
    "mixing.one_or_several:W": (lambda a: dense(mixing.one_or_several(a)), W),
    "methods.Method.start:theta": (lambda a: METHOD.start(a).theta, EACH),
    "methods.Method.update:theta": (lambda a: METHOD.update(a, lambda t: t, 0.5), EACH),
    "training.train:counts": (
        lambda a: training.train(METHOD, MODEL, AGENTS, THETA, **STEP, steps=2, counts=a).losses,
        COUNTS,
    ),
    "training.train:theta0": (lambda a: training.train(METHOD, MODEL, AGENTS, a, **STEP, steps=2).params, EACH),
    "training.Run.outputs:x": (RUN.outputs, POINTS),
    "training.Run.evaluate:x": (lambda a: np.stack(RUN.evaluate(a, Y[0])), POINTS),
    "training.Run.evaluate:y": (lambda a: np.stack(RUN.evaluate(POINTS, a)), Y[0] ** 2),
    "linearize.linearize:theta0": (
        lambda a: flows.predict(METHOD, linearize(MODEL, AGENTS, a), **STEP).at(TIMES).losses, THETA,
    ),
    "linearize.from_kernel:kernel": (lambda a: from_known(kernel=a), KERNEL),
    "linearize.from_kernel:outputs0": (lambda a: from_known(outputs0=a), OUTPUTS0),
    "linearize.Linearization.expand:x": (lambda a: LIN.expand(a).features, POINTS),
    "linearize.Linearization.expand_kernel:kernel": (lambda a: expanded(kernel=a), CROSS),
    "linearize.Linearization.expand_kernel:outputs0": (lambda a: expanded(outputs0=a), OUTPUTS0[:5]),
    "flows.Dynamics.at:times": (lambda a: np.stack([DYNAMICS.at(a).losses, INTEGRATED.at(a).losses]), TIMES),
    "flows.Dynamics.after:counts": (lambda a: np.stack([DYNAMICS.after(a).losses, INTEGRATED.after(a).losses]), COUNTS),
    "flows.sweep:step_sizes": (lambda a: flows.sweep([METHOD], LIN, step_sizes=a, counts=COUNTS), TIMES[1:]),
    "flows.sweep:counts": (lambda a: flows.sweep([METHOD], LIN, step_sizes=TIMES[1:], counts=a), COUNTS),
    "tune.tune:step_sizes": (lambda a: tune.tune([METHOD], LIN, step_sizes=a, counts=COUNTS).losses, TIMES[1:]),
    "tune.tune:counts": (lambda a: tune.tune([METHOD], LIN, step_sizes=TIMES[1:], counts=a).losses, COUNTS),
    "tune.sent:counts": (lambda a: tune.sent(METHOD, a), COUNTS),
    "tune.rounds:counts": (lambda a: tune.rounds(METHOD, a), COUNTS),
    "flows.Trajectory.outputs:x": (DYNAMICS.at(TIMES).outputs, POINTS),
    "flows.Trajectory.evaluate:x": (lambda a: np.stack(DYNAMICS.at(TIMES).evaluate(a, Y[0])), POINTS),
    "flows.Trajectory.evaluate:y": (lambda a: np.stack(DYNAMICS.at(TIMES).evaluate(POINTS, a)), Y[0] ** 2),
    "trials.train:theta0": (lambda a: trials.train(STOCHASTIC, MODEL, AGENTS, a, **STEP, steps=2).params, EACH),
    "trials.sampled:counts": (lambda a: trials.sampled(STOCHASTIC, LIN, **STEP, counts=a, runs=2).losses, COUNTS),
    "chance.expected:counts": (lambda a: chance.expected(STOCHASTIC, LIN, **STEP, counts=a).losses, COUNTS),
    "chance.Moments.outputs:x": (lambda a: np.stack(MOMENTS.outputs(a)), POINTS),
    "engines.state_matrix:psi": (lambda a: engines.state_matrix(METHOD, a), np.stack([np.eye(2) / 4] * Q)),
    "engines.phases:psi": (lambda a: engines.phases(METHOD, a)[0], np.stack([np.eye(2) / 4] * Q)),
    "frames.series:x": (lambda a: frames.series(a, TIMES)["x"], TIMES),
    "frames.series:y": (lambda a: frames.series(TIMES, a)["y"], TIMES),
    "frames.graph:W": (lambda a: frames.graph("", EACH[:2, :Q], W=a, words=["", ""])["W"], W),
    "modes.phi_1:x": (modes.phi_1, TIMES),
    "modes.geometric:eigenvalue": (lambda a: modes.geometric(a, 3), -TIMES / 4),
    "modes.geometric:count": (lambda a: modes.geometric(-0.5, a), COUNTS),
    "literal.flow_equation:theta0": (lambda a: literal.flow_equation(METHOD, MODEL, AGENTS, a, **STEP).A, EACH),
    "literal.FlowEquation.at:times": (EQUATION.at, TIMES),
    "literal.FlowEquation.at:start": (lambda a: EQUATION.at([1.0], a), EACH),
    "literal.FlowEquation.after:counts": (EQUATION.after, COUNTS),
    "literal.FlowEquation.after:start": (lambda a: EQUATION.after([1], a), EACH),
    "stability.final_disagreement:gradients": (lambda a: final_disagreement(METHOD, a, **STEP), GRADIENTS),
    "plots.spectra:step_sizes": (lambda a: drawn(plots.spectra([METHOD], LIN, a)), TIMES[1:]),
    "plots.output_contours:x": (lambda a: contours(x=a), POINTS),
    "plots.output_contours:levels": (lambda a: contours(levels=a), LEVELS),
}  # fmt: skip
NAMES = {"W", "x", "x2", "y", "f", "theta", "theta0", "params", "times", "counts", "count", "eigenvalue", "psi"}
NAMES |= {"gradients", "start", "step_sizes", "levels", "kernel", "outputs0", "outputs"}


def dense(W):
    return W.toarray() if scipy.sparse.issparse(W) else W


class Foreign:
    """Another library's array: it converts itself."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)

    def __len__(self):
        return len(self.array)


class Unwilling(Foreign):
    """One that does not, as torch's with a gradient."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")


class Quantity(np.ndarray):
    """Numbers with a unit."""


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def strided(a):
    """Return a view of every second entry, backwards."""
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), 7, a.dtype)
    wide[..., ::-2] = a
    return wide[..., ::-2]


def mapped(a, tmp_path):
    result = np.memmap(tmp_path / "array", a.dtype, "w+", shape=a.shape)
    result[:] = a
    return result


def ragged(a):
    """Make the last row longer than the others."""
    rows = last = a.tolist()
    while isinstance(last[-1], list):
        last = last[-1]
    last[-1:] = last * 7 if a.ndim > 1 else [last]
    return rows


def missing(a):
    """Return pandas' own kind of number, the first of them missing."""
    if a.ndim > 2:
        return [missing(a[0]), *a[1:]]
    frame = (pd.Series if a.ndim == 1 else pd.DataFrame)(a).convert_dtypes()
    frame.iloc[(0,) * a.ndim] = pd.NA
    return frame


FORMS = {
    "list": np.ndarray.tolist,
    "tuple": lambda a: tuple(a.tolist()),
    "rows": list,
    "read-only": read_only,
    "strided": strided,
    "Fortran": np.asfortranarray,
    "memory-mapped": None,
    "jax": jnp.asarray,
    "foreign": Foreign,
    "pandas": lambda a: pd.Series(a) if a.ndim == 1 else pd.DataFrame(a),
    "matrix": lambda a: scipy.sparse.csr_matrix(a).todense(),
    "csr_array": scipy.sparse.csr_array,
    "csr_matrix": scipy.sparse.csr_matrix,
}
LIMITED = {"pandas": (1, 2), "matrix": (2,), "csr_array": (2,), "csr_matrix": (2,)}
PRECISIONS = ["<f8", ">f8", "<f4", ">f4", "<f2", ">f2", "<i8", ">i8", "<i4", "u1", "?"]
REFUSED = {
    "masked": (lambda a: np.ma.masked_array(a, mask=np.arange(a.size).reshape(a.shape) == 0), "MaskedArray"),
    "a list of masked": (lambda a: [*a[:-1], np.ma.masked_all_like(a[-1:])[0]], "MaskedArray|MaskedConstant"),
    "unit": (lambda a: a.view(Quantity), "got a Quantity"),
    "complex": (lambda a: a + 0j, "got dtype complex128 from a ndarray: convert it"),
    "objects": (lambda a: a.astype(object), "got dtype object from a ndarray: convert it to an array of float64"),
    "text": (lambda a: a.astype(str), "real numbers, got dtype <U"),
    "quadruple": (lambda a: a.astype(np.longdouble), "64 bits or less, got dtype float128: convert it to float64"),
    "bfloat16": (lambda a: a.astype(ml_dtypes.bfloat16), "real numbers, got dtype bfloat16 from a ndarray: convert it"),
    "dates": (lambda a: a.astype("M8[s]"), r"real numbers, got dtype datetime64\[s\]"),
    "ragged": (ragged, "rectangular array of numbers"),
    "missing": (missing, "must be finite, got 1 NaN|real numbers, got dtype object from a (DataFrame|Series|list)"),
    "unwilling": (Unwilling, r"rectangular array of numbers: .* Use tensor.detach\(\).numpy\(\) instead"),
    "generator": (iter, "real numbers, got dtype object from a (generator|iterator)"),
    "mapping": (lambda a: dict(enumerate(a.tolist())), "real numbers, got dtype object from a dict"),
}  # fmt: skip


def assert_same(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    if actual.dtype.kind == "b":
        assert (actual == expected).all()
        return
    # What a function computes in a lower precision it also returns in it.
    tolerance = 200 * max(np.finfo(actual.dtype).eps, np.finfo(np.float64).eps)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.fixture(scope="module")
def expected():
    return {name: call(array) for name, (call, array) in CALLS.items()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CALLS)
def test_a_form(name, form, expected, tmp_path):
    call, array = CALLS[name]
    if array.ndim in LIMITED.get(form, (array.ndim,)):
        value = mapped(array, tmp_path) if form == "memory-mapped" else FORMS[form](array)
        assert_same(call(value), expected[name])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", CALLS)
def test_a_precision(name, precision, expected):
    call, array = CALLS[name]
    cast = array.astype(precision)
    if (cast != array).any() or (array.dtype.kind, cast.dtype.kind) in {("i", "f"), ("i", "b")}:
        return  # not the same numbers, or no whole ones
    assert_same(call(cast), expected[name])


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("name", CALLS)
def test_a_refusal(name, kind):
    (call, array), (build, message) = CALLS[name], REFUSED[kind]
    if (name, kind) == ("objectives.evaluate:outputs", "missing"):  # those of a diverged run are evaluated
        assert np.isnan(call(build(array))).any()
        return
    with pytest.raises(ValueError, match=message) as refusal:
        call(build(array))
    argument = name.rpartition(":")[2]
    assert str(refusal.value).startswith(argument)


LISTS = ["list", "rows", "strided", "Fortran", "jax", "foreign", "pandas", "matrix", "csr_array"]


@pytest.mark.parametrize("form", LISTS)
def test_a_form_in_a_list_of_one_array_an_agent(form):
    """Agents with different numbers of samples."""
    build = FORMS[form]
    xs, ys = [x[: D - q % 2] for q, x in enumerate(X)], [y[: D - q % 2] for q, y in enumerate(Y)]
    expected = learned(xs, ys)
    assert_same(learned([build(x) for x in xs], ys), expected)
    assert_same(learned(xs, [build(y) for y in ys]), expected)
    assert_same(learned([xs[0], *map(build, xs[1:])], tuple(map(build, ys))), expected)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refusal_in_a_list_of_one_array_an_agent(kind):
    build, message = REFUSED[kind]
    xs, ys = [X[0], X[1, :2]], [Y[0], Y[1, :2]]
    for name, call in (("x", lambda a: data.AgentData([X[0], a], ys)), ("y", lambda a: data.AgentData(xs, [Y[0], a]))):
        with pytest.raises(ValueError, match=message) as refusal:
            call(build({"x": xs, "y": ys}[name][1]))
        assert str(refusal.value).startswith(f"{name}[1] must")


def public():
    """Yield every public function and method with the names of its parameters."""
    for module in pkgutil.iter_modules(peerflow.__path__):
        if module.name.startswith("_") or module.name in INSIDE:
            continue
        for name, thing in vars(importlib.import_module(f"peerflow.{module.name}")).items():
            if name.startswith("_") or getattr(thing, "__module__", "") != f"peerflow.{module.name}":
                continue
            yield f"{module.name}.{name}", thing
            if inspect.isclass(thing):
                for method, function in vars(thing).items():
                    if (not method.startswith("_") or method == "__call__") and inspect.isfunction(function):
                        yield f"{module.name}.{name}.{method}", function


RESULTS = {"Trajectory", "Dynamics", "Linearization", "Run", "Synchronization", "FlowEquation", "Errors", "Comparison"}
RESULTS |= {"Model", "Method", "Padded", "Evaluation", "Expansion", "Horizon", "Moments", "Spread", "Sample", "Links"}
RESULTS |= {"Rule", "State", "Recursion", "Search", "Scattered"}
# What linearize and flows call, with arrays that they have checked; and the maps themselves, for use under JAX.
INSIDE = {"factors", "integrate", "networks", "sharding"}
SOLVERS = {
    "System",
    "recursion",
    "exponential",
    "chebyshev",
    "few_terms",
    "walk",
    "combine",
    "Modes",
    "Adapted",
    "Stepper",
}
# A tree, in which lists are nodes (test_wrap.py); and what is asked with the data's own arrays.
TREES = {"models.wrap:params", "models.Model.fits:x"}


def test_every_public_function_with_an_array_is_held():
    found = {
        f"{name}:{parameter.name}"
        for name, thing in public()
        if callable(thing)
        and not isinstance(thing, Rule)
        and name.rpartition(".")[2] not in RESULTS
        and name.split(".")[1] not in SOLVERS
        for parameter in inspect.signature(thing).parameters.values()
        if parameter.name in NAMES and parameter.annotation is not int
    }
    assert found - TREES == set(CALLS)
