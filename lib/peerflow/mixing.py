r"""From a graph to the mixing matrix W with which peers average, and to a common start.

In one round agent :math:`q` replaces its parameters by :math:`\sum_r w_{qr}\theta_r` over its neighbours and itself.
W is doubly stochastic: rows sum to one, so agreement is kept; columns sum to one, so the mean over agents is kept.
How fast disagreement dies is the spectral gap. Graphs come from networkx.

>>> import networkx as nx
>>> W = metropolis_hastings(nx.cycle_graph(4))
>>> W.round(3).tolist()[0]
[0.333, 0.333, 0.0, 0.333]
>>> round(spectral_gap(W), 3)
0.667
"""

from functools import cache
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from jax.core import Tracer
from jaxtyping import Array, Float, Int
from scipy.sparse import csr_array

from peerflow import _checks

# Beyond so many agents a sparse W stays sparse: so many vectors are held for an eigenvalue, known as closely as this.
_LANCZOS, _VECTORS, _CLOSE = 1000, 64, 1e-10


def metropolis_hastings(graph: nx.Graph, *, sparse: bool = False) -> Float[np.ndarray, "agents agents"] | csr_array:
    r"""Return the Metropolis-Hastings mixing matrix of a graph (paper, sec. V; its ref. [28]).

    :math:`w_{qr} = 1/(1 + \max(d_q, d_r))` for neighbours :math:`q \ne r`, with :math:`d` the degree; the diagonal
    holds what is left, so the matrix is symmetric and doubly stochastic, and its eigenvalues lie in (-1, 1].

    Parameters
    ----------
    graph
        Undirected and connected. Agents are its nodes, in its own order. Edge weights, parallel edges and
        self-loops are ignored: an agent always counts as its own neighbour.
    sparse
        Return a scipy.sparse array, for graphs with many agents and few links.

    Raises
    ------
    ValueError
        If the graph is directed, not connected or empty.
    """
    neighbours = _neighbours(graph)
    degrees = np.array([len(near) for near in neighbours])
    rows = np.repeat(np.arange(len(degrees)), degrees)
    columns = np.array([r for near in neighbours for r in near], dtype=int)
    links = (1 / (1 + np.maximum(degrees[rows], degrees[columns])), (rows, columns))
    W = scipy.sparse.coo_array(links, shape=(len(degrees),) * 2).tocsr()
    W = (W + scipy.sparse.diags_array(1 - W.sum(axis=1))).tocsr()
    return W if sparse else W.toarray()


def doubly_stochastic(W, agents: int | None = None) -> Float[Array | np.ndarray, "agents agents"] | csr_array:
    """Return W as a float64 array, after checking that it is doubly stochastic; it need not be symmetric.

    A sparse W stays sparse. Under a JAX trace entries are not known, and pass.

    Raises
    ------
    ValueError
        If W is empty or not square (or not ``agents`` by ``agents``), holds NaN or negative entries, or a row or column
        misses the sum 1 by more than 1e-10.
    """
    size = "agents" if agents is None else _checks.count("agents", agents)
    if scipy.sparse.issparse(W):
        W = _sparse(W, size)
    else:
        W = _checks.array("W", W, (size, size))
        if isinstance(W, Tracer):
            return W
        W = W.astype(np.float64)
    if W.shape[0] == 0:
        raise ValueError("W must have at least one agent, got none")
    if W.min() < -1e-12:
        raise ValueError(f"W must be doubly stochastic, got a negative entry {W.min():.3g}")
    for axis, what in ((1, "row"), (0, "column")):
        total = W.sum(axis=axis)
        miss = np.abs(total - 1)
        if miss.max() > 1e-10:
            worst = int(miss.argmax())
            raise ValueError(f"W must be doubly stochastic, but {what} {worst} sums to {total[worst]}")
    return W


def one_or_several(W) -> Any:
    """Return one W as :func:`doubly_stochastic` does, or several of one size, checked alike and stacked.

    Several are a list of matrices, dense or sparse, or an array (period, agents, agents).
    """
    several = isinstance(W, (list, tuple)) and {getattr(each, "ndim", None) for each in W} == {2}
    if not several and getattr(W, "ndim", 2) != 3:
        return doubly_stochastic(W)
    if isinstance(W, Tracer):
        return W
    if len(W) == 0:
        raise ValueError("W must hold at least one matrix, got none")
    checked = [doubly_stochastic(each, agents=W[0].shape[-1]) for each in W]
    return np.stack([_dense(each) for each in checked])


