"""Is a far horizon cheap: 10^6 steps of Figure 2's setting in the time of few?

The step-by-step linear iteration is compiled, and runs in the Jacobian's own singular directions, down
to 1e-11 of the largest. Training for so long is extrapolated from the time of 200 steps.
"""

import moons
import numpy as np
import timing

from peerflow import ATC, CTA, DGD, linearize, predict, train

QUESTION = "10^6 steps, linearize and predict"
COUNTS = np.array([0, 1, 10, 100, 1000, 10_000, 100_000, 1_000_000])
STEPS = 200


def step_by_step(W, whole, step_size):
    """Return each algorithm's losses after COUNTS steps, (3, counts, agents), from one compiled loop."""
    import jax
    import jax.numpy as jnp

    D, P = whole.jacobians.shape[1:]
    _, s, basis = np.linalg.svd(whole.jacobians.reshape(-1, P), full_matrices=False)
    # What is dropped has moved by less than 1e-15 of the fastest direction's scale after so many steps.
    basis = basis[s > 1e-11 * s[0]]
    features = whole.jacobians @ basis.T
    psi = step_size / D * np.einsum("qir,qis->qrs", features, features)
    pull = step_size / D * np.einsum("qir,qi->qr", features, whole.residuals[..., 0])

    def gradient(z):
        return jnp.einsum("qrs,qs->qr", psi, z) + pull

    def step(_, states):
        dgd, atc, cta = states
        mixed = W @ cta
        return W @ dgd - gradient(dgd), W @ (atc - gradient(atc)), mixed - gradient(mixed)

    run = jax.jit(lambda states, steps: jax.lax.fori_loop(0, steps, step, states))
    states, reached = (jnp.zeros_like(pull),) * 3, []
    for steps in np.diff(COUNTS, prepend=0):
        states = run(states, steps)
        reached.append(np.stack(states))
    moved = np.stack(reached, axis=1)
    return whole.losses(moved @ basis)


def rows():
    model, agents, theta0, W = moons.problem()
    methods = {"DGD": DGD(W), "ATC": ATC(W), "CTA": CTA(W)}

    def prediction(name):
        # As in moons.py, residuals in the worst case; losses have to be right to 1e-8 below.
        lin = linearize(model, agents, theta0, accuracy=1e-4, steps=COUNTS[-1], step_size=moons.STEP_SIZE)
        return predict(methods[name], lin, step_size=moons.STEP_SIZE).after(COUNTS).losses

    def training(name):
        return train(methods[name], model, agents, theta0, step_size=1.0, steps=STEPS, final_only=True)

    contenders = {name: lambda n=name: prediction(n) for name in methods}
    contenders |= {f"{name} step": lambda n=name: training(n) for name in methods}
    taken = timing.race(contenders, units={f"{name} step": STEPS for name in methods}, seconds=30)
    seconds, expected = timing.once(lambda: step_by_step(W, moons.linear(agents, theta0), moons.STEP_SIZE))
    for name, losses in zip(methods, expected, strict=True):
        fields = taken.ratio(f"{name} step", name)
        yield timing.Row(
            QUESTION,
            name,
            **{field: value * COUNTS[-1] for field, value in fields.items()},
            unit="x training",
            goal=1e4,
            at_least=True,
            error=timing.difference(prediction(name), losses),
            allowed=1e-8,
            note=f"training extrapolated from 200 steps; {taken.best(name):.2g} s, "
            f"all three step by step, compiled, {seconds:.0f} s",
        )


if __name__ == "__main__":
    timing.report(rows())
