"""The account of credit: for every parameter what a learner follows, what it drops by definition, and what nobody follows."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import brainunit as u
import jax
import jax.numpy as jnp

from etrax.contract.dependence import sensitive
from etrax.text import Table, dotted

from .graph import Graph
from .paths import HIDDEN, LOSS, Paths, new, sent, state
from .signals import Signals, find_signals, is_signalled
from .sources import Connection, Source, TrainedConstant
from .step import Credit

if TYPE_CHECKING:
    from .traces.base import Trace

__all__ = ["Ledger", "Outside", "no_path"]


class Outside(NamedTuple):
    """What no trace follows: which parameters lose credit, where, and what keeps it."""

    parameters: tuple[str, ...]
    where: str
    remedy: str

    def __str__(self) -> str:
        return f"part of the credit of {', '.join(self.parameters)} is lost: {self.where}. To keep it, {self.remedy}"


class Ledger:
    """The account of one step function.

    Parameters
    ----------
    paths : Paths
        Of the step function.
    traces : dict
        ``name of a source -> Trace``.
    signals : Signals
        What the loss gives a learning signal to.
    credit : Credit
        Which ways are taken besides those of the step itself.
    """

    def __init__(self, paths: Paths, traces: dict[str, Trace], signals: Signals, credit: Credit):
        self.paths = paths
        self.graph: Graph = paths.graph
        self.traces = traces
        self.signals = signals
        self.credit = credit

    # -- followed --------------------------------------------------------------------------

    def sources_of(self, number: int) -> list[Source]:
        """What a parameter acts through that has a trace."""
        param = self.graph.states.all[number]
        return [c for c in self.graph.sources if any(s is param for s in c.params.values())]

    def follows(self, number: int) -> bool:
        """Whether some path from a parameter to the loss is followed."""
        paths, sources = self.paths, self.sources_of(number)
        if self.credit.through_time:
            return state(number) in paths.eventually or any(
                keys & paths.eventually for keys in map(self._keys, sources)
            )
        if any(is_signalled(self.graph, self.traces, c, self.signals.states) for c in sources):
            return True
        return state(number) in paths.reached or (self.credit.through_depth and self._descends([state(number)]))

    def check_met(self, numbers: Iterable[int], signalled: set[str]) -> None:
        """Raise a ValueError if a parameter has traces of which none meets a state in ``signalled``."""
        for number in numbers:
            sources = self.sources_of(number)
            if sources and not any(is_signalled(self.graph, self.traces, c, signalled) for c in sources):
                raise no_path(self.name(number), self._remedies(number), " within one step")

    def check(self, numbers: list[int]) -> None:
        """Raise a ValueError if the gradient of a parameter is zero by structure."""
        for number in numbers:
            if not self.follows(number):
                raise no_path(self.name(number), self._remedies(number, numbers), self._within)

    @property
    def _within(self) -> str:
        """How far credit is followed."""
        hops = f" and {self.credit.hops} hop{'s' * (self.credit.hops > 1)}"
        return "" if self.credit.through_time else f" within one step{hops if self.credit.hops else ''}"

    def _keys(self, source: Source) -> set:
        own = {new(h.name) for h in self.graph.populations[source.population].hidden}
        return own | ({sent(source.name)} if isinstance(source, Connection) else set())

    def _descends(self, keys: Iterable) -> bool:
        """Whether something enters a population with a learning signal, within the step."""
        fed = [c for c in self.graph.connections.values() if {*keys} & self.paths.seen[sent(c.name)]]
        return any(is_signalled(self.graph, self.traces, c, self.signals.states) for c in fed)

    def name(self, number: int) -> str:
        """The path of a state."""
        found = self.graph.states.all[number]
        path = self.graph.paths.get(id(found))
        return dotted(path) if path else found.name or f"state {number}"

    # -- dropped ---------------------------------------------------------------------------

    def ways(self, number: int) -> tuple[list[str], list[str]]:
        """Connections by which a parameter acts on others in the same step, and at later steps through spikes."""
        now, later = [], []
        for index in {c.population for c in self.sources_of(number)}:
            states = self.graph.populations[index].hidden
            own = {new(h.name) for h in states}
            old = {state(self.graph.states.index(h.state)) for h in states}
            for c in self.graph.connections.values():
                read = self.paths.seen[sent(c.name)]
                delayed = set().union(*(self.paths.seen[state(line)] for line in self.waiting if state(line) in read))
                if sent(c.name) not in self.paths.eventually:
                    continue
                if read & own and (c.population != index):
                    now.append(c.name)
                if read & old or (read & own and c.population == index) or delayed & (own | old):
                    later.append(c.name)
        return sorted({*now}), sorted({*later})

    def _remedies(self, number: int, together: Iterable[int] = ()) -> list[str]:
        """What gives a parameter a gradient that has none, ``together`` with others; each of them works for the network at hand."""
        if self.credit.through_time:
            return []
        found = []
        now, later = self.ways(number)
        keys = set().union(*map(self._keys, self.sources_of(number)))
        if now and not self.credit.through_depth and self._descends(keys):
            found.append("`through_depth=True`, which follows it through the memory of the neurons above")
        hops = self._enough([number, *together]) or self._enough([number])
        if hops and later:
            found.append(
                f"`hops={hops}` of `etrax.D_RTRL`, which follows its spikes into {', '.join(later)} at later steps"
            )
        if keys & self.paths.eventually:
            if later and not now:
                found.append(
                    f"call its neurons ahead of {', '.join(later)}, whose input are then the spikes of the same step, with "
                    "`through_depth=True` (that changes the model: spikes arrive one step earlier)"
                )
            found.append("`vjp_method='multi-step'` of `etrax.D_RTRL`, whose chunks follow everything, or `etrax.BPTT`")
        return found

    def _enough(self, numbers: list[int]) -> int | None:
        """The fewest hops with which parameters have a gradient, if a few are enough."""
        for hops in range(self.credit.hops + 1, self.credit.hops + 1 + _FEW):
            credit = Credit(through_depth=True, hops=hops)
            try:
                signals = find_signals(self.paths, self.traces, credit)
            except ValueError:  # no order of the populations
                return None
            if all(map(Ledger(self.paths, self.traces, signals, credit).follows, numbers)):
                return hops
        return None

    # -- outside ---------------------------------------------------------------------------

    @property
    def outside(self) -> list[Outside]:
        """What remembers and has no trace, where the loss reads it and parameters act on it."""
        if self.credit.through_time:
            return []
        return [*self._beside(), *self._memories(), *self._read_late(), *self._layers()]

    def _beside(self) -> list[Outside]:
        """Parameters that act on neurons beside the layers of projections, or ahead of them."""
        paths, found = self.paths, []
        keys = paths.seen[HIDDEN].union(*(paths.seen[sent(c.name)] for c in self.graph.connections.values()))
        for number in self._untraced:
            if state(number) in keys:
                states = ", ".join(paths.beside(number))
                where = f"it acts on {states} outside a projection and has no trace, so its gradient is that of the newest step"
                remedy = f"let its layer be the `comm` of a projection, or {_WHOLE}"
                found.append(Outside((self.name(number),), where, remedy))
        return found

    def _memories(self) -> list[Outside]:
        """States of nobody that the loss reads at later steps."""
        paths, found = self.paths, []
        for number in paths.memories:
            fed = self._fed(paths.seen[state(number)])
            if state(number) in paths.eventually and fed and number not in self.waiting:
                where = f"{self._described(number)} remembers it for later steps, and no trace follows that"
                found.append(Outside(fed, where, _KEEP))
        return found

    def _read_late(self) -> list[Outside]:
        """States of populations that the loss, or a memory that it reads, takes from the step before."""
        paths, read, found = self.paths, {LOSS, *_remembered(self.paths)}, []
        for h in self.graph.hidden:
            key = state(self.graph.states.index(h.state))
            fed = self._fed({new(h.name)})
            if fed and any(key in paths.seen[reader] for reader in read):
                where = f"the loss reads {h.name} of the step before, and a trace meets the loss of its own step"
                found.append(
                    Outside(fed, where, f"let it read the new value, after the call of the neurons, or {_WHOLE}")
                )
        return found

    def _layers(self) -> list[Outside]:
        """Layers that remember."""
        found = []
        for c in self.graph.connections.values():
            wrote = self._kept_by(c)
            if wrote and c.params:
                where = f"{self._described(wrote[0])} in `comm` of {c.name} remembers it for later steps, and no trace follows that"
                remedy = f"move what remembers into a neuron, a synapse or a filter (`etrax.contract`), or {_WHOLE}"
                found.append(Outside(tuple(sorted(dotted(path) for path in c.params)), where, remedy))
        return found

    def _kept_by(self, connection: Connection) -> list[int]:
        """Memories that a layer writes and on which its parameters act."""
        states, comm = self.graph.states, connection.comm
        used, written = comm.trace(connection.x)
        values = states.read(used)
        params = {i: values[i] for i in used if any(states.all[i] is s for s in connection.params.values())}
        memories = [i for i in written if i in self.paths.memories]
        if not memories:
            return []
        x = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), connection.x)
        acted = sensitive(lambda p: {i: v for i, v in comm({**values, **p}, x)[0].items() if i in memories}, params)
        return [i for i in memories if i in acted]

    @cached_property
    def _untraced(self) -> list[int]:
        """Parameters but for constants with a trace, which act through spikes on others as the weights behind them do."""
        constants = {id(s) for c in self.graph.sources if isinstance(c, TrainedConstant) for s in c.params.values()}
        return [i for i in self._parameters() if id(self.graph.states.all[i]) not in constants]

    @cached_property
    def waiting(self) -> frozenset[int]:
        """Numbers of the memories that hold nothing but spikes, for projections: what is dropped there is dropped by definition."""
        read, seen, direct = _remembered(self.paths), self.paths.seen, {state(i) for i in self._untraced}
        return frozenset(i for i in self.paths.memories if state(i) not in read and not seen[state(i)] & direct)

    def _fed(self, keys: set) -> tuple[str, ...]:
        """The parameters that act on what has a derivative by one of the keys."""
        graph, fed = self.graph, {self.name(i) for i in self._parameters() if state(i) in keys}
        home = {new(h.name): i for i, p in enumerate(graph.populations) for h in p.hidden}
        home |= {state(graph.states.index(h.state)): i for i, p in enumerate(graph.populations) for h in p.hidden}
        waiting, met = {home[key] for key in keys if key in home}, set()
        while waiting:
            index = waiting.pop()
            met.add(index)
            for source in graph.sources_of(index):
                fed |= {dotted(path) for path in source.params}
                below = self.paths.seen.get(sent(source.name), set())
                waiting |= {home[key] for key in below if key in home and key[0] == "new"} - met
        return tuple(sorted(fed))

    def check_model(self) -> None:
        """Raise a ValueError if a parameter reaches nothing at all."""
        for number in self._parameters():
            if not self.sources_of(number) and not any(state(number) in keys for keys in self.paths.seen.values()):
                raise ValueError(
                    f"the parameter {self.name(number)} reaches neither a state nor an output of the model, so it "
                    "would never get a gradient: use it in `update`, or make it a plain array if it is not to be trained."
                )

    def _parameters(self) -> list[int]:
        return [self.graph.states.index(s) for s in self.graph.params.values()]

    def _described(self, number: int) -> str:
        of = self.graph.states.all[number]
        if id(of) in self.graph.paths:
            return f"{self.name(number)} ({type(of).__name__})"
        shape = " and ".join(str(u.math.shape(leaf)) for leaf in jax.tree.leaves(of.value))
        return f"a {type(of).__name__} of shape {shape} that the step function writes"

    # -- in words --------------------------------------------------------------------------

    def table(self) -> list[str | Table]:
        """The account as a table, and a line for each memory outside."""
        rows, outside = [("parameter", "followed", "dropped by definition")], self.outside
        for path, param in self.graph.params.items():
            number = self.graph.states.index(param)
            now, later = self.ways(number)
            deep = self.credit.through_depth or self.credit.through_time
            dropped = [] if deep or not now else [f"later steps of what {', '.join(now)} enters (`through_depth`)"]
            if later and not self.credit.through_time:
                hops = (
                    f", more than {self.credit.hops} times (more `hops`)"
                    if self.credit.hops
                    else " (`hops`, multi-step)"
                )
                dropped.append(f"spikes into {', '.join(later)} at later steps{hops}")
            if any(dotted(path) in item.parameters for item in outside):
                dropped.append("and outside, see below" if dropped else "nothing, but part is outside, see below")
            rows.append((dotted(path), self._followed(number), "; ".join(dropped) or "nothing"))
        lines: list[str | Table] = [Table(rows)]
        if outside:
            lines += ["", *(f"{item}." for item in outside)]
        return lines

    def _followed(self, number: int) -> str:
        if not self.follows(number):
            return "nothing: its gradient is zero"
        if self.credit.through_time:
            return "all in a chunk"
        sources = [c for c in self.sources_of(number) if is_signalled(self.graph, self.traces, c, self.signals.states)]
        return "through its trace" if sources else "within the step"


_FEW = 4  # hops that are tried for a parameter without credit
_WHOLE = "use `vjp_method='multi-step'` of `etrax.D_RTRL`, whose chunks follow everything, or `etrax.BPTT`"
_KEEP = (
    _WHOLE
    + ". A leak of spikes can be a filter of the population instead (`etrax.neurons.LeakyReadout(..., pre=neurons)`), which has a trace"
)


def _remembered(paths: Paths) -> set:
    """Keys of the memories that reach the loss, at once or through each other."""
    memories = {state(m) for m in paths.memories}
    read: set = memories & paths.seen[LOSS]
    while not (more := {m for key in read for m in paths.seen[key] & memories}) <= read:
        read |= more
    return read


def no_path(name: str, remedies: Iterable[str] = (), within: str = "") -> ValueError:
    """The error for a parameter whose gradient is zero by structure."""
    advice = "".join(f" {remedy};" for remedy in remedies)
    return ValueError(
        f"no path that is followed leads from the parameter {name} to the loss{within}, so its gradient is always zero. What gives it one:"
        f"{advice} let the loss read what it feeds, not through a comparison, a rounding, an argmax or a stopped gradient. Or leave it out "
        "with `weights=` of `etrace_grad`, or of `grad`."
    )
