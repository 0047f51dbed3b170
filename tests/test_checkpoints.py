"""A run that is killed, at whatever step, goes on and ends with the same bits."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import keep_on
import networkx as nx
import numpy as np
import scipy.sparse
from problems import agent_data, network
from rejection import check

from peerflow import ATC, DGD, mixing, train

PROGRAM = str(Path(keep_on.__file__))


def killed(folder, after):
    """Run until it ends or so many seconds after it has begun to compute; return what it printed."""
    process = subprocess.Popen([sys.executable, PROGRAM, folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    begun = {path.name for path in Path(folder).iterdir()}
    while process.poll() is None and {path.name for path in Path(folder).iterdir()} == begun:
        time.sleep(0.01)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    return process.communicate()[0]


def test_killed_at_random_steps(tmp_path):
    draw, whole = np.random.default_rng(), keep_on.digest(keep_on.run(None))
    printed, kills = "", 0
    while not printed and kills < 3:
        printed, kills = killed(tmp_path, after=draw.uniform(0, 0.3)), kills + 1
    assert kills > 1, "it was never stopped on its way"
    assert (printed.strip() or keep_on.digest(keep_on.run(tmp_path))) == whole


def small(**options):
    problem = network(widths=(4,))
    method = DGD(mixing.metropolis_hastings(nx.cycle_graph(4), sparse=True))
    given = {"step_size": 0.1, "steps": 25, "every": 10} | options
    method = given.pop("method", method)
    return train(method, problem.model, agent_data(), problem.theta0, **given)


def test_every_record_of_a_run_is_stored(tmp_path):
    whole = small()
    assert keep_on.digest(small(checkpoint=tmp_path, steps=20)) == keep_on.digest(small(steps=20))
    on = small(checkpoint=tmp_path)
    assert np.array_equal(on.losses, whole.losses) and np.array_equal(on.params, whole.params)
    last = small(checkpoint=tmp_path / "last", final_only=True, steps=20)
    on = small(checkpoint=tmp_path / "last", final_only=True)
    assert np.array_equal(last.losses[:20], whole.losses[:20])
    assert np.array_equal(on.losses, whole.losses) and np.array_equal(on.params, whole.params[-1])


def test_counts_keep_what_is_asked_for(monkeypatch):
    monkeypatch.setattr("peerflow.training._STEPS_A_SCAN", 7)
    whole, some = small(), small(counts=[20, 0, 3, 3])
    assert some.counts.tolist() == [0, 3, 20] and whole.counts.tolist() == list(range(26))
    np.testing.assert_allclose(some.losses, whole.losses[[0, 3, 20]], rtol=1e-14)
    np.testing.assert_allclose(some.params, whole.params[[0, 3, 20]], rtol=1e-13)


def test_another_run_s_checkpoint_is_refused(tmp_path):
    small(checkpoint=tmp_path)
    check(lambda: small(checkpoint=tmp_path, step_size=0.2), "of the same run, got one with other step_size")
    check(lambda: small(checkpoint=tmp_path, loss=lambda f, y: abs(f - y)[:, 0]), "other model, data or loss")
    check(lambda: small(checkpoint=tmp_path, counts=[3]), "with other counts")
    W = mixing.metropolis_hastings(nx.cycle_graph(4), sparse=True)
    check(lambda: small(checkpoint=tmp_path, method=DGD(W, objective="global")), "with other method$")
    check(lambda: small(checkpoint=tmp_path, method=ATC(W)), "with other method$")
    other = mixing.metropolis_hastings(nx.star_graph(3), sparse=True)
    check(lambda: small(checkpoint=tmp_path, method=DGD(other)), "with other W$")
    check(lambda: small(checkpoint=tmp_path, steps=10), "the checkpoint is of 25 steps, more than the 10 asked for")


def test_sparse_matrices_with_the_same_entries_elsewhere_are_others(tmp_path):
    one, other = (scipy.sparse.csr_array((np.eye(4) + np.roll(np.eye(4), k, axis=1)) / 2) for k in (1, 3))
    assert np.array_equal(one.data, other.data)
    small(checkpoint=tmp_path, method=DGD(one))
    check(lambda: small(checkpoint=tmp_path, method=DGD(other)), "with other W$")


def test_bad_input():
    check(lambda: small(counts=[1], final_only=True), "counts and final_only both say what is kept")
    check(lambda: small(counts=[26]), r"counts must hold at least one and none above steps, 25, got \[26\]")
    check(lambda: small(counts=[]), "counts must hold at least one")
    check(lambda: small(every=0), "every must be at least 1, got 0")
