"""Step-size limits against dense state matrices of the printed equations, real training, and known eigenvalues."""

import networkx as nx
import numpy as np
import pytest
import reference
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import AGENTS, CYCLE, RING, SAMPLES, STAR, affine, agent_data, assert_close, moons, network
from rejection import unchecked

from peerflow import data, models, stability
from peerflow.flows import predict
from peerflow.linearize import Linearization, linearize
from peerflow.methods import ATC, CTA, DGD
from peerflow.mixing import metropolis_hastings
from peerflow.training import train

SWAP = np.array([[0.0, 1.0], [1.0, 0.0]])
THREE = np.roll(np.eye(3), 1, axis=1)
EVEN = (np.roll(np.eye(4), 1, axis=1) + np.roll(np.eye(4), -1, axis=1)) / 2
"""The weights 1/max(d_q, d_r) on a cycle: the eigenvalues are 1, 0, 0 and -1."""
PATH = metropolis_hastings(nx.path_graph(4))
LAZY = (np.eye(4) + CYCLE) / 2
"""Positive definite, with the smallest eigenvalue 1/3."""
TIMES = ["discrete", "continuous"]


def from_features(blocks) -> Linearization:
    """Return a linearization whose agents have these Jacobians, (agents, samples, params)."""
    blocks = np.asarray(blocks, float)
    U, s, Vt = np.linalg.svd(blocks.reshape(-1, blocks.shape[2]), full_matrices=False)
    rank = int((s > 1e-10 * s[0]).sum())
    features = (U * s)[:, :rank].reshape(*blocks.shape[:2], rank)
    model = models.affine(inputs=blocks.shape[2] - 1, outputs=1)
    agents = agent_data(blocks.shape[2] - 1, agents=len(blocks), samples=blocks.shape[1])
    start = np.zeros(model.size), np.zeros(blocks.shape[:2])
    return Linearization(model, agents, *start, features, s[:rank], Vt[:rank].T, None)


def random_blocks(agents, samples=3, params=5, seed=0):
    return np.random.default_rng(seed).normal(size=(agents, samples, params))


def joined(link, group):
    """Return two copies of this W, joined by a link of this weight between their first agents."""
    W = np.kron(np.eye(2), group)
    edge = np.zeros(len(W))
    edge[[0, len(group)]] = 1, -1
    return W - link * np.outer(edge, edge)


def circulating(delta, agents=4):
    """Return W = (1 - delta) P + delta P^2 for the agents' cyclic shift P: nobody keeps anything of its own."""
    shift = np.roll(np.eye(agents), 1, axis=1)
    return (1 - delta) * shift + delta * shift @ shift


def dense_growth(name, W, blocks, gain, time):
    """Return how fast the fastest mode of (12)'s dense A grows, over all parameters of all agents."""
    zero = np.zeros(blocks.shape[0] * blocks.shape[1])
    A, _ = reference.flow(name, W, list(blocks), zero, zero, np.zeros(blocks.shape[2]), gain)
    spectrum = np.linalg.eigvals(A)
    return spectrum.real.max() if time == "continuous" else np.abs(1 + spectrum).max() - 1


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("W", [CYCLE, STAR, RING, EVEN, PATH, SWAP, THREE, np.eye(3), np.eye(1)], ids=str)
def test_the_dense_printed_matrix_is_stable_up_to_the_limit_only(rule, W, time):
    for seed in range(3):
        blocks = random_blocks(len(W), seed=seed)
        lin = from_features(blocks)
        limit = stability.step_size_limit(rule(W), lin, time=time)
        sufficient = stability.sufficient_limit(rule(W), lin, time=time)
        assert 0 <= sufficient <= limit * (1 + 1e-9)
        samples, largest = blocks.shape[1], np.linalg.norm(blocks, 2, axis=(1, 2)).max() ** 2
        if np.isinf(limit):
            steps = samples / largest * np.array([0.1, 1.5, 3.0, 10.0, 1000.0])
        else:
            steps = limit * np.array([0.05, 0.3, 0.6, 0.8, 0.9, 0.99])
            above = max(1.01 * limit, 1e-2 * samples / largest)
            assert dense_growth(rule.name, W, blocks, above / samples, time) > 1e-6
        for step in steps[steps > 0]:
            assert dense_growth(rule.name, W, blocks, step / samples, time) < 1e-9 * max(1, step)


