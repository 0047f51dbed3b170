r"""The real, nonlinear training of all agents, by (4)-(6) or another update: what the predictions are held against.

All agents step together inside one compiled scan, and take their gradients one after the other: what one agent's needs
stays in the processor's cache. The loss of agent q is its local objective at its own parameters,
:math:`L_q(\theta_q)`; the global objective at the same parameters, :math:`L(\theta_q)`, is there as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from peerflow import _checks, checkpoints, sharding
from peerflow._progress import bar
from peerflow.data import AgentData
from peerflow.methods import Method, State
from peerflow.models import Model, starts
from peerflow.objectives import Evaluation, evaluate, loss_function

_STEPS_A_SCAN = 1000  # the progress bar moves this often


@dataclass(frozen=True, eq=False)
class Run:
    """One training run."""

    losses: Float[np.ndarray, "times agents"]
    """Each agent's own objective at its own parameters, after the numbers of steps in ``counts``."""
    params: Float[np.ndarray, "*time agents params"]
    """All agents' parameters: (times, agents, params), or (agents, params) if only the final ones were kept."""
    counts: Int[np.ndarray, "times"]
    """Every number of steps from none to all, or those that were asked for."""
    model: Model
    agents: AgentData
    loss: str | Callable

    @cached_property
    def global_losses(self) -> Float[np.ndarray, "*time agents"]:
        """The global objective at each agent's parameters, wherever these were kept."""
        x, y = self.agents.pooled()
        _checks.double_precision()
        flat = self.params.reshape(-1, self.params.shape[-1])
        weights = np.repeat(self.agents.weights / self.agents.counts, self.agents.counts)
        data = (jnp.asarray(each, flat.dtype) for each in (x, y, weights))
        with _precise():
            losses = _risks(self.model, loss_function(self.loss, y), flat, *data)
        return np.asarray(losses).reshape(self.params.shape[:-1])

    def outputs(self, x) -> Float[np.ndarray, "*time agents n outputs"]:
        """Each agent's outputs on inputs (n, N), wherever parameters were kept."""
        _checks.double_precision()
        x = _checks.array("x", x, ("n", ...) if self.model.inputs is None else ("n", self.model.inputs))
        flat = self.params.reshape(-1, self.params.shape[-1])
        with _precise():
            outputs = np.asarray(_outputs(self.model, flat, x.astype(flat.dtype)))
        return outputs.reshape(*self.params.shape[:-1], *outputs.shape[1:])

    def evaluate(self, x, y) -> Evaluation:
        """Return each agent's mean loss and accuracy on a data set (n, N), (n, M), wherever parameters were kept."""
        return evaluate(self.outputs(x), y, self.loss)


def train(
    method: Method,
    model: Model,
    agents: AgentData,
    theta0,
    *,
    step_size: float,
    steps: int,
    loss: str | Callable = "mse",
    counts=None,
    final_only: bool = False,
    checkpoint=None,
    every: int = 10_000,
    progress: bool | None = None,
) -> Run:
    """Train all agents together and record every step.

    Parameters
    ----------
    method
        ``DGD(W)``, ``GradientTracking(W)`` or any other, for as many agents as there are data.
    theta0
        The common start (params,), or one row per agent (agents, params). Its dtype is the run's.
    step_size, steps
        The paper's eta, and the number of updates.
    loss
        ``"mse"`` (half the squared error, the paper's), ``"cross_entropy"`` or ``"binary_cross_entropy"``, or a JAX
        function of outputs (n, M) and targets (n, M) that returns the samples' losses (n,).
    counts
        Keep losses and parameters after these numbers of steps only; a long run's others need no memory.
    final_only
        Keep the last parameters only; losses are recorded all the same.
    checkpoint, every
        A folder (needs orbax-checkpoint) in which what is reached is stored each time so many steps are taken, and at
        the end. A run that was stopped goes on from there when it is called again, and ends with the same numbers.
    progress
        Show a progress bar (needs tqdm): True, False, or None for only in a terminal. It appears after two seconds.

    Raises
    ------
    ValueError
        If shapes do not fit each other, a number is out of range, a name is unknown, the targets do not suit the loss,
        anything holds NaN, or the checkpoint is another run's.
    ConnectionError
        If another process, over whose devices agents are spread as well, ends.
    """
    method = _checks.instance("method", method, Method)
    theta = starts(model, agents, theta0)
    _checks.shape_of("W", method.W.shape[-2:], (agents.size,) * 2)
    steps, every = _checks.count("steps", steps, minimum=0), _checks.count("every", every)
    kept = None if counts is None else _kept(counts, steps, final_only)
    eta = np.asarray(_checks.positive("step_size", step_size), theta.dtype)
    loss_fn = loss_function(loss, agents.pooled()[1])
    place = partial(sharding.spread, mesh=agents.mesh)
    x, y, weights = (place(each.astype(theta.dtype)) for each in agents.padded)
    gains = place(np.asarray(method.gain * agents.gains, theta.dtype))
    run = _Program(method.placed(theta.dtype, agents.mesh), x, y, weights, gains, eta)
    state = jax.tree.map(place, method.start(theta))
    static = model, loss_fn, agents.mesh
    with _precise(), sharding.others():
        same = (
            {}
            if checkpoint is None
            else {
                "W": method.W,
                "method": (method.rule, method.objective),
                "step_size": eta,
                "theta0": np.asarray(theta),
                "model, data or loss": sharding.gathered(_local_risks(*static, run, state.theta)),
                "counts": kept,
                "final_only": final_only,
            }
        )
        with checkpoints.opened(checkpoint, same) as saved, bar(progress, steps, method.name) as advance:
            walk = _Walk(static, run, kept, final_only, saved, every, advance)
            losses, params = walk.take(state, steps)
    return Run(losses, params, np.arange(steps + 1) if kept is None else kept, model, agents, loss)


