"""Pictures show the numbers they are given, in the colours and styles the text names."""

import matplotlib
import networkx as nx
import numpy as np
import pytest
from rejection import check

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from peerflow import data, mixing, models, plots, stability
from peerflow.compare import compare
from peerflow.linearize import linearize
from peerflow.methods import ATC, DGD


@pytest.fixture(scope="module")
def comparison():
    agents = data.half_moons(agents=3, samples=4, seed=1)
    model = models.mlp(inputs=2, widths=(8,), outputs=1)
    lin = linearize(model, agents, model.init(0))
    return compare(DGD(mixing.metropolis_hastings(nx.path_graph(3))), lin, step_size=0.5, steps=5)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize(("kind", "attribute"), [("local", "losses"), ("global", "global_losses")])
@pytest.mark.parametrize(("xscale", "first"), [("linear", 0), ("log", 1)])
def test_curves_are_the_losses(comparison, kind, attribute, xscale, first):
    fig = plots.loss_curves({"path": comparison}, kind=kind, xscale=xscale)
    top, bottom = fig.axes
    observed, flow = getattr(comparison.run, attribute), getattr(comparison.flow, attribute)
    iteration = getattr(comparison.iteration, attribute)
    for q, (solid, dashed) in enumerate(zip(top.lines[::2], top.lines[1::2], strict=True)):
        assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
        assert solid.get_color() == dashed.get_color() == plots.agent_colours(3)[q]
        np.testing.assert_array_equal(solid.get_xdata(), np.arange(first, 6))
        np.testing.assert_array_equal(solid.get_ydata(), observed[first:, q])
        np.testing.assert_array_equal(dashed.get_ydata(), flow[first:, q])
    assert len(top.lines) == 6 and len(bottom.lines) == 6
    for q in range(3):
        for line, predicted, style in ((bottom.lines[q], flow, "--"), (bottom.lines[3 + q], iteration, ":")):
            assert line.get_linestyle() == style
            wanted = np.maximum(np.abs(predicted - observed) / observed, 1e-12)[1:, q]
            np.testing.assert_allclose(line.get_ydata(), wanted, rtol=1e-12)
    assert top.get_title() == "path" and bottom.get_xlabel() == "step k" and bottom.get_xscale() == xscale
    assert top.get_yscale() == "linear" and bottom.get_yscale() == "log"


def test_rounding_is_drawn_at_the_floor():
    agents = data.half_moons(agents=3, samples=4, seed=1)
    model = models.affine(inputs=2, outputs=1)
    lin = linearize(model, agents, np.zeros(model.size))
    iteration = compare(DGD(np.full((3, 3), 1 / 3)), lin, step_size=0.3, steps=5)
    bottom = plots.loss_curves({"affine": iteration}).axes[1]
    for line in bottom.lines[3:]:
        np.testing.assert_array_equal(line.get_ydata(), np.full(5, 1e-12))


def test_one_column_a_comparison(comparison):
    fig = plots.loss_curves({"one": comparison, "two": comparison})
    assert [ax.get_title() for ax in fig.axes[:2]] == ["one", "two"]


def test_contours_are_those_of_the_outputs(comparison):
    x = comparison.run.agents.x[0]
    levels = np.sort(comparison.run.outputs(x)[[0, 5], 1].mean(axis=(1, 2)))
    fig = plots.output_contours(comparison, x, agent=1, steps=[0, 5], levels=levels)
    assert [ax.get_title() for ax in fig.axes] == ["k = 0", "k = 5"]
    for ax, k in zip(fig.axes, (0, 5), strict=True):
        np.testing.assert_array_equal(np.stack(ax.lines[0].get_data(), axis=1), x)
        assert len(ax.collections) == 3
        for collection, source in zip(
            ax.collections, (comparison.run, comparison.flow, comparison.iteration), strict=True
        ):
            drawn = 0
            for level, path in zip(levels, collection.get_paths(), strict=True):
                if len(path.vertices) > 0:
                    drawn += 1
                    outputs = source.outputs(path.vertices)[k, 1, :, 0]
                    np.testing.assert_allclose(outputs, level, rtol=0, atol=2e-3)
            assert drawn > 0


@pytest.mark.parametrize("agents", [1, 8, 9, 40])
def test_every_agent_has_its_own_colour(agents):
    colours = [matplotlib.colors.to_hex(colour) for colour in plots.agent_colours(agents)]
    assert len(set(colours)) == agents


def test_bad_input(comparison):
    with pytest.raises(ValueError, match="kind must be one of 'local', 'global', got 'mean'"):
        plots.loss_curves({"path": comparison}, kind="mean")
    with pytest.raises(ValueError, match="xscale must be one of"):
        plots.loss_curves({"path": comparison}, xscale="symlog")
    with pytest.raises(ValueError, match="at least one"):
        plots.loss_curves({})
    with pytest.raises(ValueError, match="agents must be at least 1, got 0"):
        plots.agent_colours(0)
    check(lambda: plots.spectra([DGD], comparison.flow.lin, [0.1]), "method must be of type Method, got Rule")


def test_spectra_are_drawn_with_their_limits(comparison):
    lin, W = comparison.flow.lin, mixing.metropolis_hastings(nx.path_graph(3))
    steps = np.array([0.1, 1.0, 10.0])
    methods = [DGD(W, objective="global"), ATC(W)]
    fig = plots.spectra(methods, lin, steps)
    for ax, spectrum, time, edge in (
        (fig.axes[0], stability.spectral_radius, "discrete", 1.0),
        (fig.axes[1], stability.spectral_abscissa, "continuous", 0.0),
    ):
        lines = iter(ax.lines)
        assert next(lines).get_ydata() == [edge, edge]
        for method in methods:
            curve = next(lines)
            wanted = [spectrum(method, lin, step_size=step) for step in steps]
            assert curve.get_label() == method.name
            np.testing.assert_array_equal(curve.get_xdata(), steps)
            np.testing.assert_allclose(curve.get_ydata(), wanted, rtol=1e-12)
            limit = stability.step_size_limit(method, lin, time=time)
            if np.isfinite(limit):
                mark = next(lines)
                assert mark.get_xdata() == [limit, limit] and mark.get_color() == curve.get_color()
        assert next(lines, None) is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"agent": -1}, "agent must be at least 0, got -1"),
        ({"agent": 9}, "agent must be below 3, got 9"),
        ({"steps": [0, 99]}, "steps must be below 6, got 99"),
        ({"levels": []}, "levels must be two or more that increase"),
        ({"levels": [1.0, 0.0]}, "levels must be two or more that increase"),
        ({"x": np.zeros((3, 5))}, "x must have shape"),
    ],
)
def test_contours_need_what_is_there(comparison, change, match):
    x = comparison.run.agents.pooled()[0]
    given = {"x": x, "agent": 0, "steps": [0], "levels": [0.0, 1.0]} | change
    with pytest.raises(ValueError, match=match):
        plots.output_contours(comparison, given.pop("x"), **given)
