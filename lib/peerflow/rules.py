r"""More rules than the paper's: gradient tracking and its kin, which have no bias, and momentum.

Each is the update of :mod:`peerflow.methods` with a memory. Written as its authors do, with :math:`V = (I + W)/2`:

- gradient tracking [1]_, [2]_: :math:`X' = W(X - \eta Y)`, where Y follows the mean of all gradients,
  :math:`Y' = WY + g(X') - g(X)` from :math:`Y = g(X)`;
- DIGing [3]_: the same Y, and :math:`X' = WX - \eta Y`;
- Aug-DGM [4]_: :math:`X' = W(X - \eta Y)` and :math:`Y' = W(Y + g(X') - g(X))`;
- exact diffusion [5]_: :math:`U' = X - \eta g(X)`, :math:`X' = V(U' + X - U)` from :math:`U = X`;
- D^2 [6]_: the same with W in place of V;
- EXTRA [7]_: :math:`X'' = (I + W)X' - VX - \eta(g(X') - g(X))` from :math:`X' = WX - \eta g(X)`.

The memory is :math:`\eta(Y - g)` for the first three, before the gradient of the step is in it, :math:`U - X` for the
next two and :math:`\sum (V - W) X` over the steps so far for the last. It sums to zero over the agents throughout.

What a step costs is what an agent sends: two vectors for the first three, one for the others, as for DGD, ATC and CTA.

>>> for rule in (GradientTracking, DIGing, AugDGM, ExactDiffusion, D2, EXTRA):
...     print(rule.name, *(each.coef.tolist() for each in rule.recursion[:3]))
GradientTracking [0.0, 2.0] [0.0, 0.0, 1.0] [0.0, 1.0]
DIGing [0.0, 2.0] [0.0, 0.0, 1.0] [1.0]
AugDGM [0.0, 2.0] [0.0, 0.0, 1.0] [0.0, 0.0, 1.0]
ExactDiffusion [1.0, 1.0] [0.5, 0.5] [0.5, 0.5]
D2 [0.0, 2.0] [0.0, 1.0] [0.0, 1.0]
EXTRA [1.0, 1.0] [0.5, 0.5] [1.0]

References
----------
.. [1] P. Di Lorenzo, G. Scutari, NEXT: in-network nonconvex optimization, 2016.
.. [2] G. Qu, N. Li, Harnessing smoothness to accelerate distributed optimization, 2018.
.. [3] A. Nedic, A. Olshevsky, W. Shi, Achieving geometric convergence for distributed optimization over time-varying
   graphs, 2017.
.. [4] J. Xu, S. Zhu, Y. C. Soh, L. Xie, Augmented distributed gradient methods for multi-agent optimization under
   uncoordinated constant stepsizes, 2015.
.. [5] K. Yuan, B. Ying, X. Zhao, A. H. Sayed, Exact diffusion for distributed optimization and learning, 2019.
.. [6] H. Tang, X. Lian, M. Yan, C. Zhang, J. Liu, D^2: decentralized training over decentralized data, 2018.
.. [7] W. Shi, Q. Ling, G. Wu, W. Yin, EXTRA: an exact first-order algorithm for decentralized consensus optimization,
   2015.
"""

from peerflow import _checks
from peerflow.methods import Rule, w

_v = (1 + w) / 2

GradientTracking = Rule("GradientTracking", (w, -w, -w), (0, w, w - 1))
"""Gradient tracking, adapting before it combines."""
DIGing = Rule("DIGing", (w, -1, -1), (0, w, w - 1))
"""Gradient tracking that adapts after it has combined."""
AugDGM = Rule("AugDGM", (w, -w, -(w**2)), (0, w, w**2 - w), memory0=1 - w)
"""Gradient tracking that combines the gradients as well."""
ExactDiffusion = Rule("ExactDiffusion", (_v, -_v, -_v), (1 - _v, _v, _v - 1))
"""ATC with its bias taken out, by (I + W)/2."""
D2 = Rule("D2", (w, -w, -w), (1 - w, w, w - 1))
"""The same by W itself, whose smallest eigenvalue must be above -1/3."""
EXTRA = Rule("EXTRA", (w, -1, -1), ((1 - w) / 2, 1, 0))
"""DGD with its bias taken out."""


def heavy_ball(rule: Rule, beta: float) -> Rule:
    """Return a rule with momentum: every agent goes down by what it did last, times ``beta``, and by its gradient.

    Parameters
    ----------
    rule
        DGD, ATC or CTA, or another that remembers nothing.
    beta
        From 0 to below 1.

    Raises
    ------
    ValueError
        If the rule has a memory, or beta is out of range.
    """
    _checks.instance("rule", rule, Rule)
    beta = _checks.nonnegative("beta", beta)
    if beta >= 1:
        raise ValueError(f"beta must be below 1, got {beta}")
    if rule.memory:
        raise ValueError(f"rule must be one that remembers nothing yet, got {rule.name}")
    theta, descent = rule.polynomials[0]
    return Rule(f"{rule.name}, beta = {beta:g}", (theta, beta * descent, descent), (0, beta, 1), point=rule.point)
