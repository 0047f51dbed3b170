r"""How :mod:`peerflow.flows` gets its states where there is no closed form: any loss but the squared one (sec. IV).

In the reduced basis of :mod:`peerflow.linearize`, with one row :math:`z_q` an agent, the flows (8a)-(8c) of the linear
model (11) are

.. math:: \dot z = (W - I) z - \eta\, B\, g(C z), \qquad
    g_q(z) = \frac1D F_q^\top \frac{\partial \ell}{\partial f}\bigl(f_0 + F_q z\bigr),

and, without subtracting z, the iterations (7a)-(7c). Neither depends on the number of parameters. Flows are integrated
by Dormand and Prince's method of order 8, with steps adapted to the tolerances, from diffrax.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from peerflow.engines import walk
from peerflow.linearize import Linearization
from peerflow.methods import Method, State

# More or smaller steps would mean a flow far stiffer than one that training could follow.
_MAX_STEPS, _MIN_STEP = 100_000, 1e-9


class Nonlinear(NamedTuple):
    """The dynamics of all agents in the reduced basis for any loss, from z = 0; to JAX a tree of arrays."""

    method: Method
    gains: Float[Array, "agents"]
    """The step size times what each agent's gradient counts."""
    features: Float[Array, "agents rows rank"]
    """With rows for each of an agent's samples and, within, outputs."""
    outputs0: Float[Array, "agents samples outputs"]
    y: Float[Array, "agents samples outputs"]
    weights: Float[Array, "agents samples"]

    def step(self, loss_fn, state: State, count) -> State:
        """Take the step of the method that follows ``count`` others."""

        def risk(z, features, f0, y, weights):
            return jnp.sum(weights * loss_fn(f0 + (features @ z).reshape(f0.shape), y))

        def descent(at):
            return self.gains[:, None] * jax.vmap(jax.grad(risk))(at, *self[2:])

        return self.method.step(state, descent, count)

    def start(self) -> State:
        """Return z = 0."""
        return self.method.start(jnp.zeros((len(self.features), self.features.shape[-1])))


def nonlinear(method: Method, lin: Linearization, step_size: float) -> Nonlinear:
    """Return the dynamics of a method with this step size."""
    _, y, weights = lin.agents.padded
    gains = step_size * method.gain * lin.agents.gains
    data = lin.features, lin.outputs0.reshape(y.shape), y.astype(np.float64), weights
    return Nonlinear(method.placed(np.float64), jnp.asarray(gains), *map(jnp.asarray, data))


def flow(problem: Nonlinear, loss_fn: Callable, times, *, rtol: float, atol: float):
    """Return the gradient flow at these times.

    Raises
    ------
    ValueError
        If the flow grows beyond all bounds or is too stiff to follow.
    """
    grid = np.union1d(0.0, times)
    states = np.zeros((len(grid), *problem.start().theta.shape))
    if len(grid) > 1:
        solved, success, steps = _flow(loss_fn, problem, jnp.asarray(grid), rtol, atol)
        if not success:
            raise ValueError(
                f"the flow could not be followed to t = {grid[-1]:g}: after {steps} steps of the solver it outgrew "
                f'float64 or was too stiff. Reduce step_size, or use loss="mse", which has a closed form'
            )
        states = np.asarray(solved)
    return states[np.searchsorted(grid, times)]


def iterate(problem: Nonlinear, loss_fn: Callable, counts):
    """Return the iteration after these numbers of steps, in any order."""
    order, place = np.unique(counts, return_inverse=True)
    return np.asarray(_iteration(loss_fn, problem, jnp.asarray(np.diff(order, prepend=0))))[place]


@partial(jax.jit, static_argnums=0)
def _flow(loss_fn, problem, grid, rtol, atol):
    """Solve from the common start at grid[0] = 0 to all of the grid; say whether that succeeded, in how many steps."""
    import diffrax

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, z, _: problem.step(loss_fn, State(z, None), 0).theta - z),
        diffrax.Dopri8(),
        t0=grid[0],
        t1=grid[-1],
        dt0=None,
        y0=problem.start().theta,
        saveat=diffrax.SaveAt(ts=grid),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol, dtmin=_MIN_STEP, force_dtmin=False),
        max_steps=_MAX_STEPS,
        throw=False,
    )
    return solution.ys, solution.result == diffrax.RESULTS.successful, solution.stats["num_steps"]


@partial(jax.jit, static_argnums=0)
def _iteration(loss_fn, problem, gaps):
    return walk(partial(problem.step, loss_fn), problem.start(), gaps, lambda state: state.theta)[1]