def combine(weights: tuple[tuple[float, ...], ...], W, vectors) -> Any:
    """Return the sum of p(W) v over polynomials p, by their coefficients, and as many v, with one row per agent.

    There is one product for each power of W, whatever the number of vectors: what agents send each other.
    """
    total = None
    for terms in _powers(weights):
        total = None if total is None else W @ total
        for factor, at in terms:
            term = vectors[at] if abs(factor) == 1.0 else abs(factor) * vectors[at]
            if total is not None:
                total = total + term if factor > 0 else total - term
                continue
            total = term if factor > 0 else -term
    return 0 * vectors[0] if total is None else total


@cache
def _powers(weights):
    """Return the factors other than zero of each power, the highest first, with their places among the weights."""
    highest = max(map(len, weights))
    return [[(p[power], at) for at, p in enumerate(weights) if p[power:] and p[power]]
            for power in reversed(range(highest))]  # fmt: skip


def _sparse(W, size) -> Any:
    """Return a sparse W of any format by rows and in float64, after checking its shape and its numbers."""
    _checks.shape_of("W", W.shape, (size, size))
    W = csr_array(W)
    entries = _checks.array("W", W.data).astype(np.float64)
    return csr_array((entries, W.indices, W.indptr), W.shape)


def every(tau: int, W) -> Float[np.ndarray, "tau agents agents"]:
    """Return matrices by which agents average at every tau-th step only, and keep to themselves at the others.

    ``ATC(every(tau, W))`` is local gradient descent with tau steps a round, and federated averaging if W averages all.

    Raises
    ------
    ValueError
        If tau is below 1, or W is not doubly stochastic.
    """
    tau, W = _checks.count("tau", tau), doubly_stochastic(W)
    W = _dense(W)
    return np.stack([*[np.eye(len(W))] * (tau - 1), W])


def is_symmetric(W) -> bool:
    """Say whether W is symmetric to rounding: agents then trust each other equally."""
    if scipy.sparse.issparse(W):
        W = _sparse(W, "agents")
        return bool(abs(W - W.T).max() <= 1e-14)
    W = _checks.array("W", W, ("agents", "agents"))
    return np.allclose(W, W.T, rtol=0, atol=1e-14)


def spectral_gap(W) -> float:
    r"""Return :math:`1 - |\lambda_2|`, with :math:`\lambda_2` W's second largest eigenvalue in modulus.

    Disagreement shrinks at least like :math:`|\lambda_2|^k` over k rounds when W is symmetric. A single agent has
    nothing to disagree about: its gap is 1.

    A sparse W of more than a thousand agents stays sparse: ARPACK, which is Lanczos's method where W is symmetric,
    finds its largest eigenvalue on what sums to zero over the agents.

    Raises
    ------
    ValueError
        If W is not doubly stochastic, or ARPACK does not converge.
    """
    W = doubly_stochastic(W)
    if _is_large(W):
        return float(1 - abs(_extreme(W, "LM")))
    W = _dense(W)
    if len(W) == 1:
        return 1.0
    modulus = np.sort(np.abs(np.linalg.eigvals(W)))
    return float(1 - modulus[-2])


def smallest_eigenvalue(W) -> float:
    """Return the smallest eigenvalue of a symmetric W, dense or sparse, as :func:`spectral_gap` finds the largest.

    Raises
    ------
    ValueError
        If W is not doubly stochastic and symmetric, or ARPACK does not converge.
    """
    W = doubly_stochastic(W)
    if not is_symmetric(W):
        raise ValueError("W must be symmetric, or its eigenvalues may be complex")
    if _is_large(W):
        # Above -1 on what sums to zero, and zero at least once elsewhere: the deflated 1.
        return float(_extreme(W, "SA"))
    return float(np.linalg.eigvalsh(_dense(W))[0])


def _dense(W) -> Any:
    """Return a checked W as an array."""
    return W.toarray() if isinstance(W, csr_array) else W


def _is_large(W: Any) -> bool:
    return scipy.sparse.issparse(W) and W.shape[0] > _LANCZOS


def _extreme(W, which):
    """Return the eigenvalue of a sparse W that ARPACK calls extreme, on the space of what sums to zero."""
    symmetric, Q = is_symmetric(W), W.shape[0]

    def product(x):
        return W @ x - x.mean()

    # Agreement itself would break Lanczos's method down: it is an eigenvector.
    start = np.random.default_rng(0).standard_normal(Q)
    start -= start.mean()
    if np.linalg.norm(product(start)) < 1e-12 * np.linalg.norm(start):
        return 0.0
    library: Any = scipy.sparse.linalg
    solve = library.eigsh if symmetric else library.eigs
    operator = library.LinearOperator((Q, Q), matvec=product, dtype=np.float64)
    try:
        found = solve(operator, k=1, which=which, v0=start, ncv=_VECTORS, tol=_CLOSE, return_eigenvectors=False)
    except scipy.sparse.linalg.ArpackError as error:
        raise ValueError(f"the extreme eigenvalue of W was not found: {error}") from None
    return found[0]