@st.composite
def mixing_matrices(draw):
    """Draw symmetric groups that a weak link joins, lazy or not, or any mean of permutations."""
    link = 10.0 ** draw(st.integers(-12, -1))
    kind = draw(st.sampled_from(["groups", "lazy groups", "permutations", "circulating"]))
    if kind == "circulating":
        return circulating(link, draw(st.integers(3, 5)))
    if kind == "permutations":
        orders = draw(st.lists(st.permutations(range(4)), min_size=2, max_size=3))
        weights = np.array([1 - link * (len(orders) - 1), *[link] * (len(orders) - 1)])
        return sum(weight * np.eye(4)[order] for weight, order in zip(weights, orders, strict=True))
    W = joined(link, draw(st.sampled_from([np.full((3, 3), 1 / 3), CYCLE, STAR, (np.eye(2) + SWAP) / 2])))
    return W if kind == "groups" else (np.eye(len(W)) + W) / 2


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(mixing_matrices(), st.sampled_from([DGD, ATC, CTA]), st.sampled_from(TIMES), st.booleans(), st.integers(0, 9))
def test_no_limit_is_below_the_sufficient_one_nor_beyond_the_dense_matrix(W, rule, time, alike, seed):
    blocks = random_blocks(len(W), seed=seed)
    if alike:
        blocks = blocks[:1].repeat(len(W), 0)
    lin = from_features(blocks)
    limit = stability.step_size_limit(rule(W), lin, time=time)
    sufficient = stability.sufficient_limit(rule(W), lin, time=time)
    assert sufficient <= limit
    for step in (min(sufficient, 1e3), 0.7 * min(limit, 1e3)):
        if step > 0:
            assert dense_growth(rule.name, W, blocks, step / SAMPLES, time) < 1e-9 * max(1, step)
    # Closer to zero, what grows just above the limit grows by rounding.
    if 1e-4 < limit < np.inf:
        assert dense_growth(rule.name, W, blocks, 1.01 * limit / SAMPLES, time) > 1e-10


@pytest.mark.parametrize("link", [1e-3, 1e-6, 1e-9, 1e-11, 0.0])
def test_a_weak_link_leaves_the_flow_of_lazy_groups_stable_for_every_step(link):
    W = (np.eye(8) + joined(link, np.full((4, 4), 1 / 4))) / 2
    lin = from_features(random_blocks(8))
    for rule in (ATC, CTA):
        assert stability.sufficient_limit(rule(W), lin, time="continuous") == np.inf
        assert stability.step_size_limit(rule(W), lin, time="continuous") == np.inf


@pytest.mark.parametrize("link", [1e-3, 1e-6, 1e-9])
def test_a_weak_link_hides_no_limit_of_groups_that_are_not_lazy(link):
    """Each group is a swap with the eigenvalue -0.8, so the flow of ATC has s = 1 + 1/0.8 where all data agree."""
    lin = from_features(random_blocks(1).repeat(4, 0))
    unit = SAMPLES / np.linalg.norm(random_blocks(1)[0], 2) ** 2
    W = joined(link, np.array([[0.1, 0.9], [0.9, 0.1]]))
    s = 1 - 1 / np.linalg.eigvalsh(W)[0]
    limit = stability.step_size_limit(ATC(W), lin, time="continuous")
    assert limit == pytest.approx(unit * s, rel=1e-6)


@pytest.mark.parametrize("delta", [1e-2, 1e-4, 1e-6])
def test_who_keeps_nothing_of_its_own_has_a_small_limit_but_not_zero(delta):
    """With four agents P has the eigenvalue -1, W has 2 delta - 1, and W - c Psi reaches -1 at s = 2 delta."""
    lin = from_features(random_blocks(1).repeat(4, 0))
    unit = SAMPLES / np.linalg.norm(random_blocks(1)[0], 2) ** 2
    limit = stability.step_size_limit(DGD(circulating(delta)), lin)
    assert limit == pytest.approx(unit * 2 * delta, rel=2e-4)
    assert 0.1 * limit < stability.sufficient_limit(DGD(circulating(delta)), lin) < limit


