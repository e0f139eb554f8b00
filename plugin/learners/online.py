"""Online learners: a trace, an error that meets it, and the ways of credit inside a chunk."""

from __future__ import annotations

import dataclasses
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from etrax.checks import check_finite, whole_number
from etrax.contract.recorder import Recorder, active
from etrax.engine.chunk import Engine, Parts
from etrax.engine.graph import Graph
from etrax.engine.handover import zero_cotangent
from etrax.engine.ledger import Ledger, Outside
from etrax.engine.names import Path
from etrax.engine.paths import Paths
from etrax.engine.planning import MEMORY, Budget, Limits
from etrax.engine.pure import Values
from etrax.engine.run import run_chunks
from etrax.engine.signals import find_signals
from etrax.engine.step import NOTHING, Credit
from etrax.engine.traces.base import Trace
from etrax.engine.traces.choose import CARRIES, Carry, DenseCarry, make_trace
from etrax.text import dotted

from .error import Error
from .learner import Learner, Outcome, Request, no_trace, reduced
from .report import Report, report_of_traces
from .settings import CLOCK, claim, claimed
from .step_function import first_of

__all__ = ["Composition", "EligibilityTrace", "OnlineLearner", "carry_of"]

_KEPT = 16  # compiled step functions kept per learner


class EligibilityTrace(brainstate.ShortTermState):
    """The eligibility trace of one projection: ``{state path: {"x": ..., "one": ...}}``, mantissas."""


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


class _Static(NamedTuple):
    """What a compiled run is made for."""

    chunk: int
    reduction: str
    loss_output: str
    trial: bool


@dataclasses.dataclass
class _Compiled:
    """What is known of a model under certain settings, and what was compiled under them."""

    graph: Graph
    parts: Parts
    moving: tuple[brainstate.State, ...] = ()
    engines: OrderedDict[tuple, tuple[Engine, Callable]] = dataclasses.field(default_factory=OrderedDict)


class _Single(NamedTuple):
    """The engine of single steps; compiled, the traces after a step, and the step with its states shifted."""

    engine: Engine
    advance: Callable
    perturbed: Callable

    @classmethod
    def of(cls, engine: Engine) -> _Single:
        def perturbed(values: Values, zeros, args):
            new, out = engine.step.observe(values, zeros, NOTHING, *args)
            return new, out.aux

        return cls(engine, jax.jit(engine.advance), jax.jit(perturbed))