def _precise():
    """Keep graphics cards from rounding float32 products to fewer digits."""
    return jax.default_matmul_precision("highest")


def _kept(counts, steps, final_only) -> Int[np.ndarray, "times"]:
    """Return the numbers of steps after which something is kept."""
    kept = np.unique(_checks.counts("counts", counts))
    if final_only:
        raise ValueError("counts and final_only both say what is kept: give one of them")
    if len(kept) == 0 or kept[-1] > steps:
        raise ValueError(f"counts must hold at least one and none above steps, {steps}, got {counts!r}")
    return kept


class _Program(NamedTuple):
    """What the steps of a run share."""

    method: Method
    x: Float[Array, "agents samples *input"]
    y: Float[Array, "agents samples outputs"]
    weights: Float[Array, "agents samples"]
    gains: Float[Array, "agents"]
    step_size: Float[np.ndarray, ""]

    @property
    def data(self):
        return self.x, self.y, self.weights

    def specs(self) -> Any:
        """Say how each part lies over devices."""
        lie: Any = sharding.OWN
        return _Program(lie, lie, lie, lie, lie, step_size=sharding.ALL)  # pyright: ignore[reportArgumentType]


class _Walk(NamedTuple):
    """A run as it is taken: piece by piece, so that it can tell how far it is, and store it."""

    static: tuple[Any, ...]
    run: _Program
    kept: np.ndarray | None
    final_only: bool
    saved: checkpoints.Checkpoint | None
    every: int
    advance: Callable[[int], object]

    def take(self, state: State, steps: int):
        """Return losses and parameters wherever they are kept."""
        done, records = 0, []
        if self.saved and (last := self.saved.last()):
            done, stored = last
            if done > steps:
                raise ValueError(f"the checkpoint is of {done} steps, more than the {steps} asked for")
            if "losses" in stored:
                records.append((stored.pop("losses"), stored.pop("params", None)))
            state = jax.tree.map(
                partial(sharding.spread, mesh=self.static[-1]), State(stored["theta"], stored.get("memory"))
            )
            self.advance(done)
        elif self.kept is not None and self.kept[0] == 0:
            records.append(self.seen(state))
        for stop in self.stops(done, steps):
            state, seen = self.piece(state, done, stop)
            records += seen
            self.advance(stop - done)
            done = stop
            if self.saved and (done % self.every == 0 or done == steps):
                self.store(self.saved, done, state, records)
        if self.kept is None:
            records.append(self.seen(state))
        losses, params = zip(*records, strict=True)
        return np.concatenate(losses), params[-1][0] if self.final_only else np.concatenate(params)

    def stops(self, done, steps):
        """Return after how many steps a piece ends."""
        stops = {steps, *range(0, steps, _STEPS_A_SCAN)} | set([] if self.kept is None else self.kept.tolist())
        stops |= set(range(0, steps, self.every) if self.saved else ())
        return sorted(stop for stop in stops if stop > done)

    def piece(self, state, done, stop):
        """Return the state at the stop, and what was seen on the way."""
        if self.kept is None:
            state, seen = _scan(*self.static, stop - done, not self.final_only, self.run, state, np.asarray(done))
            return state, [tuple(None if each is None else sharding.gathered(each) for each in seen)]
        state = _advance(*self.static, self.run, state, np.asarray(done), np.asarray(stop))
        # Else JAX would run ahead: nothing would be known of how far it is, nor of a process that ended.
        state = jax.block_until_ready(state)
        return state, [self.seen(state)] if stop in self.kept else []

    def seen(self, state):
        """Return losses and parameters of a state, with an axis for time."""
        losses = sharding.gathered(_local_risks(*self.static, self.run, state.theta))
        return losses[None], sharding.gathered(state.theta)[None]

    def store(self, saved, done, state, records):
        """Store the state, and what was kept before it."""
        parts = {name: sharding.gathered(each) for name, each in state._asdict().items() if each is not None}
        for at, name in enumerate(("losses", "params")):
            if kept := [record[at] for record in records if record[at] is not None]:
                parts[name] = np.concatenate(kept)
        saved.store(done, parts)


