"""A recurrent layer of 1e5 neurons and 1e7 synapses: two chunks of gradient; prints what it took, as JSON.

Run by `test_layers.py` as a process of its own, because the peak of memory is that of a process.
"""

import json
import resource
import time

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import etrax
from etrax.neurons import LIF, LeakyReadout
from etrax.synapses import CUBA, AlignPostProj, Expon

N, FAN_OUT, T, CHUNK = 100_000, 100, 32, 16


class Net(brainstate.nn.Module):
    def __init__(self, rng):
        super().__init__()
        data = rng.normal(scale=0.1, size=N * FAN_OUT).astype(np.float32)
        matrix = u.sparse.CSR(
            (
                jnp.asarray(data) * u.mS,
                jnp.asarray(rng.integers(0, N, N * FAN_OUT, dtype=np.int32)),
                jnp.arange(0, N * FAN_OUT + 1, FAN_OUT, dtype=jnp.int32),
            ),
            shape=(N, N),
        )
        each = brainstate.nn.OneToOne(N, jnp.full(N, 4.0, jnp.float32) * u.mS)
        self.neu = LIF(N, tau=10 * u.ms)
        self.syn = AlignPostProj(comm=each, syn=Expon(N, tau=5 * u.ms), out=CUBA(), post=self.neu)
        self.loop = AlignPostProj(
            comm=brainstate.nn.SparseLinear(matrix), syn=Expon(N, tau=8 * u.ms), out=CUBA(), post=self.neu
        )
        self.out = LeakyReadout(N, 2, tau=10 * u.ms, pre=self.neu)

    def update(self, x):
        self.syn(x)
        self.loop(self.neu.get_spike())
        z = self.neu()
        return self.out(z), z


def main():
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    xs = jnp.asarray((rng.random((T, 1, N)) < 0.05).astype(np.float32))
    learner = etrax.compile(Net(rng), etrax.D_RTRL, xs[0], batch_size=1, seed=0)

    def step(x):
        out, z = learner(x)
        return jnp.mean((out - 1.0) ** 2), z.mean()

    grads, rate = learner.etrace_grad(xs, step_fn=step, chunk_size=CHUNK, has_aux=True)
    (weight,) = jax.tree.leaves(grads["loop", "comm", "weight"])
    result = {
        "rate": float(rate.mean()),
        "largest gradient": float(jnp.abs(weight).max()),
        "trace MiB": learner.report().trace_bytes / 2**20,
        "seconds": time.perf_counter() - start,
        "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    with brainstate.environ.context(dt=1 * u.ms):
        main()
