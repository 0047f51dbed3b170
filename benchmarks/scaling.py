r"""What a training step costs when peers are spread over processes: a law, fitted to some graphs and tested on others.

With :math:`Q/n` peers a process, :math:`t_g` the time of one peer's own work, h rows of P numbers that a process sends
in a step and a bandwidth :math:`\beta`,

.. math:: T = t_0 + \frac{Q}{n}\, t_g + \frac{8 h P}{\beta}.

Two processes have a core each and talk over the loopback device. Every peer has four neighbours; which of them live in
the other process is a matter of numbering, so h varies while the number of links does not.

    python benchmarks/scaling.py [PORT INDEX]
"""

import json
import os
import socket
import subprocess
import sys

import networkx as nx
import numpy as np
import timing
from scipy.optimize import nnls

from peerflow import DGD, data, mixing, models, sharding, train

PROCESSES, SAMPLES, WIDTHS, STEPS, ROUNDS = 2, 10, (300, 300), 10, 5
# Peers, so many that no cache holds them, and the share of them that are numbered at random.
FITTED = (48, 0.0), (48, 1.0), (64, 0.3), (96, 0.0), (96, 1.0), (128, 0.3)
HELD_OUT = (64, 0.0), (64, 1.0), (96, 0.3), (128, 0.0), (128, 1.0)
QUESTION = "a step over two processes"


def renumbered(peers, share):
    """Return W of a circulant graph with four neighbours each, of which a share has numbers at random."""
    draw, order = np.random.default_rng(0), np.arange(peers)
    some = draw.permutation(peers)[: round(share * peers)]
    order[np.sort(some)] = some
    W = mixing.metropolis_hastings(nx.circulant_graph(peers, [1, 2]), sparse=True)
    return W[order][:, order]


def measured(index):
    """Return rows sent and seconds a step for every setting; all processes call it alike."""
    import jax

    mesh = jax.make_mesh((jax.device_count(),), ("agents",))
    model = models.mlp(inputs=2, widths=WIDTHS, outputs=1)
    found = []
    for peers, share in FITTED + HELD_OUT:
        W = renumbered(peers, share)
        agents = sharding.place(data.half_moons(agents=peers, samples=SAMPLES, seed=0), mesh)
        given = DGD(W), model, agents, model.init(0)
        seconds = [
            timing.slope(lambda n, given=given: train(*given, step_size=0.1, steps=n, counts=[n]), STEPS)[0]
            for _ in range(ROUNDS)
        ]
        sent = sum(send.shape[1] for send in sharding.scatter(W, mesh, float).sends)
        found.append((peers, share, sent, min(seconds)))
    return found


def process(port, index):
    """Compute beside the other process, on a core of its own; the first prints what it measured."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, [cores[index % len(cores)]])
    sharding.join(f"127.0.0.1:{port}", processes=PROCESSES, index=index)
    found = measured(index)
    if index == 0:
        print(json.dumps(found))


def together():
    """Return what two processes measured."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = str(held.getsockname()[1])
    command = [sys.executable, __file__, port]
    running = [subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True) for i in range(PROCESSES)]
    said = [each.communicate()[0] for each in running]
    if any(each.returncode for each in running):
        raise RuntimeError(f"processes ended with codes {[each.returncode for each in running]}")
    return json.loads(said[0])


def rows():
    found = together()
    peers, _, sent, seconds = np.array(found).T
    P = models.mlp(inputs=2, widths=WIDTHS, outputs=1).size
    terms = np.stack([np.ones_like(peers), peers / PROCESSES, 8 * P * sent], axis=1)
    fitted = np.arange(len(found)) < len(FITTED)
    # Relative errors count.
    (start, own, a_byte), _ = nnls(terms[fitted] / seconds[fitted, None], np.ones(fitted.sum()))
    off = terms @ [start, own, a_byte] / seconds - 1
    yield timing.Row(QUESTION, "whatever the size", 1e3 * start, unit="ms")
    yield timing.Row(QUESTION, "own work of a peer", 1e3 * own, unit="ms", note=f"P = {P:,}, {SAMPLES} samples")
    yield timing.Row(QUESTION, "bandwidth", 1e-9 / a_byte, unit="GB/s", at_least=True)
    worst = np.abs(off[~fitted]).max()
    yield timing.Row(QUESTION, "the law, held out", worst, unit="relative error", goal=0.2)
    for (size, _, rows_sent, taken), error, used in zip(found, off, fitted, strict=True):
        name = f"{size} peers, {rows_sent} rows sent, {'fitted' if used else 'held out'}"
        yield timing.Row(QUESTION, name, 1e3 * taken, unit="ms", note=f"the law is off by {error:.1%}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        process(int(sys.argv[1]), int(sys.argv[2]))
    else:
        timing.report(rows())
