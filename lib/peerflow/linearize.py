r"""The network about its common start, (11), in a basis as small as its kernel's rank.

With :math:`J_q` agent q's Jacobian at :math:`\theta_0` and all of them stacked,
:math:`J = U\,\mathrm{diag}(\sigma)\,V^\top`, every :math:`J_q = F_q V^\top` with r columns, one for each singular
value kept. From a common start no gradient of the linear model leaves the span of V, so
:math:`\theta_q = \theta_0 + V z_q` and the whole dynamics is that of z, (Q, r), however many parameters there are.
The kernel on the data is :math:`K = J J^\top = F F^\top`, with eigenvalues :math:`\sigma^2`.

Only K matters for outputs, so a kernel alone will do: :func:`from_kernel`. How F is found, from J or by products with
it, is in :mod:`peerflow.factors`.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from peerflow import _checks, factors, kernels
from peerflow._progress import bar
from peerflow.data import AgentData
from peerflow.models import Model, starts

# A Jacobian with more numbers than this, half a gigabyte, is never held.
_HELD = 2**26
# What is known of a kernel's singular values: the square root of floating point's precision.
_KERNEL = 1e-7


class Expansion(NamedTuple):
    """The linear model on some inputs."""

    outputs0: Float[np.ndarray, "n outputs"]
    """The outputs at the start."""
    features: Float[np.ndarray, "n outputs rank"]
    """The Jacobian in the reduced basis."""


@dataclass(frozen=True, eq=False)
class Linearization:
    """A model's first-order expansion on the agents' data.

    Rows run over an agent's samples and, within each, over outputs; an agent with fewer samples than others has rows of
    zeros at the end, in which nothing happens.
    """

    model: Model | None
    """None if a kernel is all that is known."""
    agents: AgentData
    theta0: Float[np.ndarray, "params"] | None
    """The common start, about which the model is expanded."""
    outputs0: Float[np.ndarray, "agents rows"]
    """The outputs at the start, f_0 of (9)-(10)."""
    features: Float[np.ndarray, "agents rows rank"]
    """F: each agent's Jacobian in the reduced basis."""
    singular_values: Float[np.ndarray, "rank"]
    """Of the stacked Jacobian, decreasing; their squares are the kernel's eigenvalues."""
    basis: Float[np.ndarray, "params rank"] | None
    """V: orthonormal directions in which parameters move; None where it was not held."""
    dual: Float[np.ndarray, "allrows rank"] | None
    """Where V was not held, it is :math:`J^\top` times this, with rows for all agents' samples."""

    @property
    def rank(self) -> int:
        """The number r of directions."""
        return len(self.singular_values)

    @cached_property
    def residuals0(self) -> Float[np.ndarray, "agents rows"]:
        """f_0 - y."""
        return self.outputs0 - _by_agent(self.agents, self.agents.pooled()[1].reshape(-1))

    @cached_property
    def curvature(self) -> Float[np.ndarray, "agents rank rank"]:
        """Psi: each agent's :math:`F_q^T F_q`."""
        return np.matmul(self.features.transpose(0, 2, 1), self.features)

    @cached_property
    def pull(self) -> Float[np.ndarray, "agents rank"]:
        """Each agent's :math:`F_q^T (f_0 - y)`: the gradient at the start, but for its scale."""
        return np.matmul(self.residuals0[:, None, :], self.features)[:, 0]

    def displacement(self, z: Float[Array | np.ndarray, "*batch rank"]) -> Float[Array | np.ndarray, "*batch params"]:
        r"""Return :math:`Vz`, how far parameters are from the start.

        Raises
        ------
        ValueError
            If only a kernel is known.
        """
        if self.basis is not None:
            return z @ self.basis.T
        model, theta0 = self._known("parameters")
        return factors.pulled_back(model, theta0, self.agents.pooled()[0], z @ self._columns().T)

    def expand(self, x) -> Expansion:
        """Return the linear model on other inputs (n, N).

        Raises
        ------
        ValueError
            If x does not fit the model, or only a kernel is known.
        """
        model, theta0 = self._known("outputs on other inputs")
        outputs = np.asarray(model.apply(theta0, x))
        if self.basis is not None:
            return Expansion(outputs, np.asarray(model.jacobian(theta0, x)) @ self.basis)
        features = factors.cross_products(model, theta0, x, self.agents.pooled()[0], self._columns())
        return Expansion(outputs, features.reshape(*outputs.shape, self.rank))

    def expand_kernel(self, kernel, outputs0) -> Expansion:
        """Return the linear model on other inputs, from the kernel between them and all agents' samples.

        Parameters
        ----------
        kernel
            Rows for the other inputs, columns for all agents' samples, agent after agent: (n, samples) or, with rows
            and columns for every output within, (n * outputs, samples * outputs).
        outputs0
            The outputs at the start on the other inputs, (n, outputs).
        """
        columns = self._columns()
        outputs0 = _checks.array("outputs0", outputs0, ("n", self.agents.outputs)).astype(np.float64)
        kernel = _for_outputs("kernel", kernel, outputs0.shape, self.agents)
        return Expansion(outputs0, (kernel @ columns).reshape(*outputs0.shape, self.rank))

    @cached_property
    def null_directions(self) -> Float[np.ndarray, "params free"]:
        r"""An orthonormal basis of the parameters' directions that move no agent's outputs: J v = 0.

        J v = 0 holds to the tolerance of the expansion. For each v :math:`\mathbf{1} \otimes v` is in the null space of
        (12a)'s A, for every step size: the counterexample to Proposition 1's proof. Each single parameter may well
        have influence.
        """
        basis = self.displacement(np.eye(self.rank)).T
        return scipy.linalg.null_space(basis.T) if self.rank else np.eye(self._known("parameters")[0].size)

    def _columns(self):
        """Return ``dual``."""
        if self.dual is None:
            raise ValueError("this expansion knows its parameters: use expand(x)")
        return self.dual

    def _known(self, what):
        if self.model is None or self.theta0 is None:
            raise ValueError(f"{what} need a model, and this expansion was made from a kernel alone")
        return self.model, self.theta0


