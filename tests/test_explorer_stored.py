"""The problems that the book's explorer shows: the tool still writes them, and they are as accurate as it says."""

import base64
import json
import os
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from test_explorer import iterated, unpacked

from peerflow import mixing

TOOLS = Path(__file__).parent.parent / "tools"
sys.path.insert(0, str(TOOLS))

import stored  # noqa: E402

CYCLE = mixing.metropolis_hastings(nx.cycle_graph(stored.AGENTS))
# Other machines round otherwise; what is stored has 32 bits.
SAME = 1e-5


def read(name, folder=stored.FOLDER):
    text = (folder / f"{name}.js").read_text()
    start = f"(window.peerflowStored ??= {{}}).{name} = "
    assert text.startswith(start) and text.endswith(";\n")
    return json.loads(text.removeprefix(start).removesuffix(";\n"))


@cache
def linear_steps(name):
    """Return a function of W and the step size: the losses (steps + 1, agents) of DGD on the linear model, whole.

    It knows of no basis: each step takes derivatives of the network along the parameters' displacement, and back.
    """
    source = stored.SOURCES[name]
    agents, theta0 = source.agents(), jnp.asarray(source.model.init(0))

    def loss(z, x, y, theta0):
        outputs, moved = jax.jvp(lambda theta: source.model.forward(theta, x), (theta0,), (z,))
        return ((outputs + moved - y) ** 2).sum() / (2 * len(x))

    own = jax.vmap(jax.value_and_grad(loss), (0, 0, 0, None))

    @jax.jit
    def losses(x, y, theta0, W, step_size):
        def step(z, _):
            values, gradients = own(z, x, y, theta0)
            return W @ z - step_size * gradients, values

        return jax.lax.scan(step, jnp.zeros((stored.AGENTS, theta0.size)), length=stored.STEPS + 1)[1]

    return partial(losses, jnp.asarray(agents.x), jnp.asarray(agents.y), theta0)


def test_what_is_stored_is_what_the_page_offers():
    page = (stored.FOLDER.parents[2] / "lib/peerflow/assets/explorer/page.js").read_text()
    for name in stored.SOURCES:
        assert f"{name}: " in page and (stored.FOLDER / f"{name}.js").exists()
    assert {path.stem for path in stored.FOLDER.iterdir()} == set(stored.SOURCES)


@pytest.mark.parametrize("name", stored.SOURCES)
def test_a_problem_has_its_runs(name):
    kept = read(name)
    assert set(kept) == {"problem", "training", "step_size", "horizon"}
    have = [(run["algorithm"], len(run["edges"]), run["step_size"]) for run in kept["training"]]
    links = {"cycle": 8, "star": 7, "complete": 28}
    step_size = stored.SOURCES[name].step_size
    assert have == [(rule, links[graph], step_size) for graph in stored.GRAPHS for rule in ("DGD", "ATC", "CTA")]
    assert kept["problem"]["rank"] == stored.SOURCES[name].directions
    # Nothing curves downwards, to rounding, or a prediction would run away at last.
    curvature = unpacked(kept["problem"])[0]
    assert np.linalg.eigvalsh(curvature).min() > -1e-6 * np.linalg.eigvalsh(curvature).max()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the tool writes, by itself, with all of the compiler's optimizations; the digits would take a minute."""
    folder = tmp_path_factory.mktemp("written")
    left = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run([sys.executable, TOOLS / "stored.py", folder, "moons", "mnist"], env=left, check=True)
    return folder


@pytest.mark.parametrize("name", ["moons", "mnist"])
def test_the_tool_writes_what_is_stored(name, written):
    fresh, kept = read(name, written), read(name)
    for one, other in zip(fresh["training"], kept["training"], strict=True):
        assert {k: v for k, v in one.items() if k != "losses"} == {k: v for k, v in other.items() if k != "losses"}
        losses = [np.frombuffer(base64.b64decode(run["losses"]), "<f4") for run in (one, other)]
        np.testing.assert_allclose(*losses, rtol=SAME)
    for count in (0, 10, 200):
        losses = [iterated(each["problem"], CYCLE, each["step_size"], count) for each in (fresh, kept)]
        np.testing.assert_allclose(*losses, rtol=SAME, atol=SAME * losses[0].max())


@pytest.mark.parametrize("name", stored.SOURCES)
@pytest.mark.parametrize(("graph", "share"), [(nx.cycle_graph, 1.0), (nx.path_graph, 0.3)])
def test_a_stored_problem_is_as_accurate_as_it_says(name, graph, share):
    kept, counts = read(name), [0, 1, 5, 20, 100, 200]
    W, step_size = mixing.metropolis_hastings(graph(stored.AGENTS)), share * kept["step_size"]
    expected = np.asarray(linear_steps(name)(jnp.asarray(W), jnp.asarray(step_size)))[counts]
    shown = np.stack([iterated(kept["problem"], W, step_size, count) for count in counts])
    assert np.abs(shown / expected - 1).max() < stored.LOST[name]


@pytest.mark.parametrize("name", stored.SOURCES)
def test_real_training_is_near_its_prediction(name):
    kept = read(name)
    run = kept["training"][0]
    losses = np.frombuffer(base64.b64decode(run["losses"]), "<f4").reshape(-1, stored.AGENTS)
    shown = np.stack([iterated(kept["problem"], CYCLE, run["step_size"], count) for count in run["steps"]])
    assert np.abs(shown / losses - 1).max() < 2 * stored.LOST[name] + 2e-3


def test_one_changed_coefficient_is_noticed():
    kept = read("moons")
    numbers = np.frombuffer(base64.b64decode(kept["problem"]["data"]), "<f4").copy()
    numbers[0] *= 1.01
    changed = dict(kept["problem"], data=base64.b64encode(numbers.tobytes()).decode())
    same = [iterated(problem, CYCLE, 1.0, 5) for problem in (kept["problem"], changed)]
    assert np.abs(same[1] / same[0] - 1).max() > SAME
