r"""Peers over devices: every device holds some agents, and mixing moves only the rows that the graph needs.

Data are placed once, on a mesh of devices as JAX has it, and training and predictions follow:

.. code-block:: python

    mesh = jax.make_mesh((jax.device_count(),), ("agents",))
    agents = sharding.place(data.half_moons(agents=64, samples=200), mesh)
    run = train(dgd, model, agents, theta0, step_size=1.0, steps=200)

With n devices, device s holds the agents :math:`sQ/n` to :math:`(s+1)Q/n - 1`, and all run one program (SPMD).
Gradients need no word from elsewhere. For a product with W a device needs the rows of its agents' neighbours: those on
the device d places further come by one collective permutation for each d that occurs. A ring's devices send two rows
each, however many agents they hold. So neighbours should have numbers that are near each other.

Devices may belong to several processes, on several machines, see :func:`join`. Each runs the same program, and has all
results.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental.sparse import BCOO
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from peerflow import _checks
from peerflow.data import AgentData

_AXIS = "agents"
# How an array lies: rows with their agents, such rows at every step, or all of it on every device.
OWN, STEPS, ALL = PartitionSpec(_AXIS), PartitionSpec(None, _AXIS), PartitionSpec()
# A coordinator that does not listen yet is asked again after so many seconds.
_AGAIN = 0.1


def place(agents: AgentData, mesh: Mesh) -> AgentData:
    """Return the same data, for training and predictions that are spread over the devices of a mesh.

    Raises
    ------
    ValueError
        If the mesh has another axis than ``"agents"``, or its devices cannot hold equally many agents.
    """
    _checks.instance("agents", agents, AgentData)
    _checks.instance("mesh", mesh, Mesh)
    if mesh.axis_names != (_AXIS,):
        raise ValueError(f'mesh must have one axis, as jax.make_mesh((devices,), ("agents",)), got {mesh.axis_names}')
    if agents.size % mesh.size:
        raise ValueError(f"every device must hold as many agents, got {agents.size} agents for {mesh.size} devices")
    return AgentData(agents.x, agents.y, weigh=agents.weigh, mesh=mesh)


def join(coordinator: str, *, processes: int, index: int, timeout: float = 60.0) -> None:
    """Join the processes that compute together; call it before anything is computed.

    Parameters
    ----------
    coordinator
        Address and port of the process with index 0, as ``"10.0.0.1:1234"``.
    processes, index
        How many there are, and which this one is.
    timeout
        Seconds to wait for the others.

    Raises
    ------
    ValueError
        If the address is none, or index is out of range.
    ConnectionError
        If the coordinator is not there in time.
    """
    processes, index = _checks.count("processes", processes), _checks.count("index", index, minimum=0)
    if index >= processes:
        raise ValueError(f"index must be below the number of processes, {processes}, got {index}")
    host, _, port = str(coordinator).rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f'coordinator must be an address with a port, as "10.0.0.1:1234", got {coordinator!r}')
    timeout = _checks.positive("timeout", timeout)
    if index:
        _await(host, int(port), timeout)
    # Between CPUs collectives need a library of their own.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, processes, index, initialization_timeout=max(1, round(timeout)))


def _await(host, port, timeout):
    """Wait until the coordinator listens: JAX would end the process where it does not."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host, port), timeout=timeout).close()
            return
        except OSError as error:
            if time.monotonic() + _AGAIN > deadline:
                raise ConnectionError(f"no coordinator at {host}:{port} within {timeout:g} s: {error}") from error
            time.sleep(_AGAIN)


