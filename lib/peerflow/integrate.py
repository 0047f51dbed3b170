r"""The linearized dynamics for any loss: where there is no closed form, numerical integration (sec. IV).

In the reduced basis of :mod:`peerflow.linearize`, with one row :math:`z_q` an agent, the flows (8a)-(8c) of the linear
model (11) are

.. math:: \dot z = (W - I) z - \eta\, B\, g(C z), \qquad
    g_q(z) = \frac1D F_q^\top \frac{\partial \ell}{\partial f}\bigl(f_0 + F_q z\bigr),

and, without subtracting z, the iterations (7a)-(7c). Neither depends on the number of parameters. For the squared loss
:func:`peerflow.flows.predict` gives both in closed form.

>>> import networkx as nx
>>> from peerflow import data, mixing, models
>>> from peerflow.algorithms import DGD
>>> from peerflow.linearize import linearize
>>> agents, model = data.half_moons(agents=4, samples=10), models.mlp(inputs=2, widths=(64,), outputs=1)
>>> lin, W = linearize(model, agents, model.init(0)), mixing.metropolis_hastings(nx.cycle_graph(4))
>>> settings = {"step_size": 0.1, "loss": "binary_cross_entropy"}
>>> flow, exact = integrate(DGD, lin, W, [0, 50], **settings), iterate(DGD, lin, W, [0, 50], **settings)
>>> bool(abs(flow.losses - exact.losses).max() < 1e-3)
True
"""

from functools import partial

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from peerflow import _checks, mixing
from peerflow.algorithms import Algorithm
from peerflow.flows import Trajectory
from peerflow.linearize import Linearization
from peerflow.objectives import gradient_scale, loss_function

# More or smaller steps would mean a flow far stiffer than one that training could follow.
_MAX_STEPS, _MIN_STEP = 100_000, 1e-9


def integrate(
    algorithm: Algorithm,
    lin: Linearization,
    W,
    times,
    *,
    step_size: float,
    objective: str = "local",
    loss: str = "cross_entropy",
    rtol: float = 1e-8,
    atol: float = 1e-10,
) -> Trajectory:
    """Return the gradient flow, (8a)-(8c), of the linear model (11) at these times.

    Dormand and Prince's method of order 8, with steps adapted to the tolerances.

    Parameters
    ----------
    algorithm
        DGD, ATC or CTA.
    lin
        The model about the common start, from :func:`peerflow.linearize.linearize`.
    W
        Doubly stochastic mixing matrix (agents, agents), symmetric or not.
    times
        Finite and not negative, in any order; one step of the algorithm is one unit of time.
    step_size, objective, loss
        As in :func:`peerflow.training.train`; give both the same.
    rtol, atol
        Bounds on the error of each step of the solver, relative to the displacement from the start and absolute.

    Raises
    ------
    ValueError
        If W does not fit or is not doubly stochastic, a number is out of range, a name is unknown, the targets do
        not suit the loss, or the flow grows beyond all bounds or is too stiff to follow.
    """
    times = _checks.times("times", times)
    arguments = _arguments(algorithm, lin, W, step_size, objective, loss)
    rtol, atol = _checks.positive("rtol", rtol), _checks.positive("atol", atol)
    grid = np.union1d(0.0, times)
    states = np.zeros((len(grid), lin.agents.agents, lin.rank))
    if len(grid) > 1:
        solved, success, steps = _flow(*arguments, jnp.asarray(grid), rtol, atol)
        if not success:
            raise ValueError(
                f"the flow could not be followed to t = {grid[-1]:g}: after {steps} steps of the solver it outgrew "
                f"float64 or was too stiff. Reduce step_size, or for the squared loss use flows.predict"
            )
        states = np.asarray(solved)
    return Trajectory(lin, times, states[np.searchsorted(grid, times)], loss)


def iterate(
    algorithm: Algorithm,
    lin: Linearization,
    W,
    counts,
    *,
    step_size: float,
    objective: str = "local",
    loss: str = "cross_entropy",
) -> Trajectory:
    """Return the iteration (7a)-(7c) of the linear model (11) after these numbers of steps, in any order.

    This is what training would give, were the model linear. Arguments as in :func:`integrate`.
    """
    counts = _checks.counts("counts", counts)
    order, place = np.unique(counts, return_inverse=True)
    gaps = jnp.asarray(np.diff(order, prepend=0))
    states = _iteration(*_arguments(algorithm, lin, W, step_size, objective, loss), gaps)
    return Trajectory(lin, counts.astype(float), np.asarray(states)[place], loss)


def _arguments(algorithm, lin, W, step_size, objective, loss):
    """Check what both have in common; return what the compiled functions take."""
    _checks.double_precision()
    _checks.instance("algorithm", algorithm, Algorithm)
    _checks.instance("lin", lin, Linearization)
    W = mixing.doubly_stochastic(W, lin.agents.agents)
    scaled = _checks.positive("step_size", step_size) * gradient_scale(objective, len(W))
    loss_fn = loss_function(loss, lin.agents.y)
    y = lin.agents.y.astype(np.float64)
    data = (jnp.asarray(lin.features), jnp.asarray(lin.outputs0.reshape(y.shape)), jnp.asarray(y))
    return algorithm, loss_fn, jnp.asarray(W), data, jnp.asarray(scaled)


def _update(algorithm, loss_fn, W, data, step_size, z):
    """Take one step of the algorithm in the reduced basis."""

    def risk(z, features, f0, y):
        return jnp.mean(loss_fn(f0 + (features @ z).reshape(f0.shape), y))

    return algorithm.update(W, z, lambda at: jax.vmap(jax.grad(risk))(at, *data), step_size)


@partial(jax.jit, static_argnums=(0, 1))
def _flow(algorithm, loss_fn, W, data, step_size, grid, rtol, atol):
    """Solve from the common start at grid[0] = 0 to all of the grid; say whether that succeeded, in how many steps."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, z, _: _update(algorithm, loss_fn, W, data, step_size, z) - z),
        diffrax.Dopri8(),
        t0=grid[0],
        t1=grid[-1],
        dt0=None,
        y0=jnp.zeros((len(W), data[0].shape[-1])),
        saveat=diffrax.SaveAt(ts=grid),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol, dtmin=_MIN_STEP, force_dtmin=False),
        max_steps=_MAX_STEPS,
        throw=False,
    )
    return solution.ys, solution.result == diffrax.RESULTS.successful, solution.stats["num_steps"]


@partial(jax.jit, static_argnums=(0, 1))
def _iteration(algorithm, loss_fn, W, data, step_size, gaps):
    """Take gaps[0], then gaps[1], ... steps from the common start; return where each of them ends."""

    def advance(z, gap):
        z = jax.lax.fori_loop(0, gap, lambda _, z: _update(algorithm, loss_fn, W, data, step_size, z), z)
        return z, z

    return jax.lax.scan(advance, jnp.zeros((len(W), data[0].shape[-1])), gaps)[1]
