"""The factors of the last steps in place of a trace; or of none."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from etrax.contract.jacobian import Kind, matmul
from etrax.engine.graph import Graph
from etrax.engine.layer import Layer, per_row
from etrax.engine.sources import Connection

from .base import Carry, Trace

__all__ = ["Nothing", "Window"]


class Window(Layer, Carry):
    """The factors of the last ``M`` steps: inputs ``x_s`` and ``M_s f_s``, propagated to the present.

    Serves every layer with a VJP, since no trace of its parameters is formed. ``reason`` says why it was chosen
    in place of a dense trace.
    """

    def __init__(self, graph: Graph, connection: Connection, length: int, reason: str = ""):
        super().__init__(graph, connection)
        self.length = length
        self.reason = reason

    def zeros(self) -> Trace:
        """See `Carry.zeros`."""
        M, rows, size = self.length, self.population.rows, self.population.size
        shapes = {Kind.UNIFORM: (M,), Kind.PER_NEURON: (M, size), Kind.VARYING: (rows, M, size)}
        factors = {state: jnp.zeros(shapes[kind], self.dtype) for state, kind in self.kinds.items()}
        return {"x": jnp.zeros((self.rows, M, self.in_size), self.dtype), "F": factors}

    def advance(self, eps: Trace, M0, F, x) -> Trace:
        """See `Carry.advance`."""

        def newest(old, new):
            time = max(0, old.ndim - 2)
            both = jnp.concatenate([old, new], time)
            return jax.lax.slice_in_dim(both, both.shape[time] - self.length, None, axis=time)

        M0 = {key: value if jnp.ndim(value) < 2 else value[:, None] for key, value in M0.items()}
        spread = {state: per_row(value) for state, value in eps["F"].items()}
        aged = matmul(M0, {(state, "F"): value for state, value in spread.items()})
        factors = {
            s: newest(jnp.broadcast_to(aged[s, "F"], spread[s].shape).reshape(old.shape), F[s])
            for s, old in eps["F"].items()
        }
        return {"x": newest(eps["x"], x), "F": factors}

    def carried(self, values, eps: Trace, back):
        """See `Carry.carried`."""
        terms = [back[s][:, None] * per_row(value) for s, value in eps["F"].items() if s in back]
        if not terms:
            return super().carried(values, eps, back)
        return self.gradient(values, eps["x"], sum(terms[1:], terms[0]))

    def dense(self, eps: Trace) -> dict[str, dict[str, jax.Array]]:
        """See `Carry.dense`."""
        if not self.is_affine:
            raise ValueError(
                f"`comm` of {self.connection.name} is not affine in its input, so a window keeps its inputs and no trace of "
                "its parameters: only their gradient can be had."
            )
        out = {}
        for state, value in eps["F"].items():
            factor = self.over_time(value)
            out[state] = {"x": self.outer(eps["x"], factor), "one": jnp.sum(factor, 1)}
        return out

    def products(self) -> int:
        """See `Carry.products`; the product of a window is longer than the chunk's by ``M / K``."""
        return 1

    def __str__(self) -> str:
        return f"window of {self.length} steps" + (f" ({self.reason})" if self.reason else "")


class Nothing(Window):
    """Truncation at the border of the chunk: of the trace only the newest step is formed, and not kept."""

    def __init__(self, graph: Graph, connection: Connection):
        super().__init__(graph, connection, length=1)

    def zeros(self) -> Trace:
        """See `Carry.zeros`."""
        return {}

    def advance(self, eps: Trace, M0, F, x) -> Trace:
        """See `Carry.advance`."""
        newest = {s: value[:, -1:] if value.ndim == 3 else value[-1:] for s, value in F.items()}
        return {"x": x[:, -1:], "F": newest}

    def keep(self, eps: Trace) -> Trace:
        """See `Carry.keep`."""
        return {}

    def carried(self, values, eps: Trace, back):
        """See `Carry.carried`."""
        return super().carried(values, eps, back) if eps else Carry.carried(self, values, eps, back)

    def dense(self, eps: Trace) -> dict[str, dict[str, jax.Array]]:
        """See `Carry.dense`."""
        return {}

    def products(self) -> int:
        """See `Carry.products`."""
        return 0

    def __str__(self) -> str:
        return "none"