@contextmanager
def others() -> Iterator[None]:
    """Say so where what fails is another process."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        raise ConnectionError(
            f"process {jax.process_index()} of {jax.process_count()} lost the others, one of which may have ended: "
            "start all of them again, and a run with a checkpoint goes on from there"
        ) from error


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["weights", "places", "sends"],
    meta_fields=["routes", "shape"],
)
@dataclass(frozen=True, eq=False)
class Scattered:
    """A mixing matrix over devices, for products ``W @ rows`` in what :func:`mapped` runs."""

    weights: Float[Array | np.ndarray, "devices *rows"]
    """W's rows of each device's agents, with columns for what it holds and then for what it receives. In lists of
    entries if W is sparse."""
    places: Int[Array | np.ndarray, "devices entries pair"] | None
    """Row and column of each entry."""
    sends: tuple[Int[Array | np.ndarray, "devices rows"], ...]
    """Which of its rows each device sends in each permutation."""
    routes: tuple[tuple[tuple[int, int], ...], ...]
    """From which device to which, in each permutation."""
    shape: tuple[int, ...]
    """That of W."""

    @property
    def ndim(self) -> int:
        """Two, or three if W varies."""
        return len(self.shape)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, count):
        return replace(self, weights=self.weights[:, count], shape=self.shape[1:])

    def __matmul__(self, rows):
        received = [
            jax.lax.ppermute(rows[send[0]], _AXIS, route) for send, route in zip(self.sends, self.routes, strict=True)
        ]
        near = jnp.concatenate([rows, *received])
        if self.places is None:
            return self.weights[0] @ near
        return BCOO((self.weights[0], self.places[0]), shape=(len(rows), len(near))) @ near


def scatter(W, mesh: Mesh, dtype) -> Scattered:
    """Return a checked W, dense or sparse or (period, agents, agents), over the devices of a mesh."""
    Q, devices = W.shape[-1], mesh.size
    own, shape = Q // devices, (devices, devices, Q)
    entries = scipy.sparse.coo_array(W if scipy.sparse.issparse(W) else (W != 0).reshape(-1, Q, Q).any(axis=0))
    row, column = (np.asarray(each, dtype=np.int64) for each in entries.coords)
    to, distance = row // own, (column // own - row // own) % devices
    # A row is sent once to a device, whatever number of its agents need it.
    key = np.ravel_multi_index((distance, to, column), shape)
    wanted = np.unique(key[distance > 0])
    far, receivers, columns = np.unravel_index(wanted, shape)
    place, sends, routes = column % own, [], []
    for d in np.unique(far):
        some, here = far == d, distance == d
        receiver = receivers[some]
        rank = np.arange(len(receiver)) - np.searchsorted(receiver, np.arange(devices))[receiver]
        send = np.zeros((devices, rank.max() + 1), dtype=np.int32)
        send[(receiver + d) % devices, rank] = columns[some] % own
        place[here] = own + sum(each.shape[1] for each in sends) + rank[np.searchsorted(wanted[some], key[here])]
        sends.append(send)
        routes.append(tuple((int(r + d) % devices, int(r)) for r in np.unique(receiver)))
    if scipy.sparse.issparse(W):
        order, count = np.argsort(to, kind="stable"), np.bincount(to, minlength=devices)
        at = to[order], np.arange(len(to)) - np.repeat(np.cumsum(count) - count, count)
        weights, places = np.zeros((devices, count.max()), dtype), np.zeros((devices, count.max(), 2), dtype=np.int32)
        weights[at], places[at] = entries.data[order], np.stack([row % own, place], axis=1)[order]
    else:
        weights, places = np.zeros((devices, *W.shape[:-2], own, own + sum(s.shape[1] for s in sends)), dtype), None
        weights[to, ..., row % own, place] = np.moveaxis(W[..., row, column], -1, 0)
    parts = Scattered(weights, places, tuple(sends), tuple(routes), W.shape)
    return jax.tree.map(lambda part: spread(part, mesh), parts)


def spread(rows, mesh: Mesh | None) -> Array:
    """Return an array whose rows are agents, or equally many for each device, as it lies on a mesh, if there is one."""
    if mesh is None:
        return jnp.asarray(rows)
    rows = np.asarray(rows)
    return jax.make_array_from_callback(rows.shape, NamedSharding(mesh, OWN), lambda at: rows[at])


def gathered(values) -> np.ndarray:
    """Return an array that may lie on several processes' devices, on each of them."""
    if isinstance(values, jax.Array) and not values.is_fully_addressable:
        everywhere = NamedSharding(values.sharding.mesh, ALL)  # pyright: ignore[reportAttributeAccessIssue]
        values = jax.jit(lambda same: same, out_shardings=everywhere)(values).addressable_data(0)
    return np.asarray(values)


def mapped(function: Callable, mesh: Mesh | None, inputs: tuple, outputs: Any) -> Callable:
    """Return the function of each device's rows as one of all rows; the function itself without a mesh.

    ``inputs`` and ``outputs`` say how arguments and results lie: OWN, STEPS or ALL, or trees of these.
    """
    if mesh is None:
        return function
    if over := getattr(jax, "shard_map", None):
        return over(function, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False)
    from jax.experimental.shard_map import shard_map

    return shard_map(function, mesh, in_specs=inputs, out_specs=outputs, check_rep=False)
