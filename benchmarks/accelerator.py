"""The same programs on a graphics card, in float64 and in float32: what is gained, and what float32 costs.

Not part of ``make bench``, which measures processors: ``python benchmarks/accelerator.py`` on a machine that has one.
Times are of compiled programs, the best of some calls; errors are relative to float64 on the processor.
"""

import sys

import jax
import many
import networkx as nx
import numpy as np
import timing
import wide

from peerflow import DGD, data, linearize, mixing, models, sweep, train


def best(run, calls=3):
    run()
    return min(timing.once(run)[0] for _ in range(calls))


def training(name, method, model, agents, theta0, step_size, steps):
    """Yield what a step costs on every device and in every precision."""
    found = {}
    for device in ("cpu", "gpu"):
        for dtype in (np.float64, np.float32):
            start = np.asarray(theta0).astype(dtype)

            def run(start=start):
                return train(method, model, agents, start, step_size=step_size, steps=steps, counts=[steps])

            with jax.default_device(jax.devices(device)[0]):
                seconds = best(run) / steps
                found[device, dtype.__name__] = seconds, run().losses
    exact = found["cpu", "float64"][1]
    for (device, dtype), (seconds, losses) in found.items():
        yield timing.Row(
            f"a training step, {name}",
            f"{device}, {dtype}",
            1e3 * seconds,
            unit="ms",
            error=timing.difference(losses, exact),
            note=f"P = {model.size:,}",
        )


def predictions():
    """Yield what predicting many peers costs on either device."""
    method, model, agents, theta0 = many.problem(many.geometric(many.PEERS))
    lin, exact = linearize(model, agents, theta0), None
    for device in ("cpu", "gpu"):
        with jax.default_device(jax.devices(device)[0]):

            def run():
                return sweep([method], lin, step_sizes=[many.STEP_SIZE], counts=np.arange(many.STEPS + 1))

            seconds, losses = timing.once(run)
        exact = losses if exact is None else exact
        yield timing.Row(
            f"{many.STEPS} predicted steps of {len(agents.x):,} peers",
            f"{device}, float64",
            seconds,
            unit="s",
            error=timing.difference(losses, exact),
            note=f"rank {lin.rank}, once the model is linearized",
        )


def rows():
    ring = DGD(mixing.metropolis_hastings(nx.cycle_graph(8)))
    moons = data.half_moons(agents=8, samples=200, seed=0)
    digits = data.mnist_zeros_ones(agents=8, samples=200, seed=0)
    small, large = models.mlp(inputs=2, widths=(256,), outputs=1), models.mlp(inputs=784, widths=wide.WIDTHS, outputs=1)
    yield from training("Figure 2", ring, small, moons, small.init(0), 1.0, 200)
    yield from training("ten million parameters", ring, large, digits, large.init(0), 1.0, 5)
    yield from predictions()


if __name__ == "__main__":
    print(timing.machine(), [each.device_kind for each in jax.devices()], file=sys.stderr)
    timing.report(rows())