class OnlineLearner(Learner):
    """A learner that accumulates its gradient forward in time, from registered Jacobians.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network.
    made_of : Composition
        Trace, error and credit.
    memory : int
        Bytes that the steps of a chunk may take where ``chunk_size`` is left out, estimated from the sizes of the
        network; the trace is not counted, nor what the user's own step holds. 1 GiB unless given.
    strict : bool
        Whether lost credit that the definition of the learner does not drop is an error, in place of a warning.
    name : str, optional
        Name of the learner.

    Attributes
    ----------
    feedback_weights : dict
        States of an error that has weights of its own; empty for others.
    """

    limits: ClassVar[Limits] = Limits()
    _compiled: _Compiled | None = None  # of a copy too, which is to be compiled
    _divided: tuple[int, int] | None = None  # steps of the last sequence, and of its chunks
    graph_invisible_attrs: tuple[str, ...] = (
        "_watch",
        "made_of",
        "_compiled",
        "_others",
        "_budget",
        "_divided",
        "_example",
        "_settings",
    )

    def __init__(
        self,
        model: brainstate.nn.Module,
        made_of: Composition,
        *,
        memory: int = MEMORY,
        strict: bool = False,
        name: str | None = None,
        **unread: Any,
    ):
        super().__init__(model, name=name, **unread)
        self.strict = strict
        self._told: set[str] = set()
        self.made_of = made_of
        self.memory = whole_number("memory", memory)
        self.feedback_weights: dict[str, Any] = {}

    # -- set-up --------------------------------------------------------------------------

    def compile_graph(self, *args) -> None:
        """See `Learner.compile_graph`."""
        self._check_example(args)
        made_of = self.made_of
        self._dt = brainstate.environ.get_dt()
        self._example = args
        with self._settings.context():
            try:
                graph = self._look()
            except TypeError as error:
                raise ValueError(
                    f"the model does not run on an example input of shape {_text(_shapes(args))} ({str(error).splitlines()[0]}): "
                    "check the number of inputs, and that `batch_size` is that of the input (None for an input without a batch axis)."
                ) from error
            self.feedback_weights = made_of.error.prepare(graph, args)
            compiled = self._compiled = self._composed(graph)
            self._ledger = self._account(compiled, args)
            self._settings.check()
            self._others: OrderedDict[tuple, _Compiled] = OrderedDict({(self._settings.key(), ()): compiled})
        self.traces = {name: EligibilityTrace(trace.zeros()) for name, trace in compiled.parts.traces.items()}
        self._budget = Budget(self.memory, step_bytes(graph, compiled.parts.traces), not made_of.depends_on_chunk)
        claim(self, _states_of(graph))

    def _account(self, compiled: _Compiled, args: tuple) -> Ledger:
        """The account of a step whose loss reads every output; an error or a warning for what no trace follows."""
        parts, made_of = compiled.parts, self.made_of

        def outputs(*args):
            recorder: Any = active(self.model)
            return self._stepped(recorder, args), None

        paths = Paths(compiled.graph, outputs, parts.routes, args)
        signals = find_signals(paths, parts.traces, through_depth=made_of.credit.through_depth)
        ledger = Ledger(paths, parts.traces, signals, made_of.credit)
        ledger.check_model()
        self._tell(ledger.outside)
        return ledger

    def _tell(self, outside: list[Outside]) -> None:
        """Warn of credit that is lost, once; or raise, where the learner is strict."""
        for item in outside:
            if self.strict:
                raise ValueError(f"{item} (`strict=True`; without it this is a warning).")
            if str(item) not in self._told:
                self._told.add(str(item))
                warnings.warn(
                    f"{item}. `learner.report()` has the account; `strict=True` makes this an error.", stacklevel=4
                )

    def _look(self, moving: Iterable[brainstate.State] = ()) -> Graph:
        """Look at the model as it is under the present settings; somebody else writes the states in ``moving``."""
        return Graph(self.model, *self._example, diagonal=self.made_of.diagonal, moving=moving)

    def _composed(self, graph: Graph, moving: tuple[brainstate.State, ...] = ()) -> _Compiled:
        """What this learner is for what is known of a model."""
        made_of = self.made_of
        traces = {source.name: make_trace(graph, source, made_of.carry) for source in graph.sources}
        return _Compiled(graph, Parts(graph, traces, made_of.credit, made_of.error.routes, self.limits), moving)

    def _settle(self, setting: Hashable, moving: tuple[brainstate.State, ...] = ()) -> _Compiled:
        """What was compiled under a setting; where it is new, the model is looked at again, and the traces go on."""
        self.graph  # noqa: B018 - raises unless it can be called
        key = setting, tuple(map(id, moving))
        if key not in self._others:
            old, new = self._compiled, self._composed(self._look(moving), moving)
            shapes = [{n: jax.eval_shape(t.zeros) for n, t in of.parts.traces.items()} for of in (old, new)]
            states = [{id(s) for s in (*_states_of(of.graph), *of.graph.params.values())} for of in (old, new)]
            if shapes[0] != shapes[1] or states[0] != states[1]:
                raise ValueError(
                    "the model has changed since this learner was compiled so that its traces, populations or parameters are others now: "
                    "compile again."
                )
            self._others[key] = new
            if len(self._others) > _KEPT:
                self._others.popitem(last=False)
        self._compiled = self._others[key]
        return self._compiled

    @property
    def graph(self) -> Graph:
        """Populations, connections and kinds found by :meth:`compile_graph`."""
        if self._compiled is None:
            raise RuntimeError(
                f"this {type(self).__name__} is not compiled: call `learner.compile_graph(x0)` with one step's input after "
                "`brainstate.nn.init_all_states(model, batch_size=...)`, or use `etrax.compile(model, ..., x0, batch_size=...)`."
            )
        if self._dt != brainstate.environ.get("dt", None):
            raise ValueError(
                f"`dt` is {brainstate.environ.get('dt', None)} now but was {self._dt} when the learner was compiled: use one dt, "
                "or call `compile_graph` again."
            )
        graph = self._compiled.graph
        if not graph.current():
            raise RuntimeError(
                "the model's states were created anew after this learner was compiled (by `init_all_states`, or by compiling "
                "another learner for the model): compile again, or build one model per learner."
            )
        if not claimed(self, _states_of(graph)):
            raise RuntimeError(
                "another learner was compiled for the states of this model after this one, and each would advance them without "
                "the traces of the other: use the newer, or build one model per learner."
            )
        return graph

    @property
    def param_states(self) -> dict[Path, brainstate.ParamState]:
        """The trainable parameters by path: those of the model, and of the error where it adapts."""
        own = {
            ("feedback_weights", name): state
            for name, state in self.feedback_weights.items()
            if isinstance(state, brainstate.ParamState)
        }
        return {**self.graph.params, **own}

    @property
    def hidden_states(self) -> dict[Path, brainstate.HiddenState]:
        """The states of all populations by path."""
        return {h.path: h.state for h in self.graph.hidden}

    def report(self) -> Report:
        """What is traced, at what cost, and how sequences are divided; print it."""
        graph, chunks = self.graph, str(self._budget)
        traces = self._parts.traces
        if self._divided is not None:
            T, chunk = self._divided
            n = -(-T // chunk)
            chunks += f"; the last, {T} steps, was " + ("one chunk" if n == 1 else f"{n} chunks of {chunk}")
        return report_of_traces(graph, traces, chunks, self._ledger.table())

    # -- one step ------------------------------------------------------------------------

    def update(self, *args) -> Any:
        """Run one step of the model and advance the traces.

        Under ``brainstate.transform.grad`` the result carries the online gradient: the gradient of
        any loss of this step's outputs (or states) is one term of equations (19) and (20) of docs/mathematics.md.

        Raises
        ------
        RuntimeError
            If the learner has not been compiled.
        ValueError
            If an argument has another shape than the example given to :meth:`compile_graph`.
        """
        self.graph  # noqa: B018 - raises unless it can be called
        shapes, compiled_for = _shapes(args), _shapes(self._example)
        if shapes != compiled_for:
            raise ValueError(
                f"the learner was compiled for inputs of shape {_text(compiled_for)} but got {_text(shapes)}: batch size of "
                "data and model must agree, and the input has no time axis here; compile again for another shape."
            )
        recorder = active(self.model)
        if recorder is not None:
            recorder.call()
            return self._stepped(recorder, args)
        for i, leaf in enumerate(jax.tree.leaves(args)):
            check_finite(leaf, f"input {i}")
        with self._settings.context():
            return self._single_step(self._settle(self._settings.key(without=CLOCK)), args)

    def _single_step(self, compiled: _Compiled, args: tuple) -> Any:
        """One step outside a step function; the clock may move from step to step."""
        graph, environment = compiled.graph, brainstate.environ.all()
        clock = {name: environment[name] for name in CLOCK if name in environment}
        args = (clock, *args)
        engine, advance, perturbed = self._engine_of_steps(compiled, args)
        values = graph.states.read(engine.used)
        old = {i: jax.lax.stop_gradient(v) if i in engine.written else v for i, v in values.items()}
        frozen = jax.tree.map(jax.lax.stop_gradient, old)
        held = advance(frozen, self._read_traces(), jax.tree.map(jax.lax.stop_gradient, args))
        zeros = self._attach(engine, old, held, args)
        new, out = perturbed(old, zeros, args)
        graph.states.write(new)
        self._write_traces({name: self._parts.traces[name].keep(value) for name, value in held.items()})
        return out

    def _engine_of_steps(self, compiled: _Compiled, args: tuple) -> _Single:
        """The engine of single steps, made at first use: who calls `etrace_grad` only needs none."""

        def step(clock, *args):
            with brainstate.environ.context(**clock):
                return None, self.update(*args)

        key = ("single", *args[0])
        if key not in compiled.engines:
            compiled.engines[key] = _Single.of(Engine(compiled.parts, step, [], args))
        return compiled.engines[key]

    def _stepped(self, recorder: Recorder, args: tuple) -> Any:
        """One step of the model; where errors are taken from it, they reach the states as the composition says."""
        out = self.model(*args)
        recorder.end()
        return self.made_of.error.fed_back(out, self.feedback_weights) if recorder.signals else out

    def _attach(self, engine: Engine, values: Values, held: dict, args: tuple) -> dict:
        """Zeros for all states whose derivative with respect to the weights is the trace ``held``.

        The trace was formed with ``values`` and ``args`` held.
        """
        asked: set[int] = set()

        @jax.custom_vjp
        def zeros(values, held, args):
            return engine.step.zeros

        def forward(*primals):
            values, held, args = jax.tree.map(lambda leaf: leaf.value, primals)
            asked.update(i for i, v in primals[0].items() if any(leaf.perturbed for leaf in jax.tree.leaves(v)))
            return engine.step.zeros, (values, held, args)

        def backward(residuals, back):
            values, held, args = residuals
            back = {name: v for name, v in back.items() if not isinstance(v, SymbolicZero)}
            self._ledger.check_met(asked, set(back))
            guarded, *_ = engine.guarded(values, held, args, args)
            grads = {i: jax.tree.map(zero_cotangent, v) for i, v in values.items()}
            for name, trace in engine.traces.items():
                for i, g in trace.carried(guarded, held[name], back).items():
                    grads[i] = jax.tree.map(jnp.add, grads[i], g)
            return grads, *jax.tree.map(zero_cotangent, (held, args))

        zeros.defvjp(forward, backward, symbolic_zeros=True)
        return zeros(values, held, args)

    # -- sequences -----------------------------------------------------------------------

    def _run(self, request: Request) -> Outcome:
        compiled, T = self._settle(request.setting), request.length
        chunk = self._budget.chunk_length(T) if request.chunk_size is None else min(T, request.chunk_size)
        self._divided = T, chunk
        engine, run = self._engine_for(compiled, request)
        graph = engine.graph
        values = graph.states.read(engine.used)
        held = None if request.trial else self._read_traces()
        static = _Static(chunk, request.reduction, request.loss_output, request.trial)
        last, held, grads, losses, aux = run(values, held, request.sequences, request.mask, static)
        graph.states.write(last)
        self._write_traces(held)
        return Outcome({path: grads[graph.states.index(s)] for path, s in request.weights.items()}, losses, aux)

    def _engine_for(self, compiled: _Compiled, request: Request) -> tuple[Engine, Callable]:
        """The engine and compiled run for a step function, made at first use."""
        sequences = request.sequences
        shapes = [(u.math.shape(leaf)[1:], str(jnp.result_type(leaf))) for leaf in jax.tree.leaves(sequences)]
        weights = [compiled.graph.states.index(state) for state in request.weights.values()]
        key = (*request.key, tuple(weights), str(jax.tree.structure(sequences)), str(shapes))
        engines = compiled.engines
        if key not in engines:
            engine = Engine(compiled.parts, request.step_fn, weights, first_of(sequences))
            if engine.ledger is not None:
                self._tell(engine.ledger.outside)
                self._ledger = engine.ledger
            moved = engine.moved
            if moved:  # the step function writes what the model takes for constant
                moving = (*compiled.moving, *moved)
                engines[key] = self._engine_for(self._settle(request.setting, moving), request)
            else:
                engines[key] = engine, jax.jit(partial(_run_compiled, engine), static_argnums=4)
            if len(engines) > _KEPT:
                engines.pop(next(iter(engines)))
        return engines[key]

    # -- traces --------------------------------------------------------------------------

    @property
    def _parts(self) -> Parts:
        """Of what was compiled last; a RuntimeError where nothing was."""
        self.graph  # noqa: B018 - raises unless compiled
        compiled: Any = self._compiled
        return compiled.parts

    def _read_traces(self) -> dict:
        return {name: state.value for name, state in self.traces.items()}

    def _write_traces(self, held: dict) -> None:
        for name, value in held.items():
            self.traces[name].value = value

    def reset_state(self, batch_size: int | None = None, **kwargs) -> None:
        """See `Learner.reset_state`."""
        batch = self.graph.populations[0].batch
        if batch_size is not None and (batch_size,) != batch:
            raise ValueError(
                f"`batch_size` is {batch_size} but the learner was compiled for {batch[0] if batch else None}: compile again "
                "for another batch size."
            )
        brainstate.nn.reset_all_states(self.model, batch_size=batch[0] if batch else None, **kwargs)
        self._write_traces({name: trace.zeros() for name, trace in self._parts.traces.items()})

    def get_etrace_of(self, weight: brainstate.ParamState | Path | str) -> dict[Path, Any]:
        """See `Learner.get_etrace_of`."""
        graph, state = self.graph, self._named(weight)
        sources = [c for c in graph.sources if any(s is state for s in c.params.values())]
        if state is None or not sources:
            raise no_trace(weight, [dotted(path) for c in graph.sources for path in c.params])
        result: dict[Path, Any] = {}
        for source in sources:
            population, trace = graph.populations[source.population], self._parts.traces[source.name]
            paths = {h.name: h.path for h in population.hidden}
            for name, item in trace.dense(self.traces[source.name].value).items():
                path = paths[name]
                value = trace.like_weight(item, state, population.units[name])
                result[path] = jax.tree.map(jnp.add, result[path], value) if path in result else value
        return result


def _run_compiled(engine: Engine, values: Values, held, sequences, mask, static: _Static):
    if static.trial:
        held = {name: trace.zeros() for name, trace in engine.traces.items()}
    values, held, sequences = engine.guarded(values, held, sequences, first_of(sequences))
    out = run_chunks(engine, values, held, sequences, mask, static.chunk, trial=static.trial)
    grads = out.grads
    if static.reduction == "mean":
        denominator = jnp.maximum(jnp.sum(mask), 1.0)
        grads = jax.tree.map(lambda g: (g / denominator).astype(g.dtype), grads)
    return out.values, out.traces, grads, reduced(out.loss, mask, static.reduction, static.loss_output), out.aux


def carry_of(kind: str, **options: Any) -> Carry:
    """What is kept of traces, from the name of a carry and the options that are not None.

    Raises
    ------
    ValueError
        If there is no such carry, or an option has a value that is not allowed.
    TypeError
        If an option is given that this carry does not read.
    """
    if kind not in CARRIES:
        raise ValueError(f"`carry` must be one of {', '.join(CARRIES)}, got {kind!r}.")
    given = {name: value for name, value in options.items() if value is not None}
    reads = {name: {field.name for field in dataclasses.fields(carry)} for name, carry in CARRIES.items()}
    for option in given:
        if option not in reads[kind]:
            others = " or ".join(f"carry={name!r}" for name, read in reads.items() if option in read)
            raise TypeError(
                f"`{option}` is not read by carry={kind!r}, but by {others}: leave it out, or choose another carry."
            )
    return CARRIES[kind](**given)


def _states_of(graph: Graph) -> list[brainstate.State]:
    return [h.state for h in graph.hidden]


def _shapes(args) -> list[tuple[int, ...]]:
    return [u.math.shape(leaf) for leaf in jax.tree.leaves(args)]


def _text(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))


def step_bytes(graph: Graph, traces: dict[str, Trace]) -> int:
    """Bytes of one step of a chunk: states, what enters each layer, and the factors of its gradient and of its trace."""
    values = sum(p.rows * p.size * len(p.hidden) for p in graph.populations)
    layers = [(trace.layer, trace) for trace in traces.values() if trace.layer is not None]
    values += sum(layer.rows * (layer.in_size + layer.out_size * (1 + t.products())) for layer, t in layers)
    return max(1, values) * jnp.zeros((), brainstate.environ.dftype()).dtype.itemsize
