r"""Which step sizes are stable: Proposition 1 corrected, and its counterparts for ATC, CTA and the iterations.

With :math:`c = \eta/D` (or :math:`\eta/(DQ)`), :math:`\Psi = \mathrm{blockdiag}(J_q^\top J_q)` and
:math:`s = c \max_q \lambda_{\max}(J_q^\top J_q)`, the flow is :math:`\dot z = Az + u` and the iteration
:math:`z' = (I + A)z + u`, on the space :math:`\mathbb{R}^Q \otimes \mathrm{range}(J^\top)` that neither ever leaves.
A step is stable if no eigenvalue there makes a deviation grow: if :math:`\mathrm{Re}\,\lambda \le 0` for the flow, or
:math:`|1 + \lambda| \le 1` for the iteration. (Outside of that space A is singular whenever P exceeds the rank of J,
which the paper's proof overlooks: agreeing parameters that move no output stay where they are.)

On that space, and if W connects the agents, DGD's flow is exponentially stable for every step, minimal or not: this is
what remains of Proposition 1. Both terms of DGD's A have a negative semidefinite symmetric part, because W doubly
stochastic has norm one. Where that vanishes all agents agree on a v with :math:`J_q v = 0` for all q; in
:math:`\mathrm{range}(J^\top)` only v = 0 does.

For two agents that swap parameters, ATC's flow with :math:`c\Psi = 3I` is unstable though W is doubly stochastic:

>>> import numpy as np
>>> from peerflow.engines import state_matrix
>>> from peerflow.methods import ATC
>>> swap, psi = np.array([[0.0, 1.0], [1.0, 0.0]]), np.full((2, 1, 1), 3.0)
>>> np.linalg.eigvals(state_matrix(ATC(swap), psi)).real.round(12).tolist()
[1.0, -3.0]
"""

from dataclasses import replace
from functools import partial

import numpy as np
import scipy.linalg
import scipy.optimize
from jaxtyping import Float

from peerflow import _checks, mixing
from peerflow.engines import state_matrix
from peerflow.flows import predict
from peerflow.linearize import Linearization
from peerflow.methods import Method

# W is doubly stochastic to this much, so its eigenvalues are known to this much: one this near to 1, 0 or -1 is taken
# for it, and a mode that seems to grow by this much (times s, if that is above 1) for one that does not.
_ROUNDING = 1e-10
# A search multiplies the step by the factor, from NEAR to FAR times the step where s = 1, and finds it this closely.
_FACTOR, _NEAR, _FAR, _FOUND = 1.05, 1e-8, 1e3, 1e-6
# For rules of which nothing is known it begins later, and takes longer strides: their spectra cost eight times as much.
_FACTOR_ANY, _NEAR_ANY = 1.2, 1e-4
# It leaves out directions with singular values below this, relative to the largest: they move at rates of rounding.
_MOVING = 1e-7
_TIMES = {"discrete": False, "continuous": True}