@pytest.mark.parametrize("W", [SWAP, EVEN, (np.roll(np.eye(6), 1, 1) + np.roll(np.eye(6), -1, 1)) / 2, THREE,
                               circulating(0.0), np.kron(np.eye(2), THREE)], ids=str)  # fmt: skip
def test_what_a_rotation_leaves_unmixed_has_no_limit_but_zero(W):
    lin = from_features(random_blocks(len(W)))
    assert stability.step_size_limit(DGD(W), lin) == stability.sufficient_limit(DGD(W), lin) == 0


def test_a_w_that_mixes_only_in_its_powers_has_a_limit_though_no_bound():
    """W swaps two pairs and averages within them: its norm on disagreement is one, its spectral radius is not."""
    average = np.kron(np.eye(2), np.full((2, 2), 0.5))
    W = average[[0, 2, 1, 3]]
    blocks = random_blocks(4)
    lin = from_features(blocks)
    assert np.linalg.norm(W - 1 / 4, 2) == pytest.approx(1) and np.abs(np.linalg.eigvals(W - 1 / 4)).max() < 0.6
    W = np.eye(4)[[1, 0, 3, 2]] @ W
    assert stability.sufficient_limit(DGD(W), lin) == 0
    limit = stability.step_size_limit(DGD(W), lin)
    growth = [dense_growth("DGD", W, blocks, f * limit / SAMPLES, "discrete") for f in (0.1, 0.5, 0.99, 1.01)]
    assert max(growth[:3]) < 1e-9 and growth[3] > 1e-6


@pytest.mark.parametrize("W", [RING, THREE, circulating(0.1), circulating(1e-3), STAR], ids=str)
def test_below_the_sufficient_bounds_the_iteration_is_a_contraction(W):
    """This is how they are proven, and more than a spectral radius up to one."""
    for seed in range(5):
        blocks = random_blocks(len(W), seed=seed)
        step = stability.sufficient_limit(DGD(W), from_features(blocks)) / SAMPLES
        psi = [block.T @ block for block in blocks]
        step_matrix = np.kron(W, np.eye(5)) - step * scipy.linalg.block_diag(*psi)
        assert np.linalg.norm(step_matrix, 2) < 1 + 1e-12


@pytest.mark.parametrize("W", [CYCLE, STAR, RING], ids=["cycle", "star", "ring"])
def test_real_training_is_bounded_below_the_limit_and_blows_up_above(rule, W):
    problem = affine()
    lin = linearize(problem.model, problem.agents, problem.theta0)
    limit = stability.step_size_limit(rule(W), lin)
    norms = []
    for factor in (0.99, 1.01):
        settings = {"step_size": factor * limit, "steps": 4000, "final_only": True}
        run = train(rule(W), problem.model, problem.agents, problem.theta0, **settings)
        norms.append(np.abs(run.params).max())
    assert norms[0] < 100
    assert norms[1] > 1e6


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("W", [CYCLE, STAR, EVEN, PATH, SWAP], ids=["cycle", "star", "even", "path", "swap"])
def test_the_sufficient_bound_is_the_limit_where_agents_agree(rule, W, time):
    lin = from_features(random_blocks(1).repeat(len(W), 0))
    limit = stability.step_size_limit(rule(W), lin, time=time)
    sufficient = stability.sufficient_limit(rule(W), lin, time=time)
    assert limit == pytest.approx(sufficient, rel=2e-6, abs=1e-12)


