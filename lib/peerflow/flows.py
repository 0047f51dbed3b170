r"""Predictions: the gradient flow (12)-(14) and the iteration itself, of the linearized network.

In the reduced basis, with :math:`z` one row per agent, :math:`r_q = f_0 - y` on agent q's data, and
:math:`c_q = \eta/D_q` (objective ``"local"``) or :math:`\eta/(D_q Q)` (``"global"``), every method has

.. math:: A = (W - I) \otimes I - B\, c\Psi\, C, \qquad u = -B\, [c_q F_q^\top r_q]_q, \qquad
    \Psi = \mathrm{blockdiag}(F_q^\top F_q),

and from the common start :math:`z = 0`

.. math:: \text{flow (14):}\quad z(t) = t\,\varphi_1(tA)\,u, \qquad
    \text{iteration:}\quad z_k = \sum_{j<k} (I + A)^j u.

The paper's A is singular whenever P exceeds the rank of all agents' Jacobian. In this basis A is nonsingular if W
connects the agents, but about as badly conditioned as the kernel, so neither form divides by it. For as many steps as a
training run has, both come from products with A (:mod:`peerflow.engines`); for later times from its modes
(:mod:`peerflow.modes`), whichever is cheaper. Other losses than the squared one have no closed form, and are integrated
in the same basis (:mod:`peerflow.integrate`).

>>> import networkx as nx
>>> from peerflow import data, mixing, models
>>> from peerflow.linearize import linearize
>>> from peerflow.methods import DGD
>>> agents, model = data.half_moons(agents=4, samples=10), models.mlp(inputs=2, widths=(64,), outputs=1)
>>> lin, dgd = linearize(model, agents, model.init(0)), DGD(mixing.metropolis_hastings(nx.cycle_graph(4)))
>>> for loss in ("mse", "binary_cross_entropy"):
...     dynamics = predict(dgd, lin, step_size=0.1, loss=loss)
...     bool(abs(dynamics.at([0, 50]).losses - dynamics.after([0, 50]).losses).max() < 1e-3)
True
True
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.core import Tracer
from jaxtyping import Array, Complex, Float

from peerflow import _checks, engines, integrate, modes
from peerflow._progress import bar
from peerflow.engines import may_overflow
from peerflow.linearize import Expansion, Linearization
from peerflow.methods import Method
from peerflow.objectives import Evaluation, evaluate, loss_function

# So many counts of a sweep are computed at a time.
_SEEN = 50


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The predicted state of every agent at some times."""

    lin: Linearization
    times: Float[np.ndarray, "time"]
    """Times, or step counts; one step of the algorithm is one unit of time."""
    coefficients: Float[Array | np.ndarray, "time agents rank"]
    """z: each agent's displacement from the common start in the reduced basis."""
    loss: str | Callable = "mse"
    """The loss whose dynamics these are."""

    @cached_property
    @may_overflow
    def losses(self) -> Float[Array | np.ndarray, "time agents"]:
        """Each agent's own objective at its own parameters, in the linear model."""
        _, y, weights = self.lin.agents.padded
        moved = self._xp.matmul(self.lin.features, self.coefficients.transpose(1, 2, 0)).transpose(2, 0, 1)
        return self._risks((self.lin.outputs0[None] + moved).reshape(-1, *y.shape), y, weights, 0)

    @cached_property
    @may_overflow
    def global_losses(self) -> Float[Array | np.ndarray, "time agents"]:
        """The global objective at each agent's parameters, in the linear model."""
        agents = self.lin.agents
        y, real = agents.pooled()[1], np.repeat(agents.padded.weights > 0, agents.outputs)
        weights = np.repeat(agents.weights / agents.counts, agents.counts)
        features, start = self.lin.features.reshape(-1, self.lin.rank)[real], self.lin.outputs0.reshape(-1)[real]
        moved = self._xp.matmul(self.coefficients, features.T)
        return self._risks((start[None, None] + moved).reshape(*moved.shape[:2], *y.shape), y, weights, None)

    @property
    def _xp(self):
        """What computes: JAX where it is tracing, else numpy."""
        return jnp if isinstance(self.coefficients, Tracer) else np

    def _risks(self, outputs, y, weights, axis):
        """Return the weighted loss over samples at every time, of every agent; axis is that of agents in y, if any."""
        _checks.double_precision()
        if self.loss == "mse":
            y, weights = (each[(None,) * (outputs.ndim - y.ndim)] for each in (y, weights))
            return (self._xp.sum((outputs - y) ** 2, axis=-1) * weights).sum(axis=-1) / 2
        loss_fn = loss_function(self.loss, y)
        one = jax.vmap(lambda f, y, weights: jnp.sum(weights * loss_fn(f, y)), (0, axis, axis))
        losses = jax.vmap(one, (0, None, None))(outputs, y.astype(outputs.dtype), weights)
        return losses if self._xp is jnp else np.asarray(losses)

    @cached_property
    def params(self) -> Float[Array | np.ndarray, "time agents params"]:
        """Every agent's parameters."""
        return self.lin.displacement(self.coefficients) + self.lin.theta0

    def outputs(self, x) -> Float[Array | np.ndarray, "time agents n outputs"]:
        """Return every agent's linear-model outputs on inputs (n, N) or an :class:`~peerflow.linearize.Expansion`."""
        start, jacobian = x if isinstance(x, Expansion) else self.lin.expand(x)
        return start[None, None] + self._xp.einsum("nmr,tqr->tqnm", jacobian, self.coefficients, optimize=True)

    def evaluate(self, x, y) -> Evaluation:
        """Return every agent's mean loss and accuracy on a data set: inputs as in ``outputs``, targets (n, M)."""
        return evaluate(self.outputs(x), y, self.loss)


