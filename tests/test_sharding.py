"""Agents spread over devices, in one process and in several, give what they give on one device."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import networkx as nx
import numpy as np
import pytest
import spread
from jax.sharding import Mesh
from problems import agent_data, assert_close
from rejection import check, rejects

from peerflow import mixing, sharding

PROGRAM = str(Path(spread.__file__))


@pytest.fixture(scope="module")
def expected():
    return spread.results()


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def started(*arguments):
    command = [sys.executable, PROGRAM, *map(str, arguments)]
    # The program says itself how many devices there are.
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def found(folder, index):
    with np.load(folder / f"{index}.npz") as stored:
        return dict(stored)


def assert_same(results, expected):
    sends, others = results.pop("ring sends"), results.pop("other collectives")
    # A row to the device before and one to the device after, whatever number of agents a device holds.
    assert sends.tolist() == [1, 1] and others == 0
    assert results.keys() <= expected.keys()
    for name in results:
        assert_close(results[name], expected[name], tolerance=1e-12)


def test_eight_devices(expected, tmp_path):
    process = started(tmp_path, 8)
    printed = process.communicate(timeout=300)[0]
    assert process.returncode == 0, printed
    results = found(tmp_path, 0)
    assert_same(results, expected)
    assert results.keys() == expected.keys()


@pytest.mark.parametrize(("processes", "devices"), [(2, 2), (4, 1)])
def test_processes(expected, tmp_path, processes, devices):
    coordinator = f"127.0.0.1:{free_port()}"
    running = [started(tmp_path, devices, coordinator, processes, index) for index in range(processes)]
    for process in running:
        printed = process.communicate(timeout=300)[0]
        assert process.returncode == 0, printed
    for index in range(processes):
        results = found(tmp_path, index)
        assert {"tracking: params", "one way: predicted", "sparse product 5", "resumed"} <= results.keys()
        assert_same(results, expected)


@pytest.mark.parametrize("index", [0, 1])
def test_a_killed_process_is_reported_by_the_others(index):
    coordinator = f"127.0.0.1:{free_port()}"
    running = [started("long", 1, coordinator, 2, each) for each in range(2)]
    for process in running:
        while process.stdout.readline() != "started\n":
            assert process.poll() is None
    time.sleep(1)
    running[index].send_signal(signal.SIGKILL)
    # What JAX itself says, and ends the process, where the coordinator is the one that is gone.
    said = re.compile(f"process {1 - index} of 2 lost the others|another task died")
    begun = time.monotonic()
    assert any(said.search(line) for line in running[1 - index].stdout), "it ended without a word"
    assert time.monotonic() - begun < 30
    for process in running:
        process.kill()
        process.communicate()


def test_an_unreachable_coordinator_is_an_error_within_seconds():
    begun = time.monotonic()
    with pytest.raises(ConnectionError, match=r"no coordinator at 127.0.0.1:\d+ within 0.5 s"):
        sharding.join(f"127.0.0.1:{free_port()}", processes=2, index=1, timeout=0.5)
    assert time.monotonic() - begun < 10


MESH = jax.make_mesh((1,), ("agents",))


@rejects(
    [
        (lambda: sharding.place(agent_data(), "mesh"), "mesh must be of type Mesh"),
        (lambda: sharding.place(np.ones(3), MESH), "agents must be of type AgentData"),
        (
            lambda: sharding.place(agent_data(), jax.make_mesh((1,), ("peers",))),
            r"mesh must have one axis.*got .*peers",
        ),
        (
            lambda: sharding.join("here", processes=2, index=0),
            "coordinator must be an address with a port, .* got 'here'",
        ),
        (
            lambda: sharding.join("here:1", processes=2, index=2),
            "index must be below the number of processes, 2, got 2",
        ),
        (lambda: sharding.join("here:1", processes=0, index=0), "processes must be at least 1, got 0"),
        (lambda: sharding.join("here:1", processes=1, index=0, timeout=0), "timeout must be positive, got 0"),
    ]
)
def test_bad_input_is_refused(call, message):
    check(call, message)


def test_devices_must_hold_equally_many_agents():
    mesh = Mesh(np.array(3 * jax.devices()), ("agents",))
    check(
        lambda: sharding.place(agent_data(), mesh), "every device must hold as many agents, got 4 agents for 3 devices"
    )


def test_a_mesh_of_one_device_moves_nothing():
    W = mixing.metropolis_hastings(nx.cycle_graph(4), sparse=True)
    assert sharding.scatter(W, MESH, float).sends == ()
