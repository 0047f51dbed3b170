"""Errors between a run and its predictions, against plain loops and made-up numbers."""

import math
import re

import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from problems import assert_close, unequal_data
from rejection import check

from peerflow import compare as compare_module
from peerflow import data, mixing, models
from peerflow.compare import (
    Comparison,
    compare,
    error_table,
    format_error,
    format_range,
    largest_errors,
    loss_errors,
    range_table,
)
from peerflow.flows import predict
from peerflow.linearize import from_kernel, linearize
from peerflow.methods import DGD
from peerflow.training import train

STEPS = 5


@pytest.fixture(scope="module")
def lin():
    agents = data.half_moons(agents=3, samples=4, seed=1)
    model = models.mlp(inputs=2, widths=(8,), outputs=1)
    return linearize(model, agents, model.init(0))


@pytest.fixture(scope="module")
def W():
    return mixing.metropolis_hastings(nx.path_graph(3))


@pytest.fixture(scope="module")
def comparison(lin, W):
    return compare(DGD(W), lin, step_size=0.5, steps=STEPS)


def test_compare_is_train_and_predict_with_the_same_arguments(lin, W):
    method = DGD(W, objective="global")
    got = compare(method, lin, step_size=0.5, steps=STEPS)
    run = train(method, lin.model, lin.agents, lin.theta0, step_size=0.5, steps=STEPS)
    dynamics = predict(method, lin, step_size=0.5)
    np.testing.assert_array_equal(got.run.params, run.params)
    np.testing.assert_array_equal(got.flow.coefficients, dynamics.at(np.arange(STEPS + 1.0)).coefficients)
    np.testing.assert_array_equal(got.iteration.coefficients, dynamics.after(np.arange(STEPS + 1)).coefficients)


def absolute(f, y):
    """Return the pseudo-Huber loss of each sample, a loss of no name."""
    return jnp.sum(jnp.sqrt(1 + (f - y) ** 2) - 1, axis=-1)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", absolute])
def test_all_three_of_a_comparison_are_of_its_loss(loss, lin, W):
    method = DGD(W)
    got = compare(method, lin, step_size=0.5, steps=STEPS, loss=loss)
    run = train(method, lin.model, lin.agents, lin.theta0, step_size=0.5, steps=STEPS, loss=loss)
    dynamics = predict(method, lin, step_size=0.5, loss=loss)
    np.testing.assert_array_equal(got.run.losses, run.losses)
    np.testing.assert_array_equal(got.flow.losses, dynamics.at(np.arange(STEPS + 1.0)).losses)
    np.testing.assert_array_equal(got.iteration.losses, dynamics.after(np.arange(STEPS + 1)).losses)
    assert 0 < got.errors["iteration"].loss < got.errors["flow"].loss < 0.2


def test_without_curvature_unequal_agents_are_predicted_exactly(rule):
    model = models.affine(inputs=2, outputs=1)
    for weigh in ("agents", "samples"):
        lin = linearize(model, unequal_data(counts=(3, 1, 5), weigh=weigh), np.zeros(model.size))
        compared = compare(rule(np.full((3, 3), 1 / 3)), lin, step_size=0.3, steps=20)
        assert max(compared.errors["iteration"]) < 1e-12
        assert_close(compared.iteration.global_losses, compared.run.global_losses, tolerance=1e-11)


def test_errors_equal_plain_loops(comparison):
    run = comparison.run
    for prediction, got in (
        (comparison.flow, comparison.errors["flow"]),
        (comparison.iteration, comparison.errors["iteration"]),
    ):
        loss, params = 0.0, 0.0
        predicted = prediction.params
        for q in range(3):
            away, moved = 0.0, 0.0
            for k in range(STEPS + 1):
                observed = run.losses[k, q]
                loss = max(loss, abs(prediction.losses[k, q] - observed) / observed)
                away = max(away, math.dist(predicted[k, q], run.params[k, q]))
                moved = max(moved, math.dist(run.params[k, q], run.params[0, q]))
            params = max(params, away / moved)
        assert got.loss == pytest.approx(loss, rel=1e-12)
        assert got.params == pytest.approx(params, rel=1e-12)
        assert loss_errors(run, prediction).max() == got.loss


def test_the_discrete_solution_of_an_affine_model_has_no_error_and_the_flow_has():
    agents = data.half_moons(agents=3, samples=4, seed=1)
    model = models.affine(inputs=2, outputs=1)
    lin = linearize(model, agents, np.zeros(model.size))
    errors = compare(DGD(np.full((3, 3), 1 / 3)), lin, step_size=0.3, steps=20).errors
    assert errors["iteration"].loss < 1e-12 and errors["iteration"].params < 1e-12
    assert errors["flow"].loss > 1e-2


