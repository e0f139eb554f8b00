"""The eligibility trace of the parameters behind one drive, handed from one chunk of time to the next.

It obeys equation (26) of docs/mathematics.md for each state. What is kept of it between chunks is a choice:

========  =======================  ==========================================================
carry     memory per sample        exactness
========  =======================  ==========================================================
dense     W per state, or I        exact
window    M (I + N S)              exact up to the product of ``D`` over ``M`` steps
rank1     I + N S                  an approximation at every step (ES-D-RTRL)
none      0                        truncated at the chunk
========  =======================  ==========================================================

``W`` is the number of weights: ``I N``, or the non-zeros of a sparse layer, or ``N`` of an element-wise one.
A layer of no known `Pattern` is carried densely by its effective weights if it is affine in its input and has at
least a quarter as many parameters; any other is carried by a window in place of 'dense', and the report says so.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.contract.jacobian import Kind
from etrax.engine.adjoint import Passed
from etrax.engine.graph import Graph
from etrax.engine.layer import Layer
from etrax.engine.names import Drive
from etrax.engine.pure import Values
from etrax.engine.sources import Connection
from etrax.engine.structure import Blocks

__all__ = ["Asked", "Found", "LayerTrace", "Steps", "Trace", "TraceValue", "collect"]

TraceValue = dict[str, Any]  # what is kept of a trace: arrays, by state and by what they are


class Steps(NamedTuple):
    """What the steps of a chunk were for one population, over time: learning signals and Jacobian."""

    signals: dict[str, Any]
    blocks: Blocks


class Found(NamedTuple):
    """What a chunk holds for one trace.

    Attributes
    ----------
    x : array or None
        Inputs ``(rows, time, I)``; a constant has none.
    passed : Passed
        What the adjoint of the population passed on and noted.
    steps : Steps or None
        Only for a trace that needs no adjoint.
    """

    x: Any
    passed: Passed
    steps: Steps | None


class Asked(NamedTuple):
    """What is asked of a trace that learns from a chunk.

    Attributes
    ----------
    own : bool
        The gradient of the chunk's own steps.
    earlier : bool
        The gradient through the trace before the chunk.
    after : bool
        The trace after it.
    """

    own: bool
    earlier: bool
    after: bool


class Trace:
    """What is kept of the trace of one source: of the parameters of a connection, or of a trained constant.

    Attributes
    ----------
    layer : Layer or None
        The layer behind the parameters; a constant has none.
    drive : Drive
        What the parameters act through.
    kinds : dict
        ``state -> kind`` of the trace.
    indices : list of int
        Numbers of the parameters.
    """

    layer: Layer | None
    drive: Drive
    kinds: dict[str, Kind]
    indices: list[int]

    def needs_adjoint(self, through_time: bool) -> bool:
        """Whether it learns from the adjoint of its population, rather than step by step."""
        return True

    def learn(
        self, held: TraceValue, grads: dict, found: Found, values: Values, asked: Asked
    ) -> tuple[TraceValue, dict]:
        """The trace after a chunk, and ``grads`` with what the chunk and the trace before it give.

        Parameters
        ----------
        held : dict
            The trace before the chunk.
        grads : dict
            Gradients so far, ``{number: value}``; of other parameters nothing is added.
        found : Found
            What the chunk holds for it.
        values : dict
            Values of the states that the source reads.
        asked : Asked
            What of this is asked for.
        """
        passed = found.passed
        new = self.advance(held, passed.M, passed.F[self.drive], found.x) if asked.after else held
        if asked.own:
            grads = collect(grads, self.gradient(values, found.x, passed.credit[self.drive]))
        if asked.earlier:
            grads = collect(grads, self.carried(values, held, passed.back))
        return new, grads

    def zeros(self) -> TraceValue:
        """The trace at the start of time."""
        return {}

    def advance(self, held: TraceValue, M0, F, x) -> TraceValue:
        """The trace after a chunk.

        Parameters
        ----------
        held : dict
            The trace before it.
        M0 : dict
            ``(state, state) -> `` product of all ``D`` of the chunk.
        F : dict
            ``state -> M_t f_t`` over time: ``(time,)``, ``(time, size)`` or ``(pop rows, time, size)``.
        x : array
            Inputs ``(rows, time, I)``.
        """
        return held

    def gradient(self, values: Values, x, credit) -> dict:
        """Gradient of the parameters from the steps of a chunk themselves, see `Layer.gradient`."""
        raise NotImplementedError  # abstract: of a layer, or of a constant

    def keep(self, held: TraceValue) -> TraceValue:
        """What of a trace is handed to the next chunk."""
        return held

    def carried(self, values: Values, held: TraceValue, back) -> dict:
        """Gradient of the parameters from the trace, the last term of equation (24) of docs/mathematics.md.

        Parameters
        ----------
        values : dict
            Values of the states that the source reads.
        held : dict
            The trace.
        back : dict
            ``state -> `` its cotangent, ``(pop rows, size)``; absent means zero.
        """
        return jax.tree.map(jnp.zeros_like, {i: values[i] for i in self.indices})

    def dense(self, held: TraceValue) -> dict[str, dict[str, jax.Array]]:
        """The trace in full: ``x`` of shape ``(rows, I, N)`` and ``one`` of shape ``(rows, N)``."""
        return {}

    def like_weight(self, item: dict, state: brainstate.State, unit: u.Unit) -> Any:
        """One state's full trace in the structure of a parameter, with units."""
        raise NotImplementedError  # abstract: of a layer, or of a constant

    def nbytes(self) -> int:
        """Bytes of the trace."""
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(self.zeros)))

    def products(self) -> int:
        """Matrix products of the size of the forward one that it costs per step, beside forward and gradient."""
        return 0


class LayerTrace(Trace):
    """The trace of the parameters of a layer."""

    layer: Layer

    def __init__(self, graph: Graph, connection: Connection):
        self.layer = Layer(graph, connection)
        self.drive = connection.drive
        self.kinds = graph.structures[connection.population].trace.get(connection.drive, {})
        self.indices = self.layer.indices

    def gradient(self, values, x, credit):
        """See `Layer.gradient`."""
        return self.layer.gradient(values, x, credit)

    def like_weight(self, item, state, unit):
        """See `Layer.like_weight`."""
        return self.layer.like_weight(item, state, unit)


def collect(grads: dict, more: dict) -> dict:
    """Gradients ``{number: value}`` with ``more`` added, as far as they are asked for."""
    return {**grads, **{i: jax.tree.map(jnp.add, grads[i], g) for i, g in more.items() if i in grads}}