def test_the_bounds_are_those_of_the_table():
    """c lambda_max = s: the iteration's bounds on s, and the flow's."""
    lin = from_features(random_blocks(4))
    unit = SAMPLES / max(np.linalg.norm(block, 2) ** 2 for block in random_blocks(4))
    table = [
        (DGD, CYCLE, "discrete", 2 / 3),
        (DGD, STAR, "discrete", 1.0),
        (DGD, RING, "discrete", 2 * 0.5),
        (ATC, CYCLE, "discrete", 2.0),
        (CTA, RING, "discrete", 2.0),
        (DGD, LAZY, "discrete", 4 / 3),
        (DGD, RING, "continuous", np.inf),
        (DGD, circulating(0.1), "discrete", (1 - 0.82**0.5) / 2),
        (ATC, STAR, "continuous", np.inf),
        (CTA, CYCLE, "continuous", 4.0),
        (ATC, RING, "continuous", 2.0),
    ]
    for rule, W, time, s in table:
        assert stability.sufficient_limit(rule(W), lin, time=time) == pytest.approx(s * unit), (W, time)


@pytest.mark.parametrize(
    ("W", "curvature", "expected"),
    [(SWAP, 3, [-3, 1]), ([[0.1, 0.9], [0.9, 0.1]], 4, [-4, 1.4]), (THREE, 4, [-4, 0.5 - 1.5 * 3**0.5 * 1j])],
)
def test_known_spectra_of_unstable_flows(W, curvature, expected):
    # Inputs 1 and -1 beside the constant: J_q^T J_q = 2 I, and D = 2, so the step size is the curvature.
    W = np.asarray(W)
    lin = from_features(np.tile([[1.0, 1.0], [-1.0, 1.0]], (len(W), 1, 1)))
    for rule in (ATC, CTA):
        got = predict(rule(W), lin, step_size=curvature).eigenvalues
        for value in expected:
            assert np.isclose(got, value, atol=1e-6).sum() == 2
        abscissa = stability.spectral_abscissa(rule(W), lin, step_size=curvature)
        assert abscissa == pytest.approx(np.real(expected).max(), abs=1e-6)
        assert curvature > stability.step_size_limit(rule(W), lin, time="continuous")
    assert stability.spectral_abscissa(DGD(W), lin, step_size=curvature) < 0


def test_an_alternating_mode_leaves_dgd_no_step_but_not_atc():
    lin = from_features(random_blocks(4))
    assert stability.step_size_limit(DGD(EVEN), lin) == 0
    assert stability.step_size_limit(ATC(EVEN), lin) > stability.sufficient_limit(ATC(EVEN), lin) > 0
    assert stability.spectral_radius(ATC(EVEN), lin, step_size=stability.sufficient_limit(ATC(EVEN), lin)) < 1


def test_an_alternating_mode_among_agents_that_learn_nothing_is_no_obstacle():
    W = np.zeros((3, 3))
    W[:2, :2], W[2, 2] = SWAP, 1
    blocks = random_blocks(3)
    blocks[:2] = 0
    s = stability.step_size_limit(DGD(W), from_features(blocks)) / SAMPLES * np.linalg.norm(blocks[2], 2) ** 2
    assert s == pytest.approx(2)


def test_one_agent_is_gradient_descent(rule):
    blocks = random_blocks(1)
    lin = from_features(blocks)
    limit = stability.step_size_limit(rule(np.eye(1)), lin)
    assert limit == pytest.approx(2 * SAMPLES / np.linalg.norm(blocks[0], 2) ** 2)
    assert stability.step_size_limit(rule(np.eye(1)), lin, time="continuous") == np.inf


@pytest.mark.parametrize("time", TIMES)
def test_the_global_objective_allows_q_times_the_step(time):
    lin = from_features(random_blocks(4))
    for bound in (stability.step_size_limit, stability.sufficient_limit):
        local, total = (bound(ATC(CYCLE, objective=name), lin, time=time) for name in ("local", "global"))
        assert total == pytest.approx(4 * local)


