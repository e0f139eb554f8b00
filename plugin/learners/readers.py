"""What the output of a model reads of its populations, and through which parameters."""

from __future__ import annotations

from functools import partial
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp

from etrax.contract.dependence import dependent
from etrax.contract.recorder import Recorder, recording
from etrax.engine.graph import Graph
from etrax.engine.listeners import Zeros
from etrax.engine.population import Population
from etrax.engine.pure import Pure
from etrax.text import dotted

__all__ = ["Readers", "flatten_output"]


_ENTERED = None  # stands for what entered projections where names of outputs do for what was returned


class Readers:
    """What reaches the output of one step when all that leaves projections is held.

    Attributes
    ----------
    outputs : dict
        ``name -> shape, dtype and unit`` of each real-valued array that the model returns.
    states : set of str
        States that reach some output.
    parameters : set of int
        Numbers of the parameters without a trace that reach some output.
    before_projections : list of str
        Those that act on what enters a projection.
    """

    def __init__(self, graph: Graph, args: tuple):
        names = {id(state): dotted(path) for path, state in graph.params.items()}
        outside = [state for state in graph.params.values() if id(state) not in graph.covered]  # of every trace
        numbers = {graph.states.index(state): names[id(state)] for state in outside}

        def held(projection, x):
            y = graph.connections[id(projection)].y
            return x, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), y)

        def step(zeros, *args):
            shifts = {id(h.state): zeros[h.name] for h in graph.hidden}
            recorder = Recorder(Zeros(shifts), modules=graph.modules, send=held)
            with recording(recorder):
                out = graph.model(*args)
            return out, dict(enumerate(recorder.x.values()))

        pure = Pure(step, graph.states)
        zeros = {
            h.name: jnp.zeros((p.rows, p.size), jnp.result_type(u.get_mantissa(h.state.value)))
            for p in graph.populations
            for h in p.hidden
        }
        used, _ = pure.trace(zeros, *args)
        values = graph.states.read(used)
        out, _ = jax.eval_shape(lambda: pure(values, zeros, *args)[1])
        self.outputs = {
            key: leaf
            for key, leaf in flatten_output(out)[0].items()
            if jnp.issubdtype(u.get_mantissa(leaf).dtype, jnp.inexact)
        }

        def seen(zeros, own) -> dict:
            out, entered = pure({**values, **own}, zeros, *args)[1]
            leaves = {name: u.get_mantissa(v) for name, v in flatten_output(out)[0].items() if name in self.outputs}
            return {**leaves, _ENTERED: entered}

        def shifted(state, zero) -> dict:
            return seen({**zeros, state: zero}, {})

        def moved(number, value) -> dict:
            return seen(zeros, {number: value})

        found: dict[Any, set] = {s: dependent(partial(shifted, s), zero) for s, zero in zeros.items()}
        found |= {i: dependent(partial(moved, i), values[i]) for i in set(numbers) & set(used)}
        self._seen = {(key, name) for key, names in found.items() for name in names}
        reached = {key for key, name in self._seen if name is not _ENTERED}
        self.states = reached & set(zeros)
        self.parameters = reached & set(numbers)
        self.before_projections = sorted(numbers[i] for i in numbers if (i, _ENTERED) in self._seen)

    def filters(self, population: Population, output: str) -> list[tuple[Any, str]]:
        """The filters ``(module, state)`` of a population's spikes that an output reads."""
        return [
            (part, state)
            for part in population.filters
            for state, name in population.names[id(part)].items()
            if (name, output) in self._seen
        ]


def flatten_output(out) -> tuple[dict[str, Any], Any]:
    """Arrays of a model's output by name, quantities whole, and the structure they came in."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(out, is_leaf=lambda v: isinstance(v, u.Quantity))
    return {jax.tree_util.keystr(path) or "output": leaf for path, leaf in leaves}, structure
