"""The paper's equations as printed, in plain numpy with the full stacked parameters: slow, literal, independent.

Nothing here calls the library but for the rules' names.
"""

from functools import partial

import numpy as np
import scipy.linalg
import scipy.special

from peerflow.methods import ATC, CTA, DGD

RULES = {"DGD": DGD, "ATC": ATC, "CTA": CTA}


def affine(theta, x, *, outputs):
    """Return w^T x + b, (15), output by output."""
    inputs = x.shape[1]
    columns = [x @ theta[m * inputs : (m + 1) * inputs] + theta[outputs * inputs + m] for m in range(outputs)]
    return np.stack(columns, axis=1)


def network(theta, x, *, sizes, activation, w_std, b_std):
    """Return (1) with its scales, neuron by neuron; theta may be complex."""
    act = {
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "tanh": np.tanh,
        "relu": lambda z: z * (z.real > 0),
        "erf": scipy.special.erf,
    }[activation]
    values, at = list(x.T), 0
    for layer in range(len(sizes) - 1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        biases = theta[at + n_in * n_out : at + n_in * n_out + n_out]
        sums = []
        for neuron in range(n_out):
            weights = theta[at + neuron * n_in : at + (neuron + 1) * n_in]
            products = sum(weight * value for weight, value in zip(weights, values, strict=True))
            sums.append(w_std / np.sqrt(n_in) * products + b_std * biases[neuron])
        values = sums if layer == len(sizes) - 2 else [act(z) for z in sums]
        at += n_in * n_out + n_out
    return np.stack(values, axis=1)


def jacobian(f, theta):
    """Differentiate f's flattened outputs by complex steps, which are exact to rounding."""
    columns = [f(theta + 1e-30j * direction).imag.reshape(-1) / 1e-30 for direction in np.eye(len(theta))]
    return np.stack(columns, axis=1)


def flow(name, W, jacobians, f0, y, theta0, gain):
    """Return A and u of (12a), (12b) or (12c); ``gain`` is eta/(DQ), or eta/D for the local objective."""
    identity = np.eye(len(theta0))
    mix = np.kron(W, identity)
    mix_hat = np.kron(W - np.eye(len(W)), identity)
    df = scipy.linalg.block_diag(*jacobians)
    psi0 = df.T @ df
    bracket = df.T @ (f0 - y) - psi0 @ np.tile(theta0, len(W))
    return {
        "DGD": (mix_hat - gain * psi0, -gain * bracket),
        "ATC": (mix_hat - gain * mix @ psi0, -gain * mix @ bracket),
        "CTA": (mix_hat - gain * psi0 @ mix, -gain * bracket),
    }[name]


def solve_flow(A, u, start, times):
    """Return (14) at these times: the exponential of the augmented matrix carries the constant along."""
    augmented = np.block([[A, u[:, None]], [np.zeros((1, len(u) + 1))]])
    start = np.append(start, 1.0)
    return np.stack([(scipy.linalg.expm(t * augmented) @ start)[:-1] for t in times])


def iterate(name, W, gradient, theta, step_size, steps):
    """Follow (4), (5) or (6) agent by agent and neighbour by neighbour.

    ``gradient(q, theta_q)`` is agent q's local gradient. Return the parameters at every step, (steps+1, Q, P).
    """
    Q = len(W)
    history = [np.array(theta)]

    def mixed(vectors, q):
        return sum(W[q, r] * vectors[r] for r in range(Q) if W[q, r] != 0)

    for _ in range(steps):
        now = history[-1]
        if name == "DGD":
            after = [mixed(now, q) - step_size * gradient(q, now[q]) for q in range(Q)]
        elif name == "ATC":
            adapted = [now[r] - step_size * gradient(r, now[r]) for r in range(Q)]
            after = [mixed(adapted, q) for q in range(Q)]
        else:
            psi = [mixed(now, q) for q in range(Q)]
            after = [psi[q] - step_size * gradient(q, psi[q]) for q in range(Q)]
        history.append(np.array(after))
    return np.array(history)


class Literal:
    """A method as its authors write it, one step after the other, for the stacked gradient of all agents.

    ``matrices`` are the mixing matrices of a period; ``begin`` and ``go`` are the first step and every other, on the
    variables that the authors use, parameters first.
    """

    def __init__(self, matrices, gradient, step_size):
        self.matrices = np.reshape(matrices, (-1, *np.shape(matrices)[-2:]))
        self.gradient, self.eta = gradient, step_size

    def follow(self, theta, steps):
        """Return the parameters at every step, (steps+1, Q, P)."""
        history, state = [np.array(theta)], None
        for k in range(steps):
            W = self.matrices[k % len(self.matrices)]
            state = self.begin(W, history[0]) if k == 0 else self.go(W, *state)
            history.append(state[0])
        return np.array(history)

    def linear(self, W, shape):
        """Return the matrix of ``go`` for a linear gradient, column by column."""
        size = shape[0] * shape[1]
        columns = []
        for unit in np.eye(size * self.variables):
            state = self.go(W, *unit.reshape(self.variables, *shape))
            columns.append(np.ravel(state))
        return np.stack(columns, axis=1)


class GradientTracking(Literal):
    """X and Y."""

    variables = 2

    def begin(self, W, x):
        return self.go(W, x, None)

    def go(self, W, x, y):
        """Y tracks the mean gradient at X; both are those after a step."""
        y = self.gradient(x) if y is None else y
        new = W @ (x - self.eta * y)
        return new, W @ y + self.gradient(new) - self.gradient(x)


class DIGing(GradientTracking):
    def go(self, W, x, y):
        y = self.gradient(x) if y is None else y
        new = W @ x - self.eta * y
        return new, W @ y + self.gradient(new) - self.gradient(x)


class AugDGM(GradientTracking):
    def go(self, W, x, y):
        y = self.gradient(x) if y is None else y
        new = W @ (x - self.eta * y)
        return new, W @ (y + self.gradient(new) - self.gradient(x))


class ExactDiffusion(Literal):
    """Adapt, correct, combine, with the last adapted estimate kept."""

    variables = 2

    def begin(self, W, x):
        return self.go(W, x, x)

    def go(self, W, x, adapted):
        V = (np.eye(len(W)) + W) / 2
        new = x - self.eta * self.gradient(x)
        return V @ (new + x - adapted), new


class D2(Literal):
    """The last parameters and gradient are kept."""

    variables = 3

    def begin(self, W, x):
        return W @ (x - self.eta * self.gradient(x)), x, self.gradient(x)

    def go(self, W, x, old, slope):
        new = W @ (2 * x - old - self.eta * (self.gradient(x) - slope))
        return new, x, self.gradient(x)


class EXTRA(D2):
    def begin(self, W, x):
        return W @ x - self.eta * self.gradient(x), x, self.gradient(x)

    def go(self, W, x, old, slope):
        identity = np.eye(len(W))
        new = (identity + W) @ x - (identity + W) / 2 @ old - self.eta * (self.gradient(x) - slope)
        return new, x, self.gradient(x)


class HeavyBall(Literal):
    """Every agent's velocity, and the step of the rule of this name with it."""

    variables = 2

    def __init__(self, name, beta, *others):
        super().__init__(*others)
        self.name, self.beta = name, beta

    def begin(self, W, x):
        return self.go(W, x, np.zeros_like(x))

    def go(self, W, x, v):
        x = W @ x if self.name == "CTA" else x
        v = self.beta * v + self.eta * self.gradient(x)
        return {"DGD": W @ x - v, "ATC": W @ (x - v), "CTA": x - v}[self.name], v


LITERAL = {each.__name__: each for each in (GradientTracking, DIGing, AugDGM, ExactDiffusion, D2, EXTRA)}
LITERAL |= {f"{name} with momentum": partial(HeavyBall, name, 0.6) for name in RULES}


def mean_loss(f, y):
    """Return (1/2D) sum ||f - y||^2, sample by sample."""
    return sum(float(np.dot(error, error)) / 2 for error in f - y) / len(y)


def affine_gradient(theta, x, slopes):
    """Return the affine model's gradient of a mean loss whose derivative in each output is ``slopes``."""
    total = np.zeros_like(theta)
    for sample, slope in zip(x, slopes, strict=True):
        total += np.concatenate([np.outer(slope, sample).reshape(-1), slope])
    return total / len(x)


def backpropagate(theta, x, y, *, width, w_std, b_std):
    """Return the gradient of the mean squared loss of a sigmoid network with one hidden layer, by hand."""
    inputs, outputs, D = x.shape[1], y.shape[1], len(x)
    cut = np.cumsum([width * inputs, width, outputs * width])
    W1, b1, W2, b2 = np.split(theta, cut)
    W1, W2 = W1.reshape(width, inputs), W2.reshape(outputs, width)
    s1, s2 = w_std / np.sqrt(inputs), w_std / np.sqrt(width)
    hidden = 1 / (1 + np.exp(-(s1 * x @ W1.T + b_std * b1)))
    error = s2 * hidden @ W2.T + b_std * b2 - y
    back = s2 * (error @ W2) * hidden * (1 - hidden)
    parts = (s1 * back.T @ x, b_std * back.sum(0), s2 * error.T @ hidden, b_std * error.sum(0))
    return np.concatenate([part.reshape(-1) for part in parts]) / D
