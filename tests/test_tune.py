"""The search against brute force, what is sent against a count by hand, and weights against known optima."""

from dataclasses import replace

import jax
import networkx as nx
import numpy as np
import pytest
import scipy.optimize
from problems import AGENTS, CYCLE, RING, STAR, assert_close, network
from rejection import check

from peerflow import (
    ATC,
    CTA,
    D2,
    DGD,
    EXTRA,
    AugDGM,
    DIGing,
    ExactDiffusion,
    GradientTracking,
    heavy_ball,
    linearize,
    mixing,
    predict,
)
from peerflow.mixing import metropolis_hastings
from peerflow.tune import exchanges, final_loss, reweigh, rounds, sent, slowest, tune

STEPS = np.array([0.4, 0.1, 0.8])
COUNTS = range(1, 13)


@pytest.fixture(scope="module")
def lin():
    problem = network()
    return linearize(problem.model, problem.agents, problem.theta0)


@pytest.fixture(scope="module")
def search(lin):
    methods = [DGD(CYCLE), ATC(STAR), ATC(mixing.every(3, CYCLE)), GradientTracking(CYCLE)]
    return tune(methods, lin, step_sizes=STEPS, counts=COUNTS)


def everything(search, lin):
    """Return (cost, loss) of every setting, one prediction after the other."""
    for method in search.methods:
        for step_size in STEPS:
            losses = predict(method, lin, step_size=step_size).after(COUNTS).global_losses.mean(axis=1)
            yield from zip(sent(method, COUNTS), losses, strict=True)


def test_the_front_is_that_of_brute_force(search, lin):
    settings = list(everything(search, lin))
    best = [one for one in settings if not any(o != one and o[0] <= one[0] and o[1] <= one[1] for o in settings)]
    found = [(each.cost, each.loss) for each in search.front]
    assert_close(found, sorted(set(best)), tolerance=1e-10)
    for cost, loss in found:
        assert search.within(cost * 1.001).loss == loss
    for each in search.front:
        one = predict(each.method, lin, step_size=each.step_size).after([each.steps])
        assert_close(each.loss, one.global_losses.mean(), tolerance=1e-10)
        assert_close(each.cost, sent(each.method, [each.steps])[0])


def test_the_best_costs_no_more_than_any_of_the_grid_and_its_step_is_as_good_as_any_beside_it(search, lin):
    settings = list(everything(search, lin))
    for target in np.quantile([loss for _, loss in settings], [0.1, 0.4, 0.8]):
        best = search.best(target)
        assert best.loss <= target and best.cost <= min(cost for cost, loss in settings if loss <= target) + 1e-12
        again = predict(best.method, lin, step_size=best.step_size).after([best.steps]).global_losses.mean()
        assert_close(best.loss, again, tolerance=1e-10)
    for step_size in best.step_size * np.array([0.97, 1.03]):
        if step_size < STEPS.max():
            loss = predict(best.method, lin, step_size=step_size).after([best.steps]).global_losses.mean()
            assert best.loss <= loss * (1 + 1e-6)


def test_what_is_sent_is_a_count_by_hand():
    """On the star of four 6 vectors are sent per exchange, 1.5 per agent; on the cycle 2."""
    assert_close(sent(DGD(STAR), [0, 1, 10]), [0.0, 1.5, 15.0])
    assert_close(sent(GradientTracking(CYCLE), [3]), [12.0])
    assert_close(sent(ATC(mixing.every(3, CYCLE)), [2, 3, 5, 6]), [0.0, 2.0, 2.0, 4.0])
    assert_close(rounds(GradientTracking(CYCLE), [3]), [3.0])
    assert_close(rounds(ATC(mixing.every(3, CYCLE)), [2, 3, 5, 6]), [0.0, 1.0, 1.0, 2.0])
    sparse = DGD(metropolis_hastings(nx.star_graph(3), sparse=True))
    assert_close(sent(sparse, [2]), [3.0])
    two, one = (GradientTracking, DIGing, AugDGM), (DGD, ATC, CTA, ExactDiffusion, D2, EXTRA, heavy_ball(CTA, 0.5))
    assert {exchanges(rule) for rule in two} == {2} and {exchanges(rule) for rule in one} == {1}


def test_rounds_may_be_what_is_counted_and_what_diverges_is_never_chosen(lin):
    search = tune([ATC(mixing.every(2, CYCLE)), DGD(CYCLE)], lin, step_sizes=[0.2, 1e200], counts=[4], cost="rounds")
    assert_close(search.costs, [[2.0], [4.0]])
    assert np.isinf(search.losses[:, 1]).all() and search.front[0].method.varies
    assert all(each.step_size == 0.2 for each in search.front)


def links(W):
    return np.transpose(np.nonzero(np.triu(W, 1)))


def test_the_fastest_weights_are_those_of_boyd_diaconis_and_xiao():
    """A path's are 1/2 on every link, with cos(pi/Q); a star's 1/(Q - 1), with 1 - 1/(Q - 1); all with all 1/Q."""
    for graph, largest in (
        (nx.path_graph(5), np.cos(np.pi / 5)),
        (nx.star_graph(4), 3 / 4),
        (nx.complete_graph(5), 0.0),
    ):
        W = reweigh(DGD(metropolis_hastings(graph)), slowest).W
        assert mixing.spectral_gap(W) == pytest.approx(1 - largest, abs=0.01)


