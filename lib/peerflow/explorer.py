r"""A live panel: the prediction computed where the reader is, in a notebook's browser or in a page without a kernel.

With the squared loss, few numbers say all about an agent: its curvature :math:`H_q = F_q^\top F_q / D_q`, its pull
:math:`p_q = F_q^\top (f_0 - y) / D_q`, its loss at the start and its gain, in the reduced basis of
:mod:`peerflow.linearize`. :func:`pack` writes them into text. The panel's JavaScript, ``assets/explorer``, takes the
steps :math:`z' = Wz - B c (HCz + p)` itself, and the flow as their mean over Poisson's distribution.

>>> import networkx as nx
>>> from peerflow import data, mixing, models
>>> from peerflow.linearize import linearize
>>> from peerflow.methods import DGD
>>> agents, model = data.half_moons(agents=4, samples=10), models.mlp(inputs=2, widths=(64,), outputs=1)
>>> lin = linearize(model, agents, model.init(0), accuracy=0.01, steps=200, step_size=1.0)
>>> panel = Explorer(lin, DGD(mixing.metropolis_hastings(nx.cycle_graph(4))), step_size=0.5)
>>> panel.edges = [[0, 1], [1, 2], [2, 3]]
>>> panel.method.W.round(2).tolist()[0]
[0.67, 0.33, 0.0, 0.0]
"""

import base64
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

import anywidget
import networkx as nx
import numpy as np
import traitlets
from jaxtyping import Float

from peerflow import _checks, mixing
from peerflow.linearize import Linearization
from peerflow.methods import ATC, CTA, DGD, Method
from peerflow.training import Run

ASSETS = resources.files("peerflow") / "assets" / "explorer"
MODULES = ("solver", "graphs", "spectrum", "charts", "network", "controls", "player", "prediction", "words", "explorer")
"""The files of JavaScript, each importing from earlier ones only."""
RULES = {rule.name: rule for rule in (DGD, ATC, CTA)}
CHOICES = {
    "algorithm": RULES,
    "objective": {"local": None, "global": None},
    "time": {"iteration": None, "flow": None},
}
LONGEST = 10_000
"""Steps that a panel shows at most."""
_PRECISIONS = {32: "<f4", 64: "<f8"}


def script(modules: Sequence[str] = MODULES) -> str:
    """Return these files of JavaScript as one ES module: without imports from each other, and with the last's exports.

    Nothing else is done to them: each import is one statement that names a file beside it, and no two files declare a
    name twice.
    """
    texts = [(ASSETS / f"{module}.js").read_text(encoding="utf-8") for module in modules]
    texts = [re.sub(r'^import [^;]*? from "\./\w+\.js";\n', "", text, flags=re.MULTILINE) for text in texts]
    inner = [re.sub(r"^export (default \w+;\n)?", "", text, flags=re.MULTILINE) for text in texts[:-1]]
    return "\n".join([*inner, texts[-1]])


def page_script() -> str:
    """Return the panel for pages without a kernel, as a script that is no module: those cannot be read from file://."""
    return f'(() => {{\n"use strict";\n{script([*MODULES, "pagemodel", "page"])}}})();\n'


def style() -> str:
    """Return the panel's style sheet."""
    return (ASSETS / "explorer.css").read_text(encoding="utf-8")


