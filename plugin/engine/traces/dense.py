"""The whole eligibility trace, equations (24), (26) and (29) of docs/mathematics.md."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from etrax.contract.jacobian import Kind
from etrax.engine.graph import Graph
from etrax.engine.sources import Connection

from .base import LayerTrace, TraceValue

__all__ = ["DenseTrace"]


class DenseTrace(LayerTrace):
    """The whole trace: ``{state: {"x": array, "one": array}}``, ``x`` for the weights and ``one`` for a bias.

    ``x`` has shape ``(rows, I, N)``, or ``(rows, non-zeros)`` for a sparse layer. Where ``M_t f_t`` is the same
    for all neurons (kind *uniform*), it is the filtered input itself, of shape ``(rows, I)``. The trace of a bias is that of an input that is always 1.
    """

    def __init__(self, graph: Graph, connection: Connection, dtype=None):
        super().__init__(graph, connection)
        self.layer.check_affine()
        self.stored = self.layer.dtype if dtype is None else jnp.dtype(dtype)

    def zeros(self) -> TraceValue:
        """The trace at the start of time."""
        out = {}
        for state, kind in self.kinds.items():
            uniform = kind is Kind.UNIFORM
            shape = (self.layer.rows, self.layer.in_size) if uniform else (self.layer.rows, *self.layer.weight_shape)
            out[state] = {"x": jnp.zeros(shape, self.stored)}
            if self.layer.bias:
                out[state]["one"] = jnp.zeros(() if uniform else (self.layer.rows, self.layer.out_size), self.stored)
        return out

    def advance(self, held, M0, F, x):
        """See `Trace.advance`."""
        formed = self.formed({state: F[state] for state in self.kinds}, x)
        new = jax.tree.map(jnp.add, formed, self.aged(held, M0))  # (26)
        return jax.tree.map(lambda leaf: leaf.astype(self.stored), new)

    def formed(self, F, x) -> TraceValue:
        """What steps add to the trace of the states in ``F``."""
        new = {}
        for state, value in F.items():
            if self.kinds[state] is Kind.UNIFORM:  # (29)
                every = jnp.broadcast_to(value, x.shape[:2])  # row by row: the input need not be transposed
                new[state] = {"x": jnp.einsum("rt,rti->ri", every, x)} | (
                    {"one": jnp.sum(value)} if self.layer.bias else {}
                )
                continue
            factor = self.layer.over_time(value)
            new[state] = {"x": self.layer.outer(x, factor)} | ({"one": jnp.sum(factor, 1)} if self.layer.bias else {})
        return new

    def aged(self, held, M0) -> TraceValue:
        """What is left of the trace of the states in ``held`` after a time whose product of all ``D`` is ``M0``."""
        held = jax.tree.map(lambda leaf: leaf.astype(self.layer.dtype), held)
        new: TraceValue = {}
        for state in held:
            terms = []
            for k, old in held.items():
                if (state, k) not in M0:
                    continue
                m = M0[state, k]
                if self.kinds[state] is Kind.UNIFORM:
                    terms.append(jax.tree.map(lambda leaf, m=m: m * leaf, old))
                    continue
                m = self.layer.full(m)
                x = self.layer.at_pre(old["x"]) if self.kinds[k] is Kind.UNIFORM else old["x"]
                terms.append({"x": x * self.layer.at_post(m)} | ({"one": old["one"] * m} if self.layer.bias else {}))
            new[state] = jax.tree.map(lambda *parts: sum(parts[1:], parts[0]), *terms)
        return new

    def carried(self, values, held, back):
        """See `Trace.carried`."""
        held = jax.tree.map(lambda leaf: leaf.astype(self.layer.dtype), held)
        rows: list[tuple] = []
        weights, bias = [], []
        for state, kind in self.kinds.items():
            if state not in back:
                continue
            a, item = back[state].reshape(self.layer.rows, self.layer.out_size), held[state]
            if kind is Kind.UNIFORM and self.layer.pattern is None:
                rows.append((item["x"], a))
                rows.append((jnp.zeros_like(item["x"]), (item["one"] - 1.0) * a))
                continue
            if kind is Kind.UNIFORM:
                weights.append(self.layer.correlate(item["x"], a))
            else:  # sample by sample: as a matrix product the trace would be transposed, as one sum it is read badly
                sweep = (item["x"], self.layer.at_post(a))
                zero = jnp.zeros(jnp.broadcast_shapes(*(leaf.shape[1:] for leaf in sweep)), self.layer.dtype)
                weights.append(jax.lax.scan(lambda G, at: (G + at[0] * at[1], None), zero, sweep)[0])
            if self.layer.bias:
                bias.append(jnp.sum(item["one"] * a, 0))
        grads = jax.tree.map(jnp.zeros_like, {i: values[i] for i in self.indices})
        if rows:
            x = jnp.stack([x for x, _ in rows], 1)
            grads = jax.tree.map(jnp.add, grads, self.gradient(values, x, jnp.stack([a for _, a in rows], 1)))
        if weights:
            G, b = sum(weights), sum(bias) if bias else jnp.zeros(self.layer.out_size, self.layer.dtype)
            grads = jax.tree.map(jnp.add, grads, self.layer.effective(values, G, b))
        return grads

    def dense(self, held) -> dict[str, dict[str, jax.Array]]:
        """See `Trace.dense`."""
        out = {}
        for state, item in held.items():
            x = item["x"]
            if self.kinds[state] is Kind.UNIFORM:
                x = jnp.broadcast_to(self.layer.at_pre(x), (self.layer.rows, *self.layer.weight_shape))
            full = {"x": x}
            if self.layer.bias:
                full["one"] = jnp.broadcast_to(item["one"], (self.layer.rows, self.layer.out_size))
            out[state] = full
        return out

    def products(self) -> int:
        """See `Trace.products`."""
        return sum(kind > Kind.UNIFORM for kind in self.kinds.values())

    def __str__(self) -> str:
        size = "dense" if self.layer.pre is None else "per synapse"
        if self.layer.shared or (
            self.layer.pre is not None and self.layer.synapses == self.layer.in_size == self.layer.out_size
        ):
            size = "per neuron"
        return ", ".join(f"{s} {'input only' if k is Kind.UNIFORM else size}" for s, k in self.kinds.items())
