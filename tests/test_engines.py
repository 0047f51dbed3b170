"""Products with A against A itself, and what comes of them against modes and propagators."""

import numpy as np
import pytest
import scipy.linalg
from problems import AGENTS, COMPLETE, CYCLE, MATRICES, RING, STAR, assert_close, moons, network

from peerflow import engines, modes
from peerflow.flows import predict
from peerflow.linearize import linearize
from peerflow.methods import ATC, CTA, DGD

PROBLEM = network()
LIN = linearize(PROBLEM.model, PROBLEM.agents, PROBLEM.theta0)
TIMES = np.array([0.0, 0.3, 1.0, 7.0, 7.0, 60.0, 2.5])
COUNTS = np.array([0, 1, 2, 9, 9, 60, 3])


def system(rule, W, s):
    largest = np.linalg.eigvalsh(LIN.curvature).max()
    return engines.System(rule(W), np.full(AGENTS, s / largest), LIN.curvature, LIN.pull)


@pytest.mark.parametrize("W", MATRICES.values(), ids=MATRICES)
def test_products_are_those_with_the_state_matrix(rule, W, rng):
    one = system(rule, W, 0.7)
    z = rng.normal(size=one.pull.shape)
    assert_close(one.rate(z).ravel(), one.matrix() @ z.ravel(), tolerance=1e-14)


@pytest.mark.parametrize("s", [0.3, 0.8, 1.9])
@pytest.mark.parametrize("W", MATRICES.values(), ids=MATRICES)
def test_one_step_after_the_other(rule, W, s):
    one = system(rule, W, s)
    assert_close(engines.recursion(one, COUNTS), modes.solution(one).after(COUNTS), tolerance=1e-12)


@pytest.mark.parametrize(("W", "s"), [(CYCLE, 0.3), (CYCLE, 0.8), (STAR, 0.8), (COMPLETE, 0.8)])
def test_one_series_for_all_times(rule, W, s):
    one = system(rule, W, s)
    assert one.real()
    A, u = one.matrix(), one.input().ravel()
    augmented = np.block([[A, u[:, None]], [np.zeros((1, len(u) + 1))]])
    expected = [scipy.linalg.expm(t * augmented)[:-1, -1].reshape(AGENTS, -1) for t in TIMES]
    assert_close(engines.chebyshev(one, TIMES), np.array(expected), tolerance=1e-13)


@pytest.mark.parametrize("s", [1.2, 5.0])
def test_the_series_reaches_as_far_as_dgds_spectrum(s):
    one = system(DGD, CYCLE, s)
    assert np.linalg.eigvalsh(one.matrix())[0] >= one.lowest()
    assert_close(engines.chebyshev(one, TIMES), modes.solution(one).at(TIMES), tolerance=1e-12)


@pytest.mark.parametrize("reach", [1e-3, 1.0, 30.0, 1e3, 1e4])
def test_the_coefficients_that_are_kept_are_all_that_matter(reach):
    times = np.array([0.0, reach / 2, reach]) / 3
    coefficients = engines._coefficients(times, -3.0)
    assert coefficients.shape[1] <= 6 * np.sqrt(reach) + 32
    x = np.linspace(-3, 0, 2001)[1:-1]
    series = np.polynomial.chebyshev.chebval(1 + 2 * x / 3, coefficients.T)
    np.testing.assert_allclose(series, np.expm1(times[:, None] * x) / x, rtol=0, atol=2e-14 * reach)


def test_a_series_is_for_times_up_to_1e4_over_the_spectrums_width():
    still = engines.System(DGD(CYCLE), np.ones(AGENTS), np.zeros((AGENTS, 150, 150)), np.zeros((AGENTS, 150)))
    assert engines.few_terms(still, [0.0, 0.99e4 / 2]) and not engines.few_terms(still, [0.0, 1.01e4 / 2])


@pytest.mark.parametrize(("s", "real"), [(0.89, True), (0.91, False)])
def test_a_series_needs_i_minus_c_psi_to_be_clearly_definite(s, real):
    steep = np.zeros((AGENTS, 2, 2))
    steep[:, 0, 0] = s
    assert engines.System(ATC(CYCLE), np.ones(AGENTS), steep, np.zeros((AGENTS, 2))).real() == real


def test_no_series_without_real_modes():
    assert system(DGD, CYCLE, 5.0).real() and system(ATC, CYCLE, 0.8).real()
    assert not system(DGD, RING, 0.3).real()
    assert not system(ATC, CYCLE, 1.2).real() and not system(CTA, CYCLE, 0.95).real()


@pytest.fixture(scope="module")
def wide():
    return moons()


def test_what_is_cheap_is_chosen(wide, rule):
    """A run of 200 steps takes no eigenvectors; later times do, and agree."""
    dynamics = predict(rule(CYCLE), wide, step_size=1.0)
    early, late = np.array([0, 3, 200]), np.array([0, 3, 200, 10**6])
    states = dynamics.after(early).coefficients, dynamics.at(early).coefficients
    assert "_solution" not in vars(dynamics)
    assert_close(states[0], dynamics.after(late).coefficients[:3], tolerance=1e-11)
    assert_close(states[1], dynamics.at(late).coefficients[:3], tolerance=1e-11)
    assert "_solution" in vars(dynamics)


def test_where_nothing_moves_late_counts_take_no_steps():
    nothing = engines.System(DGD(CYCLE), np.ones(AGENTS), np.zeros((AGENTS, 0, 0)), np.zeros((AGENTS, 0)))
    assert nothing.affordable() == 0
    assert modes.solution(nothing).after(np.array([10**15])).shape == (1, AGENTS, 0)


def test_where_the_fast_eigensolver_fails_another_takes_over(wide, monkeypatch):
    expected, eigh = predict(DGD(CYCLE), wide, step_size=1.0).after(10**6).coefficients, scipy.linalg.eigh

    def failing(A, driver):
        if driver == "evd":
            raise np.linalg.LinAlgError("no convergence")
        return eigh(A, driver=driver)

    monkeypatch.setattr(scipy.linalg, "eigh", failing)
    assert_close(predict(DGD(CYCLE), wide, step_size=1.0).after(10**6).coefficients, expected, tolerance=1e-9)
