"""The whole eligibility trace."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from etrax.contract.jacobian import Kind
from etrax.engine.graph import Graph
from etrax.engine.layer import Layer
from etrax.engine.sources import Connection

from .base import Carry, Trace

__all__ = ["Dense"]


class Dense(Layer, Carry):
    """The whole trace: ``{state: {"x": array, "one": array}}``, ``x`` for the weights and ``one`` for a bias.

    ``x`` has shape ``(rows, I, N)``, or ``(rows, non-zeros)`` for a sparse layer. Where ``M_t f_t`` is the same
    for all neurons (kind *uniform*), it is the filtered input itself, of shape ``(rows, I)``. The trace of a bias is that of an input that is always 1.
    """

    def __init__(self, graph: Graph, connection: Connection, dtype=None):
        super().__init__(graph, connection)
        self.check_affine()
        self.stored = self.dtype if dtype is None else jnp.dtype(dtype)

    def zeros(self) -> Trace:
        """The trace at the start of time."""
        out = {}
        for state, kind in self.kinds.items():
            uniform = kind is Kind.UNIFORM
            shape = (self.rows, self.in_size) if uniform else (self.rows, *self.weight_shape)
            out[state] = {"x": jnp.zeros(shape, self.stored)}
            if self.bias:
                out[state]["one"] = jnp.zeros(() if uniform else (self.rows, self.out_size), self.stored)
        return out

    def advance(self, eps, M0, F, x):
        """See `Carry.advance`."""
        new = jax.tree.map(jnp.add, self.formed({state: F[state] for state in self.kinds}, x), self.aged(eps, M0))
        return jax.tree.map(lambda leaf: leaf.astype(self.stored), new)

    def formed(self, F, x) -> Trace:
        """What steps add to the trace of the states in ``F``."""
        new = {}
        for state, value in F.items():
            if self.kinds[state] is Kind.UNIFORM:
                every = jnp.broadcast_to(value, x.shape[:2])  # row by row: the input need not be transposed
                new[state] = {"x": jnp.einsum("rt,rti->ri", every, x)} | ({"one": jnp.sum(value)} if self.bias else {})
                continue
            factor = self.over_time(value)
            new[state] = {"x": self.outer(x, factor)} | ({"one": jnp.sum(factor, 1)} if self.bias else {})
        return new

    def aged(self, eps, M0) -> Trace:
        """What is left of the trace of the states in ``eps`` after a time whose product of all ``D`` is ``M0``."""
        eps = jax.tree.map(lambda leaf: leaf.astype(self.dtype), eps)
        new: Trace = {}
        for state in eps:
            terms = []
            for k, old in eps.items():
                if (state, k) not in M0:
                    continue
                m = M0[state, k]
                if self.kinds[state] is Kind.UNIFORM:
                    terms.append(jax.tree.map(lambda leaf, m=m: m * leaf, old))
                    continue
                m = self.full(m)
                x = self.at_pre(old["x"]) if self.kinds[k] is Kind.UNIFORM else old["x"]
                terms.append({"x": x * self.at_post(m)} | ({"one": old["one"] * m} if self.bias else {}))
            new[state] = jax.tree.map(lambda *parts: sum(parts[1:], parts[0]), *terms)
        return new

    def carried(self, values, eps, back):
        """See `Carry.carried`."""
        eps = jax.tree.map(lambda leaf: leaf.astype(self.dtype), eps)
        rows: list[tuple] = []
        weights, bias = [], []
        for state, kind in self.kinds.items():
            if state not in back:
                continue
            a, item = back[state].reshape(self.rows, self.out_size), eps[state]
            if kind is Kind.UNIFORM and self.pattern is None:
                rows.append((item["x"], a))
                rows.append((jnp.zeros_like(item["x"]), (item["one"] - 1.0) * a))
                continue
            if kind is Kind.UNIFORM:
                weights.append(self.correlate(item["x"], a))
            else:  # sample by sample: as a matrix product the trace would be transposed, as one sum it is read badly
                sweep = (item["x"], self.at_post(a))
                zero = jnp.zeros(jnp.broadcast_shapes(*(leaf.shape[1:] for leaf in sweep)), self.dtype)
                weights.append(jax.lax.scan(lambda G, at: (G + at[0] * at[1], None), zero, sweep)[0])
            if self.bias:
                bias.append(jnp.sum(item["one"] * a, 0))
        grads = jax.tree.map(jnp.zeros_like, {i: values[i] for i in self.indices})
        if rows:
            x = jnp.stack([x for x, _ in rows], 1)
            grads = jax.tree.map(jnp.add, grads, self.gradient(values, x, jnp.stack([a for _, a in rows], 1)))
        if weights:
            G, b = sum(weights), sum(bias) if bias else jnp.zeros(self.out_size, self.dtype)
            grads = jax.tree.map(jnp.add, grads, self.effective(values, G, b))
        return grads

    def dense(self, eps) -> dict[str, dict[str, jax.Array]]:
        """See `Carry.dense`."""
        out = {}
        for state, item in eps.items():
            x = item["x"]
            if self.kinds[state] is Kind.UNIFORM:
                x = jnp.broadcast_to(self.at_pre(x), (self.rows, *self.weight_shape))
            full = {"x": x}
            if self.bias:
                full["one"] = jnp.broadcast_to(item["one"], (self.rows, self.out_size))
            out[state] = full
        return out

    def products(self) -> int:
        """See `Carry.products`."""
        return sum(kind > Kind.UNIFORM for kind in self.kinds.values())

    def __str__(self) -> str:
        size = "dense" if self.pre is None else "per synapse"
        if self.shared or (self.pre is not None and self.synapses == self.in_size == self.out_size):
            size = "per neuron"
        return ", ".join(f"{s} {'input only' if k is Kind.UNIFORM else size}" for s, k in self.kinds.items())