def test_tables_hold_the_numbers(comparison):
    flow, iteration = comparison.errors["flow"], comparison.errors["iteration"]
    head, _, row = error_table({"path": comparison}, first="graph").data.splitlines()
    assert head == "| graph | loss, flow | loss, iteration | parameters, flow | parameters, iteration |"
    assert row == f"| path | {flow.loss:.1e} | {iteration.loss:.1e} | {flow.params:.1e} | {iteration.params:.1e} |"

    mean = comparison.run.losses.mean(axis=1)
    head, _, row = range_table({"path": [comparison, comparison]}, first="graph").data.splitlines()
    columns = "start | fall | loss, flow | loss, iteration | parameters, flow | parameters, iteration"
    assert head == f"| graph | {columns} |"
    assert row.startswith(f"| path | {mean[0]:.2f} | {1 - mean[-1] / mean[0]:.0%} |")
    errors = flow.loss, iteration.loss, flow.params, iteration.params
    assert re.findall(r"[\d.]+(?=%)", row)[1:] == [f"{100 * error:.2f}" for error in errors]


def test_a_range_runs_from_the_smallest_to_the_largest(lin, W, comparison):
    other = compare(DGD(W), lin, step_size=0.1, steps=STEPS)
    low, high = sorted(c.errors["flow"].loss for c in (comparison, other))
    assert f"{low:.2%} to {high:.2%}" in range_table({"path": [comparison, other]}).data


@pytest.mark.parametrize(
    ("error", "text"), [(0.0, "< 1e-10"), (9.9e-11, "< 1e-10"), (1e-10, "1.0e-10"), (0.25, "2.5e-01")]
)
def test_rounding_is_printed_as_such(error, text):
    assert format_error(error) == text


def test_bad_input(lin, W, comparison):
    run = comparison.run
    dynamics = predict(DGD(W), lin, step_size=0.5)
    with pytest.raises(ValueError, match=r"steps 0, 1, \.\.\., 5, got 5 times from 0 to 4"):
        loss_errors(run, dynamics.after(np.arange(STEPS)))
    with pytest.raises(ValueError, match="steps 0, 1"):
        largest_errors(run, dynamics.at(np.arange(STEPS + 1) / 2))
    final = train(DGD(W), lin.model, lin.agents, lin.theta0, step_size=0.5, steps=STEPS, final_only=True)
    with pytest.raises(ValueError, match="final_only=False"):
        largest_errors(final, comparison.flow)
    still = train(DGD(W), lin.model, lin.agents, lin.theta0, step_size=0.5, steps=0)
    with pytest.raises(ValueError, match="parameters that move"):
        largest_errors(still, dynamics.after([0]))
    check(
        lambda: compare(DGD(W), lin.model, step_size=0.5, steps=STEPS), "lin must be of type Linearization, got Model"
    )
    check(lambda: compare(DGD, lin, step_size=0.5, steps=STEPS), "method must be of type Method, got Rule")
    with pytest.raises(ValueError, match=r"W must have shape \(3, 3\), got \(2, 2\)"):
        compare(DGD(np.eye(2)), lin, step_size=0.5, steps=STEPS)
    kernel = from_kernel(np.eye(12), np.zeros((12, 1)), lin.agents)
    with pytest.raises(ValueError, match="training needs a model, and this expansion was made from a kernel alone"):
        compare(DGD(W), kernel, step_size=0.5, steps=STEPS)
    with pytest.raises(ValueError, match=r"loss must be one of 'mse', 'cross_entropy', .* got 'hinge'"):
        compare(DGD(W), lin, step_size=0.5, steps=STEPS, loss="hinge")
    check(lambda: compare(DGD(W), lin, step_size=0.5, steps=2.5), r"steps must be a whole number, got 2\.5")
    for table, empty in ((error_table, {}), (range_table, {}), (range_table, {"path": []})):
        with pytest.raises(ValueError, match="at least one"):
            table(empty)
    with pytest.raises(ValueError, match="must not be negative"):
        format_error(-1.0)


def test_a_range_is_that_of_what_is_printed():
    assert format_range(np.array([[3.0, 1.26], [2.0, 2.5]]), ".1f") == "1.3 to 3.0"
    assert format_range([7, 7], "d") == "7"
    assert format_range([0.101, 0.099], ".0%") == "10%"
    check(lambda: format_range([], ".1f"), r"values must hold at least one, got shape \(0,\)")


def test_a_loss_of_zero_has_no_relative_error(lin, comparison):
    run = comparison.run
    zero = compare_module.Run(np.zeros_like(run.losses), run.params, run.counts, run.model, run.agents, run.loss)
    with pytest.raises(ValueError, match="above zero"):
        _ = Comparison(zero, comparison.flow, comparison.iteration).errors


def test_movement_by_rounding_is_no_movement(W):
    """A network without biases at the origin has no gradient; averaging equal parameters still rounds."""
    model = models.mlp(inputs=2, widths=(5,), outputs=1, activation="tanh", b_std=0.0)
    agents = data.AgentData(np.zeros((len(W), 3, 2)), np.ones((len(W), 3, 1)))
    still = compare(DGD(W), linearize(model, agents, model.init(0)), step_size=1.0, steps=20)
    assert (still.run.params != still.run.params[0]).any()
    with pytest.raises(ValueError, match="need parameters that move"):
        largest_errors(still.run, still.iteration)
