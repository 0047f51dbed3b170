"""Training against plain loops written from (4), (5) and (6), with gradients derived by hand."""

import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
import reference
from problems import AGENTS, CYCLE, INPUTS, MATRICES, RING, agent_data, assert_close, network
from tqdm import tqdm

from peerflow import mixing, models, training
from peerflow.data import AgentData
from peerflow.flows import predict
from peerflow.linearize import linearize
from peerflow.methods import ATC, CTA, DGD
from peerflow.training import train

STEPS = 12


def affine_case(outputs):
    model, agents = models.affine(inputs=INPUTS, outputs=outputs), agent_data(outputs=outputs)

    def gradient(q, theta):
        slopes = reference.affine(theta, agents.x[q], outputs=outputs) - agents.y[q]
        return reference.affine_gradient(theta, agents.x[q], slopes)

    return model, agents, gradient, lambda theta, x: reference.affine(theta, x, outputs=outputs)


def mlp_case(outputs):
    scales = {"w_std": 1.3, "b_std": 0.4}
    model = models.mlp(inputs=INPUTS, widths=(5,), outputs=outputs, activation="sigmoid", **scales)
    agents = agent_data(outputs=outputs)

    def gradient(q, theta):
        return reference.backpropagate(theta, agents.x[q], agents.y[q], width=5, **scales)

    def formula(theta, x):
        return reference.network(theta, x, sizes=(INPUTS, 5, outputs), activation="sigmoid", **scales)

    return model, agents, gradient, formula


@pytest.fixture(scope="module", params=["affine-1", "affine-2", "mlp-1", "mlp-2"])
def case(request):
    kind, outputs = request.param.split("-")
    return {"affine": affine_case, "mlp": mlp_case}[kind](int(outputs))


@pytest.mark.parametrize(
    ("matrix", "objective", "common"),
    [("cycle", "local", True), ("cycle", "global", False), ("ring", "global", True), ("ring", "local", False)],
)
def test_training_is_the_plain_loop(case, rule, matrix, objective, common, rng):
    model, agents, gradient, formula = case
    W = MATRICES[matrix]
    theta0 = rng.normal(size=model.size if common else (AGENTS, model.size))
    run = train(rule(W, objective=objective), model, agents, theta0, step_size=0.4, steps=STEPS)

    start = np.tile(theta0, (AGENTS, 1)) if common else theta0
    step_size = 0.4 / AGENTS if objective == "global" else 0.4
    params = reference.iterate(rule.name, W, gradient, start, step_size, STEPS)
    x, y = agents.x, agents.y
    losses = [[reference.mean_loss(formula(row[q], x[q]), y[q]) for q in range(AGENTS)] for row in params]
    assert_close(run.params, params)
    assert_close(run.losses, losses)
    last = [np.mean([reference.mean_loss(formula(t, x[r]), y[r]) for r in range(AGENTS)]) for t in params[-1]]
    assert_close(run.global_losses[-1], last)
    assert run.global_losses.shape == (STEPS + 1, AGENTS)
    new = rng.normal(size=(3, INPUTS))
    outputs = run.outputs(new)
    assert_close(outputs[-1], [formula(theta, new) for theta in params[-1]])
    assert outputs.shape == (STEPS + 1, AGENTS, 3, model.outputs)


def softmax(f):
    return np.exp(f) / np.exp(f).sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("loss", "link", "value"),
    [
        ("cross_entropy", softmax, lambda p, y: -np.log(p[y == 1])),
        ("binary_cross_entropy", lambda f: 1 / (1 + np.exp(-f)),
         lambda p, y: -np.log(np.where(y == 1, p, 1 - p)).sum(1)),
    ],
)  # fmt: skip
def test_training_on_cross_entropies_is_the_plain_loop(loss, link, value, rule, rng):
    """For both, the derivative in the outputs is probability minus target."""
    labels = np.arange(AGENTS * 3).reshape(AGENTS, 3) % 3
    agents = AgentData(agent_data().x, np.eye(3)[labels])
    model, theta0 = models.affine(inputs=INPUTS, outputs=3), rng.normal(size=9)
    run = train(rule(RING), model, agents, theta0, step_size=0.7, steps=STEPS, loss=loss)

    def probabilities(q, theta):
        return link(reference.affine(theta, agents.x[q], outputs=3))

    def gradient(q, theta):
        return reference.affine_gradient(theta, agents.x[q], probabilities(q, theta) - agents.y[q])

    params = reference.iterate(rule.name, RING, gradient, np.tile(theta0, (AGENTS, 1)), 0.7, STEPS)
    losses = [[value(probabilities(q, row[q]), agents.y[q]).mean() for q in range(AGENTS)] for row in params]
    assert_close(run.params, params)
    assert_close(run.losses, losses)
    pooled = [np.mean([value(probabilities(r, t), agents.y[r]).mean() for r in range(AGENTS)]) for t in params[-1]]
    assert_close(run.global_losses[-1], pooled)


@pytest.fixture(scope="module")
def wide():
    return network(outputs=2)


