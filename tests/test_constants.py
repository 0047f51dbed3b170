"""Every tolerance, threshold and default that a docstring states: each test fails when it moves by a factor of ten."""

import numpy as np
import pytest
import scipy.sparse
from problems import CYCLE, affine, agent_data, network
from test_stability import circulating, from_features, random_blocks

from peerflow import compare, data, kernels, mixing, models, objectives, stability
from peerflow import modes as solvers
from peerflow.flows import predict
from peerflow.linearize import from_kernel, linearize
from peerflow.literal import LARGEST, flow_equation
from peerflow.methods import ATC, DGD
from peerflow.training import train

PERMUTED = np.roll(np.eye(4), 1, axis=1)
FORMS = [np.asarray, scipy.sparse.csr_array]


@pytest.mark.parametrize("form", FORMS)
def test_sums_of_w_may_miss_one_by_1e_10(form):
    mixing.doubly_stochastic(form(CYCLE + 0.9e-10 * np.eye(4)))
    with pytest.raises(ValueError, match="row 0 sums to"):
        mixing.doubly_stochastic(form(CYCLE + 1.1e-10 * np.eye(4)))


@pytest.mark.parametrize("form", FORMS)
def test_an_entry_of_w_may_be_negative_by_1e_12(form):
    mixing.doubly_stochastic(form(np.eye(4) + 0.9e-12 * (np.eye(4) - PERMUTED)))
    with pytest.raises(ValueError, match="negative entry"):
        mixing.doubly_stochastic(form(np.eye(4) + 1.1e-12 * (np.eye(4) - PERMUTED)))


@pytest.mark.parametrize("form", FORMS)
def test_w_is_symmetric_to_1e_14(form):
    skew = PERMUTED - PERMUTED.T
    assert mixing.is_symmetric(form(0.45e-14 * skew)) and not mixing.is_symmetric(form(0.55e-14 * skew))


def test_the_largest_seed_is_below_2_to_the_32():
    model = models.affine(inputs=1, outputs=1)
    assert model.init(2**32 - 1).shape == (2,)
    assert data.half_moons(agents=1, samples=2, seed=2**32 - 1).counts.tolist() == [2]
    with pytest.raises(ValueError, match="below 2"):
        model.init(2**32)


@pytest.mark.parametrize(("ratio", "rank"), [(0.9e-10, 1), (1.1e-10, 2)])
def test_linearize_drops_singular_values_up_to_1e_10_of_the_largest(ratio, rank):
    agents = data.AgentData([[[ratio], [-ratio]]], np.zeros((1, 2, 1)))
    assert linearize(models.affine(inputs=1, outputs=1), agents, np.zeros(2)).rank == rank


TWO = data.AgentData([[[0.0]], [[1.0]]], np.zeros((2, 1, 1)))


@pytest.mark.parametrize(("ratio", "rank"), [(0.9e-7, 1), (1.1e-7, 2)])
def test_from_kernel_drops_eigenvalues_up_to_the_square_of_1e_7(ratio, rank):
    assert from_kernel(np.diag([3.0, 3.0 * ratio**2]), np.zeros((2, 1)), TWO).rank == rank


def test_a_kernel_may_miss_symmetry_and_definiteness_by_1e_8():
    outputs0, skew = np.zeros((2, 1)), np.array([[0.0, 1.0], [0.0, 0.0]])
    for scale in (1.0, 1e6):
        from_kernel(scale * (np.eye(2) + 0.9e-8 * skew), outputs0, TWO)
        with pytest.raises(ValueError, match="kernel must be symmetric"):
            from_kernel(scale * (np.eye(2) + 1.1e-8 * skew), outputs0, TWO)
        from_kernel(scale * np.diag([1.0, -0.9e-8]), outputs0, TWO)
        with pytest.raises(ValueError, match="kernel must be positive semidefinite"):
            from_kernel(scale * np.diag([1.0, -1.1e-8]), outputs0, TWO)


@pytest.mark.parametrize("target", [-1e-3, -1e-9, 1 + 1e-9, 1.5])
@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy"])
def test_targets_outside_of_0_to_1_are_not_probabilities(name, target):
    objectives.loss_function(name, np.array([[0.0, 1.0]]))
    with pytest.raises(ValueError, match="needs targets from 0 to 1"):
        objectives.loss_function(name, np.array([[target, 0.0]]))


def test_probabilities_sum_to_one_within_1e_6():
    objectives.loss_function("cross_entropy", np.array([[0.5, 0.5 + 0.9e-6]]))
    with pytest.raises(ValueError, match="sum to 1"):
        objectives.loss_function("cross_entropy", np.array([[0.5, 0.5 + 1.1e-6]]))


