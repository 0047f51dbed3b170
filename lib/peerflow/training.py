r"""The real, nonlinear training of all agents, by (4)-(6) or another update: what the predictions are held against.

All agents step together inside one compiled scan, and take their gradients one after the other: what one agent's needs
stays in the processor's cache. The loss of agent q is its local objective at its own parameters,
:math:`L_q(\theta_q)`; the global objective at the same parameters, :math:`L(\theta_q)`, is there as well.
"""

import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from peerflow import _checks
from peerflow.data import AgentData
from peerflow.methods import Method
from peerflow.models import Model, starts
from peerflow.objectives import Evaluation, evaluate, loss_function

_STEPS_A_SCAN = 1000  # the progress bar moves this often


@dataclass(frozen=True, eq=False)
class Run:
    """One training run."""

    losses: Float[np.ndarray, "times agents"]
    """Each agent's own objective at its own parameters, before the first step and after every step."""
    params: Float[np.ndarray, "*time agents params"]
    """All agents' parameters: (steps+1, agents, params), or (agents, params) if only the final ones were kept."""
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
        losses = _risks(self.model, loss_function(self.loss, y), flat, *data)
        return np.asarray(losses).reshape(self.params.shape[:-1])

    def outputs(self, x) -> Float[np.ndarray, "*time agents n outputs"]:
        """Each agent's outputs on inputs (n, N), wherever parameters were kept."""
        _checks.double_precision()
        x = _checks.array("x", x, ("n", ...) if self.model.inputs is None else ("n", self.model.inputs))
        flat = self.params.reshape(-1, self.params.shape[-1])
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
    final_only: bool = False,
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
    final_only
        Keep the last parameters only; losses are recorded all the same.
    progress
        Show a progress bar (needs tqdm): True, False, or None for only in a terminal. It appears after two seconds.

    Raises
    ------
    ValueError
        If shapes do not fit each other, a number is out of range, a name is unknown, the targets do not suit the loss,
        or anything holds NaN.
    """
    method = _checks.instance("method", method, Method)
    theta = starts(model, agents, theta0)
    _checks.shape_of("W", method.W.shape[-2:], (agents.size,) * 2)
    method = method.placed(theta.dtype)
    steps = _checks.count("steps", steps, minimum=0)
    eta = jnp.asarray(_checks.positive("step_size", step_size), theta.dtype)
    loss_fn = loss_function(loss, agents.pooled()[1])
    data = tuple(jnp.asarray(each, theta.dtype) for each in agents.padded)
    gains = jnp.asarray(method.gain * agents.gains, theta.dtype)

    state, losses, params = method.start(theta), [], []
    with _bar(progress, steps, method.name) as advance:
        for start in range(0, steps, _STEPS_A_SCAN):
            length = min(_STEPS_A_SCAN, steps - start)
            state, (some_losses, some_params) = _scan(
                model, loss_fn, length, not final_only, method, data, gains, state, start, eta
            )
            losses.append(np.asarray(some_losses))
            params.append(None if final_only else np.asarray(some_params))
            advance(length)
    losses.append(_local_risks(model, loss_fn, state.theta, *data)[None])
    kept = np.asarray(state.theta) if final_only else np.concatenate([*params, state.theta[None]])
    return Run(np.concatenate(losses), kept, model, agents, loss)


@contextmanager
def _bar(progress, steps, name):
    """Give a function that is told of steps taken."""
    if progress is None:
        # A notebook kernel also calls its stderr a terminal, but replaces the stream.
        progress = sys.stderr is sys.__stderr__ and sys.stderr.isatty() and find_spec("tqdm") is not None
    if not progress:
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(total=steps, desc=name, delay=2) as bar:
        yield bar.update


def _risk(model, loss_fn, theta, x, y, weights):
    """Return the weighted sum of the samples' losses at parameters (P,)."""
    return jnp.sum(weights * loss_fn(model.forward(theta, x), y))


@partial(jax.jit, static_argnums=(0, 1))
def _local_risks(model, loss_fn, theta, x, y, weights):
    return jax.lax.map(lambda own: _risk(model, loss_fn, *own), (theta, x, y, weights))


@partial(jax.jit, static_argnums=0)
def _outputs(model, thetas, x):
    """Return the outputs of many parameter vectors on the same inputs."""
    return jax.lax.map(lambda theta: model.forward(theta, x), thetas)


@partial(jax.jit, static_argnums=(0, 1))
def _risks(model, loss_fn, thetas, x, y, weights):
    """Return the weighted loss of many parameter vectors over the same samples."""
    return jax.lax.map(lambda theta: _risk(model, loss_fn, theta, x, y, weights), thetas)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _scan(model, loss_fn, length, keep, method, data, gains, state, start, step_size):
    """Take ``length`` steps after ``start`` others; return the state, and losses and (if kept) parameters before each.

    Before, not after: where the gradient is taken at the agents' own parameters, the loss comes with it.
    """

    def slopes(own):
        loss, gradient = jax.value_and_grad(partial(_risk, model, loss_fn))(*own)
        # The compiler would else copy the layers' gradients to their places among all agents' entry by entry.
        return loss, jax.lax.optimization_barrier(gradient)

    def step(state, count):
        if method.rule.point != (1.0,):
            losses, gradients = _local_risks(model, loss_fn, state.theta, *data), None
        else:
            losses, gradients = jax.lax.map(slopes, (state.theta, *data))

        def descent(at):
            followed = jax.lax.map(slopes, (at, *data))[1] if gradients is None else gradients
            return step_size * (gains[:, None] * followed)

        return method.step(state, descent, count), (losses, state.theta if keep else None)

    return jax.lax.scan(step, state, start + jnp.arange(length))