def test_atc_is_w_times_cta(wide):
    """From a common start, also for a nonlinear network."""
    atc, cta = (train(a(RING), wide.model, wide.agents, wide.theta0, step_size=0.5, steps=20) for a in (ATC, CTA))
    assert_close(atc.params, RING @ cta.params)
    assert np.abs(np.diff(atc.params, axis=1)).max() > 1e-3  # the agents do differ


def test_atc_on_the_complete_graph_is_centralised_gradient_descent():
    model, agents, gradient, _ = mlp_case(2)
    W = mixing.metropolis_hastings(nx.complete_graph(AGENTS))
    theta0 = np.asarray(model.init(0))
    run = train(ATC(W), model, agents, theta0, step_size=0.5, steps=20)
    theta = theta0
    for k in range(1, 21):
        theta = theta - 0.5 * np.mean([gradient(q, theta) for q in range(AGENTS)], axis=0)
        assert_close(run.params[k], np.tile(theta, (AGENTS, 1)))


def test_an_affine_model_trains_as_its_discrete_prediction(rule):
    model, agents, _, _ = affine_case(2)
    theta0 = np.asarray(model.init(1))
    run = train(rule(CYCLE), model, agents, theta0, step_size=0.2, steps=100)
    iteration = predict(rule(CYCLE), linearize(model, agents, theta0), step_size=0.2).after(np.arange(101))
    assert_close(iteration.params, run.params)
    assert_close(iteration.losses, run.losses)
    assert_close(iteration.global_losses, run.global_losses)


def test_relabelling_agents_permutes_everything(wide, rule, rng):
    order = np.array([2, 0, 3, 1])
    theta0 = rng.normal(size=(AGENTS, wide.model.size))
    agents = AgentData(wide.agents.x[order], wide.agents.y[order])
    moved = train(rule(RING[np.ix_(order, order)]), wide.model, agents, theta0[order], step_size=0.5, steps=9)
    original = train(rule(RING), wide.model, wide.agents, theta0, step_size=0.5, steps=9)
    assert_close(moved.params, original.params[:, order])
    assert_close(moved.losses, original.losses[:, order])


def test_final_only_keeps_the_last_parameters_and_all_losses(wide):
    arguments = (DGD(CYCLE), wide.model, wide.agents, wide.theta0)
    whole = train(*arguments, step_size=0.5, steps=9)
    final = train(*arguments, step_size=0.5, steps=9, final_only=True)
    assert_close(final.params, whole.params[-1], tolerance=1e-14)
    assert_close(final.losses, whole.losses, tolerance=1e-14)
    assert_close(final.global_losses, whole.global_losses[-1], tolerance=1e-14)
    x = wide.agents.x[0]
    assert_close(final.outputs(x), whole.outputs(x)[-1], tolerance=1e-14)


@pytest.mark.parametrize(("chunk", "final_only"), [(1, False), (4, False), (4, True), (10, True)])
def test_scanning_in_chunks_changes_nothing(wide, monkeypatch, chunk, final_only):
    arguments = (DGD(CYCLE), wide.model, wide.agents, wide.theta0)
    options = {"step_size": 0.5, "steps": 10, "final_only": final_only}
    whole = train(*arguments, **options)
    monkeypatch.setattr(training, "_STEPS_A_SCAN", chunk)
    chunks = train(*arguments, **options)
    assert_close(chunks.params, whole.params, tolerance=1e-14)
    assert_close(chunks.losses, whole.losses, tolerance=1e-14)


@pytest.mark.parametrize("final_only", [False, True])
def test_no_steps_leave_the_start(wide, final_only):
    run = train(DGD(CYCLE), wide.model, wide.agents, wide.theta0, step_size=0.5, steps=0, final_only=final_only)
    start = np.tile(wide.theta0, (AGENTS, 1))
    assert_close(run.params, start if final_only else start[None], tolerance=0)
    assert run.losses.shape == (1, AGENTS)


def test_a_float32_start_gives_a_float32_run(wide, rule):
    arguments = (rule(RING), wide.model, wide.agents)
    single = train(*arguments, jnp.asarray(wide.theta0, jnp.float32), step_size=0.5, steps=9)
    assert single.params.dtype == single.losses.dtype == single.global_losses.dtype == np.float32
    assert single.outputs(wide.agents.x[0]).dtype == np.float32
    double = train(*arguments, wide.theta0, step_size=0.5, steps=9)
    assert double.params.dtype == np.float64
    assert_close(single.params, double.params, tolerance=1e-5)  # float32 has seven digits


def test_a_progress_bar_shows_only_when_asked(wide, monkeypatch, capsys):
    monkeypatch.setattr("tqdm.tqdm", lambda **options: tqdm(**options | {"delay": 0}))  # not after two seconds
    shown = {}
    for progress in (True, False, None):
        train(DGD(CYCLE), wide.model, wide.agents, wide.theta0, step_size=0.5, steps=3, progress=progress)
        shown[progress] = capsys.readouterr().err
    assert "DGD: 100%" in shown[True] and "3/3" in shown[True]
    assert shown[False] == shown[None] == ""
