r"""What the library is held against: the same networks and algorithms in plain numpy, by other ways than its own.

The network is that of the paper's (1) with one hidden layer of sigmoids; its flat parameters are the first layer's
weights and biases, then the last layer's. The linear dynamics of all agents are solved with whole Jacobians or whole
kernels, never in a reduced basis.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Network:
    """The shape and the scales of a network with one hidden layer."""

    inputs: int
    width: int
    outputs: int
    w_std: float = 1.0
    b_std: float = 0.1

    def split(self, theta):
        """Return the weights and biases of both layers, of one parameter vector or of many."""
        cuts = np.cumsum([self.width * self.inputs, self.width, self.outputs * self.width])
        W1, b1, W2, b2 = np.split(theta, cuts, axis=-1)
        lead = theta.shape[:-1]
        return W1.reshape(*lead, self.width, self.inputs), b1, W2.reshape(*lead, self.outputs, self.width), b2

    @property
    def scales(self):
        """Return what multiplies the weights of both layers."""
        return self.w_std / self.inputs**0.5, self.w_std / self.width**0.5

    def hidden(self, theta, x):
        """Return the hidden layer's outputs on inputs (n, N)."""
        W1, b1, _, _ = self.split(theta)
        return sigmoid(self.scales[0] * x @ W1.T + self.b_std * b1)

    def forward(self, theta, x):
        """Return the outputs (n, M)."""
        _, _, W2, b2 = self.split(theta)
        return self.scales[1] * self.hidden(theta, x) @ W2.T + self.b_std * b2

    def jacobian(self, theta, x):
        """Return the Jacobian (n M, P), output by output of every sample."""
        n, M = len(x), self.outputs
        W2, h = self.split(theta)[2], self.hidden(theta, x)
        back = self.scales[1] * W2 * (h * (1 - h))[:, None]
        unit = np.broadcast_to(np.eye(M), (n, M, M))
        first = self.scales[0] * back[..., None] * x[:, None, None]
        last = self.scales[1] * unit[..., None] * h[:, None, None]
        parts = first, self.b_std * back, last, self.b_std * unit
        return np.concatenate([part.reshape(n * M, -1) for part in parts], axis=1)

    def kernel(self, theta, x):
        """Return the kernel (n M, n M), from the layers' own kernels: no Jacobian is formed."""
        n, M = len(x), self.outputs
        h, W2 = self.hidden(theta, x), self.split(theta)[2]
        back = (self.scales[1] * W2 * (h * (1 - h))[:, None]).reshape(n * M, self.width)
        first = self.scales[0] ** 2 * x @ x.T + self.b_std**2
        last = self.scales[1] ** 2 * h @ h.T + self.b_std**2
        return back @ back.T * np.kron(first, np.ones((M, M))) + np.kron(last, np.eye(M))


def sigmoid(z):
    """Return the logistic function, in place: with vectorized exponentials this is numpy's fastest."""
    np.negative(z, out=z)
    np.exp(z, out=z)
    z += 1
    return np.reciprocal(z, out=z)


def update(name: str, W, theta, gradient: Callable, step_size: float):
    """Return (4), (5) or (6) for all agents: ``gradient`` maps their parameters to their local gradients."""
    if name == "DGD":
        return W @ theta - step_size * gradient(theta)
    if name == "ATC":
        return W @ (theta - step_size * gradient(theta))
    mixed = W @ theta
    return mixed - step_size * gradient(mixed)


def squared(residuals):
    """Return the agents' losses from residuals (..., agents, samples, outputs)."""
    return (residuals**2).sum(axis=(-2, -1)) / (2 * residuals.shape[-2])


@dataclass(frozen=True)
class Linear:
    """The linear model of all agents with its whole Jacobian, one block (D M, P) for each agent."""

    jacobians: np.ndarray
    residuals: np.ndarray
    """f_0 - y, (agents, D, M)."""

    def losses(self, moved):
        """Return the agents' losses after moves (..., agents, P)."""
        outputs = np.einsum("qip,...qp->...qi", self.jacobians, moved, optimize=True)
        return squared(self.residuals + outputs.reshape(*outputs.shape[:-1], *self.residuals.shape[1:]))

    def gradient(self, moved):
        """Return the agents' local gradients after moves (agents, P)."""
        Q, D, _ = self.residuals.shape
        residuals = self.residuals.reshape(Q, -1, 1) + self.jacobians @ moved[..., None]
        return (self.jacobians.transpose(0, 2, 1) @ residuals)[..., 0] / D

    def iterate(self, name, W, step_size, steps):
        """Return the losses of the linear iteration at every step, from the common start."""
        moved = np.zeros((len(W), self.jacobians.shape[2]))
        losses = [self.losses(moved)]
        for _ in range(steps):
            moved = update(name, W, moved, self.gradient, step_size)
            losses.append(self.losses(moved))
        return np.array(losses)

    def flow(self, name, W, step_size, steps):
        """Return the losses of the flow (12) at times 0, 1, ..., by the exponential's Taylor series over each unit."""
        moved, still = (np.zeros((len(W), self.jacobians.shape[2])) for _ in range(2))
        push = update(name, W, still, self.gradient, step_size)
        losses = [self.losses(moved)]
        for _ in range(steps):
            term, order = update(name, W, moved, self.gradient, step_size) - moved, 1
            while np.abs(term).max() > 1e-18 * np.abs(push).max():
                moved = moved + term
                order += 1
                term = (update(name, W, term, self.gradient, step_size) - push - term) / order
            losses.append(self.losses(moved))
        return np.array(losses)


def dual(names, W, kernel, residuals, step_size, steps):
    r"""Return each algorithm's losses at every step of the linear iteration, (names, steps+1, agents), by kernel.

    Agent q stands at :math:`\theta_0 + J^\top a_q`, J the Jacobian on all agents' data, and only the kernel
    :math:`K = JJ^\top` appears.
    """
    Q, D, M = residuals.shape
    own = np.kron(np.eye(Q), np.ones(D * M))
    a, losses = np.zeros((len(names), Q, Q * D * M)), []
    for _ in range(steps + 1):
        outputs = (a.reshape(-1, Q * D * M) @ kernel).reshape(a.shape)
        losses.append([squared(residuals + each[own > 0].reshape(residuals.shape)) for each in outputs])

        for i, name in enumerate(names):
            # The kernel is applied once: at the average point, outputs are the outputs' average.
            known = W @ outputs[i] if name == "CTA" else outputs[i]
            slopes = own * (residuals.reshape(-1) + known) / D
            a[i] = update(name, W, a[i], lambda _, slopes=slopes: slopes, step_size)
    return np.array(losses).transpose(1, 0, 2)