def pack(lin: Linearization, *, precision: int = 64) -> dict[str, Any]:
    """Return what the panel needs of a linear model, as text and numbers.

    Parameters
    ----------
    lin
        The model about the common start. Its rank decides how much is stored and how fast the panel is: see the
        ``accuracy`` of :func:`~peerflow.linearize.linearize`.
    precision
        Bits of every number. With 32 each number is off by 6e-8 of itself, and a loss by about that share of the
        loss at the start.

    Returns
    -------
    dict
        ``agents``, ``rank``, ``parameters`` (what an agent sends in a step, or 0 if only a kernel is known),
        ``precision``, ``steepest`` (the largest eigenvalue of all agents' curvature times gain) and ``data``: in
        base64, agent after agent, the rows of H's upper triangle, p, the loss at the start and the gain.

    Raises
    ------
    ValueError
        If precision is neither 32 nor 64, or the model has no direction to move in.
    """
    _checks.instance("lin", lin, Linearization)
    if precision not in _PRECISIONS:
        raise ValueError(f"precision must be 32 or 64, got {precision!r}")
    if lin.rank == 0:
        raise ValueError("lin must have a direction to move in, got rank 0")
    counts, gains = lin.agents.counts, lin.agents.gains
    curvature = lin.curvature / counts[:, None, None]
    upper = np.triu_indices(lin.rank)
    start = (lin.residuals0**2).sum(axis=1) / (2 * counts)
    rows = np.hstack([curvature[:, upper[0], upper[1]], lin.pull / counts[:, None], start[:, None], gains[:, None]])
    return {
        "agents": lin.agents.size,
        "rank": lin.rank,
        "parameters": 0 if lin.theta0 is None else lin.theta0.size,
        "precision": int(precision),
        "steepest": float(np.max(gains * np.linalg.eigvalsh(curvature)[:, -1])),
        "data": base64.b64encode(rows.astype(_PRECISIONS[precision]).tobytes()).decode("ascii"),
    }


def stored_run(run: Run, method: Method, *, step_size: float) -> dict[str, Any]:
    """Return a real training as the panel shows it beside its prediction: losses in 32 bits, fewer at late steps.

    It appears where links, algorithm, objective and step size are the run's; W is that of Metropolis and Hastings.

    Raises
    ------
    ValueError
        If the method is for another number of agents than the run.
    """
    losses = np.asarray(run.losses)
    _checks.instance("method", method, Method)
    _checks.shape_of("losses", losses.shape, ("steps", method.agents))
    last = len(losses) - 1
    steps = sorted({*range(min(last, 20) + 1), *range(0, last, 5), last})
    return {
        "edges": links(method),
        "algorithm": method.name,
        "objective": method.objective,
        "step_size": _checks.positive("step_size", step_size),
        "steps": steps,
        "losses": base64.b64encode(losses[steps].astype("<f4").tobytes()).decode("ascii"),
    }


def links(method: Method) -> list[list[int]]:
    """Return the pairs [q, r], q < r, of agents that the method's W connects in either direction."""
    W = method.dense
    return [[int(q), int(r)] for q, r in np.argwhere(np.triu((W != 0) | (W.T != 0), 1))]


def weights(agents: int, edges) -> Float[np.ndarray, "agents agents"]:
    """Return W of Metropolis and Hastings for these links, which may leave agents unconnected."""
    graph = nx.Graph(edges)
    graph.add_nodes_from(range(agents))
    W = np.zeros((agents, agents))
    for part in nx.connected_components(graph):
        own = graph.subgraph(part)
        W[np.ix_(list(own), list(own))] = np.asarray(mixing.metropolis_hastings(own))
    return W


class Checked(traitlets.Any):
    """A trait whose values the panel's own checks see, all of them: ``Any`` would let None pass."""

    allow_none = False


