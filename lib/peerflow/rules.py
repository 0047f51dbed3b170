r"""More rules than the paper's: gradient tracking and its kin, which have no bias, and momentum.

Each is the update of :mod:`peerflow.methods` with a memory. Written as its authors do, with :math:`V = (I + W)/2`:

- gradient tracking (Qu and Li, 2018): :math:`X' = W(X - \eta Y)`, where Y follows the mean of all gradients,
  :math:`Y' = WY + g(X') - g(X)` from :math:`Y = g(X)`;
- DIGing (Nedić, Olshevsky and Shi, 2017): the same Y, and :math:`X' = WX - \eta Y`;
- Aug-DGM (Xu, Zhu, Soh and Xie, 2015): :math:`X' = W(X - \eta Y)` and :math:`Y' = W(Y + g(X') - g(X))`;
- exact diffusion (Yuan, Ying, Zhao and Sayed, 2019): :math:`U' = X - \eta g(X)`, :math:`X' = V(U' + X - U)`
  from :math:`U = X`;
- D^2 (Tang, Lian, Yan, Zhang and Liu, 2018): the same with W in place of V;
- EXTRA (Shi, Ling, Wu and Yin, 2015): :math:`X'' = (I + W)X' - VX - \eta(g(X') - g(X))`
  from :math:`X' = WX - \eta g(X)`.

The memory is :math:`\eta(Y - g)` for the first three, before the gradient of the step is in it, :math:`U - X` for the
next two and :math:`\sum (V - W) X` over the steps so far for the last. It sums to zero over the agents throughout.

What a step costs is what an agent sends: two vectors for the first three, one for the others, as for DGD, ATC and CTA.

>>> for rule in (GradientTracking, DIGing, AugDGM, ExactDiffusion, D2, EXTRA):
...     print(rule.name, *((each.coef + 0.0).tolist() for each in rule.recursion[:3]))
GradientTracking [0.0, 2.0] [0.0, 0.0, 1.0] [0.0, 1.0]
DIGing [0.0, 2.0] [0.0, 0.0, 1.0] [1.0]
AugDGM [0.0, 2.0] [0.0, 0.0, 1.0] [0.0, 0.0, 1.0]
ExactDiffusion [1.0, 1.0] [0.5, 0.5] [0.5, 0.5]
D2 [0.0, 2.0] [0.0, 1.0] [0.0, 1.0]
EXTRA [1.0, 1.0] [0.5, 0.5] [1.0]
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
    beta = _checks.below_one("beta", _checks.nonnegative("beta", beta))
    if rule.memory:
        raise ValueError(f"rule must be one that remembers nothing yet, got {rule.name}")
    theta, descent = rule.polynomials[0]
    return Rule(f"{rule.name}, beta = {beta:g}", (theta, beta * descent, descent), (0, beta, 1), point=rule.point)
