"""Bad input to losses, training and prediction: a ValueError says what came and what was expected."""

import jax
import numpy as np
import pytest
from problems import CYCLE, affine, agent_data
from rejection import INF, NAN, check, rejects, with_entry

from peerflow.engines import state_matrix
from peerflow.flows import predict
from peerflow.linearize import linearize
from peerflow.methods import ATC, DGD
from peerflow.modes import geometric, phi_1
from peerflow.objectives import binary_cross_entropy, cross_entropy, gradient_scale, squared_error
from peerflow.training import train

PROBLEM, METHOD = affine(), DGD(CYCLE)
MODEL, DATA, THETA0, X = PROBLEM.model, PROBLEM.agents, PROBLEM.theta0, PROBLEM.agents.x
LIN = linearize(MODEL, DATA, THETA0)
DYNAMICS = predict(METHOD, LIN, step_size=0.1)
FLOW = DYNAMICS.at([0.0, 1.0])
RUN = train(METHOD, MODEL, DATA, THETA0, step_size=0.1, steps=1)


def run(method=METHOD, model=MODEL, agents=DATA, theta0=THETA0, step_size=0.1, steps=1, **options):
    return train(method, model, agents, theta0, step_size=step_size, steps=steps, **options)


def foresee(method=METHOD, lin=LIN, step_size=0.1, **options):
    return predict(method, lin, step_size=step_size, **options)


def expand(model=MODEL, agents=DATA, theta0=THETA0, **options):
    return linearize(model, agents, theta0, **options)


def update(W=CYCLE, theta=((1.0, 1.0),) * 4, gradient=np.zeros_like, step_size=0.1):
    return DGD(W).update(theta, gradient, step_size)


@pytest.mark.parametrize("loss", [squared_error, cross_entropy, binary_cross_entropy])
@pytest.mark.parametrize(("f", "y", "message"), [
    (np.zeros((3, 1)), np.zeros(3), r"y must have shape \(3, 1\), got \(3,\)"),
    (np.zeros((3, 1)), np.zeros((1, 3)), r"y must have shape \(3, 1\), got \(1, 3\)"),
    (np.zeros(3), np.zeros(3), r"f must have shape \(n, outputs\), got \(3,\)"),
    (np.full((3, 1), NAN), np.zeros((3, 1)), "f must be finite, got 3 NaN"),
    (np.zeros((3, 1)), np.full((3, 1), INF), "y must be finite, got 3 NaN"),
    ([["a"]], [[0.0]], "f must be real numbers"),
])  # fmt: skip
def test_losses(loss, f, y, message):
    check(lambda: loss(f, y), message)


OBJECTIVE = "objective must be one of 'local', 'global', got "
LOSS = "loss must be one of 'mse', 'cross_entropy', 'binary_cross_entropy', got "


@rejects([
    (lambda: gradient_scale("mean", 4), OBJECTIVE + "'mean'"),
    (lambda: gradient_scale(None, 4), OBJECTIVE + "None"),
    (lambda: gradient_scale("local", 0), "agents must be at least 1, got 0"),
    (lambda: gradient_scale("global", 4.0), "agents must be a whole number, got 4.0"),
    (lambda: DGD(CYCLE, objective="mean"), OBJECTIVE + "'mean'"),
    (lambda: ATC(CYCLE, objective=["local"]), OBJECTIVE + r"\['local'\]"),
    (lambda: run(loss="hinge"), LOSS + "'hinge'"),
    (lambda: foresee(loss=None), LOSS + "None"),
])  # fmt: skip
def test_names(call, message):
    check(call, message)


STEP_SIZES = [
    (0.0, "must be positive, got 0.0"),
    (-0.1, "must be positive, got -0.1"),
    (NAN, "must be finite, got nan"),
    (INF, "must be finite, got inf"),
    ("0.1", "must be a number, got '0.1'"),
    (True, "must be a number, got True"),
    (None, "must be a number, got None"),
    (np.array([0.1]), r"must be a number, got array\(\[0.1\]\)"),
    (0.1j, "must be a number, got 0.1j"),
    (10**400, "must be a number, got 1000"),
]


@pytest.mark.parametrize(("step_size", "message"), STEP_SIZES)
@pytest.mark.parametrize("call", [run, foresee, update])
def test_step_sizes(call, step_size, message):
    check(lambda: call(step_size=step_size), f"step_size {message}")


@pytest.mark.parametrize(("steps", "message"), [
    (-1, "must be at least 0, got -1"),
    (2.0, "must be a whole number, got 2.0"),
    (True, "must be a whole number, got True"),
    ("2", "must be a whole number, got '2'"),
    (None, "must be a whole number, got None"),
    ([2], r"must be a whole number, got \[2\]"),
])  # fmt: skip
def test_numbers_of_steps(steps, message):
    check(lambda: run(steps=steps), f"steps {message}")


@rejects([
    (lambda: run(method="DGD"), "method must be of type Method, got str"),
    (lambda: run(method=DGD), "method must be of type Method, got Rule"),
    (lambda: run(model=MODEL.apply), "model must be of type Model, got method"),
    (lambda: run(agents=(DATA.x, DATA.y)), "agents must be of type AgentData, got tuple"),
    (lambda: foresee(method=None), "method must be of type Method, got NoneType"),
    (lambda: foresee(method=DGD), "method must be of type Method, got Rule"),
    (lambda: foresee(lin=MODEL), "lin must be of type Linearization, got Model"),
    (lambda: expand(model=None), "model must be of type Model, got NoneType"),
    (lambda: expand(agents=DATA.x), "agents must be of type AgentData, got ndarray"),
    (lambda: foresee(lin=DATA), "lin must be of type Linearization, got AgentData"),
    (lambda: state_matrix("DGD", np.zeros((4, 2, 2))), "method must be of type Method, got str"),
])  # fmt: skip
def test_types(call, message):
    check(call, message)


