r"""The real, nonlinear training of all agents, by (4), (5) or (6): what the predictions are held against.

All agents step together inside one compiled scan. The loss of agent q is its local objective at its own parameters,
:math:`L_q(\theta_q)`; the global objective at the same parameters, :math:`L(\theta_q)`, is there as well.
"""

import sys
from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from peerflow import _checks, mixing
from peerflow.algorithms import Algorithm
from peerflow.data import AgentData
from peerflow.models import Model, starts
from peerflow.objectives import LOSSES, gradient_scale, loss_function

_STEPS_A_SCAN = 1000  # the progress bar moves this often


@dataclass(frozen=True, eq=False)
class Run:
    """One training run."""

    losses: Float[np.ndarray, "steps+1 agents"]
    """Each agent's own objective at its own parameters."""
    params: Float[np.ndarray, "*time agents params"]
    """All agents' parameters: (steps+1, agents, params), or (agents, params) if only the final ones were kept."""
    model: Model
    agents: AgentData
    loss: str

    @cached_property
    def global_losses(self) -> Float[np.ndarray, "*time agents"]:
        """The global objective at each agent's parameters, wherever these were kept."""
        x, y = self.agents.pooled()
        _checks.double_precision()
        flat = self.params.reshape(-1, self.params.shape[-1])
        losses = _risks(self.model, LOSSES[self.loss], flat, x.astype(flat.dtype), y.astype(flat.dtype))
        return np.asarray(losses).reshape(self.params.shape[:-1])

    def outputs(self, x) -> Float[np.ndarray, "*time agents n outputs"]:
        """Each agent's outputs on inputs (n, N), wherever parameters were kept."""
        _checks.double_precision()
        x = _checks.array("x", x, ("n", self.model.inputs))
        flat = self.params.reshape(-1, self.params.shape[-1])
        outputs = np.asarray(_outputs(self.model, flat, x.astype(flat.dtype)))
        return outputs.reshape(*self.params.shape[:-1], *outputs.shape[1:])


def train(
    algorithm: Algorithm,
    model: Model,
    agents: AgentData,
    W,
    theta0,
    *,
    step_size: float,
    steps: int,
    objective: str = "local",
    loss: str = "mse",
    final_only: bool = False,
    progress: bool | None = None,
) -> Run:
    """Train all agents together and record every step.

    Parameters
    ----------
    algorithm
        DGD, ATC or CTA.
    W
        Doubly stochastic mixing matrix (agents, agents), symmetric or not.
    theta0
        The common start (params,), or one row per agent (agents, params). Its dtype is the run's.
    step_size, steps
        The paper's eta, and the number of updates.
    objective
        ``"local"``: each agent follows the gradient of its own objective, as in (4)-(6). ``"global"``: that
        gradient divided by Q, as in (7).
    loss
        ``"mse"`` (half the squared error, the paper's), ``"cross_entropy"`` or ``"binary_cross_entropy"``.
    final_only
        Keep the last parameters only; losses are recorded all the same.
    progress
        Show a progress bar: True, False, or None for only in a terminal. It appears after two seconds.

    Raises
    ------
    ValueError
        If shapes do not fit each other, W is not doubly stochastic, a number is out of range, a name is unknown, the
        targets do not suit the loss, or anything holds NaN.
    """
    algorithm = _checks.instance("algorithm", algorithm, Algorithm)
    theta = starts(model, agents, theta0)
    W = jnp.asarray(mixing.doubly_stochastic(W, agents.agents), theta.dtype)
    steps = _checks.count("steps", steps, minimum=0)
    scaled = _checks.positive("step_size", step_size) * gradient_scale(objective, agents.agents)
    loss_fn = loss_function(loss, agents.y)
    x, y = jnp.asarray(agents.x, theta.dtype), jnp.asarray(agents.y, theta.dtype)

    losses, params = [], []
    if progress is None:
        # A notebook kernel also calls its stderr a terminal, but replaces the stream.
        progress = sys.stderr is sys.__stderr__ and sys.stderr.isatty()
    with tqdm(total=steps, desc=algorithm.name, delay=2, disable=not progress) as bar:
        for start in range(0, steps, _STEPS_A_SCAN):
            length = min(_STEPS_A_SCAN, steps - start)
            theta, (some_losses, some_params) = _scan(
                algorithm, model, loss_fn, length, not final_only, W, x, y, theta, jnp.asarray(scaled, theta.dtype)
            )
            losses.append(np.asarray(some_losses))
            params.append(None if final_only else np.asarray(some_params))
            bar.update(length)
    losses.append(_local_risks(model, loss_fn, theta, x, y)[None])
    kept = np.asarray(theta) if final_only else np.concatenate([*params, theta[None]])
    return Run(np.concatenate(losses), kept, model, agents, loss)


def _risk(model, loss_fn, theta, x, y):
    """Return the mean loss of parameters (P,) over samples."""
    return jnp.mean(loss_fn(model.forward(theta, x), y))


@partial(jax.jit, static_argnums=(0, 1))
def _local_risks(model, loss_fn, theta, x, y):
    return jax.vmap(partial(_risk, model, loss_fn))(theta, x, y)


@partial(jax.jit, static_argnums=0)
def _outputs(model, thetas, x):
    """Return the outputs of many parameter vectors on the same inputs."""
    return jax.lax.map(lambda theta: model.forward(theta, x), thetas)


@partial(jax.jit, static_argnums=(0, 1))
def _risks(model, loss_fn, thetas, x, y):
    """Return the mean loss of many parameter vectors over the same samples."""
    return jax.lax.map(lambda theta: _risk(model, loss_fn, theta, x, y), thetas)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _scan(algorithm, model, loss_fn, length, keep, W, x, y, theta, step_size):
    """Take ``length`` steps; return the last parameters, and all losses and (if kept) parameters before each step.

    Before, not after: where the gradient is taken at the agents' own parameters, the compiler then finds that the
    loss shares the gradient's forward pass.
    """
    gradients = jax.vmap(jax.grad(partial(_risk, model, loss_fn)))

    def step(theta, _):
        before = _local_risks(model, loss_fn, theta, x, y), theta if keep else None
        return algorithm.update(W, theta, lambda at: gradients(at, x, y), step_size), before

    return jax.lax.scan(step, theta, length=length)
