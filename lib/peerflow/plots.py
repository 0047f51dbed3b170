"""Pictures: one colour per agent, solid for what was observed, dashed for what was predicted."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from peerflow import _checks, stability
from peerflow.compare import Comparison
from peerflow.flows import Trajectory
from peerflow.linearize import Linearization
from peerflow.methods import Method

# Okabe and Ito's colours, told apart by readers with any colour vision.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8A6D3B", "#000000")
STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}
# Errors below this are rounding, and are drawn here: what is below differs from machine to machine.
_FLOOR = 1e-12


def agent_colours(agents: int) -> list:
    """Return one colour per agent."""
    agents = _checks.count("agents", agents)
    if agents <= len(_COLOURS):
        return list(_COLOURS[:agents])
    return list(plt.get_cmap("viridis")(np.linspace(0, 1, agents)))


def loss_curves(comparisons: Mapping[str, Comparison], *, kind: str = "local", xscale: str = "linear") -> Figure:
    """Draw observed and predicted losses of every agent, with the relative errors beneath; one column each.

    Parameters
    ----------
    comparisons
        What to draw, by title.
    kind
        ``"local"``: each agent's own objective at its own parameters; ``"global"``: the global objective there.
    xscale
        ``"linear"``, or ``"log"`` where most happens in the first steps; it leaves out k = 0.
    """
    attribute = _checks.choice("kind", kind, {"local": "losses", "global": "global_losses"})
    label = {"local": r"loss $L_q(\theta_q)$", "global": r"loss $L(\theta_q)$"}[kind]
    _checks.choice("xscale", xscale, {"linear": None, "log": None})
    if not comparisons:
        raise ValueError("comparisons must hold at least one, got none")
    columns = len(comparisons)
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(
            2,
            columns,
            figsize=(6.4, 5.0) if columns == 1 else (8.4, 4.8),
            sharex=True,
            sharey="row",
            squeeze=False,
            layout="constrained",
            height_ratios=(3, 2),
        )
        for (title, comparison), (top, bottom) in zip(comparisons.items(), axes.T, strict=True):
            _draw_losses(top, comparison, attribute, first=1 if xscale == "log" else 0)
            _draw_errors(bottom, comparison, attribute)
            top.set_title(title)
            bottom.set_xlabel("step k")
            bottom.set_xscale(xscale)
        axes[0, 0].set_ylabel(label)
        axes[1, 0].set_ylabel("relative error")
        fig.legend(handles=_legend(), loc="outside lower center", ncols=4)
    return fig


def spectra(methods: Sequence[Method], lin: Linearization, step_sizes) -> Figure:
    """Draw spectral radius (iterations) and spectral abscissa (flows) against the step size, and mark the limits.

    What lies above the horizontal line, one and zero, is unstable; dotted lines are ``stability.step_size_limit``.
    """
    step_sizes = _checks.array("step_sizes", step_sizes, ("steps",))
    panels = {
        "spectral radius": (stability.spectral_radius, "discrete", 1.0, (0.9, 1.6)),
        "spectral abscissa": (stability.spectral_abscissa, "continuous", 0.0, (-0.4, 0.6)),
    }
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(1, 2, figsize=(8.0, 3.3), layout="constrained")
        for ax, (label, (spectrum, time, edge, span)) in zip(axes, panels.items(), strict=True):
            ax.axhline(edge, color="0.4", linewidth=0.8)
            for method, colour in zip(methods, agent_colours(len(methods)), strict=True):
                curve = [spectrum(method, lin, step_size=step) for step in step_sizes]
                ax.semilogx(step_sizes, curve, color=colour, label=method.name)
                limit = stability.step_size_limit(method, lin, time=time)
                if np.isfinite(limit):
                    ax.axvline(limit, color=colour, linestyle=":")
            ax.set(xlabel=r"step size $\eta$", ylabel=label, ylim=span)
            ax.set_title({"discrete": "iteration", "continuous": "flow"}[time])
        axes[0].legend()
    return fig


def _draw_losses(ax, comparison, attribute, first):
    observed, predicted = getattr(comparison.run, attribute)[first:], getattr(comparison.flow, attribute)[first:]
    steps = np.arange(first, first + len(observed))
    for q, colour in enumerate(agent_colours(observed.shape[1])):
        ax.plot(steps, observed[:, q], color=colour, linewidth=3, alpha=0.4)
        ax.plot(steps, predicted[:, q], color=colour, linewidth=1.2, linestyle="--")


def _draw_errors(ax, comparison, attribute):
    """Draw the relative errors from the first step on; at k = 0 there is none."""
    observed = getattr(comparison.run, attribute)[1:]
    steps = np.arange(1, len(observed) + 1)
    for prediction, style in ((comparison.flow, "--"), (comparison.iteration, ":")):
        error = np.maximum(np.abs(getattr(prediction, attribute)[1:] - observed) / observed, _FLOOR)
        for q, colour in enumerate(agent_colours(observed.shape[1])):
            ax.plot(steps, error[:, q], color=colour, linewidth=1.2, linestyle=style)
    ax.set_yscale("log")


def output_contours(comparison: Comparison, x, *, agent: int, steps, levels) -> Figure:
    """Draw one agent's output as a function of a two-dimensional input, observed and predicted; one panel a step.

    Parameters
    ----------
    comparison
        A run that kept its parameters, of a model with two inputs and one output.
    x
        Points (n, 2) to draw in the background; they also say how far the panels reach.
    agent, steps, levels
        Which agent, after which numbers of steps, and at which values of the output to draw contours.

    Raises
    ------
    ValueError
        If the run has another form, has no such agent or step, or levels are not at least two that increase.
    """
    run = comparison.run
    x, agent, steps, levels = _contour_arguments(run, x, agent, steps, levels)
    corners = zip(x.min(axis=0), x.max(axis=0), strict=True)
    sides = [np.linspace(low - 0.3, high + 0.3, 60) for low, high in corners]
    points = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    observed = [run.model.apply(run.params[k, agent], points) for k in steps]
    drawn: list[tuple[Any, dict[str, Any]]] = [(observed, dict(linewidths=3, linestyles="-", alpha=0.4))]
    for trajectory, line in ((comparison.flow, "--"), (comparison.iteration, ":")):
        chosen = trajectory.coefficients[steps][:, [agent]]
        values = Trajectory(trajectory.lin, trajectory.times[steps], chosen).outputs(points)[:, 0]
        drawn.append((values, dict(linewidths=1.2, linestyles=line)))
    colours = dict(cmap="viridis", vmin=levels[0], vmax=levels[-1])
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(
            1, len(steps), figsize=(8.4, 3.1), sharex=True, sharey=True, squeeze=False, layout="constrained"
        )
        for panel, (ax, k) in enumerate(zip(axes[0], steps, strict=True)):
            ax.plot(*x.T, ".", color="0.75", markersize=2, zorder=0)
            for values, style in drawn:
                ax.contour(*sides, np.reshape(values[panel], (60, 60)), levels=levels, **style, **colours)
            ax.set(title=f"k = {k}", xlabel="$x_1$")
            ax.grid(visible=False)
        axes[0, 0].set_ylabel("$x_2$")
        fig.legend(handles=_legend(), loc="outside lower center", ncols=3)
    return fig


def _contour_arguments(run, x, agent, steps, levels):
    """Check, and return what can be drawn of the run."""
    x = _checks.array("x", x, ("n", 2))
    if run.params.ndim != 3 or (run.model.inputs, run.model.outputs) != (2, 1):
        raise ValueError(
            "contours need a run that kept all parameters, of a model with 2 inputs and 1 output, "
            f"got parameters {run.params.shape}, {run.model.inputs} inputs, {run.model.outputs} outputs"
        )
    agent, steps = _checks.count("agent", agent, minimum=0), _checks.counts("steps", steps)
    for name, largest, limit in (("steps", steps.max(initial=0), len(run.params)), ("agent", agent, run.agents.size)):
        if largest >= limit:
            raise ValueError(f"{name} must be below {limit}, got {largest}")
    levels = _checks.array("levels", levels, ("levels",))
    if len(levels) < 2 or (np.diff(levels) <= 0).any():
        raise ValueError(f"levels must be two or more that increase, got {levels.tolist()}")
    return x, agent, steps, levels


def _legend():
    return [
        Line2D([], [], color="0.3", linewidth=3, alpha=0.4, label="observed"),
        Line2D([], [], color="0.3", linewidth=1.2, linestyle="--", label="flow, predicted"),
        Line2D([], [], color="0.3", linewidth=1.2, linestyle=":", label="iteration, predicted"),
    ]
