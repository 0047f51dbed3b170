"""A convolutional network of a million parameters, a black box to the library: predicted from its kernel.

Eight peers hold 200 of scikit-learn's digits each, odd or even.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import timing
import wide

from peerflow import data, models

QUESTION = "convolutions, 10^6 parameters, 200 steps"
LAYOUT = "NHWC", "HWIO", "NHWC"
CHANNELS = (64, 160, 240, 264)


def network():
    """Return convolutions of stride 1, 2, 2, 2 over (n, 8, 8) images, and parameters of order one."""
    draw = np.random.default_rng(0)
    kernels = [draw.standard_normal((3, 3, before, after)) for before, after in pairwise((1, *CHANNELS))]

    def function(params, x):
        x = x[..., None]
        for layer, kernel in enumerate(params["kernels"]):
            scale = (kernel.shape[0] * kernel.shape[1] * kernel.shape[2]) ** -0.5
            stride = (1, 1) if layer == 0 else (2, 2)
            x = jax.lax.conv_general_dilated(x, scale * kernel, stride, "SAME", dimension_numbers=LAYOUT)
            x = jnp.tanh(x)
        flat = x.reshape(len(x), -1)
        return flat @ params["head"][:, None] / flat.shape[1] ** 0.5

    return models.wrap(function, {"kernels": kernels, "head": draw.standard_normal(CHANNELS[-1])})


def rows():
    images = data.digits(agents=wide.PEERS, samples=wide.SAMPLES, seed=0)
    odd = images.y.argmax(axis=-1)[..., None] % 2
    model, theta0 = network()
    yield from wide.predicted(QUESTION, model, data.AgentData(images.x, odd), theta0, step_size=0.1)


if __name__ == "__main__":
    timing.report(rows())
