r"""Prediction against observation: train, predict in both ways, and say how far apart they are.

Two predictions stand beside every run: the gradient flow (14) at t = k, which is the paper's, and the linearized
iteration after k steps. The first errs by the discretization and by the linearization, the second by the linearization
alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from peerflow import _checks
from peerflow.flows import Trajectory, predict
from peerflow.linearize import Linearization
from peerflow.methods import Method
from peerflow.training import Run, train

if TYPE_CHECKING:
    from IPython.display import Markdown

# Differences below this are rounding; what is printed must not depend on them.
ROUNDING = 1e-10


class Errors(NamedTuple):
    """The largest relative errors of a prediction over all agents and steps."""

    loss: float
    """Of the losses: the largest difference between prediction and observation, over the observed loss."""
    params: float
    """Of the parameters: the largest distance from the observed ones, over the largest distance these moved."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """One training run and its two predictions at every step."""

    run: Run
    flow: Trajectory
    """The gradient flow at t = 0, 1, ..., steps."""
    iteration: Trajectory
    """The linearized iteration after 0, 1, ..., steps steps."""

    @cached_property
    def errors(self) -> dict[str, Errors]:
        """The largest errors of both predictions, by name."""
        return {name: largest_errors(self.run, getattr(self, name)) for name in ("flow", "iteration")}


def compare(
    method: Method, lin: Linearization, *, step_size: float, steps: int, loss: str | Callable = "mse"
) -> Comparison:
    """Train the model of ``lin`` from its start, and predict the same steps twice. Arguments as in ``train``."""
    _checks.instance("lin", lin, Linearization)
    if lin.model is None:
        raise ValueError("training needs a model, and this expansion was made from a kernel alone")
    dynamics = predict(method, lin, step_size=step_size, loss=loss)
    run = train(method, lin.model, lin.agents, lin.theta0, step_size=step_size, steps=steps, loss=loss)
    ks = np.arange(steps + 1)
    return Comparison(run, dynamics.at(ks), dynamics.after(ks))


def loss_errors(run: Run, prediction: Trajectory) -> Float[np.ndarray, "times agents"]:
    """Return the relative error of every agent's predicted loss at every step, over the observed loss.

    Rows are for 0 to ``steps`` steps, as in the run's own losses: (steps + 1, agents).

    Raises
    ------
    ValueError
        If the prediction is not at the run's steps 0, 1, ..., or an observed loss is zero.
    """
    _match(run, prediction)
    if (run.losses == 0).any():
        raise ValueError("relative errors need observed losses above zero, got a loss of exactly 0")
    return np.abs(prediction.losses - run.losses) / run.losses


def largest_errors(run: Run, prediction: Trajectory) -> Errors:
    """Return the largest relative errors over all agents and steps; see :class:`Errors`.

    The parameters' error is measured against how far they moved, not against their norm: a wide network hardly
    moves, and any prediction would look good beside its norm.
    """
    loss = float(loss_errors(run, prediction).max())
    if run.params.ndim != 3:
        raise ValueError("the run kept its final parameters only: train with final_only=False")
    away = np.linalg.norm(prediction.params - run.params, axis=-1).max(axis=0)
    moved = np.linalg.norm(run.params - run.params[0], axis=-1).max(axis=0)
    # Where nothing pulls, averaging equal parameters still moves them by rounding.
    rounding = 10 * np.finfo(run.params.dtype).eps * np.linalg.norm(run.params[0], axis=-1)
    if (moved <= rounding).any():
        raise ValueError("errors relative to how far parameters moved need parameters that move, got none")
    return Errors(loss, float((away / moved).max()))


def error_table(comparisons: Mapping[str, Comparison], first: str = "") -> "Markdown":
    """Return a table of the largest relative errors, one row a comparison.

    What is below 1e-10 is rounding and is printed as such.
    """
    if not comparisons:
        raise ValueError("comparisons must hold at least one, got none")
    rows = [
        f"| {first} | loss, flow | loss, iteration | parameters, flow | parameters, iteration |",
        "|:--|--:|--:|--:|--:|",
    ]
    for name, comparison in comparisons.items():
        flow, iteration = comparison.errors["flow"], comparison.errors["iteration"]
        cells = map(format_error, (flow.loss, iteration.loss, flow.params, iteration.params))
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return _markdown(rows)


def range_table(groups: Mapping[str, Sequence[Comparison]], first: str = "") -> "Markdown":
    """Return a table of what repeated experiments gave, smallest to largest, one row a group.

    The start is the mean loss of all agents before the first step, the fall its relative decrease over the run, the
    rest the largest relative errors of :class:`Errors`.
    """
    if not groups or not all(groups.values()):
        raise ValueError("groups must hold at least one comparison each, got none")
    columns = ("start", "fall", "loss, flow", "loss, iteration", "parameters, flow", "parameters, iteration")
    rows = [f"| {first} | {' | '.join(columns)} |", f"|:--|{'--:|' * len(columns)}"]
    for name, comparisons in groups.items():
        means = [comparison.run.losses.mean(axis=1) for comparison in comparisons]
        ranges = [
            format_range([mean[0] for mean in means], ".2f"),
            format_range([1 - mean[-1] / mean[0] for mean in means], ".0%"),
            *(
                format_range([getattr(c.errors[kind], what) for c in comparisons], ".2%")
                for what in ("loss", "params")
                for kind in ("flow", "iteration")
            ),
        ]
        rows.append(f"| {name} | {' | '.join(ranges)} |")
    return _markdown(rows)


def _markdown(rows):
    from IPython.display import Markdown

    return Markdown("\n".join(rows))


def format_range(values, form: str) -> str:
    """Return the least and the greatest of some values, each in this form, or the one where both look alike.

    >>> format_range([0.211, 0.5, 0.345], ".0%")
    '21% to 50%'
    """
    values = np.asarray(values)
    if values.size == 0:
        raise ValueError(f"values must hold at least one, got shape {values.shape}")
    low, high = format(values.min(), form), format(values.max(), form)
    return low if low == high else f"{low} to {high}"


def format_error(error: float) -> str:
    """Return an error with two digits, or as below rounding."""
    error = _checks.nonnegative("error", error)
    return f"< {ROUNDING:.0e}" if error < ROUNDING else f"{error:.1e}"


def _match(run, prediction):
    if not np.array_equal(prediction.times, np.arange(len(run.losses))):
        ends = f" from {prediction.times.min():g} to {prediction.times.max():g}" if len(prediction.times) else ""
        raise ValueError(
            f"the prediction must be at the run's steps 0, 1, ..., {len(run.losses) - 1}, "
            f"got {len(prediction.times)} times{ends}"
        )