def test_an_indefinite_w_is_harmless_to_the_flow_of_agents_with_orthogonal_data():
    """F W F^T has blocks w_qr J_q J_r^T, here only the diagonal ones: positive, though W has the eigenvalue -1/3."""
    lin = from_features(np.eye(4)[:, None, :])
    for rule in (ATC, CTA):
        assert stability.step_size_limit(rule(CYCLE), lin, time="continuous") == np.inf
        assert stability.sufficient_limit(rule(CYCLE), lin, time="continuous") < np.inf
        for step in 10.0 ** np.arange(-2, 7):
            assert stability.spectral_abscissa(rule(CYCLE), lin, step_size=step) < 0


def test_only_an_indefinite_w_and_atc_or_cta_need_a_search(monkeypatch, rule):
    monkeypatch.setattr(stability, "_first_crossing", None)
    lin = from_features(random_blocks(4))
    for time in TIMES:
        assert stability.step_size_limit(rule(STAR), lin, time=time) > 0
        assert stability.step_size_limit(DGD(CYCLE), lin, time=time) > 0
    assert stability.step_size_limit(rule(CYCLE), from_features(np.eye(4)[:, None, :]), time="continuous") > 0


def test_where_no_parameter_matters_every_step_is_stable(rule):
    model = models.mlp(inputs=2, widths=(3,), outputs=1, activation="relu", b_std=0.0)
    lin = linearize(model, data.AgentData(np.zeros((4, 2, 2)), np.ones((4, 2, 1))), model.init(0))
    for bound in (stability.step_size_limit, stability.sufficient_limit):
        assert bound(rule(CYCLE), lin) == np.inf
    assert lin.null_directions.shape == (model.size, model.size)


@pytest.mark.parametrize("W", [CYCLE, RING, THREE, EVEN], ids=["cycle", "ring", "three", "even"])
def test_proposition_1_needs_no_minimality(W):
    lin = from_features(random_blocks(len(W), params=40))  # many more parameters than samples
    for step in (1e-2, 1.0, 1e3):
        assert stability.numerical_abscissa(DGD(W), lin, step_size=step) < -1e-6
        abscissa = stability.spectral_abscissa(DGD(W), lin, step_size=step)
        assert abscissa <= stability.numerical_abscissa(DGD(W), lin, step_size=step) + 1e-9


@pytest.mark.parametrize("W", [CYCLE, RING, np.eye(4)], ids=["cycle", "ring", "alone"])
def test_rounding_makes_nothing_unstable_that_is_proven_stable(rule, W):
    """The slowest modes of a wide network move at rates of rounding, of either sign."""
    lin, settings = moons(), {"step_size": 1.0}
    assert np.linalg.eigvals(predict(rule(W), lin, **settings).system()[0]).real.max() > -1e-15
    assert stability.spectral_abscissa(rule(W), lin, **settings) <= 0
    assert stability.numerical_abscissa(rule(W), lin, **settings) <= 0
    assert stability.spectral_radius(rule(W), lin, **settings) <= 1


def test_only_what_is_proven_is_clipped():
    lin = moons()
    for rule in (DGD, ATC, CTA):
        assert stability.spectral_radius(rule(CYCLE), lin, step_size=100.0) > 2
    for rule in (ATC, CTA):
        assert stability.spectral_abscissa(rule(CYCLE), lin, step_size=100.0) > 1
        assert stability.numerical_abscissa(rule(CYCLE), lin, step_size=100.0) > 1
    # The flow of a star's W is stable for every step, but deviations grow at first.
    assert stability.spectral_abscissa(ATC(STAR), lin, step_size=1000.0) <= 0
    assert stability.numerical_abscissa(ATC(STAR), lin, step_size=1000.0) > 1
    assert stability.numerical_abscissa(DGD(CYCLE), lin, step_size=1000.0) <= 0


