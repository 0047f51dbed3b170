"""Predict how peers on a graph train a wide neural network together, without training it.

The ideas, in the order in which data flows through them:

- ``mixing``: a graph becomes a mixing matrix W, with which peers average.
- ``data`` and ``models``: what each agent knows, and the network they share.
- ``kernels``: the network's neural tangent kernel, as it is and in the limit of infinite width.
- ``objectives``: what an agent minimizes, and the one switch on which training and prediction must agree.
- ``algorithms``: DGD, ATC and CTA are one update with W in three places.
- ``training``: the real thing, nonlinear, step by step.
- ``linearize``: the network about its common start, in a basis as small as its kernel's rank.
- ``engines`` and ``modes``: how an affine system is solved, by products with its matrix or by its modes.
- ``flows``: the closed forms: the gradient flow at any time, the linear iteration after any count.
- ``literal``: the paper's stacked equations as printed, for problems small enough to write them out.
- ``integrate``: the same dynamics for losses that have no closed form.
- ``stability``: which step sizes are stable.
- ``compare`` and ``plots``: how far prediction and observation are apart.

Arrays are float64: importing the package switches JAX to 64-bit, and what computes with JAX raises a RuntimeError if
that was switched off since.
"""

import jax

jax.config.update("jax_enable_x64", True)

__version__ = "0.1.0"