def step_size_limit(method: Method, lin: Linearization, *, time: str = "discrete") -> float:
    r"""Return the largest step size up to which every step is stable, or inf where every step is.

    Nothing is searched where :func:`sufficient_limit` is infinite, and no limit is below it: what rounding may say
    against that is overruled. DGD's flow, for one, is stable for every step and every W. For symmetric W the rest are
    eigenvalue problems. With
    :math:`F = \mathrm{blockdiag}(F_q)` and h = 1 for DGD, :math:`h(W) = W` for ATC and CTA, the matrix
    :math:`I + A` has the eigenvalue :math:`\mu` where -1/c is one of :math:`F\,h(W)\,(\mu I - W)^{-1} F^\top`, which is
    symmetric. DGD's iteration first reaches :math:`\mu = -1` (at c = 0 if W itself has that eigenvalue). So do those of
    ATC and CTA if W is positive semidefinite. If W is indefinite, others may come before :math:`\mu = -1` in the
    iteration and :math:`\mu = 1` in the flow: the spectrum is computed at steps from :func:`sufficient_limit` up to
    there, each at most 5 % above the last, and a crossing among them found to a relative 1e-6. Their flows are stable
    for every step if and only if :math:`F W F^\top`, with blocks :math:`w_{qr} J_q J_r^\top`, is positive
    semidefinite.

    For other W, and where no real crossing bounds it, only this search is left: a window of instability narrower than
    5 % may be missed, and none up to s = 1000 counts as none, but for the flow with symmetric W. Where
    :func:`sufficient_limit` is zero it starts at s = 1e-8, and a limit below that counts as zero.

    Where W varies, and for any other rule, nothing but the search is left; for the rule it starts at s = 1e-4, with
    steps each at most 20 % above the last. The spectrum is that of a period of the iteration on the space that no start
    leaves: where the sum of the agents' memories is conserved, on those that sum to zero.

    Eigenvalues of W within 1e-10 of 1, 0 or -1 count as that, and growth of 1e-10 a step as none. Links so weak that
    W has further eigenvalues close to 1, at a distance g, cost digits where W is indefinite: about 1e-15/g, relative.

    Parameters
    ----------
    method
        ``DGD(W)``, ``GradientTracking(W)`` or any other, for as many agents as ``lin`` has.
    lin
        The model about the common start.
    time
        ``"discrete"`` for the iteration, ``"continuous"`` for the flow.

    Raises
    ------
    ValueError
        If the method is for another number of agents, a name is unknown, or the method has no flow.
    """
    scale, largest, continuous = _arguments(method, lin, time)
    if lin.rank == 0 or np.isinf(stable := _sufficient(method, largest, continuous)):
        return np.inf
    crossing, far = np.inf, _FAR / largest
    if method.printed and method.symmetric:
        roots = _roots(lin, scale)
        crossing = max(stable, _real_crossing(method, roots, 1.0 if continuous else -1.0))
        if not method.rule.mixes or _smallest(method.W) >= 0:
            return float(crossing)
        if np.isfinite(crossing):
            far = (1 - _FOUND) * crossing
        elif continuous:
            lowest = _lowest(_coupling(roots, method.dense))
            if lowest == 0:
                return np.inf
            # An eigenvalue grows like -lowest c: somewhere the flow blows up.
            far = max(far, -_FAR / lowest)
    moving = int((lin.singular_values > _MOVING * lin.singular_values[0]).sum())
    growth = partial(_growth, method, scale[:, None, None] * lin.curvature[:, :moving, :moving], continuous)
    near, factor = (_NEAR, _FACTOR) if method.rule.printed else (_NEAR_ANY, _FACTOR_ANY)
    return float(min(crossing, _first_crossing(growth, stable, near / largest, far, factor)))


def sufficient_limit(method: Method, lin: Linearization, *, time: str = "discrete") -> float:
    r"""Return a step size below which every step is stable, from W and the largest curvature alone.

    In terms of :math:`s`, every step is stable

    - DGD, flow: always;
    - DGD, iteration: below :math:`1 + \lambda_{\min}(W)` for symmetric W, else below the larger of
      :math:`2 \min_q w_{qq}` and :math:`(1 - g)/2`, with :math:`g = \|W - \mathbf{1}\mathbf{1}^\top/Q\|`;
    - ATC and CTA, flow: always if W is positive semidefinite, below :math:`1 + 1/|\lambda_{\min}(W)|` for any other
      symmetric W, else below 2;
    - ATC and CTA, iteration: below 2.

    Why: a matrix is stable if its norm is at most one. For ATC and CTA that is the norm of :math:`W(I - c\Psi)` or
    :math:`(I - c\Psi)W`, and :math:`\|W\| = 1`. For DGD and symmetric W the eigenvalues of :math:`W - c\Psi` lie
    between :math:`\lambda_{\min}(W) - s` and 1; for any other, :math:`W = \alpha I + (1 - \alpha) V` with
    :math:`\alpha = \min_q w_{qq}` and V doubly stochastic, so :math:`\|W - c\Psi\| \le \|\alpha I - c\Psi\| + 1 -
    \alpha`. The other bound splits x into the agents' mean m and the rest d: with :math:`a = \sqrt{c}\,\|\Psi^{1/2}m\|`
    and :math:`b = \|d\|` the norm :math:`\|Wx - c\Psi x\|^2` exceeds :math:`\|x\|^2` by at most
    :math:`(s - 2) a^2 + 2\sqrt{s}\,(1 + g + s)\,ab + ((g + s)^2 - 1) b^2`, which is negative for all a and b if
    :math:`2s < 1 - g`. The flow of ATC for symmetric W has an eigenvalue :math:`i\omega` only if
    :math:`-1/c` is one of :math:`F h(W) F^\top`, :math:`h(\lambda) = \lambda/(1 + i\omega - \lambda)` (for
    :math:`\omega = 0` without the mode :math:`\lambda = 1`). With :math:`\beta = -\lambda_{\min}(W)` the real part of h
    is at least :math:`-\beta/(1+\beta)`, so that needs :math:`1 \le s\beta/(1+\beta)`.

    For symmetric W the bound is the limit itself when all :math:`\Psi_q` agree. Where W varies it is the least of all,
    as a product's norm is at most one if its factors' are.

    Arguments and errors as in :func:`step_size_limit`; for other rules nothing is known, which is a ``ValueError``.
    """
    _, largest, continuous = _arguments(method, lin, time)
    if not method.rule.printed:
        raise ValueError(f"sufficient limits are known for DGD, ATC and CTA, got {method.name}: use step_size_limit")
    return np.inf if lin.rank == 0 else float(_sufficient(method, largest, continuous))


