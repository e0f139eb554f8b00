"""The factors of the last steps in place of a trace; or of none."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from etrax.contract.jacobian import Kind, matmul
from etrax.engine.graph import Graph
from etrax.engine.layer import per_row
from etrax.engine.sources import Connection

from .base import LayerTrace, Trace, TraceValue

__all__ = ["UnkeptTrace", "WindowTrace"]


class WindowTrace(LayerTrace):
    """The factors of the last steps, brought to the present: equation (30) of docs/mathematics.md.

    Serves every layer with a VJP, since no trace of its parameters is formed. ``reason`` says why it was chosen
    in place of a dense trace.
    """

    def __init__(self, graph: Graph, connection: Connection, length: int, reason: str = ""):
        super().__init__(graph, connection)
        self.length = length
        self.reason = reason

    def zeros(self) -> TraceValue:
        """See `Trace.zeros`."""
        M, rows, size = self.length, self.layer.population.rows, self.layer.population.size
        shapes = {Kind.UNIFORM: (M,), Kind.PER_NEURON: (M, size), Kind.VARYING: (rows, M, size)}
        factors = {state: jnp.zeros(shapes[kind], self.layer.dtype) for state, kind in self.kinds.items()}
        return {"x": self.layer.no_inputs(M), "F": factors}

    def advance(self, held: TraceValue, M0, F, x) -> TraceValue:
        """See `Trace.advance`."""

        def newest(old, new):
            time = max(0, old.ndim - 2)
            both = jnp.concatenate([old, new], time)
            return jax.lax.slice_in_dim(both, both.shape[time] - self.length, None, axis=time)

        M0 = {key: value if jnp.ndim(value) < 2 else value[:, None] for key, value in M0.items()}
        spread = {state: per_row(value) for state, value in held["F"].items()}
        aged = matmul(M0, {(state, "F"): value for state, value in spread.items()})
        factors = {
            s: newest(jnp.broadcast_to(aged[s, "F"], spread[s].shape).reshape(old.shape), F[s])
            for s, old in held["F"].items()
        }
        return {"x": jax.tree.map(newest, held["x"], x), "F": factors}

    def carried(self, values, held: TraceValue, back):
        """See `Trace.carried`."""
        terms = [back[s][:, None] * per_row(value) for s, value in held["F"].items() if s in back]
        if not terms:
            return super().carried(values, held, back)
        return self.gradient(values, held["x"], sum(terms[1:], terms[0]))

    def dense(self, held: TraceValue) -> dict[str, dict[str, jax.Array]]:
        """See `Trace.dense`."""
        if self.layer.why_no_weights:
            raise ValueError(
                f"`comm` of {self.layer.connection.name} is {self.layer.why_no_weights}, so a window keeps its inputs and no trace of "
                "its parameters: only their gradient can be had."
            )
        out = {}
        for state, value in held["F"].items():
            factor = self.layer.over_time(value)
            out[state] = {"x": self.layer.outer(held["x"], factor), "one": jnp.sum(factor, 1)}
        return out

    def products(self) -> int:
        """See `Trace.products`; the product of a window is longer than the chunk's by ``M / K``."""
        return 1

    def __str__(self) -> str:
        return f"window of {self.length} steps" + (f" ({self.reason})" if self.reason else "")


class UnkeptTrace(WindowTrace):
    """Truncation at the border of the chunk: of the trace only the newest step is formed, and not kept."""

    def __init__(self, graph: Graph, connection: Connection):
        super().__init__(graph, connection, length=1)

    def zeros(self) -> TraceValue:
        """See `Trace.zeros`."""
        return {}

    def advance(self, held: TraceValue, M0, F, x) -> TraceValue:
        """See `Trace.advance`."""
        newest = {s: value[:, -1:] if value.ndim == 3 else value[-1:] for s, value in F.items()}
        return {"x": jax.tree.map(lambda a: a[:, -1:], x), "F": newest}

    def keep(self, held: TraceValue) -> TraceValue:
        """See `Trace.keep`."""
        return {}

    def carried(self, values, held: TraceValue, back):
        """See `Trace.carried`."""
        return super().carried(values, held, back) if held else Trace.carried(self, values, held, back)

    def dense(self, held: TraceValue) -> dict[str, dict[str, jax.Array]]:
        """See `Trace.dense`."""
        return {}

    def products(self) -> int:
        """See `Trace.products`."""
        return 0

    def __str__(self) -> str:
        return "none"