def effective_neighbours(W, *, decay: float) -> float:
    r"""Return among how many agents W averages noise, as Vogels, Hendrikx and Jaggi (2023) count them.

    Every agent adds noise of its own to what it holds, and all average: :math:`x \leftarrow W(\sqrt\gamma\,x + n)` with
    decay :math:`\gamma` and standard normal n. Alone an agent would end with the variance
    :math:`1/(1 - \gamma)`. The number is that over the agents' mean variance: 1 where nobody averages, Q where all
    average with all. For symmetric W with eigenvalues :math:`\lambda_i` it is
    :math:`1 / \bigl((1 - \gamma)\, \frac1Q \sum_i \lambda_i^2 / (1 - \gamma\lambda_i^2)\bigr)`. A small decay counts
    who is heard at once, one close to 1 who is heard in the end.

    Parameters
    ----------
    W
        Doubly stochastic; or several, taken in turn.
    decay
        From 0 to below 1.

    Raises
    ------
    ValueError
        If W is not doubly stochastic, or decay is out of range.
    """
    decay = _checks.below_one("decay", _checks.nonnegative("decay", decay))
    W = one_or_several(W)
    W = _dense(W)
    period = W if W.ndim == 3 else W[None]
    one = np.eye(W.shape[-1])
    through, added, variance = one, 0 * one, 0.0
    for each in period:
        through, added = each @ through, each @ (decay * added + one) @ each.T
    covariance = scipy.linalg.solve_discrete_lyapunov(decay ** (len(period) / 2) * through, added)
    for each in period:
        covariance = each @ (decay * covariance + one) @ each.T
        variance += np.trace(covariance) / (len(one) * len(period))
    return float(1 / ((1 - decay) * variance))


def disagreement(params) -> float | Float[np.ndarray, "*batch"]:
    r"""Return the root mean square distance of the agents from their mean.

    :math:`\bigl(\frac1Q \sum_q \|\theta_q - \bar\theta\|_2^2\bigr)^{1/2}` over the last two axes of ``params``,
    (..., agents, params).
    """
    params = _checks.array("params", params)
    if params.ndim < 2 or 0 in params.shape[-2:]:
        raise ValueError(f"params must have shape (..., agents, params), none of them empty, got {params.shape}")
    away = params - params.mean(axis=-2, keepdims=True)
    return np.sqrt((away**2).sum(axis=-1).mean(axis=-1))


class Synchronization(NamedTuple):
    """What max norm synchronization did, round by round."""

    params: Float[np.ndarray, "times agents params"]
    """Each agent's parameters before the first round and after every round, (rounds + 1, agents, params)."""
    origin: Int[np.ndarray, "times agents"]
    """The agent whose initial parameters these are."""


def max_norm_synchronization(theta, graph: nx.Graph) -> Synchronization:
    """Make all agents start from the same parameters by local exchanges only (paper, sec. V; its ref. [29]).

    In each round every agent takes, among its neighbours and itself, the parameters of largest Euclidean norm. After
    as many rounds as the graph's diameter all agents hold the same. This is our reading of a rule that the paper
    only names. Equal norms go to the agent that comes first, so that ties end in agreement as well.

    Parameters
    ----------
    theta
        Each agent's own parameters, shape (agents, params).
    graph
        Undirected and connected, one node an agent.
    """
    neighbours = _neighbours(graph)
    theta = _checks.array("theta", theta, (len(neighbours), "params"))
    # Rank 0 is the largest norm; a stable sort settles ties by the agents' order.
    order = np.argsort(-np.linalg.norm(theta, axis=1), kind="stable")
    rank = np.empty(len(order), dtype=int)
    rank[order] = np.arange(len(order))
    origin = [np.arange(len(neighbours))]
    for _ in range(nx.diameter(graph)):
        held = origin[-1]
        best = [min([held[q], *(held[r] for r in near)], key=rank.__getitem__) for q, near in enumerate(neighbours)]
        origin.append(np.array(best))
    origin = np.stack(origin)
    return Synchronization(theta[origin], origin)


def _neighbours(graph: nx.Graph) -> list[list[int]]:
    """Return each node's neighbours, without itself, as indices into the graph's node order."""
    if not isinstance(graph, nx.Graph):
        raise ValueError(f"graph must be a networkx Graph, got {type(graph).__name__}")
    if graph.is_directed():
        raise ValueError("graph must be undirected, got a directed one: use graph.to_undirected()")
    if len(graph) == 0:
        raise ValueError("graph must have at least one node, got none")
    if not nx.is_connected(graph):
        parts = nx.number_connected_components(graph)
        raise ValueError(f"graph must be connected, got {parts} components")
    index = {node: q for q, node in enumerate(graph)}
    return [sorted({index[other] for other in graph[node]} - {q}) for node, q in index.items()]
