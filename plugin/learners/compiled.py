"""What an online learner is made of, and what was compiled of it for one model under certain settings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.contract.recorder import Recorder, active
from etrax.engine.chunk import Engine, Parts
from etrax.engine.graph import Graph
from etrax.engine.ledger import Ledger
from etrax.engine.paths import Paths
from etrax.engine.planning import Limits
from etrax.engine.pure import Values
from etrax.engine.run import run_chunks
from etrax.engine.signals import find_signals
from etrax.engine.step import Credit
from etrax.engine.traces.choose import Carry, DenseCarry, make_trace

from .error import Error
from .requests import Request, reduced
from .settings import CLOCK
from .single_step import SingleStep
from .step_function import first_of

__all__ = ["KEPT", "Compiled", "Composition", "Static", "clock"]

KEPT = 16  # compiled step functions, and settings, kept per learner


class Composition(NamedTuple):
    """What an online learner is made of.

    Attributes
    ----------
    carry : Carry
        What is kept of the traces of weights between chunks.
    error : Error
        How the error of a step reaches the states.
    credit : Credit
        Which ways it takes from there inside a chunk.
    diagonal : bool
        Whether traces have a memory, the Jacobian diagonal ``D``; without it they hold the newest step only.
    """

    carry: Carry = DenseCarry()
    error: Error = Error()
    credit: Credit = Credit()
    diagonal: bool = True

    @property
    def depends_on_chunk(self) -> bool:
        """Whether the gradient depends on where chunks end."""
        deep = self.diagonal and (self.credit.through_depth or not self.carry.exact)
        return deep or self.credit.through_time


class Static(NamedTuple):
    """What a compiled run is made for."""

    chunk: int
    reduction: str
    loss_output: str
    trial: bool


class Compiled:
    """What is known of a model under certain settings, and what was compiled under them.

    Parameters
    ----------
    graph : Graph
        What is known of the model.
    made_of : Composition
        Trace, error and credit.
    limits : Limits
        How much is looked at together.
    moving : tuple of State
        States that the model reads and that step functions write.
    """

    def __init__(self, graph: Graph, made_of: Composition, limits: Limits, moving: tuple[brainstate.State, ...] = ()):
        traces = {source.name: make_trace(graph, source, made_of.carry) for source in graph.sources}
        self.graph = graph
        self.moving = moving
        self.parts = Parts(graph, traces, made_of.credit, made_of.error.routes, limits)
        self._engines: OrderedDict[tuple, tuple[Engine, Callable]] = OrderedDict()
        self._steps: dict[tuple, SingleStep] = {}

    def layout(self) -> tuple[dict, set[int]]:
        """Shapes of the traces, and which states of populations and parameters there are."""
        shapes = {name: jax.eval_shape(trace.zeros) for name, trace in self.parts.traces.items()}
        states = [*(h.state for h in self.graph.hidden), *self.graph.params.values()]
        return shapes, {id(state) for state in states}

    def account(self, call: Callable[[Recorder, tuple], Any], args: tuple) -> Ledger:
        """The account of a step whose loss reads every output of ``call``, which runs the model."""

        def outputs(*args):
            recorder: Any = active(self.graph.model)
            return call(recorder, args), None

        parts = self.parts
        paths = Paths(self.graph, outputs, parts.routes, args)
        signals = find_signals(paths, parts.traces, parts.credit)
        return Ledger(paths, parts.traces, signals, parts.credit)

    def single_step(self, update: Callable, clock: dict, args: tuple) -> SingleStep:
        """What runs single steps, made at first use; ``clock`` is of the environment and may move from step to step."""

        def step(clock, *args):
            with brainstate.environ.context(**clock):
                return None, update(*args)

        key = tuple(clock)
        if key not in self._steps:
            self._steps[key] = SingleStep(Engine(self.parts, step, [], (clock, *args)))
        return self._steps[key]

    def engine_for(self, request: Request) -> tuple[Engine, Callable]:
        """The engine of a step function and what runs a sequence, made at first use."""
        sequences = request.sequences
        shapes = [(u.math.shape(leaf)[1:], str(jnp.result_type(leaf))) for leaf in jax.tree.leaves(sequences)]
        weights = [self.graph.states.index(state) for state in request.weights.values()]
        key = (*request.key, tuple(weights), str(jax.tree.structure(sequences)), str(shapes))
        if key not in self._engines:
            engine = Engine(self.parts, request.step_fn, weights, first_of(sequences))
            self._engines[key] = engine, jax.jit(partial(_run, engine), static_argnums=4)
            if len(self._engines) > KEPT:
                self._engines.popitem(last=False)
        return self._engines[key]


def clock() -> dict[str, Any]:
    """What of the environment moves with the steps of a simulation."""
    environment = brainstate.environ.all()
    return {name: environment[name] for name in CLOCK if name in environment}


def _run(engine: Engine, values: Values, held, sequences, mask, static: Static):
    if static.trial:
        held = {name: trace.zeros() for name, trace in engine.traces.items()}
    values, held, sequences = engine.guarded(values, held, sequences, first_of(sequences))
    out = run_chunks(engine, values, held, sequences, mask, static.chunk, trial=static.trial)
    grads = out.grads
    if static.reduction == "mean":
        denominator = jnp.maximum(jnp.sum(mask), 1.0)
        grads = jax.tree.map(lambda g: (g / denominator).astype(g.dtype), grads)
    return out.values, out.traces, grads, reduced(out.loss, mask, static.reduction, static.loss_output), out.aux