def linearize(
    model: Model,
    agents: AgentData,
    theta0,
    *,
    tolerance: float = 1e-10,
    accuracy: float | None = None,
    steps: int | None = None,
    step_size: float | None = None,
    progress: bool | None = None,
) -> Linearization:
    r"""Expand the model about a common start.

    Parameters
    ----------
    theta0
        The common start (params,).
    tolerance
        Directions with singular values up to ``tolerance`` times the largest are dropped: eigenvalues of the kernel up
        to its square. Relative to the largest singular value, the Jacobian is kept to twice the tolerance; below 1e-13
        rounding decides, and below 1e-7 where the Jacobian would take more than half a gigabyte and is not held.
    accuracy, steps, step_size
        Instead of a tolerance, what it is needed for. For DGD, ATC and CTA with every W, and step sizes up to this one
        and up to half of :func:`~peerflow.stability.sufficient_limit`, the residuals :math:`f - y` of all agents then
        are right to ``accuracy`` times their norm at the start, in the root mean square over 0 to ``steps`` steps of
        the iteration. Directions that hardly move in that time are dropped. (Where agents hold different numbers of
        samples, the norm weighs each agent's residuals by its constant c_q.) This is a bound for the worst case;
        residuals that point everywhere are right to far more, and losses likewise.
    progress
        As in :func:`peerflow.training.train`, where samples are too many for a Jacobian to be held: each time one of
        them is used. How often that is follows from the rank.

    Raises
    ------
    ValueError
        If theta0 is not one common start, shapes do not fit, a number is out of range, only some of accuracy, steps and
        step_size are given, or anything holds NaN.

    Notes
    -----
    Let :math:`E_q` be what is dropped of :math:`J_q`, of norm at most :math:`\varepsilon`, c the constant in front of
    every gradient (if they differ, the root of each is taken into :math:`J_q` and the residuals, and c is the largest),
    and :math:`e` the residuals where gradients are taken, as one sequence over k steps. All three
    methods have :math:`e = r - Ne` with :math:`N = cJHJ^\top`, where H mixes agents over time: it is the sum of
    :math:`W^j` (DGD) or :math:`W^{j+1}` (ATC, CTA), delayed by j + 1 steps. Up to half of the sufficient limit the
    symmetric part of N is at least -1/2, so that :math:`\|(I + N)^{-1}\| \le 2`, with or without what is dropped.
    Dropping changes N by :math:`cEHE^\top`, of norm at most :math:`c\varepsilon^2 k`, because H acts on agents and the
    projection on parameters; and :math:`(I + N)^{-1}r` by at most :math:`4 c\varepsilon^2 k \|r\|`.
    """
    theta0 = _checks.array("theta0", theta0)
    if theta0.ndim == 2:
        raise ValueError(f"theta0 must be one common start (params,), got one row per agent {theta0.shape}")
    theta0 = np.asarray(starts(model, agents, theta0)[0], dtype=np.float64)
    tolerance, absolute = _relative(tolerance), _absolute(agents, accuracy, steps, step_size)
    x = agents.pooled()[0]
    outputs = np.asarray(model.apply(theta0, x)).reshape(-1)
    dual = None
    if outputs.size * model.size <= _HELD:
        jacobian = np.asarray(model.jacobian(theta0, x)).reshape(-1, model.size)
        values, basis, features = factors.from_jacobian(jacobian, tolerance, absolute)
    elif _tall(model, outputs.size):
        with bar(progress, None, "linearize") as advance:
            streamed = factors.Streamed(model, theta0, x, agents.outputs, advance)
            values, basis, features = factors.from_jacobian(streamed, tolerance, absolute)
    else:
        product = _kernel(model, theta0, x, outputs.size)
        values, dual, features = factors.from_products(product, outputs.size, max(tolerance, _KERNEL), absolute)
        basis = None
    rows = _by_agent(agents, outputs), _by_agent(agents, features)
    return Linearization(model, agents, theta0, *rows, values, basis, dual)


