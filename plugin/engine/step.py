"""One step of a step function, as pure functions of the values of states: run, and looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import brainunit as u
import jax.numpy as jnp
import numpy as np

from etrax.contract.dependence import dependent
from etrax.contract.jacobian import Kind
from etrax.contract.recorder import Recorder, recording

from .graph import Graph
from .handover import Entered, Left
from .listeners import Apart, Cut, Earlier, JacobianEntries, Known, Zeros
from .pure import Pure, Values
from .structure import Blocks

__all__ = ["NOTHING", "Credit", "Handed", "Observed", "Routes", "Sent", "Step"]


@dataclass(frozen=True)
class Credit:
    """Which ways an error takes inside a chunk, besides those of its own step.

    See equations (37) and (39) of docs/mathematics.md.

    Attributes
    ----------
    through_time : bool
        Back through the steps of the chunk.
    through_depth : bool
        Down to a lower population from the later steps of an upper one: what a projection sends gets the adjoint of the
        neurons that it feeds, in place of their learning signal.
    hops : int
        With ``through_depth``: how many times credit also goes back where a spike enters a projection at a later step than its
        own, equation (38) of docs/mathematics.md.
    """

    through_time: bool = False
    through_depth: bool = False
    hops: int = 0


@dataclass(frozen=True)
class Routes:
    """Where the error of a step reaches the states of a model.

    Attributes
    ----------
    late : frozenset of int
        ``id`` of the states that get theirs when the model has stepped, so none through what reads them in the step.
    closed : frozenset of int
        ``id`` of the neurons whose trained constants get none through the spikes that they emit.
    cut : bool
        Whether it ends where the output of a projection enters its neurons.
    """

    late: frozenset[int] = frozenset()
    closed: frozenset[int] = frozenset()
    cut: bool = False


class Sent(NamedTuple):
    """What entered the layer of a connection in a step, and what left it."""

    entered: Entered
    left: Left


class Handed(NamedTuple):
    """What is known already of a step that is looked at: new states, what left layers by connection, its loss's weight."""

    new: Values
    sent: dict[str, Left]
    weight: Any = None


NOTHING = Handed({}, {})


class Observed(NamedTuple):
    """What is seen of a step.

    Attributes
    ----------
    aux, loss
        What the step function returned.
    constant, varying : Blocks
        Entries of the Jacobian that are the same in all steps, and the others.
    x : dict
        What entered each connection.
    """

    aux: Any
    constant: Blocks
    loss: Any
    varying: Blocks
    x: dict[str, Any]


