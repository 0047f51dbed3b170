"""Is `train` as fast as what one would write by hand: a numpy loop with its own backpropagation, or PyTorch?

Both loops take all agents' steps (4) in float64 and record every agent's loss at every step, as `train` does.
"""

import networkx as nx
import numpy as np
import plain
import timing

from peerflow import DGD, data, mixing, models, train

QUESTION = "train all agents"
AGENTS, WIDTHS, SAMPLES = (2, 8, 64), (16, 256, 4096), 200


def by_numpy(net, W, x, y, theta0, step_size, steps):
    """Train by (4) with batched products, backpropagation by hand and no more temporary arrays than needed."""
    Q, D, _ = x.shape
    theta, gradient = np.tile(theta0, (Q, 1)), np.empty((Q, len(theta0)))
    s1, s2 = net.scales
    losses = np.empty((steps + 1, Q))
    for step in range(steps + 1):
        W1, b1, W2, b2 = net.split(theta)
        hidden = x @ (-s1 * W1).transpose(0, 2, 1)
        hidden -= net.b_std * b1[:, None]
        np.exp(hidden, out=hidden)
        hidden += 1
        np.reciprocal(hidden, out=hidden)
        scaled = s2 * W2
        error = hidden @ scaled.transpose(0, 2, 1)
        error += net.b_std * b2[:, None] - y
        losses[step] = (error**2).sum(axis=(1, 2)) / (2 * D)
        if step == steps:
            break
        error *= step_size / D
        back = error @ scaled
        back *= hidden
        g1, c1, g2, c2 = net.split(gradient)
        np.matmul(error.transpose(0, 2, 1), hidden, out=g2)
        g2 *= s2
        np.subtract(1, hidden, out=hidden)
        back *= hidden
        np.matmul(back.transpose(0, 2, 1), x, out=g1)
        g1 *= s1
        np.sum(back, axis=1, out=c1)
        c1 *= net.b_std
        np.sum(error, axis=1, out=c2)
        c2 *= net.b_std
        theta = W @ theta
        theta -= gradient
    return losses


def by_torch(net, W, x, y, theta0, step_size, steps):
    """Train by (4), one agent after the other, with PyTorch's own gradients."""
    import torch

    W, x, y = (torch.from_numpy(np.asarray(array)) for array in (W, x, y))
    theta = torch.from_numpy(np.tile(theta0, (len(x), 1)))
    cuts = [net.width * net.inputs, net.width, net.outputs * net.width, net.outputs]
    s1, s2 = net.scales

    def risk(own, x, y):
        W1, b1, W2, b2 = torch.split(own, cuts)
        hidden = torch.sigmoid(x @ (s1 * W1.view(net.width, -1)).T + net.b_std * b1)
        error = hidden @ (s2 * W2.view(net.outputs, -1)).T + net.b_std * b2 - y
        return error.square().sum() / (2 * len(x))

    losses = torch.empty((steps + 1, len(x)), dtype=theta.dtype)
    for step in range(steps):
        gradient = torch.empty_like(theta)
        for q, start in enumerate(theta):
            own = start.detach().requires_grad_()
            risk_now = risk(own, x[q], y[q])
            losses[step, q] = risk_now.detach()
            (gradient[q],) = torch.autograd.grad(risk_now, own)
        theta = W @ theta - step_size * gradient
    losses[steps] = torch.stack([risk(*each) for each in zip(theta, x, y, strict=True)])
    return losses.numpy()


def compared(where, net, agents):
    """Yield the rows of one size: `train` in units of each loop's time."""
    model = models.mlp(inputs=net.inputs, widths=(net.width,), outputs=net.outputs)
    theta0, Q = np.asarray(model.init(0)), len(agents.x)
    W = mixing.metropolis_hastings(nx.cycle_graph(Q) if Q > 2 else nx.complete_graph(Q))
    given = net, W, agents.x, agents.y, theta0, 1.0
    taken, _ = timing.once(lambda: by_numpy(*given, 2))
    steps = int(np.clip(0.6 / taken, 2, 500))
    contenders = {
        "train": lambda: train(DGD(W), model, agents, theta0, step_size=1.0, steps=steps, final_only=True),
        "a numpy loop": lambda: by_numpy(*given, steps),
    }
    if timing.has("torch"):
        contenders["a PyTorch loop over agents"] = lambda: by_torch(*given, steps)
    else:
        yield timing.Row(QUESTION, where, None, unit="a PyTorch loop over agents", note="PyTorch is not installed")
    losses = contenders["train"]().losses
    times = timing.race(contenders, seconds=8)
    for peer in list(contenders)[1:]:
        error = timing.difference(losses, contenders[peer]())
        note = f"a step {times.best('train') / steps * 1e3:.3g} ms"
        fields = times.ratio("train", peer)
        yield timing.Row(QUESTION, where, **fields, unit=peer, goal=1, error=error, allowed=1e-12, note=note)


def rows():
    for Q in AGENTS:
        agents = data.half_moons(agents=Q, samples=SAMPLES)
        for width in WIDTHS:
            yield from compared(f"Q = {Q}, width {width}", plain.Network(2, width, 1), agents)
    draw = np.random.default_rng(0)
    images = data.AgentData(draw.random((8, 40, 64)), draw.random((8, 40, 10)))
    yield from compared("Q = 8, width 1024, 64 inputs, 10 outputs", plain.Network(64, 1024, 10), images)


if __name__ == "__main__":
    timing.report(rows())
