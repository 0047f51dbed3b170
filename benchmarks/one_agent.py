"""Is a prediction for one agent as fast as neural-tangents' own, for gradient descent on the squared loss?

Both build the solution from the same kernel and outputs and give the flow's losses at 201 times. neural-tangents
divides the loss by samples times outputs, here by D times 1, as the paper does. It is timed as it comes: JAX cannot
compile it, since it keeps what it has once traced.
"""

import warnings

import numpy as np
import plain
import timing

from peerflow import DGD, data, from_kernel, predict

QUESTION = "one agent, build and 201 times"
NETWORK = plain.Network(2, 256, 1)
TIMES = np.arange(201.0)


def neural_tangents(K, f0, y):
    """Return neural-tangents' losses as a function to time."""
    from peerflow.kernels import nt

    def losses():
        predict_fn = nt.predict.gradient_descent_mse(K, y, learning_rate=1.0)
        return np.asarray(((predict_fn(TIMES, f0) - y) ** 2).sum(axis=(1, 2)) / (2 * len(y)))

    return losses


def rows():
    if not timing.has("neural_tangents"):
        yield timing.Row(QUESTION, "", None, unit="neural-tangents' time", note="neural-tangents is not installed")
        return
    theta0 = np.random.default_rng(0).normal(size=4 * NETWORK.width + 1)
    for samples in (50, 200, 1600):
        agents = data.half_moons(agents=1, samples=samples, seed=0)
        x, y = agents.pooled()
        K, f0 = NETWORK.kernel(theta0, x), NETWORK.forward(theta0, x)
        alone = DGD(np.ones((1, 1)))

        def ours(K=K, f0=f0, agents=agents, alone=alone):
            return predict(alone, from_kernel(K, f0, agents), step_size=1.0).at(TIMES).losses[:, 0]

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            contenders = {"ours": ours, "neural-tangents": neural_tangents(K, f0, y)}
            taken = timing.race(contenders, rounds=9)
            error = timing.difference(ours(), contenders["neural-tangents"]())
        yield timing.Row(
            QUESTION,
            f"D = {samples}, kernel given",
            **taken.ratio("ours", "neural-tangents"),
            unit="neural-tangents' time",
            goal=1,
            error=error,
            allowed=1e-10,
            note=f"{taken.best('ours') * 1e3:.3g} ms, {taken.best('neural-tangents') * 1e3:.3g} ms",
        )


if __name__ == "__main__":
    timing.report(rows())