@dataclass(frozen=True, eq=False)
class Dynamics:
    """The linearized dynamics of one method. Nothing is trained: ask for any time or step count."""

    method: Method
    lin: Linearization
    step_size: float
    loss: str | Callable

    def at(self, times, *, rtol: float = 1e-8, atol: float = 1e-10) -> Trajectory:
        """Return the gradient flow, (14) or (8), at these times, each finite and not negative.

        ``rtol`` and ``atol`` bound the error of each step of the integration, relative to the displacement from the
        start and absolute, where there is no closed form: for other losses than ``"mse"``.

        Raises
        ------
        ValueError
            If times or tolerances are out of range, an integrated flow cannot be followed, or the method has no flow.
        """
        _checks.double_precision()
        self.method.check_flow()
        times = _checks.times("times", times)
        rtol, atol = _checks.positive("rtol", rtol), _checks.positive("atol", atol)
        if self.loss != "mse":
            states = integrate.flow(*self._integrated, times, rtol=rtol, atol=atol)
        elif self._system.traced:
            states = engines.exponential(self._system, times)
        elif engines.few_terms(self._system, times):
            states = engines.chebyshev(self._system, times)
        else:
            states = self._solution.at(times)
        return Trajectory(self.lin, times, states, self.loss)

    def after(self, counts) -> Trajectory:
        """Return the linearized iteration after these numbers of steps: what training would give, were f linear."""
        _checks.double_precision()
        counts = _checks.counts("counts", counts)
        if self.loss != "mse":
            states = integrate.iterate(*self._integrated, counts)
        elif self._system.traced or counts.max(initial=0) <= self._system.affordable():
            states = engines.recursion(self._system, counts, self.lin.agents.mesh)
        else:
            states = self._solution.after(counts)
        return Trajectory(self.lin, counts.astype(float), states, self.loss)

    def system(self) -> tuple[Float[Array | np.ndarray, "Qr Qr"], Float[Array | np.ndarray, "agents r"]]:
        """Return A and u of (12a)-(12c) in the reduced basis, u with one row per agent.

        Where W varies they are those of one period. Where agents remember, memories stand below: in coordinates of
        memories that sum to zero, if the method conserves that, one row less than there are agents.
        """
        return self._system.matrix(), self._system.input()

    @cached_property
    def eigenvalues(self) -> Complex[np.ndarray, "Qr"]:
        """The eigenvalues of A, (12a)-(12c) or :meth:`system`, on the space that the dynamics live in."""
        return np.linalg.eigvals(self._system.matrix()).astype(complex)

    def fixed_point(self) -> Trajectory:
        """Return where flow and iteration both stand still, A z = -u: where they end, if the step size is stable.

        Raises
        ------
        ValueError
            If A is singular to rounding: W does not connect all agents, or the kernel is too badly conditioned.
        """
        A, u = self.system()
        if np.linalg.matrix_rank(A) < len(A):
            raise ValueError(
                "no single fixed point: W must connect all agents and the kernel be well conditioned, "
                "got a state matrix that is singular to rounding"
            )
        z = np.linalg.solve(A, -u.reshape(-1)).reshape(1, *u.shape)[:, : self.method.agents]
        return Trajectory(self.lin, np.array([np.inf]), z)

    @cached_property
    def _system(self) -> engines.System:
        if self.loss != "mse":
            raise ValueError(f'only loss="mse" has a closed form, and so A, u and their spectrum, got {self.loss!r}')
        agents, lin = self.lin.agents, self.lin
        scale = self.step_size * (self.method.gain * agents.gains / agents.counts)
        if 2 * lin.features.shape[1] < lin.rank:
            return engines.System(self.method, scale, None, lin.pull, lin.features)
        return engines.System(self.method, scale, lin.curvature, lin.pull)

    @cached_property
    def _integrated(self) -> tuple[integrate.Nonlinear, Callable]:
        if any(isinstance(each, Tracer) for each in (self.step_size, self.method.W)):
            raise ValueError(f'only loss="mse" may be differentiated, mapped or compiled by JAX, got {self.loss!r}')
        loss_fn = loss_function(self.loss, self.lin.agents.pooled()[1])
        return integrate.nonlinear(self.method, self.lin, self.step_size), loss_fn

    @cached_property
    def _solution(self) -> "modes.Modes | modes.Adapted | modes.Stepper":
        return modes.solution(self._system)