def _risk(model, loss_fn, theta, x, y, weights):
    """Return the weighted sum of the samples' losses at parameters (P,)."""
    return jnp.sum(weights * loss_fn(model.forward(theta, x), y))


def _own_risks(model, loss_fn, run, theta):
    """Return every agent's objective at its own parameters, of the agents that are here."""
    return jax.lax.map(lambda own: _risk(model, loss_fn, *own), (theta, *run.data))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _local_risks(model, loss_fn, mesh, run, theta):
    """Return every agent's objective at its own parameters."""
    risks = partial(_own_risks, model, loss_fn)
    return sharding.mapped(risks, mesh, (run.specs(), sharding.OWN), sharding.OWN)(run, theta)


@partial(jax.jit, static_argnums=0)
def _outputs(model, thetas, x):
    """Return the outputs of many parameter vectors on the same inputs."""
    return jax.lax.map(lambda theta: model.forward(theta, x), thetas)


@partial(jax.jit, static_argnums=(0, 1))
def _risks(model, loss_fn, thetas, x, y, weights):
    """Return the weighted loss of many parameter vectors over the same samples."""
    return jax.lax.map(lambda theta: _risk(model, loss_fn, theta, x, y, weights), thetas)


def _stepped(model, loss_fn, run, state, count):
    """Return the state after a step that follows ``count`` others, and the losses before it where they come with it."""

    def slopes(own):
        loss, gradient = jax.value_and_grad(partial(_risk, model, loss_fn))(*own)
        # The compiler would else copy the layers' gradients to their places among all agents' entry by entry.
        return loss, jax.lax.optimization_barrier(gradient)

    losses, gradients = None, None
    if run.method.rule.point == (1.0,):
        losses, gradients = jax.lax.map(slopes, (state.theta, *run.data))

    def descent(at):
        followed = jax.lax.map(slopes, (at, *run.data))[1] if gradients is None else gradients
        return run.step_size * (run.gains[:, None] * followed)

    return run.method.step(state, descent, count), losses


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _scan(model, loss_fn, mesh, length, keep, run, state, start):
    """Take ``length`` steps after ``start`` others; return the state, and losses and (if kept) parameters before each.

    Before, not after: where the gradient is taken at the agents' own parameters, the loss comes with it.
    """

    def taken(run, state, start):
        def step(state, count):
            new, losses = _stepped(model, loss_fn, run, state, count)
            if losses is None:
                losses = _own_risks(model, loss_fn, run, state.theta)
            return new, (losses, state.theta if keep else None)

        return jax.lax.scan(step, state, start + jnp.arange(length))

    lie = (run.specs(), sharding.OWN, sharding.ALL), (sharding.OWN, sharding.STEPS)
    return sharding.mapped(taken, mesh, *lie)(run, state, start)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _advance(model, loss_fn, mesh, run, state, start, stop):
    """Return the state after the steps from ``start`` to ``stop``; nothing else is kept."""

    def taken(run, state, start, stop):
        return jax.lax.fori_loop(start, stop, lambda k, state: _stepped(model, loss_fn, run, state, k)[0], state)

    lie = (run.specs(), sharding.OWN, sharding.ALL, sharding.ALL), sharding.OWN
    return sharding.mapped(taken, mesh, *lie)(run, state, start, stop)
