"""The trust horizon against its definition in plain numpy, and where it is known."""

import numpy as np
import pytest
from problems import CYCLE, INPUTS, affine, assert_close, network
from rejection import NAN, check, rejects

from peerflow import ATC, CTA, DGD, from_kernel, kernels, linearize, predict, train, trust

PROBLEM = network(outputs=2, widths=(16,))
LIN = linearize(PROBLEM.model, PROBLEM.agents, PROBLEM.theta0)
STEP = PROBLEM.step_size(0.5)
DYNAMICS = predict(DGD(CYCLE), LIN, step_size=STEP)


def literal(params, linear_params, x):
    """Return the errors by the definition: the network's outputs at some parameters, the linear model's at others."""
    errors = []
    for row, other in zip(params, linear_params, strict=True):
        linear = PROBLEM.linear_outputs(other[None], x)[0]
        real = np.array([PROBLEM.formula(theta, x) for theta in row])
        start = PROBLEM.formula(PROBLEM.theta0, x)
        errors.append([np.linalg.norm(r - f) / np.linalg.norm(f - start) for r, f in zip(real, linear, strict=True)])
    return np.array(errors)


@pytest.mark.parametrize("rule", [DGD, ATC, CTA])
@pytest.mark.parametrize("other", [False, True])
def test_the_errors_are_those_of_the_definition(rule, other, rng):
    dynamics = predict(rule(CYCLE), LIN, step_size=STEP)
    # Within the data's span only: of other inputs' Jacobians a basis keeps no more.
    x = PROBLEM.agents.x[1] if other else np.concatenate(PROBLEM.agents.x)
    run = train(rule(CYCLE), PROBLEM.model, PROBLEM.agents, PROBLEM.theta0, step_size=STEP, steps=20)
    given = x if other else None
    estimate, seen = trust.horizon(dynamics, given, steps=20), trust.observed(run, dynamics, given)
    assert estimate.counts.tolist() == seen.counts.tolist() == [1, 2, 3, 4, 6, 8, 11, 16, 20]
    linear = dynamics.after(estimate.counts).params
    assert_close(estimate.errors, literal(linear, linear, x), tolerance=1e-9)
    assert_close(seen.errors, literal(run.params[seen.counts], linear, x), tolerance=1e-9)


def test_training_has_not_departed_at_the_first_step():
    run = train(DGD(CYCLE), PROBLEM.model, PROBLEM.agents, PROBLEM.theta0, step_size=STEP, steps=3)
    seen, estimate = trust.observed(run, DYNAMICS), trust.horizon(DYNAMICS, steps=3)
    assert_close(seen.errors[0], estimate.errors[0], tolerance=1e-9)
    assert np.abs(seen.errors[2] / estimate.errors[2] - 1).min() > 1e-3


def test_the_error_is_of_first_order_in_what_moves():
    """The expansion errs quadratically in a distance to which the outputs' movement is proportional."""
    whole, half = (trust.horizon(predict(DGD(CYCLE), LIN, step_size=s * STEP), steps=1).errors for s in (2e-3, 1e-3))
    assert_close(whole / half, np.full_like(whole, 2.0), tolerance=0.02)


def test_other_losses_and_a_linear_network():
    agents, model, theta0 = affine().agents, affine().model, affine().theta0
    dynamics = predict(
        DGD(CYCLE), linearize(model, agents, theta0), step_size=0.1, loss=lambda f, y: abs(f - y).sum(-1)
    )
    found = trust.horizon(dynamics, tolerance=1e-9, steps=30)
    assert np.isinf(found.steps).all() and found.errors.max() < 1e-9


def test_nothing_moves_at_an_optimum():
    agents = type(PROBLEM.agents)(
        PROBLEM.agents.x, np.asarray([PROBLEM.formula(PROBLEM.theta0, x) for x in PROBLEM.agents.x])
    )
    lin = linearize(PROBLEM.model, agents, PROBLEM.theta0)
    lin.residuals0[:] = 0.0
    found = trust.horizon(predict(DGD(CYCLE), lin, step_size=STEP), steps=4)
    assert (found.errors == 0).all() and np.isinf(found.steps).all()


def test_the_horizon_is_where_the_error_crosses_the_tolerance():
    found = trust.horizon(DYNAMICS, steps=500, tolerance=1e-2)
    for q, step in enumerate(found.steps):
        above = found.errors[:, q] > 1e-2
        assert above.any()
        at = above.argmax()
        assert found.counts[max(at - 1, 0)] <= step <= found.counts[at]
    assert (trust.horizon(DYNAMICS, steps=500, tolerance=1e3).steps == np.inf).all()
    assert (trust.horizon(DYNAMICS, steps=500, tolerance=1e-12).steps == 1).all()
    wider = trust.horizon(DYNAMICS, steps=500, tolerance=2e-2).steps
    assert (wider >= found.steps).all()


def test_the_crossing_of_a_power_law_is_exact():
    counts = trust._ladder(1000)
    assert counts[0] == 1 and counts[-1] == 1000 and (np.diff(counts) > 0).all()
    assert counts[-3:-1].tolist() == [512, 724]
    assert_close(trust._crossing(counts, 1e-3 * counts**0.5, 0.01), 100.0)


def test_a_diverging_prediction_is_not_trusted():
    dynamics = predict(DGD(CYCLE), LIN, step_size=1e3 * STEP)
    found = trust.horizon(dynamics, steps=1000)
    assert (found.steps == 1).all() and not np.isnan(found.errors).any()


RUN = train(DGD(CYCLE), PROBLEM.model, PROBLEM.agents, PROBLEM.theta0, step_size=STEP, steps=2)
LAST = train(DGD(CYCLE), PROBLEM.model, PROBLEM.agents, PROBLEM.theta0, step_size=STEP, steps=2, final_only=True)
STILL = train(DGD(CYCLE), PROBLEM.model, PROBLEM.agents, PROBLEM.theta0, step_size=STEP, steps=0)
X = np.concatenate(PROBLEM.agents.x)
KERNEL = kernels.empirical(PROBLEM.model, PROBLEM.theta0, X)
BARE = from_kernel(KERNEL, PROBLEM.formula(PROBLEM.theta0, X), PROBLEM.agents)


@rejects([
    (lambda: trust.horizon(LIN), "dynamics must be of type Dynamics, got Linearization"),
    (lambda: trust.horizon(predict(DGD(CYCLE), BARE, step_size=STEP)), "made from a kernel alone"),
    (lambda: trust.horizon(DYNAMICS, tolerance=0), "tolerance must be positive, got 0.0"),
    (lambda: trust.horizon(DYNAMICS, steps=0), "steps must be at least 1, got 0"),
    (lambda: trust.horizon(DYNAMICS, np.zeros((3, INPUTS + 1))), "x must have shape"),
    (lambda: trust.horizon(DYNAMICS, np.full((3, INPUTS), NAN)), "x must be finite"),
    (lambda: trust.observed(DYNAMICS, DYNAMICS), "run must be of type Run, got Dynamics"),
    (lambda: trust.observed(LAST, DYNAMICS), "train with final_only=False"),
    (lambda: trust.observed(STILL, DYNAMICS), "the run's steps must be at least 1, got 0"),
    (lambda: trust.observed(RUN, DYNAMICS, tolerance=-1.0), "tolerance must be positive, got -1.0"),
])  # fmt: skip
def test_bad_input(call, message):
    check(call, message)