def spectral_abscissa(method: Method, lin: Linearization, *, step_size: float) -> float:
    """Return the largest real part of A's eigenvalues: the flow's slowest decay if negative, its growth if positive.

    Minus infinity where nothing moves: the model has no gradient on the data. Up to :func:`sufficient_limit` rounding
    makes it zero at most.
    """
    dynamics = predict(method, lin, step_size=step_size)
    method.check_flow()
    spectrum = dynamics.eigenvalues
    proven = method.rule.printed and step_size <= sufficient_limit(method, lin, time="continuous")
    return float(np.real(spectrum).max(initial=-np.inf).clip(max=0.0 if proven else np.inf))


def spectral_radius(method: Method, lin: Linearization, *, step_size: float) -> float:
    """Return the largest modulus of I + A's eigenvalues: what the iteration's slowest mode is multiplied by.

    Zero where nothing moves. Up to :func:`sufficient_limit` rounding makes it one at most. Where W varies it is the
    mean over a period: the root of what a period multiplies by.
    """
    spectrum = predict(method, lin, step_size=step_size).eigenvalues
    proven = method.rule.printed and step_size <= sufficient_limit(method, lin)
    radius = np.abs(1 + spectrum).max(initial=0.0) ** (1 / len(method.phases))
    return float(radius.clip(max=1.0 if proven else np.inf))


def numerical_abscissa(method: Method, lin: Linearization, *, step_size: float) -> float:
    r"""Return the largest eigenvalue of A's symmetric part :math:`(A + A^\top)/2`: negative in Proposition 1.

    A bound on the growth of deviations in norm at every time, not only in the end. Rounding makes it zero at most where
    it is negative for certain: for DGD, and up to s = 2 for ATC and CTA, where :math:`\|I + A\| \le 1`.
    """
    dynamics = predict(method, lin, step_size=step_size)
    if not method.printed:
        raise ValueError(f"the numerical abscissa is of the flows of DGD, ATC and CTA, got {method.name}")
    A, _ = dynamics.system()
    proven = not method.rule.mixes or step_size <= sufficient_limit(method, lin)
    largest = np.linalg.eigvalsh((A + A.T) / 2).max(initial=-np.inf)
    return float(largest.clip(max=0.0 if proven else np.inf))


def final_disagreement(method: Method, gradients, *, step_size: float) -> Float[np.ndarray, "agents params"]:
    r"""Return how far from their mean the agents end, to first order in the step size.

    With :math:`g^\star` the gradients that the agents follow at the optimum of (2), where they sum to zero, DGD and CTA
    end at :math:`-\eta\,(I - W)^+ g^\star` and ATC at :math:`-\eta\,(I - W)^+ W g^\star`: averaging the gradients
    helps. If one vector of parameters is optimal for every agent, then :math:`g^\star = 0` and none is biased. With the
    matrices of :attr:`peerflow.methods.Rule.recursion` it is :math:`-\eta\,(I - P_1 + P_0)^+ (A - A_0) g^\star` for any
    rule, and zero for one without bias.

    Parameters
    ----------
    method
        ``DGD(W)``, ``ATC(W)`` or any other, with one W that connects the agents; for objective ``"global"`` the
        gradients are divided by Q here.
    gradients
        :math:`g^\star`: each agent's local gradient at the optimum, (agents, params), times ``AgentData.gains`` where
        the global objective weighs samples alike.

    Raises
    ------
    ValueError
        If gradients do not fit or do not sum to zero, or W varies or leaves agents unconnected.
    """
    _checks.instance("method", method, Method)
    _checks.shape_of("W", method.W.shape, ("agents", "agents"))
    gradients = _checks.array("gradients", gradients, (method.agents, "params"))
    P1, P0, A, A0 = method.rule.recursion
    method = replace(method, W=method.dense)
    laplacian, pushed = method.polynomial(1 - P1 + P0), method.polynomial(A - A0) @ gradients
    if np.linalg.matrix_rank(laplacian) < method.agents - 1:
        raise ValueError("W must connect all agents: others do not end at one optimum")
    total, size = np.abs(gradients.sum(axis=0)).max(initial=0.0), np.abs(gradients).max(initial=0.0)
    if total > 1e-6 * method.agents * size:
        raise ValueError(f"gradients must sum to zero, as at the optimum of (2), got a sum of {total:.2g}")
    step = _checks.positive("step_size", step_size) * method.gain
    return -step * np.linalg.pinv(laplacian) @ pushed


