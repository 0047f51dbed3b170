"""Data sets: who holds what, whole and unshared."""

import math

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from problems import assert_close
from sklearn.datasets import load_digits

from peerflow import data
from peerflow.data import AgentData, digits, half_moons, mnist_zeros_ones, partition


def rows(x) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(x)]


def test_agent_data_says_its_sizes_and_pools_agent_after_agent():
    x, y = np.arange(24).reshape(2, 3, 4), np.arange(6).reshape(2, 3, 1)
    agents = AgentData(x, y)
    assert (agents.size, agents.outputs, agents.counts.tolist(), agents.weigh) == (2, 1, [3, 3], "agents")
    assert agents.x.dtype == agents.y.dtype == np.float64
    pooled_x, pooled_y = agents.pooled()
    assert_close(pooled_x, np.arange(24.0).reshape(6, 4), tolerance=0)
    assert_close(pooled_y, np.arange(6.0).reshape(6, 1), tolerance=0)
    assert_close(agents.padded.x, x.astype(float), tolerance=0)
    assert_close(agents.padded.y, y.astype(float), tolerance=0)
    assert_close(agents.padded.weights, np.full((2, 3), 1 / 3), tolerance=0)
    assert_close(agents.weights, np.full(2, 1 / 2), tolerance=0)
    assert_close(agents.gains, np.ones(2), tolerance=0)


UNEQUAL = (3, 1, 5, 2)


def samples_of(counts, shape=(2,), start=1.0):
    """Return one array an agent, whose entries count on from agent to agent: no two are alike."""
    ends = np.cumsum([count * math.prod(shape) for count in counts])
    entries = np.split(start + np.arange(ends[-1]), ends[:-1])
    return [some.reshape(-1, *shape) for some in entries]


@pytest.mark.parametrize("shape", [(2,), (1,), (8, 8), (4, 3, 2)], ids=str)
def test_agents_may_hold_different_numbers_of_samples(shape):
    xs, ys = samples_of(UNEQUAL, shape), samples_of(UNEQUAL, (3,))
    for build in (list, tuple):
        agents = AgentData(build(xs), build(ys))
        assert (agents.size, agents.outputs) == (4, 3)
        assert agents.counts.tolist() == [3, 1, 5, 2] and agents.counts.dtype.kind == "i"
        assert type(agents.x) is type(agents.y) is tuple
        for have, want in (*zip(agents.x, xs, strict=True), *zip(agents.y, ys, strict=True)):
            assert_close(have, want, tolerance=0)
        x, y = agents.pooled()
        assert_close(x, 1.0 + np.arange(x.size).reshape(11, *shape), tolerance=0)  # agent after agent
        assert_close(y, 1.0 + np.arange(33).reshape(11, 3), tolerance=0)


@pytest.mark.parametrize("counts", [UNEQUAL, (1, 4), (3, 3)], ids=str)
def test_an_agent_s_objective_weighs_as_much_as_others_or_as_its_samples(counts):
    xs, ys, total = samples_of(counts), samples_of(counts, (1,)), sum(counts)
    alike, by_samples = AgentData(xs, ys), AgentData(xs, ys, weigh="samples")
    assert_close(alike.weights, [1 / len(counts)] * len(counts))
    assert_close(alike.gains, [1.0] * len(counts), tolerance=0)
    assert_close(by_samples.weights, [count / total for count in counts])
    assert_close(by_samples.gains, [len(counts) * count / total for count in counts])
    for agents in (alike, by_samples):
        # The global objective (3) is the weighted sum of local means; a sample weighs this much in it.
        each = [weight / count for weight, count in zip(agents.weights, counts, strict=True) for _ in range(count)]
        assert sum(each) == pytest.approx(1)
    assert_close(each, np.full(total, 1 / total))
    np.testing.assert_array_equal(alike.padded.weights, by_samples.padded.weights)  # of local objectives


def test_padding_repeats_what_is_finite_and_weighs_nothing():
    xs, ys = samples_of(UNEQUAL, (8, 8)), samples_of(UNEQUAL, (2,))
    for weigh in ("agents", "samples"):
        x, y, weights = AgentData(xs, ys, weigh=weigh).padded
        assert x.shape == (4, 5, 8, 8) and y.shape == (4, 5, 2) and weights.shape == (4, 5)
        assert np.isfinite(x).all() and np.isfinite(y).all()
        for q, count in enumerate(UNEQUAL):
            assert_close(x[q, :count], xs[q], tolerance=0)
            assert_close(y[q, :count], ys[q], tolerance=0)
            assert weights[q].tolist() == [1 / count] * count + [0.0] * (5 - count)
            for filler in range(count, 5):
                assert_close(x[q, filler], xs[q][0], tolerance=0)
                assert_close(y[q, filler], ys[q][0], tolerance=0)


def test_a_weighted_sum_over_padding_is_the_agent_s_mean(rng):
    xs, ys = samples_of(UNEQUAL), samples_of(UNEQUAL, (1,))
    x, y, weights = AgentData(xs, ys).padded
    theta = rng.normal(size=2)
    got = (weights * (x @ theta - y[..., 0]) ** 2).sum(axis=1)
    assert_close(got, [((a @ theta - b[:, 0]) ** 2).mean() for a, b in zip(xs, ys, strict=True)])


