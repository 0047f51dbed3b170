"""Data sets: who holds what, whole and unshared."""

import numpy as np
import pytest
from problems import assert_close

from peerflow import data
from peerflow.data import AgentData, half_moons, mnist_zeros_ones, partition


def rows(x) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(x)]


def test_agent_data_says_its_sizes_and_pools_agent_after_agent():
    x, y = np.arange(24).reshape(2, 3, 4), np.arange(6).reshape(2, 3, 1)
    agents = AgentData(x, y)
    assert (agents.agents, agents.samples) == (2, 3)
    assert agents.x.dtype == agents.y.dtype == np.float64
    pooled_x, pooled_y = agents.pooled()
    assert_close(pooled_x, np.arange(24.0).reshape(6, 4), tolerance=0)
    assert_close(pooled_y, np.arange(6.0).reshape(6, 1), tolerance=0)


def test_partition_deals_each_sample_once_with_its_target():
    pool = np.arange(20.0)
    agents = partition(pool[:, None], 10 * pool[:, None], agents=4, samples=5, seed=3)
    assert agents.x.shape == agents.y.shape == (4, 5, 1)
    assert sorted(agents.x.ravel()) == list(pool)
    assert_close(agents.y, 10 * agents.x, tolerance=0)
    assert not np.array_equal(agents.x.ravel(), pool)


def deal(**options):
    return partition(np.eye(12), np.ones((12, 1)), **options)


@pytest.mark.parametrize("load", [half_moons, mnist_zeros_ones, deal])
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