def _arguments(method, lin, time):
    """Check; return each agent's c and the largest curvature c Psi at step size one, and if time is continuous."""
    _checks.instance("method", method, Method)
    _checks.instance("lin", lin, Linearization)
    _checks.shape_of("W", method.W.shape[-2:], (lin.agents.size,) * 2)
    if continuous := _checks.choice("time", time, _TIMES):
        method.check_flow()
    scale = method.gain * lin.agents.gains / lin.agents.counts
    # Of F^T F and F F^T, which have the same largest eigenvalue, the smaller one.
    F = lin.features
    gram = lin.curvature if F.shape[1] >= F.shape[2] else F @ F.transpose(0, 2, 1)
    return scale, (scale * np.linalg.eigvalsh(gram)[:, -1]).max() if lin.rank else 0.0, continuous


def _largest(psi):
    return np.linalg.eigvalsh(psi).max()


def _sufficient(method, largest, continuous):
    """Return the sufficient bound on the step size, or zero if none is known."""
    if method.varies:
        return min(_sufficient(each, largest, continuous) for each in method.phases)
    if not method.rule.printed:
        return 0.0
    if method.rule.mixes:
        s = 2.0
        if continuous and method.symmetric:
            lowest = _smallest(method.W)
            s = 1 - 1 / lowest if lowest < 0 else np.inf
    elif continuous:
        s = np.inf
    elif method.symmetric:
        s = 1 + _smallest(method.W)
    else:
        W = method.dense
        gap = 1 - np.linalg.norm(W - 1 / len(W), 2)
        s = max(2 * W.diagonal().min(), gap / 2)
        s = s if s > _ROUNDING else 0.0
    return s / largest


def _smallest(W):
    """Return the smallest eigenvalue of symmetric W, without the rounding of 0 and -1."""
    smallest = mixing.smallest_eigenvalue(W)
    return next((exact for exact in (0.0, -1.0) if abs(smallest - exact) < _ROUNDING), smallest)


def _roots(lin: Linearization, scale) -> Float[np.ndarray, "agents k rank"]:
    """Return R_q with R_q^T R_q = c F_q^T F_q at step size one: an orthonormal factor would change no spectrum."""
    return np.asarray(np.linalg.qr(np.sqrt(scale)[:, None, None] * lin.features, mode="r"))


def _coupling(roots, M):
    """Return F M F^T, whose blocks are M_qr F_q F_r^T."""
    size = roots.shape[0] * roots.shape[1]
    _checks.fits("all agents' samples squared", size**2, "sufficient_limit needs only products with W")
    return np.einsum("qir,qp,pjr->qipj", roots, M, roots, optimize=True).reshape(size, size)


def _lowest(symmetric):
    """Return the smallest eigenvalue, or 0 if it is negative by rounding alone."""
    eigenvalues = np.linalg.eigvalsh(symmetric)
    return eigenvalues[0] if eigenvalues[0] < -1e-13 * np.abs(eigenvalues).max() else 0.0


def _real_crossing(method, roots, mu):
    """Return the smallest step at which I + A has the eigenvalue mu, 1 or -1, for symmetric W."""
    W, mixes = method.dense, method.rule.mixes
    eigenvalues, vectors = np.linalg.eigh(W)
    stuck = np.abs(mu - eigenvalues) < _ROUNDING
    gain = eigenvalues if mixes else np.ones(len(W))
    weights = np.where(stuck, 0.0, gain / np.where(stuck, 1.0, mu - eigenvalues))
    coupled = _coupling(roots, vectors * weights @ vectors.T)
    # What W leaves at mu has infinite weight: of the sign of gain / (mu - lambda) as lambda comes from inside.
    infinite = np.einsum("qir,qk->qikr", roots, vectors[:, stuck]).reshape(len(coupled), -1)
    if np.abs(infinite).max(initial=0.0) > 1e-12 * np.abs(roots).max():
        if mu < 0 and not mixes:
            return 0.0
        # A positive infinity has no part in a negative eigenvalue.
        used = scipy.linalg.orth(infinite)
        project = np.eye(len(coupled)) - used @ used.T
        coupled = project @ coupled @ project
    lowest = _lowest(coupled)
    return -1 / lowest if lowest < 0 else np.inf


def _growth(method, psi, continuous, c):
    """Return by how much the fastest mode grows, or (negative) by how much the slowest shrinks."""
    spectrum = np.linalg.eigvals(state_matrix(method, c * psi))
    growth = spectrum.real.max() if continuous else np.abs(1 + spectrum).max() - 1
    return growth - _ROUNDING * max(1.0, c * _largest(psi))


def _first_crossing(growth, stable, near, far, factor=_FACTOR):
    """Return the first c up to ``far`` where growth becomes positive, or inf; it is not below ``stable``."""
    low = stable if stable > 0 else near
    if growth(low) > 0:
        return stable
    while low < far:
        high = min(factor * low, far)
        if growth(high) > 0:
            return scipy.optimize.brentq(growth, low, high, xtol=_FOUND * low)
        low = high
    return np.inf