class Explorer(anywidget.AnyWidget):
    """The panel: Python sets and reads what its reader sees, both at any time.

    Raises
    ------
    ValueError
        If a value is not what its trait describes, or the method is for another number of agents.
    """

    _esm = script()
    _css = style()
    problem = traitlets.Dict(read_only=True).tag(sync=True)
    """From :func:`pack`."""
    training = traitlets.List(read_only=True).tag(sync=True)
    """From :func:`stored_run`."""
    mixing = traitlets.Any(None, allow_none=True).tag(sync=True)
    """W as a list of rows, symmetric or not, or None: that of Metropolis and Hastings for ``edges``. At its two ends a
    link is drawn as wide as the weights that it has there. Who sets it sets ``edges``; who moves a link unsets it."""
    edges = Checked([]).tag(sync=True)
    """Links, a list of pairs of agents."""
    algorithm = Checked("DGD").tag(sync=True)
    """``"DGD"``, ``"ATC"`` or ``"CTA"``."""
    objective = Checked("local").tag(sync=True)
    """``"local"`` or ``"global"``, see :mod:`peerflow.objectives`."""
    time = Checked("iteration").tag(sync=True)
    """``"iteration"`` or ``"flow"``."""
    step_size = Checked(1.0).tag(sync=True)
    """Positive."""
    horizon = Checked(200).tag(sync=True)
    """How many steps are shown."""
    position = Checked(200).tag(sync=True)
    """The step at which peers and numbers are shown, up to the horizon."""

    def __init__(
        self,
        lin: Linearization,
        method: Method,
        *,
        step_size: float = 1.0,
        time: str = "iteration",
        horizon: int = 200,
        training: Sequence[dict] = (),
        precision: int = 64,
    ):
        """Show the prediction of ``method`` on ``lin``, and beside it any ``training`` from :func:`stored_run`."""
        _checks.instance("method", method, Method)
        problem = pack(lin, precision=precision)
        _checks.shape_of("W", method.W.shape, (lin.agents.size,) * 2)
        self.set_trait("problem", problem)
        self.set_trait("training", list(training))
        edges = links(method)
        usual = np.allclose(method.dense, weights(method.agents, edges), rtol=0, atol=1e-12)
        horizon = _checks.count("horizon", horizon)
        super().__init__(
            edges=edges,
            mixing=None if usual else method.dense.tolist(),
            algorithm=method.name,
            objective=method.objective,
            time=time,
            step_size=step_size,
            horizon=horizon,
            position=horizon,
        )

    def __repr__(self) -> str:
        return f"Explorer({self.problem['agents']} agents, {self.algorithm}, step size {self.step_size:g})"

    @traitlets.validate("edges")
    def _check_edges(self, proposal):
        agents, edges = self.problem["agents"], proposal["value"]
        pairs = _checks.array("edges", edges, ("links", 2)) if len(edges) else np.zeros((0, 2))
        if (pairs % 1).any() or (pairs < 0).any() or (pairs >= agents).any() or (pairs[:, 0] == pairs[:, 1]).any():
            raise ValueError(f"edges must be pairs of two different agents from 0 to {agents - 1}, got {edges!r}")
        return [list(pair) for pair in sorted({(int(min(pair)), int(max(pair))) for pair in pairs})]

    @traitlets.validate("mixing")
    def _check_mixing(self, proposal):
        if proposal["value"] is None:
            return None
        return np.asarray(mixing.doubly_stochastic(proposal["value"], self.problem["agents"])).tolist()

    @traitlets.observe("mixing")
    def _take_its_edges(self, change):
        if change["new"] is not None:
            self.edges = links(DGD(change["new"]))

    @traitlets.observe("edges")
    def _leave_other_mixing(self, change):
        if self.mixing is not None and links(DGD(self.mixing)) != change["new"]:
            self.mixing = None

    @traitlets.validate("algorithm", "objective", "time")
    def _check_name(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        _checks.choice(name, value, CHOICES[name])
        return value

    @traitlets.validate("step_size")
    def _check_step_size(self, proposal):
        return _checks.positive("step_size", proposal["value"])

    @traitlets.validate("horizon")
    def _check_horizon(self, proposal):
        horizon = _checks.count("horizon", proposal["value"])
        if horizon > LONGEST:
            raise ValueError(f"horizon must be up to {LONGEST}, got {horizon}")
        return horizon

    @traitlets.validate("position")
    def _check_position(self, proposal):
        return _checks.nonnegative("position", proposal["value"])

    @property
    def method(self) -> Method:
        """What is shown, as :func:`~peerflow.flows.predict` takes it."""
        W = weights(self.problem["agents"], self.edges) if self.mixing is None else np.array(self.mixing)
        return RULES[self.algorithm](W, objective=self.objective)
