"""What must hold of the closed forms whatever the network; the settings take all their paths."""

import numpy as np
import pytest
import reference
from problems import AGENTS, CYCLE, RING, SAMPLES, assert_close, network

from peerflow.data import AgentData
from peerflow.flows import predict
from peerflow.linearize import linearize
from peerflow.methods import ATC, CTA

TIMES = np.array([0.0, 1 / 3, 1.0, np.e, 17.0, 40.7])
COUNTS = np.array([0, 1, 2, 5, 33])
PROBLEM = network(outputs=2)

pytestmark = pytest.mark.parametrize(("W", "s"), [(CYCLE, 0.6), (CYCLE, 1.4), (RING, 0.6)], ids=["0", "1", "ring"])


@pytest.fixture(scope="module")
def lin():
    return linearize(PROBLEM.model, PROBLEM.agents, PROBLEM.theta0)


def test_at_zero_nothing_has_moved(lin, rule, W, s):
    dynamics = predict(rule(W), lin, step_size=PROBLEM.step_size(s))
    for start in (dynamics.at(0.0), dynamics.after(0)):
        assert_close(start.params, np.tile(PROBLEM.theta0, (1, AGENTS, 1)), tolerance=0)


def test_atc_is_w_times_cta(lin, W, s):
    atc, cta = (predict(rule(W), lin, step_size=PROBLEM.step_size(s)) for rule in (ATC, CTA))
    assert_close(atc.at(TIMES).params, W @ cta.at(TIMES).params)
    assert_close(atc.after(COUNTS).params, W @ cta.after(COUNTS).params)


def test_semigroup(lin, rule, W, s):
    """The state at t, carried on for h by the printed equation, is the state at t + h."""
    halfway, end = predict(rule(W), lin, step_size=PROBLEM.step_size(s)).at([3.7, 3.7 + 5.1]).params
    A, u = PROBLEM.literal(rule.name, W, PROBLEM.step_size(s))
    assert_close(end.reshape(-1), reference.solve_flow(A, u, halfway.reshape(-1), [5.1])[0])


def test_derivative_is_equation_8(lin, rule, W, s):
    h, step_size = 1e-3, PROBLEM.step_size(s)
    times = [2 - 2 * h, 2 - h, 2, 2 + h, 2 + 2 * h]
    theta = predict(rule(W), lin, step_size=step_size).at(times).params
    slope = (theta[0] - 8 * theta[1] + 8 * theta[3] - theta[4]) / (12 * h)

    def gradient(q, at):
        f0, J = PROBLEM.linear(PROBLEM.agents.x[q])
        return J.T @ (f0.reshape(-1) + J @ (at - PROBLEM.theta0) - PROBLEM.agents.y[q].reshape(-1)) / SAMPLES

    step = reference.iterate(rule.name, W, gradient, theta[2], step_size, 1)[1]
    # Five points are good to h^4 = 1e-12; dividing by h turns rounding, 1e-15, into 1e-12 of the parameters.
    np.testing.assert_allclose(slope, step - theta[2], rtol=0, atol=2e-11)


def test_global_objective_is_the_local_one_with_a_step_q_times_smaller(lin, rule, W, s):
    step_size = PROBLEM.step_size(s)
    whole = predict(rule(W, objective="global"), lin, step_size=AGENTS * step_size)
    local = predict(rule(W), lin, step_size=step_size)
    assert_close(whole.at(TIMES).params, local.at(TIMES).params)
    assert_close(whole.after(COUNTS).params, local.after(COUNTS).params)


def test_times_come_in_any_order_and_may_repeat_or_be_none(lin, rule, W, s):
    dynamics = predict(rule(W), lin, step_size=PROBLEM.step_size(s))
    order = np.array([4, 0, 2, 2, 1])
    assert_close(dynamics.at(TIMES[order]).params, dynamics.at(TIMES).params[order])
    assert_close(dynamics.after(COUNTS[order]).params, dynamics.after(COUNTS).params[order])
    assert dynamics.at([]).params.shape == (0, AGENTS, PROBLEM.model.size)


def test_relabelling_agents_permutes_everything(lin, rule, W, s):
    order, step_size = np.array([2, 0, 3, 1]), PROBLEM.step_size(s)
    agents = AgentData(PROBLEM.agents.x[order], PROBLEM.agents.y[order])
    relabelled = linearize(PROBLEM.model, agents, PROBLEM.theta0)
    moved = predict(rule(W[np.ix_(order, order)]), relabelled, step_size=step_size)
    original = predict(rule(W), lin, step_size=step_size)
    for a, b in ((moved.at(TIMES), original.at(TIMES)), (moved.after(COUNTS), original.after(COUNTS))):
        assert_close(a.params, b.params[:, order])
        assert_close(a.losses, b.losses[:, order])