@pytest.mark.parametrize("build", [list, tuple, np.array])
def test_equally_long_lists_become_arrays(build):
    xs, ys = samples_of((3, 3), (8, 8)), samples_of((3, 3), (1,))
    agents = AgentData(build(xs), build(ys), weigh="samples")
    assert type(agents.x) is type(agents.y) is np.ndarray
    assert_close(agents.x, np.stack(xs), tolerance=0)
    assert_close(agents.y, np.stack(ys), tolerance=0)
    assert agents.counts.tolist() == [3, 3]


def test_lists_hold_arrays_as_people_have_them():
    """Nested lists, integers, frames, JAX's arrays and sparse ones, of different lengths."""
    xs, ys = samples_of((2, 1, 3, 4)), samples_of((2, 1, 3, 4), (1,))
    forms = [np.ndarray.tolist, pd.DataFrame, jnp.asarray, scipy.sparse.csr_array]
    agents = AgentData([form(x) for form, x in zip(forms, xs, strict=True)], [y.astype(int) for y in ys])
    for have, want in (*zip(agents.x, xs, strict=True), *zip(agents.y, ys, strict=True)):
        assert type(have) is np.ndarray and have.dtype == np.float64
        assert_close(have, want, tolerance=0)


def test_one_agent_is_no_list_of_different_lengths():
    agents = AgentData([np.ones((3, 2))], [np.ones((3, 1))])
    assert agents.x.shape == (1, 3, 2) and agents.counts.tolist() == [3]


def test_partition_deals_each_sample_once_with_its_target():
    pool = np.arange(20.0)
    agents = partition(pool[:, None], 10 * pool[:, None], agents=4, samples=5, seed=3)
    assert agents.x.shape == agents.y.shape == (4, 5, 1)
    assert sorted(agents.x.ravel()) == list(pool)
    assert_close(agents.y, 10 * agents.x, tolerance=0)
    assert not np.array_equal(agents.x.ravel(), pool)


def deal(**options):
    return partition(np.eye(12), np.ones((12, 1)), **options)


LOADERS = [half_moons, mnist_zeros_ones, digits, deal]


@pytest.mark.parametrize(
    "samples", [[3, 1, 4], (3, 1, 4), np.array([3, 1, 4]), pd.Series([3, 1, 4]), jnp.array([3, 1, 4])], ids=type
)
@pytest.mark.parametrize("load", LOADERS)
def test_every_agent_may_ask_for_its_own_number_of_samples(load, samples):
    """The same shuffle, cut elsewhere: what the agents hold together does not depend on who holds what."""
    agents, alike = load(agents=3, samples=samples, seed=5), load(agents=2, samples=4, seed=5)
    assert agents.counts.tolist() == [3, 1, 4] and type(agents.x) is tuple
    for have, want in zip(agents.pooled(), alike.pooled(), strict=True):
        assert_close(have, want, tolerance=0)


@pytest.mark.parametrize("load", LOADERS)
def test_a_list_of_one_number_is_that_number(load):
    one, listed = load(agents=3, samples=4, seed=1), load(agents=3, samples=[4, 4, 4], seed=1)
    assert one.x.shape[:2] == listed.x.shape[:2] == (3, 4)
    assert_close(one.x, listed.x, tolerance=0)
    assert_close(one.y, listed.y, tolerance=0)
    scalar = load(agents=np.int64(3), samples=np.array(4), seed=np.uint8(1))
    assert_close(one.x, scalar.x, tolerance=0)


def test_partition_deals_unequal_shares_of_a_pool_once():
    pool = np.arange(20.0)
    agents = partition(pool[:, None], 10 * pool[:, None], agents=3, samples=[10, 3, 6], seed=3)
    dealt, targets = agents.pooled()
    assert len(set(dealt.ravel())) == 19 and set(dealt.ravel()) < set(pool)
    assert_close(targets, 10 * dealt, tolerance=0)


def test_partition_deals_images_whole():
    pool = np.arange(7 * 6.0).reshape(7, 2, 3)
    agents = partition(pool, np.arange(7.0)[:, None], agents=2, samples=[1, 3], seed=0)
    assert [x.shape for x in agents.x] == [(1, 2, 3), (3, 2, 3)]
    for x, y in zip(*agents.pooled(), strict=True):
        assert_close(x, pool[int(y[0])], tolerance=0)


@pytest.mark.parametrize("load", LOADERS)
def test_a_seed_decides_the_data(load):
    first, again, other = (load(agents=2, samples=5, seed=seed) for seed in (0, 0, 1))
    assert_close(first.x, again.x, tolerance=0)
    assert_close(first.y, again.y, tolerance=0)
    assert not np.array_equal(first.x, other.x)


