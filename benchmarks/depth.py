"""How far the online gradient of the first layer is from backpropagation through time, by learner and chunk length.

Stacks of recurrent layers with the weights, data and loss of the other benchmarks, in float64. For each learner the
relative error ``|g - b| / |b|`` and the cosine of the first layer's gradient ``g`` with that of backpropagation ``b``.
"""

from __future__ import annotations

import argparse

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from cases import DT, Case, Data, Network, etrax_modules, loss

import etrax

__all__ = ["compare", "main"]


def compare(case: Case, chunks: list[int], seed: int = 0) -> list[tuple[str, float, float]]:
    """Rows (learner, relative error, cosine) for one network and its first layer."""
    drawn = Data(case, seed)
    weights, xs, ys = (
        jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), v) for v in (drawn.weights, drawn.xs, drawn.ys)
    )

    def gradient(algorithm, chunk=None, **options):
        network = Network(etrax_modules(), case, weights)
        learner = etrax.compile(network, algorithm, xs[0], batch_size=case.batch, **options)
        first = {p: s for p, s in learner.param_states.items() if s is network.parameters()["layer0"]}

        def step(x, y):
            return loss(learner(x), y)

        grads = learner.etrace_grad(xs, ys, step_fn=step, chunk_size=chunk, weights=first)
        return np.ravel(jax.tree.leaves(jax.tree.map(u.get_mantissa, grads))[0])

    expected = gradient(etrax.BPTT)
    contenders = {
        "D = 0": (etrax.NoTrace, None, {}),
        "D-RTRL": (etrax.D_RTRL, None, {}),
        **{f"D-RTRL through depth, K = {K}": (etrax.D_RTRL, K, {"through_depth": True}) for K in chunks},
        "e-prop, random": (etrax.EProp, None, {"feedback": "random", "feedback_seed": seed}),
    }
    rows = []
    for name, (algorithm, chunk, options) in contenders.items():
        got = gradient(algorithm, chunk, **options)
        cosine = got @ expected / np.linalg.norm(got) / np.linalg.norm(expected)
        rows.append((name, float(np.linalg.norm(got - expected) / np.linalg.norm(expected)), float(cosine)))
    return rows


def main() -> None:
    """Print one table per depth and size of the recurrent weights."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--recurrent", type=float, nargs="+", default=[0.0, 0.25], help="size of the recurrent weights")
    parser.add_argument("--neuron", choices=("lif", "alif"), default="lif")
    parser.add_argument("--readout", choices=("plain", "leaky"), default="leaky")
    parser.add_argument("--neurons", type=int, default=32)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--chunks", type=int, nargs="+", help="default: 4, 16, 64 and all steps")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    brainstate.environ.set(dt=DT * u.ms, precision=64)
    chunks = [*(options.chunks or [4, 16, 64, options.steps])]
    for layers in options.layers:
        for recurrent in options.recurrent:
            case = Case(
                options.neuron,
                options.readout,
                inputs=40,
                neurons=options.neurons,
                batch=options.batch,
                steps=options.steps,
                layers=layers,
                recurrent=recurrent,
            )
            print(f"\n{case.name}, recurrent weights x {recurrent}\n")
            print(f"{'learner':<32} {'error':>10} {'cosine':>8}")
            for name, error, cosine in compare(case, chunks, options.seed):
                print(f"{name:<32} {error:>10.2e} {cosine:>8.4f}", flush=True)


if __name__ == "__main__":
    main()