def plain(weights, W, step_size, steps, lin):
    """Return ATC's global loss for weights of the links, in a plain numpy loop."""
    M = np.eye(AGENTS)
    for (i, j), weight in zip(links(W), weights, strict=True):
        e = np.eye(AGENTS)[i] - np.eye(AGENTS)[j]
        M = M - weight * np.outer(e, e)
    z = np.zeros((AGENTS, lin.rank))
    for _ in range(steps):
        g = [F.T @ (F @ own + r) / 3 for F, own, r in zip(lin.features, z, lin.residuals0, strict=True)]
        z = M @ (z - step_size * np.array(g))
    return np.mean([(lin.features @ own + lin.residuals0) ** 2 for own in z]) / 2


@pytest.mark.parametrize("W", [CYCLE, STAR], ids=["cycle", "star"])
def test_weights_for_the_loss_are_the_best_of_a_search_without_gradients(W, lin):
    step_size, steps = 0.4, 6
    method = reweigh(ATC(W), final_loss(lin, step_size=step_size, steps=steps))
    new = method.W
    assert (links(new + 2 * W).tolist() == links(W).tolist()) and new.min() > -1e-12
    assert_close(new, new.T)
    assert_close(new.sum(axis=1), np.ones(AGENTS))
    ends = np.array([[q in link for link in links(W)] for q in range(AGENTS)], dtype=float)
    start = W[tuple(links(W).T)]

    def loss(weights):
        allowed = weights.min() >= 0 and (ends @ weights).max() <= 1
        return plain(weights, W, step_size, steps, lin) if allowed else 1e3

    brute = scipy.optimize.minimize(loss, 0.9 * start, method="Nelder-Mead", options={"maxiter": 2000, "xatol": 1e-7})
    got = plain(new[tuple(links(W).T)], W, step_size, steps, lin)
    assert got <= plain(start, W, step_size, steps, lin) and got <= brute.fun * (1 + 1e-6)
    predicted = predict(method, lin, step_size=step_size).after([steps]).global_losses.mean()
    assert_close(got, predicted, tolerance=1e-10)


def test_slowest_is_the_second_eigenvalue_within_five_per_cent():
    for seed in range(8):
        W = metropolis_hastings(nx.gnp_random_graph(8, 0.6, seed=seed))
        over = slowest(DGD(W)) / (1 - mixing.spectral_gap(W))
        # A norm of all modes; with one mode far slower than the others it is that mode's, to rounding.
        assert 1 - 1e-12 <= over <= 8 ** (1 / 64) * (1 + 1e-12)
    slope = jax.grad(lambda W: slowest(replace(DGD(CYCLE), W=W)))(CYCLE)  # two modes alike
    assert np.isfinite(slope).all()


def test_what_is_refused(search, lin):
    dgd = DGD(CYCLE)
    check(lambda: search.best(1e-9), "target must be at least .*, the least loss found, got 1e-09")
    check(lambda: search.best(-1), "target must be positive")
    check(lambda: search.within(-1), "budget must not be negative")
    costly = tune([dgd], lin, step_sizes=[0.1], counts=[5])
    check(lambda: costly.within(9.9), "budget must be at least 10, what the cheapest costs, got 9.9")
    check(lambda: tune([dgd], lin, step_sizes=[0.1], counts=[]), "counts must hold at least one, got none")
    check(lambda: tune([], lin, step_sizes=[0.1], counts=[1]), "methods must hold at least one")
    check(lambda: tune([dgd], lin, step_sizes=[0.0], counts=[1]), "step_size must be positive")
    check(lambda: tune([dgd], lin, step_sizes=[0.1], counts=[1], cost="money"), "cost must be one of 'sent', 'rounds'")
    check(lambda: reweigh(DGD(RING), slowest), "W must be one symmetric matrix")
    check(lambda: reweigh(DGD(mixing.every(2, CYCLE)), slowest), "W must be one symmetric matrix")
    check(lambda: reweigh(CYCLE, slowest), "method must be of type Method, got ndarray")
    check(lambda: exchanges(dgd), "rule must be of type Rule, got Method")
    check(lambda: sent(dgd, [-1]), "counts must not be negative")
    check(lambda: final_loss(lin, step_size=0, steps=1), "step_size must be positive")
    check(lambda: final_loss(lin, step_size=1, steps=0), "steps must be at least 1")


def test_rounding_makes_no_front_longer(lin):
    """Twice the same method, one of them with losses that rounding has changed."""
    method = DGD(CYCLE)
    once, twice = (tune(methods, lin, step_sizes=[0.1, 0.2], counts=range(9)) for methods in ([method], [method] * 2))
    rounded = replace(twice, losses=twice.losses * np.array([1, 1 - 1e-14])[:, None, None])
    assert len(rounded.front) == len(once.front) > 3
