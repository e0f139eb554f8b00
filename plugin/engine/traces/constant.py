"""The eligibility trace of a trained constant: time constants, thresholds and the like.

A constant is a drive whose input is always 1, equations (35) and (36) of docs/mathematics.md. Its trace has one number
per neuron and state, so it is kept in full whatever is kept of the traces of weights.
"""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.engine.graph import Graph
from etrax.engine.sources import TrainedConstant

from .base import Trace

__all__ = ["ConstantTrace", "UnkeptConstantTrace"]


class ConstantTrace(Trace):
    """The trace of one trained constant, ``{state: (pop rows, size)}``.

    Parameters
    ----------
    graph : Graph
        The model's populations and kinds.
    constant : TrainedConstant
        What is trained.
    """

    def __init__(self, graph: Graph, constant: TrainedConstant):
        self.constant = constant
        self.layer = None
        self.drive = constant.drive
        self.population = graph.populations[constant.population]
        self.kinds = graph.structures[constant.population].trace.get(self.drive, {})
        self.indices = [graph.states.index(s) for s in constant.params.values()]
        self.shape = (self.population.rows, self.population.size)
        self.dtype = jnp.result_type(u.get_mantissa(self.population.hidden[0].state.value))

    def zeros(self) -> dict[str, Any]:
        """See `Trace.zeros`."""
        return {state: jnp.zeros(self.shape, self.dtype) for state in self.kinds}

    def advance(self, held, M0, F, x=None) -> dict[str, Any]:
        """See `Trace.advance`; ``F`` is summed over time, and there is no input."""
        return {
            s: jnp.broadcast_to(F[s], self.shape) + sum(M0[s, k] * held[k] for k in self.kinds if (s, k) in M0)
            for s in self.kinds
        }

    def gradient(self, values, x, credit) -> dict[int, Any]:
        """Gradient of the parameters from the steps of a chunk: ``credit`` is ``sum_t f_t . a_t``, ``(pop rows, size)``."""
        params = {i: values[i] for i in self.indices}
        _, pullback = jax.vjp(lambda p: self.constant.value({**values, **p})[1], params)
        return pullback(jnp.sum(credit, 0).astype(self.dtype))[0]

    def carried(self, values, held, back) -> dict[int, Any]:
        """See `Trace.carried`."""
        terms = [back[s] * held[s] for s in self.kinds if s in back]
        return self.gradient(values, None, sum(terms, jnp.zeros(self.shape, self.dtype)))

    def dense(self, held) -> dict[str, dict[str, jax.Array]]:
        """See `Trace.dense`."""
        return {state: {"one": value} for state, value in held.items()}

    def like_weight(self, item, state: brainstate.State, unit: u.Unit):
        """One state's trace with respect to the parameter behind the constant, in the shape of the state."""
        (index,), weight = self.indices, state.value
        ones = jax.tree.map(jnp.ones_like, weight)
        _, factor = jax.jvp(lambda w: self.constant.value({index: w})[1], (weight,), (ones,))
        value = (item["one"] * factor).reshape(*self.population.batch, *self.population.varshape)
        return u.maybe_decimal(u.Quantity(value, unit=unit / u.get_unit(weight)))

    def __str__(self) -> str:
        return ", ".join(f"{state} one per neuron" for state in self.kinds)


class UnkeptConstantTrace(ConstantTrace):
    """That of a constant, cut at the border of the chunk: only what its steps add is formed, and it is not kept."""

    def zeros(self) -> dict[str, Any]:
        """See `Trace.zeros`."""
        return {}

    def advance(self, held, M0, F, x=None) -> dict[str, Any]:
        """See `Trace.advance`."""
        return {s: jnp.broadcast_to(F[s], self.shape) for s in self.kinds}

    def keep(self, held) -> dict[str, Any]:
        """See `Trace.keep`."""
        return {}

    def carried(self, values, held, back) -> dict[int, Any]:
        """See `Trace.carried`."""
        return super().carried(values, held, {s: a for s, a in back.items() if s in held})

    def __str__(self) -> str:
        return "none"