STARTS = [
    (np.zeros(4), r"theta0 must have shape \(3,\) or \(4, 3\), got \(4,\)"),
    (np.zeros(()), r"theta0 must have shape \(3,\) or \(4, 3\), got \(\)"),
    (np.zeros((4, 3, 1)), r"theta0 must have shape \(3,\) or \(4, 3\), got \(4, 3, 1\)"),
    (with_entry(THETA0, NAN), "theta0 must be finite, got 1 NaN or infinite of 3 entries"),
    (with_entry(THETA0, INF), "theta0 must be finite, got 1 NaN"),
    ([1.0, [2.0], 3.0], "theta0 must be a rectangular array of numbers"),
    (["a", "b", "c"], "theta0 must be real numbers, got dtype <U1"),
    (jax.random.key(0), "theta0 must be a rectangular array of numbers"),
]


@pytest.mark.parametrize("call", [run, expand])
@pytest.mark.parametrize(("theta0", "message"), STARTS)
def test_starts(call, theta0, message):
    check(lambda: call(theta0=theta0), message)


@rejects([
    (lambda: run(theta0=np.zeros((3, 3))), r"theta0 must have shape \(3,\) or \(4, 3\), got \(3, 3\)"),
    (lambda: expand(theta0=np.zeros((4, 3))), r"must be one common start \(params,\), got one row per agent \(4, 3\)"),
    (lambda: run(agents=agent_data(inputs=5)), "the model has 2 inputs, but the agents' data have 5"),
    (lambda: expand(agents=agent_data(outputs=2)), "the model has 1 outputs, but the agents' data have 2"),
    (lambda: expand(tolerance=0.0), "tolerance must be positive, got 0.0"),
    (lambda: expand(tolerance=1.0), "tolerance must be below 1, or nothing is left, got 1.0"),
    (lambda: expand(tolerance="small"), "tolerance must be a number, got 'small'"),
    (lambda: LIN.expand(np.zeros((3, 5))), r"x must have shape \(n, 2\), got \(3, 5\)"),
    (lambda: LIN.expand(with_entry(X[0], NAN)), "x must be finite"),
    (lambda: FLOW.outputs(np.zeros(2)), r"x must have shape \(n, 2\), got \(2,\)"),
    (lambda: RUN.outputs(np.zeros(2)), r"x must have shape \(n, 2\), got \(2,\)"),
    (lambda: RUN.outputs(with_entry(X[0], INF)), "x must be finite"),
])  # fmt: skip
def test_what_does_not_fit_together(call, message):
    check(call, message)


@pytest.mark.parametrize(("times", "message"), [
    (-1.0, "must not be negative, got -1.0"),
    ([0.0, NAN], "must be finite, got 1 NaN"),
    (INF, "must be finite, got 1 NaN or infinite"),
    ([[0.0, 1.0]], r"must be one-dimensional, got shape \(1, 2\)"),
    ([[0.0], [1.0, 2.0]], "must be a rectangular array of numbers"),
    ("now", "must be real numbers, got dtype <U3"),
    (None, "must be real numbers, got dtype object"),
])  # fmt: skip
def test_times(times, message):
    check(lambda: DYNAMICS.at(times), f"times {message}")
    check(lambda: DYNAMICS.after(times), f"counts {message}")


@pytest.mark.parametrize("counts", [1.0, [0, 1.5], True, [True, False]])
def test_counts(counts):
    check(lambda: DYNAMICS.after(counts), "counts must be whole numbers, got ")
    check(lambda: DYNAMICS.after(np.uint64(2**63)), r"counts must be below 2\*\*63, got 9223372036854775808")


@rejects([
    (lambda: update(theta=np.ones(4)), r"theta must have shape \(4, params\), got \(4,\)"),
    (lambda: update(theta=np.ones((3, 2))), r"theta must have shape \(4, params\), got \(3, 2\)"),
    (lambda: update(theta=np.full((4, 2), NAN)), "theta must be finite, got 8 NaN"),
    (lambda: update(W=with_entry(CYCLE, NAN)), "W must be finite"),
    (lambda: update(gradient=lambda theta: theta[0]), r"gradient must have shape \(4, 2\), got \(2,\)"),
    (lambda: update(gradient=lambda theta: theta * INF), "gradient must be finite, got 8 NaN"),
    (lambda: state_matrix(DGD(CYCLE), np.zeros((4, 2))), r"psi must have shape \(4, rank, rank\), got \(4, 2\)"),
    (lambda: state_matrix(DGD(CYCLE), np.zeros((4, 2, 3))), r"psi must have shape \(4, rank, rank\), got \(4, 2, 3\)"),
    (lambda: state_matrix(DGD(CYCLE), np.zeros((3, 2, 2))), r"psi must have shape \(4, rank, rank\), got \(3, 2, 2\)"),
    (lambda: state_matrix(DGD(CYCLE), np.full((4, 1, 1), NAN)), "psi must be finite, got 4 NaN"),
    (lambda: phi_1(NAN), "x must be finite, got 1 NaN"),
    (lambda: phi_1("one"), "x must be real numbers"),
    (lambda: geometric(NAN, 1), "eigenvalue must be finite, got 1 NaN"),
    (lambda: geometric("one", 1), "eigenvalue must be real numbers"),
    (lambda: geometric(0.5, -1), "count must be whole numbers, not negative, got -1"),
    (lambda: geometric(0.5, [1, 2.5]), r"count must be whole numbers, not negative, got \[1, 2.5\]"),
    (lambda: geometric(0.5, NAN), "count must be finite, got 1 NaN"),
])  # fmt: skip
def test_pieces(call, message):
    check(call, message)