def test_null_directions_refute_the_proof_without_an_idle_parameter():
    lin = from_features(np.ones((2, 1, 2)))  # J_q = [1 1]: both parameters move the output
    v = lin.null_directions
    assert_close(np.abs(v), np.full((2, 1), 0.5**0.5))
    A, _ = reference.flow("DGD", SWAP, [np.ones((1, 2))] * 2, np.zeros(2), np.zeros(2), np.zeros(2), 0.7)
    assert_close(np.append(A @ np.tile(v[:, 0], 2), 1), [0, 0, 0, 0, 1])
    problem = network()
    lin = linearize(problem.model, problem.agents, problem.theta0)
    v = lin.null_directions
    assert v.shape == (problem.model.size, problem.model.size - lin.rank)
    jacobian = problem.linear(problem.agents.pooled()[0])[1]
    assert_close(np.append(jacobian @ v, 1), np.append(np.zeros((len(jacobian), v.shape[1])), 1))
    assert_close(v.T @ v, np.eye(v.shape[1]))


def test_spectra_are_those_of_the_dense_printed_matrix(rule):
    blocks = random_blocks(4, samples=2, params=6)  # as many samples as parameters: nothing is left out
    lin = from_features(blocks)
    zero = np.zeros(8)
    A, _ = reference.flow(rule.name, RING, list(blocks), zero, zero, np.zeros(6), 0.3 / 2 / 4)
    method, settings = rule(RING, objective="global"), {"step_size": 0.3}
    expected = np.linalg.eigvals(A)
    got = predict(method, lin, **settings).eigenvalues
    assert len(got) == len(expected)
    assert np.abs(got[:, None] - expected[None]).min(axis=0).max() < 1e-6
    assert stability.spectral_radius(method, lin, **settings) == pytest.approx(np.abs(1 + expected).max())
    assert stability.spectral_abscissa(method, lin, **settings) == pytest.approx(expected.real.max())
    symmetric = np.linalg.eigvalsh((A + A.T) / 2).max()
    assert stability.numerical_abscissa(method, lin, **settings) == pytest.approx(symmetric)


@pytest.mark.parametrize("W", [CYCLE, RING], ids=["cycle", "ring"])
def test_final_disagreement_is_the_fixed_point_s_to_first_order(rule, W):
    blocks = random_blocks(AGENTS)
    y = np.random.default_rng(9).normal(size=blocks.shape[:2])
    optimum = np.linalg.lstsq(blocks.reshape(-1, 5), y.reshape(-1))[0]
    gradients = np.einsum("qdp,qd->qp", blocks, blocks @ optimum - y) / SAMPLES
    assert np.abs(gradients).max() > 0.1
    errors = []
    for step in (1e-3, 5e-4):
        A, u = reference.flow(rule.name, W, list(blocks), np.zeros(12), y.reshape(-1), np.zeros(5), step / SAMPLES)
        fixed = np.linalg.solve(A, -u).reshape(AGENTS, 5)
        got = stability.final_disagreement(rule(W), gradients, step_size=step)
        errors.append(np.abs(fixed - fixed.mean(0) - got).max())
        assert errors[-1] < 0.05 * np.abs(got).max()
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    total = stability.final_disagreement(rule(W, objective="global"), gradients, step_size=4 * step)
    assert_close(total, got)


@pytest.mark.parametrize("bound", [stability.step_size_limit, stability.sufficient_limit])
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"method": "DGD"}, "method must be of type Method, got str"),
        ({"method": DGD}, "method must be of type Method, got Rule"),
        ({"method": DGD(np.eye(3))}, r"W must have shape \(4, 4\), got \(3, 3\)"),
        ({"lin": CYCLE}, "lin must be of type Linearization"),
        ({"time": "both"}, "time must be one of"),
    ],
)
def test_bad_input_of_the_limits(bound, change, match):
    good = {"method": DGD(CYCLE), "lin": from_features(random_blocks(4)), **change}
    with unchecked(), pytest.raises(ValueError, match=match):
        bound(good.pop("method"), good.pop("lin"), **good)


SPECTRA = [stability.spectral_radius, stability.spectral_abscissa, stability.numerical_abscissa]


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"method": "DGD"}, "method must be of type Method, got str"),
        ({"method": DGD(np.eye(3))}, r"W must have shape \(4, 4\), got \(3, 3\)"),
        ({"lin": CYCLE}, "lin must be of type Linearization"),
        ({"step_size": 0}, "step_size must be positive"),
    ],
)
def test_bad_input_of_the_spectra(spectrum, change, match):
    good = {"method": DGD(CYCLE), "lin": from_features(random_blocks(4)), "step_size": 1.0, **change}
    with unchecked(), pytest.raises(ValueError, match=match):
        spectrum(good.pop("method"), good.pop("lin"), **good)


