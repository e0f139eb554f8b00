"""Online learners: a trace, an error that meets it, and the ways of credit inside a chunk."""

from __future__ import annotations

import dataclasses
import warnings
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, ClassVar

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.checks import check_array, check_finite, check_flag, whole_number
from etrax.contract.recorder import Recorder, active
from etrax.engine.chunk import Parts
from etrax.engine.graph import Graph
from etrax.engine.ledger import Outside
from etrax.engine.names import Path
from etrax.engine.planning import MEMORY, Budget, Limits
from etrax.engine.traces.base import Trace
from etrax.engine.traces.choose import CARRIES, Carry
from etrax.text import dotted

from .compiled import KEPT, Compiled, Composition, Static, clock
from .learner import Learner, no_trace
from .report import Report, report_of_traces
from .requests import Outcome, Request
from .settings import CLOCK, check_claim, claim
from .step_function import unknown

__all__ = ["Composition", "EligibilityTrace", "OnlineLearner", "carry_of"]


_CHANGED = "the model has changed since this learner was compiled so that its traces, populations or parameters are others now: compile again."


class EligibilityTrace(brainstate.ShortTermState):
    """The eligibility trace of one projection: ``{state path: {"x": ..., "one": ...}}``, mantissas."""


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
    _compiled: Compiled | None = None  # of a copy too, which is to be compiled
    _divided: tuple[int, int] | None = None  # steps of the last sequence, and of its chunks
    graph_invisible_attrs: tuple[str, ...] = (
        "_watch",
        "_repeats",
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
        check_flag("strict", strict)
        self.strict = strict
        self._told: set[str] = set()
        self.made_of = made_of
        self.memory = whole_number("memory", memory, bytes=True)
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
                compiled = self._look()
            except jax.errors.JAXTypeError as error:
                raise TypeError(unknown("the model")) from error
            except (TypeError, u.UnitMismatchError, u.DimensionMismatchError) as error:
                raise ValueError(
                    f"the model does not run on an example input of shape {_text(_shapes(args))} ({str(error).splitlines()[0]}): "
                    "check the number of inputs, and that `batch_size` is that of the input (None for an input without a batch axis)."
                ) from error
            except NotImplementedError as error:
                raise ValueError(
                    f"JAX cannot batch a layer of the model ({str(error).splitlines()[0]}): say what its weights connect with "
                    "`etrax.register_pattern`, or give it to a projection as `comm` by itself, not inside another module."
                ) from error
            graph = compiled.graph
            self.feedback_weights = made_of.error.prepare(graph, args)
            compiled.parts = compiled.parts._replace(routes=made_of.error.routes)
            self._ledger = compiled.account(self._stepped, args)
            self._ledger.check_model()
            self._tell(self._ledger.outside)
            self._settings.check()
        self._compiled = compiled
        self._others: OrderedDict[tuple, Compiled] = OrderedDict({(self._settings.key(), ()): compiled})
        self.traces = {name: EligibilityTrace(trace.zeros()) for name, trace in compiled.parts.traces.items()}
        step = step_bytes(graph, compiled.parts.traces, made_of.credit.hops)
        self._budget = Budget(self.memory, step, not made_of.depends_on_chunk)
        claim(self, _states_of(graph))

    def _tell(self, outside: list[Outside]) -> None:
        """Warn of credit that is lost, once; or raise, where the learner is strict."""
        for item in outside:
            if hops := self.made_of.credit.hops:
                raise ValueError(
                    f"{item}; `hops={hops}` counts only what neurons, synapses, filters and delays remember."
                )
            if self.strict:
                raise ValueError(f"{item} (`strict=True`; without it this is a warning).")
            if str(item) not in self._told:
                self._told.add(str(item))
                warnings.warn(
                    f"{item}. `learner.report()` has the account; `strict=True` makes this an error.", stacklevel=4
                )

    def _look(self, moving: tuple[brainstate.State, ...] = ()) -> Compiled:
        """Look at the model as it is under the present settings."""
        graph = Graph(self.model, *self._example, diagonal=self.made_of.diagonal, moving=moving)
        return Compiled(graph, self.made_of, self.limits, moving)

    def _settle(self, setting: Hashable, moving: tuple[brainstate.State, ...] = ()) -> Compiled:
        """What was compiled under a setting; where it is new, the model is looked at again, and the traces go on."""
        self.graph  # noqa: B018 - raises unless it can be called
        key = setting, tuple(map(id, moving))
        if key not in self._others:
            old: Any = self._compiled
            new = self._look(moving)
            if new.layout() != old.layout():
                raise ValueError(_CHANGED)
            self._others[key] = new
            if len(self._others) > KEPT:
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
        check_claim(self, _states_of(graph))
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
        for i, (leaf, example) in enumerate(zip(_leaves(args), _leaves(self._example), strict=True)):
            check_array(f"input {i}", leaf, u.get_unit(example), where=" of the learner")
        recorder = active(self.model)
        if recorder is not None:
            recorder.call()
            return self._stepped(recorder, args)
        for i, leaf in enumerate(jax.tree.leaves(args)):
            check_finite(leaf, f"input {i}")
        with self._settings.context():
            compiled, now = self._settle(self._settings.key(without=CLOCK)), clock()
            held, out = compiled.single_step(self.update, now, args).run(
                self._read_traces(), (now, *args), self._ledger
            )
            self._write_traces(held)
            return out

    def _stepped(self, recorder: Recorder, args: tuple) -> Any:
        """One step of the model; where errors are taken from it, they reach the states as the composition says."""
        out = self.model(*args)
        recorder.end()
        out = recorder.counted(out)
        return self.made_of.error.fed_back(out, self.feedback_weights) if recorder.signals else out

    # -- sequences -----------------------------------------------------------------------

    def _run(self, request: Request) -> Outcome:
        compiled, T = self._settle(request.setting), request.length
        chunk = self._budget.chunk_length(T) if request.chunk_size is None else min(T, request.chunk_size)
        if (hops := self.made_of.credit.hops) and chunk == 1 < T and request.weights:
            raise ValueError(
                f"`chunk_size` is 1, but the learner has `hops={hops}`: a spike enters a projection at a later step than its own, so in "
                "chunks of one step there are no hops. Give longer chunks, or leave `hops` out."
            )
        self._divided = T, chunk
        engine, run = compiled.engine_for(request)
        while engine.moved:  # the step function writes what the model was taken to leave alone
            compiled = self._settle(request.setting, (*compiled.moving, *engine.moved))
            engine, run = compiled.engine_for(request)
        if engine.ledger is not None:
            self._tell(engine.ledger.outside)
            self._ledger = engine.ledger
        graph = engine.graph
        values = graph.states.read(engine.used)
        held = None if request.trial else self._read_traces()
        static = Static(chunk, request.reduction, request.loss_output, request.trial)
        last, held, grads, losses, aux = run(values, held, request.sequences, request.mask, static)
        graph.states.write(last)
        self._write_traces(held)
        return Outcome({path: grads[graph.states.index(s)] for path, s in request.weights.items()}, losses, aux)

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
        if {id(s) for s in self.model.states(brainstate.ParamState).values()} != {
            id(s) for s in self.graph.params.values()
        }:
            raise ValueError(_CHANGED)
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
    return [u.math.shape(leaf) for leaf in _leaves(args)]


def _leaves(args) -> list[Any]:
    return jax.tree.leaves(args, is_leaf=u.math.is_quantity)


def _text(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes)) or "none"


def step_bytes(graph: Graph, traces: dict[str, Trace], hops: int = 0) -> int:
    """Bytes of one step of a chunk: states, what enters each layer, and the factors of its gradient and of its trace."""
    values = sum(p.rows * p.size * len(p.hidden) for p in graph.populations)
    layers = [(trace.layer, trace) for trace in traces.values() if trace.layer is not None]
    values += sum(layer.rows * (layer.in_size + layer.out_size * (1 + hops + t.products())) for layer, t in layers)
    return max(1, values) * jnp.zeros((), brainstate.environ.dftype()).dtype.itemsize