def test_the_stacked_equation_has_at_most_2000_parameters():
    assert LARGEST == 2000
    for inputs, fits in ((LARGEST // 4 - 1, True), (LARGEST // 4, False)):
        model, agents = models.affine(inputs=inputs, outputs=1), agent_data(inputs)
        arguments = DGD(CYCLE), model, agents, np.zeros(model.size)
        if fits:
            assert len(flow_equation(*arguments, step_size=1.0).u) == LARGEST
        else:
            with pytest.raises(ValueError, match="at most 2000 parameters"):
                flow_equation(*arguments, step_size=1.0)


def test_errors_below_1e_10_are_rounding():
    assert compare.format_error(0.9e-10) == "< 1e-10" and compare.format_error(1.1e-10) == "1.1e-10"


@pytest.mark.parametrize(("s", "kind"), [(1 - 1.2e-6, solvers.Modes), (1 - 0.8e-6, solvers.Stepper)])
def test_a_congruence_costs_three_digits_at_most(s, kind):
    problem = affine()
    lin = linearize(problem.model, problem.agents, problem.theta0)
    assert isinstance(predict(ATC(CYCLE), lin, step_size=problem.step_size(s))._solution, kind)


def test_what_moves_slower_than_rounding_moves_at_its_rate():
    modes = solvers.Modes(np.diag([-1.0, 0.0]), np.array([[0.0, 1.0]]), np.eye(1))
    assert modes.at(np.array([1e30])).max() == pytest.approx(2.0**52)


def test_exact_propagators_go_on_to_1e_14():
    slow = solvers.Stepper(np.diag([-1.0, -3e-14]), np.array([[0.0, 3e-14]]))
    times = np.array([1e12, 1e13, 9.9e13])
    # Squaring forty-six times costs digits, about 1e-16 times t.
    np.testing.assert_allclose(slow.at(times)[:, 0, 1], -np.expm1(-3e-14 * times), rtol=0.1)
    np.testing.assert_array_equal(slow.at(np.array([1e17])), slow.at(np.array([1.01e14])))
    np.testing.assert_array_equal(slow.after(np.array([10**17])), slow.after(np.array([2 * 10**14])))


CROSSINGS = np.geomspace(1.3, 900.0, 40)


def test_a_crossing_is_found_to_1e_6():
    """Growth that jumps leaves the search no shape to use: it is as good as its tolerance, and no better."""
    found = [stability._first_crossing(lambda c, at=at: 1.0 if c > at else -1.0, 1.0, 1e-8, 1e3) for at in CROSSINGS]
    assert np.abs(np.array(found) / CROSSINGS - 1).max() <= 1e-6


def test_a_window_of_five_per_cent_is_not_missed():
    for at in CROSSINGS:
        found = stability._first_crossing(lambda c, at=at: 1.0 if at < c < 1.0501 * at else -1.0, 1.0, 1e-8, 1e3)
        assert found == pytest.approx(at, rel=1e-5)


@pytest.mark.parametrize(("s", "found"), [(900, True), (1100, False)])
def test_the_search_ends_at_s_1000(s, found):
    """All data alike and W = a I + (1 - a) P with P^3 = I: the flow of ATC loses stability at s = 1 + 1/|Re lambda|."""
    a = (0.5 - 1 / (s - 1)) / 1.5
    W = a * np.eye(3) + (1 - a) * np.roll(np.eye(3), 1, axis=1)
    lin = from_features(random_blocks(1).repeat(3, 0))
    limit = stability.step_size_limit(ATC(W), lin, time="continuous")
    unit = 3 / np.linalg.norm(random_blocks(1)[0], 2) ** 2
    assert limit == (pytest.approx(unit * s, rel=1e-6) if found else np.inf)


@pytest.mark.parametrize(("delta", "found"), [(2e-8, True), (2e-9, False)])
def test_where_there_is_no_bound_the_search_starts_at_s_1e_8(delta, found):
    """Beside agents who never mix no norm tells how the others do; these lose stability at s = 2 delta."""
    W = np.kron([[1.0, 0.0], [0.0, 0.0]], circulating(delta)) + np.kron([[0.0, 0.0], [0.0, 1.0]], np.eye(4))
    lin = from_features(random_blocks(1).repeat(8, 0))
    assert stability.sufficient_limit(DGD(W), lin) == 0
    unit = 3 / np.linalg.norm(random_blocks(1)[0], 2) ** 2
    assert stability.step_size_limit(DGD(W), lin) == (pytest.approx(2 * delta * unit, rel=0.01) if found else 0)


@pytest.mark.parametrize(("smallest", "definite"), [(-0.9e-10, True), (-1.1e-10, False)])
def test_an_eigenvalue_of_w_within_1e_10_of_zero_is_zero(smallest, definite):
    W = np.array([[1 + smallest, 1 - smallest], [1 - smallest, 1 + smallest]]) / 2
    lin = from_features(random_blocks(2))
    assert (stability.sufficient_limit(ATC(W), lin, time="continuous") == np.inf) == definite
    # With its rows exchanged it is as close to -1.
    near = np.array([[-smallest, 2 + smallest], [2 + smallest, -smallest]]) / 2
    assert (stability.sufficient_limit(DGD(near), lin) == 0) == definite


@pytest.mark.parametrize(("value", "kept"), [(-0.9e-13, 0.0), (-1.1e-13, -1.1e-13)])
def test_eigenvalues_up_to_1e_13_of_the_largest_are_rounding(value, kept):
    assert stability._lowest(np.diag([1.0, value])) == kept
    assert stability._lowest(1e9 * np.diag([1.0, value])) == pytest.approx(1e9 * kept)


def test_gradients_sum_to_zero_within_1e_6():
    gradients = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    gradients[0] += 3.6e-6
    stability.final_disagreement(DGD(CYCLE), gradients, step_size=1.0)
    gradients[0] += 0.8e-6
    with pytest.raises(ValueError, match="gradients must sum to zero"):
        stability.final_disagreement(DGD(CYCLE), gradients, step_size=1.0)


def test_the_series_of_tanh_leaves_1e_7():
    """At one large input, against a fine sum over one variable."""
    g = np.linspace(-9, 9, 20001)
    weight = np.exp(-(g**2) / 2) / np.exp(-(g**2) / 2).sum()
    slope = np.cosh(8 * g) ** -2.0
    expected = weight @ np.tanh(8 * g) ** 2 + 64 * (weight @ slope**2)
    have = kernels.infinite_width([[8.0]], activation="tanh", b_std=0.0).item()
    assert have == pytest.approx(expected, rel=1.5e-7)


def test_the_series_ends_between_inputs_of_norm_60_and_90():
    assert kernels._enough_terms(30.0) < 32768
    with pytest.raises(ValueError, match="does not converge for inputs of norm 90"):
        kernels.infinite_width([[90.0]])


def test_defaults_are_the_documented_ones():
    agents = data.half_moons(agents=2, samples=3)
    np.testing.assert_array_equal(agents.x, data.half_moons(agents=2, samples=3, noise=0.1, seed=0).x)
    shape = {"inputs": 2, "widths": (3,), "outputs": 1}
    stated = {"activation": "sigmoid", "w_std": 1.0, "b_std": 0.1}
    model, explicit = models.mlp(**shape), models.mlp(**shape, **stated)
    theta = model.init(0)
    np.testing.assert_array_equal(model.apply(theta, agents.x[0]), explicit.apply(theta, agents.x[0]))
    last, explicit = models.last_layer(theta, **shape), models.last_layer(theta, **shape, **stated)
    head = last.init(0)
    np.testing.assert_array_equal(last.apply(head, agents.x[0]), explicit.apply(head, agents.x[0]))
    x = agents.x[0]
    np.testing.assert_array_equal(kernels.infinite_width(x), kernels.infinite_width(x, hidden=1, **stated))


def test_the_objective_is_local_where_it_is_not_named(rule):
    method, named = rule(CYCLE), rule(CYCLE, objective="local")
    assert method.objective == named.objective == "local"
    assert (method.gain, rule(CYCLE, objective="global").gain) == (1.0, 1 / 4)


def test_the_time_is_discrete_where_it_is_not_named():
    problem = network()
    lin = linearize(problem.model, problem.agents, problem.theta0)
    for bound in (stability.step_size_limit, stability.sufficient_limit):
        assert bound(DGD(CYCLE), lin) == bound(DGD(CYCLE), lin, time="discrete") < np.inf


def test_every_call_takes_the_objective_of_its_method():
    """With Q times the step size the global objective is the local one, in training and in every prediction."""
    problem = network()
    arguments = problem.model, problem.agents
    lin = linearize(*arguments, problem.theta0)
    pairs = [(DGD(CYCLE), 0.5), (DGD(CYCLE, objective="global"), 2.0)]
    runs = [train(method, *arguments, problem.theta0, steps=3, step_size=step).losses for method, step in pairs]
    np.testing.assert_array_equal(*runs)
    systems = [predict(method, lin, step_size=step)._system.scale for method, step in pairs]
    np.testing.assert_array_equal(*systems)
    np.testing.assert_array_equal(systems[0], np.full(4, 0.5 / 3))
    loss = objectives.squared_error
    flows = [predict(method, lin, step_size=step, loss=loss).at([1.0]).coefficients for method, step in pairs]
    np.testing.assert_array_equal(*flows)
    printed = [flow_equation(method, *arguments, problem.theta0, step_size=step).A for method, step in pairs]
    np.testing.assert_array_equal(*printed)


def test_the_flow_for_any_loss_is_followed_to_1e_8_and_1e_10():
    problem = network()
    lin = linearize(problem.model, problem.agents, problem.theta0)
    # A callable is integrated even where there is a closed form.
    dynamics = predict(ATC(CYCLE), lin, step_size=0.5, loss=objectives.squared_error)
    default, stated = dynamics.at([5.0]), dynamics.at([5.0], rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(default.coefficients, stated.coefficients)
    for other in ({"rtol": 1e-7}, {"atol": 1e-9}):
        assert (dynamics.at([5.0], **other).coefficients != default.coefficients).any()