def test_bad_input_of_the_rest():
    lin = from_features(random_blocks(4))
    with unchecked(), pytest.raises(ValueError, match="step_size must be positive"):
        predict(DGD(CYCLE), lin, step_size=0)
    with unchecked(), pytest.raises(ValueError, match="method must be of type Method, got Rule"):
        stability.final_disagreement(DGD, np.zeros((4, 2)), step_size=1.0)
    with unchecked(), pytest.raises(ValueError, match="gradients must have shape"):
        stability.final_disagreement(DGD(CYCLE), np.zeros(4), step_size=1.0)
    with unchecked(), pytest.raises(ValueError, match=r"gradients must have shape \(4, params\), got \(3, 2\)"):
        stability.final_disagreement(DGD(CYCLE), np.zeros((3, 2)), step_size=1.0)
    with unchecked(), pytest.raises(ValueError, match="W must be doubly stochastic"):
        DGD(2 * np.eye(4))
    with unchecked(), pytest.raises(ValueError, match="objective must be one of"):
        DGD(CYCLE, objective="mine")
    with (
        unchecked(),
        pytest.raises(ValueError, match=r'only loss="mse" has a closed form, .* got \'binary_cross_entropy\''),
    ):
        _ = predict(DGD(CYCLE), moons(), step_size=1.0, loss="binary_cross_entropy").eigenvalues


def test_a_flow_that_is_unstable_far_out_only_has_its_limit_there():
    """On the cycle of four with one sample each: no real eigenvalue crosses, and a pair does at s = 1150."""
    blocks = np.random.default_rng(13).normal(size=(4, 1, 4))
    lin = from_features(np.concatenate([blocks, np.ones((4, 1, 1))], axis=2))
    limit = stability.step_size_limit(ATC(CYCLE), lin, time="continuous")
    assert limit * np.linalg.norm(lin.features, axis=(1, 2)).max() ** 2 > 1100
    below, above = (stability.spectral_abscissa(ATC(CYCLE), lin, step_size=f * limit) for f in (0.99, 1.01))
    assert below < 0 < above


def test_the_search_goes_on_to_the_first_real_crossing_however_far_it_is():
    blocks = np.array([[[7, -5, 9, 1], [-11, 9, 0, 1], [-12, -3, 1, 1]],
                       [[3, -10, -11, 100], [2, -5, 2, 100], [8, -16, 3, 100]]])  # fmt: skip
    blocks = blocks / [[[1.0]], [[100.0]]]
    limit = stability.step_size_limit(ATC(SWAP), from_features(blocks), time="continuous")
    growth = [dense_growth("ATC", SWAP, blocks, f * limit / 3, "continuous") for f in (0.5, 0.99, 1.01, 2.0)]
    assert max(growth[:2]) < 1e-9 and min(growth[2:]) > 0


def test_nothing_grows_where_nothing_moves():
    lin = from_features(np.zeros((4, 1, 3)))
    assert lin.rank == 0
    for rule in (DGD, ATC, CTA):
        assert stability.spectral_radius(rule(CYCLE), lin, step_size=1.0) == 0
        assert stability.spectral_abscissa(rule(CYCLE), lin, step_size=1.0) == -np.inf
        assert stability.numerical_abscissa(rule(CYCLE), lin, step_size=1.0) == -np.inf


@pytest.mark.parametrize(
    ("W", "gradients", "match"),
    [
        (np.eye(4), np.zeros((4, 2)), "W must connect all agents"),
        (CYCLE, np.ones((4, 2)), "gradients must sum to zero"),
    ],
)
def test_final_disagreement_is_about_one_optimum(W, gradients, match):
    with pytest.raises(ValueError, match=match):
        stability.final_disagreement(DGD(W), gradients, step_size=1.0)
