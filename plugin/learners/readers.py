"""What the output of a model reads of its populations, and through which parameters."""

from __future__ import annotations

from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp

from etrax.contract.dependence import marked
from etrax.contract.recorder import Recorder, recording
from etrax.engine.graph import Graph
from etrax.engine.population import Population
from etrax.engine.pure import Pure

__all__ = ["Readers", "flatten_output"]


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

    def __init__(self, graph: Graph, model, args: tuple):
        names = {id(state): ".".join(map(str, path)) for path, state in graph.params.items()}
        free = [state for state in graph.params.values() if id(state) not in graph.covered]  # outside the trace
        numbers = {graph.states.index(state): names[id(state)] for state in free}

        def held(projection, x):
            y = graph.connections[id(projection)].y
            return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), y)

        def step(zeros, *args):
            shifts = {id(h.state): zeros[h.name] for h in graph.hidden}
            recorder = Recorder(zeros=shifts, send=held)
            with recording(recorder):
                out = model(*args)
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
        self._seen: set = set()

        def probe(key, zeros, own):
            out, entered = pure({**values, **own}, zeros, *args)[1]
            leaves: list[tuple[Any, Any]] = [
                (name, leaf) for name, leaf in flatten_output(out)[0].items() if name in self.outputs
            ]
            leaves += [(None, leaf) for leaf in jax.tree.leaves(entered)]
            return [marked(jnp.asarray(u.get_mantissa(leaf)), (key, name), self._seen) for name, leaf in leaves]

        def lift(tree):
            return jax.tree.map(lambda a: jnp.asarray(a)[None], tree)

        for name, zero in zeros.items():
            jax.eval_shape(jax.vmap(lambda z, name=name: probe(name, {**zeros, name: z}, {})), lift(zero))
        for i in set(numbers) & set(used):
            jax.eval_shape(jax.vmap(lambda v, i=i: probe(i, zeros, {i: v})), lift(values[i]))
        reached = {key for key, name in self._seen if name is not None}
        self.states = reached & set(zeros)
        self.parameters = reached & set(numbers)
        self.before_projections = sorted(numbers[i] for i in numbers if (i, None) in self._seen)

    def filters(self, population: Population, output: str) -> list[tuple[Any, str]]:
        """The filters ``(module, state)`` of a population's spikes that an output reads."""
        return [
            (part, state)
            for part in population.neuron.filters
            for state, name in population.names[id(part)].items()
            if (name, output) in self._seen
        ]


def flatten_output(out) -> tuple[dict[str, Any], Any]:
    """Arrays of a model's output by name, quantities whole, and the structure they came in."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(out, is_leaf=lambda v: isinstance(v, u.Quantity))
    return {jax.tree_util.keystr(path) or "output": leaf for path, leaf in leaves}, structure