def test_half_moons_lie_on_their_arcs():
    """The upper moon is the half circle about (0, 0), the lower one that about (1, 1/2)."""
    agents = half_moons(agents=4, samples=50, noise=0.0, seed=2)
    x, y = agents.pooled()
    assert x.shape == (200, 2) and y.shape == (200, 1)
    upper, lower = x[y[:, 0] == 0], x[y[:, 0] == 1]
    assert len(upper) == len(lower) == 100
    assert_close(np.linalg.norm(upper, axis=1), np.ones(100))
    assert_close(np.linalg.norm(lower - [1.0, 0.5], axis=1), np.ones(100))
    assert (upper[:, 1] >= 0).all() and (lower[:, 1] <= 0.5).all()
    assert len(set(rows(x))) == 200


def test_noise_of_half_moons_has_its_standard_deviation():
    """The arc of a noisy point is known by its label; across it the noise has the deviation asked for."""
    x, y = half_moons(agents=2, samples=5000, noise=0.01, seed=1).pooled()
    centres = np.where(y == 0, [[0.0, 0.0]], [[1.0, 0.5]])
    across = np.linalg.norm(x - centres, axis=1) - 1
    assert across.std() == pytest.approx(0.01, rel=0.03)  # four standard errors: 4 / sqrt(2 * 10000)


def test_another_seed_has_another_noise():
    first, other = (half_moons(agents=2, samples=20, seed=seed).pooled()[0] for seed in (0, 1))
    assert not set(rows(first)) & set(rows(other))


def test_mnist_pixels_and_labels():
    agents = mnist_zeros_ones(agents=8, samples=200, seed=0)
    assert agents.x.shape == (8, 200, 784) and agents.y.shape == (8, 200, 1)
    assert agents.x.min() == 0.0 and agents.x.max() == 1.0
    assert_close(agents.x * 255, np.round(agents.x * 255), tolerance=1e-15)
    assert set(np.unique(agents.y)) == {0.0, 1.0}


def test_mnist_holds_every_sample_once():
    agents = mnist_zeros_ones(agents=7, samples=304, seed=4)  # all 2128
    labels = agents.y.ravel()
    assert ((labels == 0).sum(), (labels == 1).sum()) == (1001, 1127)
    assert len(set(rows(agents.pooled()[0]))) == 2128


def test_mnist_zeros_are_round_and_ones_are_not():
    """The centre pixels of a zero are empty, those of a one are inked."""
    x, y = mnist_zeros_ones(agents=8, samples=200, seed=0).pooled()
    centre = x.reshape(-1, 28, 28)[:, 13:15, 13:15].mean((1, 2))
    assert centre[y[:, 0] == 0].mean() < 0.1 < 0.7 < centre[y[:, 0] == 1].mean()


def test_digits_are_scikit_learn_s_images_in_ten_classes():
    agents = digits(agents=3, samples=599, seed=2)  # all 1797
    assert agents.x.shape == (3, 599, 8, 8) and agents.y.shape == (3, 599, 10)
    assert agents.x.min() == 0.0 and agents.x.max() == 1.0
    x, y = agents.pooled()
    assert set(np.unique(y)) == {0.0, 1.0} and (y.sum(axis=1) == 1).all()
    pool = load_digits()
    assert np.bincount(y.argmax(axis=1)).tolist() == np.bincount(pool.target).tolist()
    labels = dict(zip(rows(pool.data), pool.target, strict=True))
    assert len(labels) == 1797  # no two images are alike
    assert [labels[row] for row in rows(16 * x.reshape(-1, 64))] == y.argmax(axis=1).tolist()
    assert len(set(rows(x))) == 1797


def test_digits_of_fewer_agents_are_a_part_of_them():
    x, y = digits(agents=2, samples=[5, 7], seed=0).pooled()
    pool = load_digits()
    labels = dict(zip(rows(pool.data), pool.target, strict=True))
    assert [labels[row] for row in rows(16 * x.reshape(-1, 64))] == y.argmax(axis=1).tolist()


def test_half_moons_of_unequal_agents_lie_half_on_each_moon():
    _, y = half_moons(agents=3, samples=[5, 1, 14], seed=4).pooled()
    assert y.sum() == 10


def test_a_changed_mnist_file_is_noticed(tmp_path, monkeypatch):
    with np.load(data._MNIST) as archive:
        images, labels = archive["images"].copy(), archive["labels"]
    images[0, 14, 14] ^= 1
    changed = tmp_path / "changed.npz"
    np.savez(changed, images=images, labels=labels)
    monkeypatch.setattr(data, "_MNIST", changed)
    with pytest.raises(ValueError, match=r"changed\.npz is damaged: reinstall peerflow"):
        mnist_zeros_ones(agents=1, samples=1)


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "missing"])
def test_a_damaged_mnist_file_is_noticed(tmp_path, monkeypatch, damage):
    whole, copy = data._MNIST.read_bytes(), tmp_path / "copy.npz"
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    content = {"cut": whole[:middle], "flip": flipped, "text": b"nothing"}.get(damage)
    if content:
        copy.write_bytes(content)
    monkeypatch.setattr(data, "_MNIST", copy)
    with pytest.raises(ValueError, match=r"copy.npz (cannot be read|is damaged): reinstall peerflow"):
        mnist_zeros_ones(agents=1, samples=1)
