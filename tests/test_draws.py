"""What is drawn in every step: fair, independent and reproducible."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from problems import CYCLE, RING, agent_data, assert_close, unequal_data
from rejection import INF, NAN, check, rejects

from peerflow.draws import Stochastic
from peerflow.methods import ATC, CTA, DGD


def drawn(stochastic, agents, *, runs=1, seed=0, steps=1):
    """Return weights (steps, runs, agents, samples) and links alive (steps, runs, links)."""
    draws = stochastic.draws(agents, runs=runs, seed=seed)
    return tuple(map(np.array, zip(*(next(draws) for _ in range(steps)), strict=True)))


def test_every_batch_is_equally_likely_and_agents_draw_alone():
    agents = unequal_data(counts=(3, 5))
    weights, _ = drawn(Stochastic(DGD(np.eye(2)), batch=2), agents, runs=30_000, steps=2)
    assert set(np.unique(weights)) == {0, 0.5}
    weights = weights.reshape(-1, 2, 5)
    assert (weights[:, 0, 3:] == 0).all() and (weights.sum(axis=-1) == 1).all()
    for q, count in enumerate((3, 5)):
        pairs = list(itertools.combinations(range(count), 2))
        shares = [(weights[:, q, list(pair)] > 0).all(axis=1).mean() for pair in pairs]
        np.testing.assert_allclose(shares, 1 / len(pairs), atol=5 * (0.25 / len(weights)) ** 0.5)
    # Whether one agent sees its first sample says nothing of the other.
    first = weights[:, :, 0] > 0
    assert abs(np.corrcoef(first.T)[0, 1]) < 5 / len(weights) ** 0.5


def test_links_carry_alone_and_as_often_as_said():
    _, alive = drawn(Stochastic(ATC(CYCLE), link_probability=0.7), agent_data(), runs=20_000, steps=2)
    assert set(np.unique(alive)) == {0, 1} and alive.shape == (2, 20_000, 4)
    flat = alive.reshape(-1, 4)
    np.testing.assert_allclose(flat.mean(axis=0), 0.7, atol=5 * (0.21 / len(flat)) ** 0.5)
    # Neither beside nor after each other do they depend.
    apart = np.corrcoef(np.concatenate([*alive], axis=1).T) - np.eye(8)
    assert np.abs(apart).max() < 5 / 20_000**0.5


def test_the_same_seed_draws_the_same_and_one_stream_leaves_the_other():
    agents = agent_data()
    both, batches, links = (
        Stochastic(ATC(CYCLE), batch=batch, link_probability=p) for batch, p in ((2, 0.5), (2, 1.0), (None, 0.5))
    )
    weights, alive = drawn(both, agents, seed=3, steps=9)
    np.testing.assert_array_equal(weights, drawn(batches, agents, seed=3, steps=9)[0])
    np.testing.assert_array_equal(alive, drawn(links, agents, seed=3, steps=9)[1])
    assert (weights != drawn(both, agents, seed=4, steps=9)[0]).any()
    assert drawn(batches, agents)[1].shape == (1, 1, 0)
    np.testing.assert_array_equal(drawn(links, agents)[0], agents.padded.weights[None, None])


@pytest.mark.parametrize(("counts", "batch"), [((5, 5), 2), ((3, 4), 3), ((2, 6), 1), ((1, 3), 1)])
def test_dispersion_is_the_variance_of_every_batch_mean(counts, batch, rng):
    got = Stochastic(DGD(np.eye(2)), batch=batch).dispersion(unequal_data(counts=counts))
    for kappa, count in zip(got, counts, strict=True):
        numbers = rng.normal(size=count)
        means = [np.mean(some) for some in itertools.combinations(numbers, batch)]
        assert_close(kappa * np.var(numbers), np.var(means))


@pytest.mark.parametrize("rule", [DGD, ATC, CTA])
@pytest.mark.parametrize("form", [np.array, scipy.sparse.csr_array])
def test_the_mean_method_is_the_average_of_what_carries(rule, form):
    stochastic = Stochastic(rule(form(CYCLE), objective="global"), link_probability=0.3)
    links, total = stochastic.links, 0
    for alive in itertools.product([0.0, 1.0], repeat=4):
        now = links.carrying(stochastic.method, np.array(alive))
        W = np.asarray(now.W)
        assert_close(W.sum(axis=0), np.ones(4))
        np.testing.assert_array_equal(W, W.T)
        total = total + np.prod([0.3 if one else 0.7 for one in alive]) * W
    assert_close(stochastic.mean.dense, total)
    assert (stochastic.mean.rule, stochastic.mean.objective) == (rule, "global")
    assert_close(np.asarray(links.carrying(stochastic.method, np.ones(4)).W), CYCLE)


def test_where_all_links_carry_the_method_stays_what_it_is():
    stochastic = Stochastic(ATC(RING), batch=1)
    assert stochastic.mean is stochastic.method
    assert stochastic.links.carrying(stochastic.method, np.ones(0)) is stochastic.method


@rejects([
    (lambda: Stochastic(ATC, batch=1), "method must be of type Method, got Rule"),
    (lambda: Stochastic(replace(ATC, name="ours")(CYCLE)), "method must be DGD, ATC or CTA with one W, got ours"),
    (lambda: Stochastic(ATC(CYCLE), batch=0), "batch must be at least 1, got 0"),
    (lambda: Stochastic(ATC(CYCLE), batch=1.5), "batch must be a whole number, got 1.5"),
    (lambda: Stochastic(ATC(CYCLE), batch=True), "batch must be a whole number, got True"),
    (lambda: Stochastic(ATC(CYCLE), link_probability=1.1), "link_probability must be at most 1, got 1.1"),
    (lambda: Stochastic(ATC(CYCLE), link_probability=-0.1), "link_probability must not be negative, got -0.1"),
    (lambda: Stochastic(ATC(CYCLE), link_probability=NAN), "link_probability must be finite, got nan"),
    (lambda: Stochastic(ATC(CYCLE), link_probability=INF), "link_probability must be finite, got inf"),
    (lambda: Stochastic(ATC(CYCLE), link_probability="half"), "link_probability must be a number, got 'half'"),
    (lambda: Stochastic(ATC(RING), link_probability=0.5), "W must be symmetric where links may fail"),
    (lambda: Stochastic(ATC(CYCLE), batch=4).dispersion(agent_data()), "batch must be at most 3, the fewest samples"),
    (lambda: drawn(Stochastic(ATC(CYCLE), batch=4), agent_data()), "batch must be at most 3, the fewest samples"),
    (lambda: drawn(Stochastic(ATC(CYCLE)), agent_data(), seed=-1), "seed must be at least 0, got -1"),
])  # fmt: skip
def test_bad_input(call, message):
    check(call, message)
