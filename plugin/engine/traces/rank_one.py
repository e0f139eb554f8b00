"""The trace as one outer product."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from etrax.contract.jacobian import matmul
from etrax.engine.graph import Graph
from etrax.engine.sources import Connection

from .base import LayerTrace, Steps, TraceValue, collect

__all__ = ["RankOneTrace"]


class RankOneTrace(LayerTrace):
    """The trace as one outer product of low-passed factors, ES-D-RTRL: equations (32) to (34) of docs/mathematics.md.

    Wang et al. 2026, Nature Communications, doi 10.1038/s41467-026-68453-w.
    """

    def __init__(self, graph: Graph, connection: Connection, decay: float):
        super().__init__(graph, connection)
        self.layer.check_affine()
        self.decay = decay

    def zeros(self) -> TraceValue:
        """See `Trace.zeros`."""
        full = (self.layer.population.rows, self.layer.population.size)
        return {
            "x": jnp.zeros((self.layer.rows, self.layer.in_size), self.layer.dtype),
            "F": {state: jnp.zeros(full, self.layer.dtype) for state in self.kinds},
            "steps": jnp.zeros((), self.layer.dtype),
        }

    def needs_adjoint(self, through_time):
        """See `Trace.needs_adjoint`: learning signals of single steps meet the trace at once."""
        return through_time

    def learn(self, held, grads, found, values, asked):
        """See `Trace.learn`; what came before the chunk is in the filtered factors, unless credit goes through time."""
        new, filtered, credit = self._run(held, found.x, found.steps)
        if asked.own:
            grads = collect(grads, self.gradient(values, filtered, credit))
        elif asked.earlier:
            grads = collect(grads, self.carried(values, held, found.passed.back))
        return new, grads

    def _run(self, held: TraceValue, x, steps: Steps):
        """Advance over a chunk; returns the trace, filtered inputs and cotangents of the drive, ``(rows, time, ...)``."""
        alpha = self.decay

        def step(held, at):
            x, (L, (D, f)) = at
            drive = {s: value for (s, d), value in f.items() if d == self.drive}
            aged = matmul(D, {(s, "F"): value for s, value in held["F"].items()})
            factors = {
                s: jnp.broadcast_to(alpha * aged.get((s, "F"), 0.0) + (1 - alpha) * drive.get(s, 0.0), old.shape)
                for s, old in held["F"].items()
            }
            held = {"x": alpha * held["x"] + x, "F": factors, "steps": held["steps"] + 1}  # (32), (33)
            return held, (held["x"], self._cotangent(held, L))

        held, out = jax.lax.scan(step, held, (jnp.swapaxes(x, 0, 1), steps))
        return held, *jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), out)

    def _cotangent(self, held: TraceValue, back):
        zero = jnp.zeros((self.layer.population.rows, self.layer.population.size), self.layer.dtype)
        return sum((back[s] * value for s, value in held["F"].items() if s in back), zero) / self._correction(held)

    def _correction(self, held: TraceValue):
        return jnp.maximum(1.0 - self.decay ** held["steps"], 1e-8)  # (34)

    def carried(self, values, held: TraceValue, back):
        """See `Trace.carried`."""
        return self.gradient(values, held["x"][:, None], self._cotangent(held, back)[:, None])

    def dense(self, held: TraceValue) -> dict[str, dict[str, jax.Array]]:
        """See `Trace.dense`."""
        out = {}
        for state, value in held["F"].items():
            factor = value.reshape(self.layer.rows, self.layer.out_size) / self._correction(held)
            out[state] = {"x": self.layer.at_pre(held["x"]) * self.layer.at_post(factor), "one": factor}
        return out

    def __str__(self) -> str:
        return f"rank 1, decay {self.decay}"
