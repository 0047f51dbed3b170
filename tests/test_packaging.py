"""What `pip install` brings: one version, a core without pins or TensorFlow, and a wheel that runs on it alone."""

import ast
import email
import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import peerflow

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "lib" / "peerflow"
EXTRAS = {"losses", "checkpoints", "book", "ntk"}
# Drawing is all that these are for; they alone may import an extra when they are imported themselves.
PANEL = {"anywidget", "traitlets"}
DRAW = {"plots": {"matplotlib"}, "explorer": PANEL, "frames": PANEL}

PREDICTION = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())

import networkx as nx
import numpy as np
import peerflow
from peerflow import ATC, data, linearize, mixing, models, predict, train

x = np.random.default_rng(0).normal(size=(4, 3, 2))
agents = data.AgentData(x, x[..., :1] * x[..., 1:])
method = ATC(mixing.metropolis_hastings(nx.cycle_graph(4)))
model = models.mlp(inputs=2, widths=(512,), outputs=1)
theta0 = model.init(0)
predicted = predict(method, linearize(model, agents, theta0), step_size=0.1).after(range(4)).losses
trained = train(method, model, agents, theta0, step_size=0.1, steps=3).losses
np.testing.assert_allclose(predicted, trained, rtol=0.05)
assert trained[-1].mean() < trained[0].mean()
assert data.mnist_zeros_ones(agents=2, samples=2, seed=0).x.size
print(peerflow.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy: building leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(LIBRARY, folder / "lib" / "peerflow", ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=folder, check=True, capture_output=True)
    (built,) = (folder / "dist").glob("*.whl")
    return zipfile.ZipFile(built)


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def required(metadata, extra: str = "") -> dict[str, Requirement]:
    """Return what the core or an extra asks for, by name."""
    lines = map(Requirement, metadata.get_all("Requires-Dist"))
    found = [one for one in lines if (one.marker is None) == (not extra)]
    if extra:
        found = [one for one in found if one.marker.evaluate({"extra": extra})]
    return {canonicalize_name(one.name): one for one in found}


def test_the_wheel_holds_the_library_and_nothing_else(wheel):
    files = {name for name in wheel.namelist() if ".dist-info/" not in name}
    here = {str(path.relative_to(ROOT / "lib")) for path in LIBRARY.rglob("*") if path.is_file()}
    assert files == {name for name in here if "__pycache__" not in name}
    assert any("/assets/" in name for name in files)


def test_there_is_one_version(metadata):
    cited = [line for line in (ROOT / "CITATION.cff").read_text().splitlines() if line.startswith("version: ")]
    assert cited == [f"version: {peerflow.__version__}"]
    assert metadata["Version"] == peerflow.__version__


def test_the_core_is_small_and_holds_nobody_back(metadata):
    core = required(metadata)
    assert set(core) == {"jax", "jaxtyping", "networkx", "numpy", "scipy"}
    assert {one.operator for requirement in core.values() for one in requirement.specifier} == {">="}
    assert metadata["Requires-Python"] == ">=3.11"


def test_only_neural_tangents_is_pinned(metadata):
    assert set(metadata.get_all("Provides-Extra")) == EXTRAS
    operators = {e: {one.operator for r in required(metadata, e).values() for one in r.specifier} for e in EXTRAS}
    assert operators == {"losses": {">="}, "checkpoints": {">="}, "book": {">="}, "ntk": {"=="}}
    assert not {"tensorflow", "tf2jax"} & {name for extra in EXTRAS for name in required(metadata, extra)}


def provided(requirements) -> set[str]:
    """Return the modules that these distributions provide."""
    packages = importlib.metadata.packages_distributions()
    return {name for name, owners in packages.items() if {canonicalize_name(one) for one in owners} & set(requirements)}


@pytest.mark.parametrize("module", sorted(path.stem for path in LIBRARY.glob("*.py")))
def test_importing_a_module_needs_the_core_alone(metadata, module):
    """What an extra brings is imported by the function that uses it."""
    body = ast.parse((LIBRARY / f"{module}.py").read_text()).body
    names = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in body if isinstance(node, ast.ImportFrom)}
    outside = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"peerflow"}
    allowed = provided(required(metadata)) | DRAW.get(module, set())
    assert outside <= allowed


def test_a_prediction_and_a_training_need_the_core_alone(wheel, metadata, tmp_path):
    wheel.extractall(tmp_path)
    extras = {name for extra in EXTRAS for name in required(metadata, extra)} - set(required(metadata)) - {"peerflow"}
    blocked = {*provided(extras), "neural_tangents", "equinox", "tensorflow"}
    assert {"matplotlib", "IPython", "sklearn", "tqdm", "diffrax"} <= blocked
    done = subprocess.run(
        [sys.executable, "-c", PREDICTION.format(blocked=blocked)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parent == tmp_path / "peerflow"