class Step:
    """A step function of one learner.

    Parameters
    ----------
    graph : Graph
        What is known of the model.
    fn : callable
        ``(*slices) -> (loss or None, aux)``; runs the model once.
    credit, routes : Credit, Routes
        Where errors go.
    slices : tuple
        One step's arguments (shapes are enough).

    Attributes
    ----------
    used, written : list of int
        Numbers of the states that a step reads or writes, and of those that it writes.
    settled : set of int
        Numbers of the states that nobody writes after their module's step.
    zeros : dict
        ``state -> zeros``, to take learning signals from.
    ahead : list of str
        Connections whose input comes from outside: it, and the layer, depend on no state of the step.
    """

    def __init__(self, graph: Graph, fn: Callable, credit: Credit, routes: Routes, slices: tuple):
        self.graph = graph
        self.fn = fn
        self.routes = routes
        self.through_depth = credit.through_depth
        self.simulate = Pure(self._simulate, graph.states)
        self.observe = Pure(self._observe, graph.states)
        self.cross = Pure(self._cross, graph.states)
        self.shifted = Pure(self._shifted, graph.states)
        self.settled: set[int] = set()
        used, self.written = self.simulate.trace({}, *slices)
        self.zeros = {  # of numpy: what is made inside one compiled function serves in others
            h.name: np.zeros((p.rows, p.size), jnp.result_type(u.get_mantissa(h.state.value)))
            for p in graph.populations
            for h in p.hidden
        }
        more, _ = self.observe.trace(self.zeros, NOTHING, *slices)
        self.used = sorted({*used, *more})
        self.ahead = self._find_inputs(used, slices)

    def _simulate(self, handed: dict[str, Left], *slices) -> dict[str, Sent]:
        """Run; ``handed`` is what is known of layers already."""
        wrote: dict[str, Values] = {}
        recorder = Recorder(modules=self.graph.modules, send=self.graph.send(handed, wrote))
        with recording(recorder):
            self.fn(*slices)
        self.settled = {self.graph.states.index(state) for state, value in recorder.states() if state.value is value}
        names = {key: connection.name for key, connection in self.graph.connections.items()}
        return {
            name: Sent(recorder.x[key], Left(wrote[name], recorder.y[key]))
            for key, name in names.items()
            if key in recorder.y
        }

    def _observe(self, zeros: dict[str, Any], handed: Handed, *slices) -> Observed:
        """Look at a step whose new states are shifted by ``zeros``."""
        graph, entries = self.graph, JacobianEntries()
        shifts = {id(h.state): zeros[h.name] for h in graph.hidden if h.name in zeros}
        known = {id(graph.states.all[i]): value for i, value in handed.new.items()}
        recorder = Recorder(
            entries,
            Known(known),
            Zeros(shifts, self.routes.late),
            *([Cut()] if self.through_depth or (self.routes.cut and zeros) else []),
            modules=graph.modules,
            send=graph.send(handed.sent),
            traced=graph.parts,
            closed=self.routes.closed if zeros else frozenset(),
            signals=bool(zeros),
            weight=handed.weight,
        )
        with recording(recorder):
            loss, aux = self.fn(*slices)
        loss = None if loss is None else u.get_mantissa(loss)
        names = {key: connection.name for key, connection in graph.connections.items()}
        x = {names[key]: value for key, value in recorder.x.items()}
        constant, varying = self._sorted(graph.compose(recorder, entries))
        return Observed(aux, constant, loss, varying, x)

    def _cross(self, zeros: dict[str, Any], earlier: dict[str, Any], handed: Handed, *slices) -> dict[str, Entered]:
        """What entered each layer, by what came before the step, by new states shifted by ``zeros``, and by the constants
        of neurons, shifted by ``earlier`` where they act on spikes of the step before.

        From old states of a population to its new ones, and from a layer to its neurons, there is no derivative here.
        """
        graph = self.graph
        entered: dict[str, Entered] = {}
        recorder = Recorder(
            Apart(graph.parts),
            Known({id(graph.states.all[i]): value for i, value in handed.new.items()}),
            Zeros({id(h.state): zeros[h.name] for h in graph.hidden if h.name in zeros}),
            Cut(),
            Earlier(graph.shifts(earlier)),
            modules=graph.modules,
            send=graph.send(handed.sent, entered=entered),
            traced=graph.parts,
            signals=True,
            weight=handed.weight,
        )
        with recording(recorder):
            self.fn(*slices)
        return entered

    def _sorted(self, blocks: Blocks) -> tuple[Blocks, Blocks]:
        """Entries that are constant and those that vary, in the shapes of their kinds; those that are not kept are left out."""
        constant, varying = Blocks({}, {}), Blocks({}, {})
        for what, entries in blocks._asdict().items():
            for key, value in entries.items():
                kind = getattr(self.graph.structures[key[0]], what).get(key[1:])
                if kind is not None:
                    block = varying if kind is Kind.VARYING else constant
                    getattr(block, what)[key] = self.graph.populations[key[0]].canonical(value, kind)
        return constant, varying

    def _shifted(self, zeros: dict[str, Any], weight: Any, *slices) -> tuple[Any, Any]:
        """Run, with all derivatives, new states shifted by ``zeros``; ``weight`` is that of the loss."""
        shifts = Zeros({id(h.state): zeros[h.name] for h in self.graph.hidden})
        with recording(Recorder(shifts, modules=self.graph.modules, signals=True, weight=weight)):
            loss, aux = self.fn(*slices)
        return u.get_mantissa(loss), aux

    def _find_inputs(self, used: list[int], slices: tuple) -> list[str]:
        values = self.graph.states.read(used)

        def entered(moving):
            return {name: sent.entered for name, sent in self.simulate({**values, **moving}, {}, *slices)[1].items()}

        moved = dependent(entered, {i: values[i] for i in self.written})
        found = []
        for connection in self.graph.connections.values():
            read, written = connection.comm.trace(connection.x)
            if connection.name not in moved and not written and not set(read) & set(self.written):
                found.append(connection.name)
        return found