def _tall(model, rows) -> bool:
    """Say whether neither Jacobian nor kernel can be held, and the Jacobian has the fewer columns."""
    return rows**2 > _HELD and model.size <= rows


def _kernel(model, theta0, x, size):
    """Return the product with the kernel: held if it fits, else by Jacobian-vector products."""
    if size**2 <= _HELD:
        kernel = kernels.empirical(model, theta0, x)
        return lambda columns: kernel @ columns
    return lambda columns: factors.cross_products(model, theta0, x, x, columns)


def from_kernel(kernel, outputs0, agents: AgentData, *, tolerance: float = _KERNEL) -> Linearization:
    """Return the linear model that has this kernel on the agents' data; its parameters are not known.

    Parameters
    ----------
    kernel
        Symmetric and positive semidefinite, for all agents' samples, agent after agent: (samples, samples), the same
        for every output as at infinite width, or (samples * outputs, samples * outputs) with the outputs of a sample
        beside each other, as :func:`peerflow.kernels.empirical` has it.
    outputs0
        The outputs at the start, (samples, outputs).
    tolerance
        Directions whose eigenvalue is up to its square times the largest are dropped.

    Raises
    ------
    ValueError
        If shapes do not fit, the kernel is not symmetric or has a negative eigenvalue, or anything holds NaN.
    """
    _checks.instance("agents", agents, AgentData)
    shape = (int(agents.counts.sum()), agents.outputs)
    outputs0 = _checks.array("outputs0", outputs0, shape).astype(np.float64)
    K = _for_outputs("kernel", kernel, shape, agents)
    values, dual, features = factors.from_matrix(K, _relative(tolerance))
    rows = _by_agent(agents, outputs0.reshape(-1)), _by_agent(agents, features)
    return Linearization(None, agents, None, *rows, values, None, dual)


def _relative(tolerance) -> float:
    tolerance = _checks.positive("tolerance", tolerance)
    if tolerance >= 1:
        raise ValueError(f"tolerance must be below 1, or nothing is left, got {tolerance}")
    return tolerance


def _absolute(agents, accuracy, steps, step_size) -> float:
    """Return the singular value up to which directions may be dropped, or zero if nothing is said of it."""
    given = {"accuracy": accuracy, "steps": steps, "step_size": step_size}
    if all(each is None for each in given.values()):
        return 0.0
    if any(each is None for each in given.values()):
        raise ValueError(f"accuracy, steps and step_size go together, got {given}")
    c = _checks.positive("step_size", step_size) * (agents.gains / agents.counts).max()
    # 4 c eps^2 k is the bound; what is dropped has twice the tolerance.
    return (_checks.positive("accuracy", accuracy) / (4 * c * _checks.count("steps", steps))) ** 0.5 / 2


def _for_outputs(name, kernel, shape, agents):
    """Return the kernel with rows and columns for every output."""
    samples, outputs = int(agents.counts.sum()), agents.outputs
    kernel = _checks.array(name, kernel, ("n", "m")).astype(np.float64)
    if kernel.shape == (shape[0], samples) and outputs > 1:
        return np.kron(kernel, np.eye(outputs))
    _checks.shape_of(name, kernel.shape, (shape[0] * outputs, samples * outputs))
    return kernel


def _by_agent(agents: AgentData, rows):
    """Give each agent its rows of an array over all samples and outputs, with zeros where it has fewer than others."""
    counts = agents.counts * agents.outputs
    if len(set(counts.tolist())) == 1:
        return rows.reshape(agents.size, counts[0], *rows.shape[1:])
    result = np.zeros((agents.size, counts.max(), *rows.shape[1:]))
    for q, some in enumerate(np.split(rows, np.cumsum(counts)[:-1])):
        result[q, : len(some)] = some
    return result
