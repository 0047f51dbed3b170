"""Predict how peers on a graph train a wide neural network together, without training it.

The ideas, in the order in which data flows through them:

- ``mixing``: a graph becomes a mixing matrix W, with which peers average.
- ``data``, ``networks`` and ``models``: what each agent knows, and the network they share; any JAX function will do.
- ``kernels``: the network's neural tangent kernel, as it is and in the limit of infinite width.
- ``objectives``: what an agent minimizes, and the one switch on which training and prediction must agree.
- ``methods``: DGD, ATC and CTA are one update with W in three places, and a method is one of them with its W.
- ``rules``: more of them: gradient tracking and others without bias, and momentum.
- ``training``: the real thing, nonlinear, step by step.
- ``draws``: what is drawn anew in every step, batches and links that carry.
- ``factors`` and ``linearize``: the network about its common start, in a basis as small as what is asked allows.
- ``engines``, ``modes`` and ``integrate``: how the reduced system is solved, by products with its matrix, by its modes,
  or step by step where the loss leaves no closed form.
- ``flows``: predictions: the gradient flow at any time, the linear iteration after any count.
- ``trials`` and ``chance``: runs under such draws, real and linear, and what to expect of them.
- ``literal``: the paper's stacked equations as printed, for problems small enough to write them out.
- ``stability``: which step sizes are stable.
- ``splits``: a pool's split among peers that differ, how much they do, and where that leaves them.
- ``tune``: settings chosen without training: the cheapest for a loss, and the best weights of a graph's links.
- ``compare`` and ``plots``: how far prediction and observation are apart.
- ``trust``: for how many steps a prediction can be trusted, before anything is trained.
- ``explorer``: a live panel in which the reader's own browser predicts.
- ``frames``: panels in which a slider moves what was computed once.

Arrays are float64: importing the package switches JAX to 64-bit, and what computes with JAX raises a RuntimeError if
that was switched off since.
"""

import jax

jax.config.update("jax_enable_x64", True)

from peerflow import chance, data, kernels, mixing, models, objectives, splits, stability, trials, trust, tune  # noqa: E402
from peerflow.draws import Stochastic  # noqa: E402
from peerflow.flows import predict, sweep  # noqa: E402
from peerflow.linearize import from_kernel, linearize  # noqa: E402
from peerflow.methods import ATC, CTA, DGD  # noqa: E402
from peerflow.rules import D2, EXTRA, AugDGM, DIGing, ExactDiffusion, GradientTracking, heavy_ball  # noqa: E402
from peerflow.training import train  # noqa: E402

__version__ = "0.1.0"
__all__ = [
    "ATC",
    "CTA",
    "D2",
    "DGD",
    "EXTRA",
    "AugDGM",
    "DIGing",
    "ExactDiffusion",
    "GradientTracking",
    "Stochastic",
    "chance",
    "data",
    "from_kernel",
    "heavy_ball",
    "kernels",
    "linearize",
    "mixing",
    "models",
    "objectives",
    "predict",
    "splits",
    "stability",
    "sweep",
    "train",
    "trials",
    "trust",
    "tune",
]
