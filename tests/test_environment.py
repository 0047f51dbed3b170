"""Pins agree with each other, and importing the package stays light."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import environment  # noqa: E402

PYTHONS = ("3.11", "3.12", "3.13")
# Groups that the lock does not hold.
LEFT_OUT = {"bench", "features"}


def lock_lines() -> list[str]:
    return (ROOT / "requirements.lock").read_text().splitlines()


def lock_pins() -> list[str]:
    """Return the lock's entries, each ``name==version`` with its marker."""
    return [line.removesuffix("\\").strip() for line in lock_lines() if line[:1].isalnum()]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def extras() -> list[str]:
    """Return what the extras ask for; one of them names another of this project."""
    lines = [line for extra in project()["project"]["optional-dependencies"].values() for line in extra]
    return [line for line in lines if not line.startswith("peerflow[")]


def requirements() -> list[str]:
    """Return what the project, its extras and its groups ask for; the lock holds no others than these groups."""
    tables = project()
    groups = [line for name, group in tables["dependency-groups"].items() if name not in LEFT_OUT for line in group]
    return [*tables["project"]["dependencies"], *extras(), *groups]


def on(python: str) -> dict[str, str]:
    """Return the marker environment of this Python on Linux."""
    return {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "os_name": "posix"}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("requirement", requirements())
def test_the_lock_satisfies_every_requirement_with_one_version(requirement, python):
    requirement = Requirement(requirement)
    pins = [Requirement(pin) for pin in lock_pins()]
    here = [
        pin for pin in pins
        if canonicalize_name(pin.name) == canonicalize_name(requirement.name)
        and (pin.marker is None or pin.marker.evaluate(on(python)))
    ]  # fmt: skip
    assert len(here) == 1
    (exact,) = here[0].specifier
    assert exact.operator == "==" and requirement.specifier.contains(exact.version)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_names_nothing_twice(python):
    pins = [Requirement(pin) for pin in lock_pins()]
    names = [canonicalize_name(pin.name) for pin in pins if pin.marker is None or pin.marker.evaluate(on(python))]
    assert len(names) == len(set(names)) > 100


def test_the_lock_holds_hashes_and_no_address():
    lines = lock_lines()
    entries = re.split(r"\n(?=\S)", "\n".join(lines))
    assert len(entries) == len(lock_pins())
    for entry in entries:
        assert re.fullmatch(r"\S+==\S+( ; .+?)?( \\\n    --hash=sha256:[0-9a-f]{64})+", entry), entry
    assert not [line for line in lines if "://" in line or line.startswith("-")]


@pytest.mark.parametrize("name", ["tensorflow", "tf2jax", "tensorflow-cpu", "keras"])
def test_the_lock_is_without_tensorflow(name):
    assert name not in [canonicalize_name(Requirement(pin).name) for pin in lock_pins()]


def test_environment_yml_is_the_lock_for_conda():
    """neural-tangents is left to postBuild, which installs it without the TensorFlow that it asks for."""
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    assert pip == [pin for pin in lock_pins() if not pin.startswith("neural-tangents==")]
    assert len(pip) == len(lock_pins()) - 1
    assert "pip" in entries
    (python,) = [entry for entry in entries if str(entry).startswith("python=")]
    version = python.removeprefix("python=")
    assert version in PYTHONS and SpecifierSet(project()["project"]["requires-python"]).contains(version)


def test_the_lock_is_for_the_pythons_tested_here(monkeypatch):
    """The library itself has no upper limit."""
    allowed = SpecifierSet(project()["project"]["requires-python"])
    assert [minor for minor in range(30) if allowed.contains(f"3.{minor}")][:3] == [11, 12, 13]
    for minor in range(8, 20):
        monkeypatch.setattr(environment.sys, "version_info", (3, minor, 1))
        monkeypatch.setattr(environment, "_make", lambda reason: None)
        monkeypatch.setattr(environment, "_unusable", lambda: "gone")
        assert (environment.main() is None) == (f"3.{minor}" in PYTHONS)


def test_the_lock_holds_the_oldest_jax_that_is_supported():
    (jax,) = [line for line in project()["project"]["dependencies"] if line.startswith("jax>=")]
    assert jax.replace(">=", "==") in lock_pins() and jax.replace(">=", "==") in extras()


def test_post_build_installs_what_environment_yml_leaves_out():
    text = (ROOT / "postBuild").read_text()
    assert "--no-deps --require-hashes --requirement requirements.lock" in text


def test_what_is_left_out_is_overridden_for_every_python():
    overrides = [Requirement(text) for text in project()["tool"]["uv"]["override-dependencies"]]
    assert {override.name for override in overrides} == {"tensorflow", "tf2jax", "rfc3987-syntax"}
    for override in overrides:
        assert isinstance(override.marker, Marker) and not any(override.marker.evaluate(on(p)) for p in PYTHONS)


def imported(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after this statement."""
    code = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


HEAVY = {"tensorflow", "neural_tangents", "sklearn", "matplotlib", "IPython", "tqdm", "diffrax"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import peerflow", HEAVY),
        ("import peerflow.plots", HEAVY - {"matplotlib"}),
        ("from peerflow.kernels import nt", {"tensorflow", "tf2jax"}),
    ],
)
def test_importing_stays_light(statement, absent):
    modules = imported(statement)
    assert {"peerflow", "jax"} <= modules
    assert not absent & modules


def test_the_library_declares_what_it_imports():
    files = (ROOT / "lib" / "peerflow").glob("*.py")
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    outside = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"peerflow"}
    providers = importlib.metadata.packages_distributions()
    needed = {canonicalize_name(providers[name][0]) for name in outside}
    lines = [*project()["project"]["dependencies"], *extras()]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    assert needed == declared