def predict(method: Method, lin: Linearization, *, step_size: float, loss: str | Callable = "mse") -> Dynamics:
    """Predict how all agents train from a common start: in closed form for the squared loss, else by integration.

    Under a JAX trace of the step size or of the method's W, predictions of the squared loss are traced as well.

    Parameters
    ----------
    method
        ``DGD(W)``, ``GradientTracking(W)`` or any other, for as many agents as ``lin`` has.
    lin
        The model about that start, from :func:`peerflow.linearize.linearize`.
    step_size, loss
        As in :func:`peerflow.training.train`; give both the same.

    Raises
    ------
    ValueError
        If the method is for another number of agents, step_size is not positive, a name is unknown, or the targets do
        not suit the loss.
    """
    _checks.instance("method", method, Method)
    _checks.instance("lin", lin, Linearization)
    _checks.shape_of("W", method.W.shape[-2:], (lin.agents.size,) * 2)
    loss_function(loss, lin.agents.pooled()[1])
    return Dynamics(method, lin, _checks.positive("step_size", step_size), loss)


def sweep(
    methods: Sequence[Method],
    lin: Linearization,
    *,
    step_sizes,
    counts,
    of: str = "local",
    progress: bool | None = None,
) -> Float[np.ndarray, "m s count agents"]:
    """Return the losses that :func:`predict` gives after these numbers of steps, of every method with every step size.

    All are computed at once, for the squared loss. Steps are taken one by one, so counts should be those of a training
    run. No states are kept: of very many agents, these are the losses at many times that fit into memory.

    Parameters
    ----------
    methods
        For as many agents as ``lin`` has. Sparse mixing matrices stay so, and are taken one after the other.
    step_sizes, counts
        Step sizes (s,), and numbers of steps.
    of
        The losses of ``"local"`` objectives, each agent's own, or of the ``"global"`` one at each agent's parameters.
    progress
        As in :func:`peerflow.training.train`.

    Raises
    ------
    ValueError
        If a method is for another number of agents, there is none, a step size is not positive or counts are negative.
    """
    _checks.double_precision()
    if len(methods) == 0:
        raise ValueError("methods must hold at least one, got none")
    step_sizes = _checks.array("step_sizes", step_sizes, ("step_sizes",))
    for step_size in step_sizes:
        _checks.positive("step_size", step_size)
    units = [predict(method, lin, step_size=1.0)._system for method in methods]
    order, place = np.unique(_checks.counts("counts", counts), return_inverse=True)
    roots = jnp.asarray(_roots(lin, _checks.choice("of", of, {"local": False, "global": True})))
    groups = {}
    for at, method in enumerate(methods):
        key = at if scipy.sparse.issparse(method.W) else (method.rule, method.objective, method.W.shape)
        groups.setdefault(key, []).append(at)
    losses = np.empty((len(methods), len(step_sizes), len(order), lin.agents.size))
    etas, gaps = jnp.asarray(step_sizes, jnp.float64), jnp.asarray(np.diff(order, prepend=0))
    with bar(progress, len(order) * len(groups), "sweep") as advance:
        for key, places in groups.items():
            W = None if isinstance(key, int) else jnp.asarray(np.stack([methods[at].dense for at in places]))
            unit, start = engines.placed(units[places[0]], None)
            states = jax.tree.map(lambda each, W=W: _copies(each, W, etas), (jnp.zeros((), gaps.dtype), start))
            for seen in range(0, len(order), _SEEN):
                states, some = _swept(unit, W, etas, roots, states, gaps[seen : seen + _SEEN])
                losses[places, :, seen : seen + _SEEN] = some
                advance(some.shape[-2])
    return losses[:, :, place]


