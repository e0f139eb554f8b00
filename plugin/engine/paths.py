"""Which paths lead to the loss of a step, found by following derivatives before anything runs.

In a step the model reads old states, every part makes its new states of its own old ones and of its drives, layers send, and the
loss reads what it likes. Two of these ways a learner knows by what modules register: from a part's old states to its new ones,
and from what a layer sends to the neurons. They are cut here, so that what is left is the account of everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from etrax.contract.dependence import felt_by, sensitive
from etrax.contract.recorder import Recorder, recording

from .graph import Graph
from .listeners import Apart, Cut, Zeros
from .pure import Pure
from .step import Routes

__all__ = ["HIDDEN", "LOSS", "Paths", "new", "sent", "state"]

LOSS = ("loss",)
HIDDEN = ("hidden",)  # the new states of all populations together


def new(name: str) -> Hashable:
    """The key of a new state of a population."""
    return "new", name


def sent(name: str) -> Hashable:
    """The key of what a connection sends."""
    return "sent", name


def state(number: int) -> Hashable:
    """The key of a state: of its value before the step where it is read, after it where it is written."""
    return "state", number


class Paths:
    """The paths through one step of a step function.

    Parameters
    ----------
    graph : Graph
        What is known of the model.
    fn : callable
        ``(*slices) -> (loss or None, aux)``; runs the model once. The loss may be a pytree.
    routes : Routes
        Where the error of a step reaches the states.
    slices : tuple
        One step's arguments (shapes are enough).

    Attributes
    ----------
    seen : dict
        ``key of what is read at the end -> keys of what it has a derivative by``: the loss, what connections send, memories.
    memories : list of int
        Numbers of the states that the step writes and that belong to no population: real numbers, no parameters.
    reached : frozenset
        Keys of what reaches the loss within the step.
    rewritten : list of str
        States of populations that somebody writes after their module's step.
    """

    def __init__(self, graph: Graph, fn: Callable, routes: Routes, slices: tuple):
        self.graph = graph
        self.routes = routes
        self.rewritten: list[str] = []
        self._fn = fn
        self._pure = pure = Pure(self._run, graph.states)
        zeros = {h.name: _zeros(h.state.value) for h in graph.hidden}
        used, written = pure.trace(zeros, *slices)
        self._at = values, zeros, slices = graph.states.read(used), zeros, slices
        own = {graph.states.index(h.state) for h in graph.hidden}
        self.memories = [
            i for i in written if i not in own and not _is_parameter(graph.states.all[i]) and _is_real(values[i])
        ]

        def run(moved: dict) -> dict:
            at = {i: moved.get(state(i), v) for i, v in values.items()}
            after, (loss, y) = pure(at, {name: moved[new(name)] for name in zeros}, *slices)
            out = {LOSS: loss, **{sent(name): leaves for name, leaves in y.items()}}
            return out | {state(i): after[i] for i in self.memories} | {HIDDEN: [after[i] for i in own if i in after]}

        moved = {state(i): v for i, v in values.items() if _is_real(v)}
        self.seen: dict[Hashable, set] = felt_by(run, moved | {new(name): v for name, v in zeros.items()})
        self.reached = self._reach()

    def _run(self, zeros: dict, *slices) -> tuple[Any, dict]:
        graph = self.graph
        names = {key: connection.name for key, connection in graph.connections.items()}
        shifts = {id(h.state): zeros[h.name] for h in graph.hidden}
        listener = _Noted(shifts, self.routes.late)
        recorder = Recorder(
            Apart(graph.parts),
            listener,
            Cut(),
            modules=graph.modules,
            send=graph.send(),
            traced=graph.parts,
            closed=self.routes.closed,
            signals=True,
        )
        with recording(recorder):
            loss, _ = self._fn(*slices)
        wrote = listener.wrote
        self.rewritten = [h.name for h in graph.hidden if h.state.value is not wrote.get(id(h.state), h.state.value)]
        return loss, {names[key]: value for key, value in recorder.y.items()}

    def beside(self, number: int) -> list[str]:
        """States of populations on which a parameter acts other than as that of a projection."""
        values, zeros, slices = self._at

        def acted(value):
            after = self._pure({**values, number: value}, zeros, *slices)[0]
            indices = {h.name: self.graph.states.index(h.state) for h in self.graph.hidden}
            return {name: after[i] for name, i in indices.items() if i in after}

        fed = [c for c in self.graph.connections.values() if state(number) in self.seen[sent(c.name)]]
        through = {s for c in fed for s, d in self.graph.structures[c.population].f if d == c.drive}
        return sorted({*sensitive(acted, values[number]), *through} if number in values else through)

    def _reach(self) -> frozenset:
        """What reaches the loss within the step; through layers and the neurons that they feed, where errors go there."""
        connections, structures = self.graph.connections.values(), self.graph.structures
        fed = {sent(c.name): [new(s) for s, d in structures[c.population].f if d == c.drive] for c in connections}
        reached: set = set(self.seen[LOSS])
        while not self.routes.cut:
            above = {key for key, states in fed.items() if reached & {key, *states}}
            if above <= reached:
                break
            reached = reached.union(above, *(self.seen[key] for key in above))
        return frozenset(reached)

    @cached_property
    def eventually(self) -> frozenset:
        """Keys of what reaches the loss at some later step, by whatever way."""
        graph = self.graph
        connections = list(graph.connections.values())
        own = [[new(h.name) for h in p.hidden] for p in graph.populations]
        reached: set = set(self.seen[LOSS])
        while True:
            found = {key for k in self.seen if k in reached for key in self.seen[k]}
            found |= {new(h.name) for h in graph.hidden if state(graph.states.index(h.state)) in reached}
            for i, states in enumerate(own):  # within a population everything may act on everything
                if reached & {*states}:
                    found |= {*states, *(sent(c.name) for c in connections if c.population == i)}
            if found <= reached:
                return frozenset(reached)
            reached |= found


class _Noted(Zeros):
    """Adds zeros to the new states, and notes what is written."""

    def __init__(self, zeros: dict[int, Any], late: frozenset[int]):
        super().__init__(zeros, late)
        self.wrote: dict[int, Any] = {}

    def written(self, state, value):
        """See `Listener.written`."""
        self.wrote[id(state)] = value = super().written(state, value)
        return value


def _is_parameter(of: brainstate.State) -> bool:
    return isinstance(of, brainstate.ParamState)


def _is_real(value: Any) -> bool:
    leaves = jax.tree.leaves(value)
    return bool(leaves) and all(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves)


def _zeros(value: Any) -> np.ndarray:
    (leaf,) = jax.tree.leaves(value)
    return np.zeros(jnp.shape(leaf), jnp.result_type(leaf))
