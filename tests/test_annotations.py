"""The annotations of the library, which the root's conftest has checked on every call: that it does, and their axes."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
from jaxtyping import TypeCheckError
from problems import CYCLE, affine
from rejection import unchecked

import peerflow
from peerflow import engines, factors
from peerflow.compare import compare
from peerflow.linearize import linearize
from peerflow.methods import DGD

SOURCES = sorted(Path(peerflow.__file__).parent.glob("*.py"))


@pytest.fixture(scope="module")
def lin():
    problem = affine()
    return linearize(problem.model, problem.agents, problem.theta0)


def test_a_wrong_shape_is_seen_where_it_goes_in(lin):
    with pytest.raises(TypeCheckError, match=r"parameters of peerflow\.factors\.cross_products"):
        factors.cross_products(lin.model, lin.theta0, lin.agents.x[0], lin.agents.x[0], np.ones(3))
    with pytest.raises(TypeCheckError, match=r"parameters of peerflow\.linearize\.Linearization\.__init__"):
        replace(lin, outputs0=lin.outputs0[:-1])


def test_a_wrong_shape_is_seen_where_it_comes_out(lin, monkeypatch):
    system = engines.System(DGD(CYCLE), np.ones(4), lin.curvature, lin.pull)
    monkeypatch.setattr(engines, "_some", lambda mesh, system, start, gaps: np.zeros((len(gaps), 4)))
    with pytest.raises(TypeCheckError, match=r"return value of peerflow\.engines\.recursion"):
        engines.recursion(system, [1, 2])


def test_a_wrong_type_is_seen_unless_nobody_checks(lin):
    with pytest.raises(TypeCheckError, match=r"parameters of peerflow\.compare\.compare"):
        compare(DGD, lin, step_size=0.1, steps=1)
    with unchecked(), pytest.raises(ValueError, match="method must be of type Method, got Rule"):
        compare(DGD, lin, step_size=0.1, steps=1)
    assert not jaxtyping.config.jaxtyping_disable


def axes(source):
    """Return the axes of all arrays that are annotated."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("Float", "Int", "Complex"):
            yield from ast.literal_eval(node.slice.elts[1]).split()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_axes_are_names(path):
    """A sum or a product is known only where its parts are, and in a NamedTuple nobody would notice."""
    assert [axis for axis in axes(path.read_text()) if not re.fullmatch(r"\*?[A-Za-z_]\w*", axis)] == []


def test_axes_are_found():
    assert list(axes('x: Float[np.ndarray, "steps+1 n"] | None')) == ["steps+1", "n"]
    assert sum(len(list(axes(path.read_text()))) for path in SOURCES) > 100