def _roots(lin, everywhere) -> Float[np.ndarray, "q rows rank_1"]:
    """Return matrices whose squared norms, times [z, 1], are the losses: [F_q, r_q] but for an orthonormal factor."""
    rows = np.concatenate([lin.features, lin.residuals0[..., None]], axis=-1)
    weights = lin.agents.weights if everywhere else np.ones(lin.agents.size)
    rows *= np.sqrt(weights / (2 * lin.agents.counts))[:, None, None]
    rows = rows.reshape(1, -1, rows.shape[-1]) if everywhere else rows
    return np.asarray(np.linalg.qr(rows, mode="r")) if rows.shape[1] > rows.shape[2] else rows


def _copies(each, W, etas):
    """Return a start for every W, if there are several, and every step size."""
    return jnp.broadcast_to(each, (*(() if W is None else W.shape[:1]), len(etas), *each.shape))


@jax.jit
def _swept(unit, W, step_sizes, roots, states, gaps):
    """Go on by these gaps for every W, or that of ``unit`` if there is none, and every step size; return the losses."""

    def one(W, step_size, reached):
        method = unit.method if W is None else replace(unit.method, W=W)
        system = unit._replace(method=method, scale=step_size * unit.scale)

        def losses(state):
            errors = (roots[..., :-1] @ state.theta[..., None])[..., 0] + roots[..., -1]
            return jnp.sum(errors**2, axis=-1)

        return engines.walk(system.step, reached[1], gaps, losses, reached[0])

    if W is None:
        # One by one: a sparse W cannot be mapped over, nor would states of so many agents fit.
        return jax.lax.map(lambda each: one(None, *each), (step_sizes, states))
    return jax.vmap(jax.vmap(one, (None, 0, 0)), (0, None, 0))(W, step_sizes, states)
