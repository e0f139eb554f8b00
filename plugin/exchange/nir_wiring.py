"""The parts of a network that NIR has nodes for, and what is connected to what.

The connections are found by one step on *marks*: every element of the input, of every population's spikes and of every
layer's output is a number of its own, so that the numbers that enter a layer tell where they come from.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from etrax.analysis.probe import watched
from etrax.checks import whole_number
from etrax.contract import Filter, Neuron
from etrax.neurons import IF, LIF, CubaLIF, LeakyReadout
from etrax.synapses import CUBA, AlignPostProj, CurrentProj, DeltaProj, Expon
from etrax.synapses.projection import Projection

__all__ = ["Connection", "Source", "Wiring", "cannot", "free_name"]

_NEURONS = (LIF, IF, CubaLIF)
_LAYERS = (brainstate.nn.Linear, brainstate.nn.Conv2d)

Change = tuple[Any, str, Callable]  # a module, the name of a method, and what takes its place; see `watched`


def cannot(what: str, why: str) -> ValueError:
    """The error for what has no counterpart in NIR."""
    return ValueError(f"NIR cannot express {what}: {why}")


def free_name(name: str, taken: dict[int, str]) -> str:
    """The name, with underscores until no other node has it."""
    while name in taken.values():
        name += "_"
    return name


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Something that signals come from: the input, a population, a layer outside projections.

    Attributes
    ----------
    name : str
        Of its node.
    shape : tuple of int
        Of one sample of its signal.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Connection:
    """What a layer takes from one source.

    Attributes
    ----------
    source : Source
        Where it comes from.
    late : bool
        Whether these are the spikes of the step before.
    there, here : list of int
        Numbers of the elements, among those of the source and among those of the layer's input.
    """

    source: Source
    late: bool
    there: list[int] = dataclasses.field(default_factory=list)
    here: list[int] = dataclasses.field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether it is the signal as it is."""
        return self.there == self.here == list(range(self.source.size))


class Wiring:
    """The parts of a network and the connections between them, from one step on marks.

    Attributes
    ----------
    names : dict
        Identity of a module -> name of its node.
    neurons, projections, layers : list
        The modules, in the order of the model; the layers are those outside projections.
    channels_last : bool
        Whether images have their channels last, as is usual here; first if a convolution has them so.
    lead : tuple of int
        The batch axis, if there is one.
    order : dict
        `Source` of a population -> when in the step it is called, from 0 on.
    inputs : dict
        Identity of a projection or layer -> the marks that enter it.
    source : dict
        Identity of a population or layer -> its `Source`.
    entry : Source
        The input of the network.
    out : array
        The marks that the network returns.

    Raises
    ------
    ValueError
        For a part without a node, or a step that NIR's graphs have no counterpart of.
    """

    def __init__(self, model: brainstate.nn.Module, shape: tuple[int, ...], batch_size: int | None):
        self.lead = () if batch_size is None else (whole_number("batch_size", batch_size),)
        if shape[: len(self.lead)] != self.lead:
            raise ValueError(f"`batch_size` is {batch_size} but `x0` has shape {shape}: the batch axis comes first.")
        self.names = {id(node): "_".join(map(str, path)) for path, node in model.nodes().items()}
        nodes = list(model.nodes().values())
        self.neurons = [n for n in nodes if isinstance(n, Neuron)]
        self.projections = [n for n in nodes if isinstance(n, Projection)]
        inside = {id(p.comm) for p in self.projections}
        readouts = [n for n in nodes if isinstance(n, LeakyReadout)]
        self.layers = [n for n in nodes if isinstance(n, _LAYERS) and id(n) not in inside] + readouts
        self._check(nodes)
        self.channels_last = not any(n.channel_first for n in nodes if isinstance(n, brainstate.nn.Conv2d))
        self.source = {id(n): Source(self.names[id(n)], tuple(n.varshape)) for n in self.neurons}
        self.source |= {id(n): Source(self.names[id(n)], tuple(np.atleast_1d(n.out_size))) for n in self.layers}
        self.entry = Source(free_name("input", self.names), shape[len(self.lead) :])
        self.inputs: dict[int, Any] = {}
        self.order: dict[Source, int] = {}
        self._marks: dict[tuple[Source, bool], Any] = {}
        self._known: dict[float, tuple[Source, bool, int]] = {}
        self._mark()
        self.out = self._run(model)

    # -- what has a node -------------------------------------------------------------------

    def _check(self, nodes: list[Any]) -> None:
        for node in nodes:
            name, kind = self.names[id(node)], type(node).__name__
            if isinstance(node, Neuron) and type(node) not in _NEURONS:
                raise cannot(f"the neurons `{name}` ({kind})", f"it has {_titles(_NEURONS)} only.")
            if isinstance(node, Filter) and not isinstance(node, LeakyReadout):
                raise cannot(f"`{name}` ({kind})", "it has no presynaptic filter.")
        for projection in self.projections:
            self._check_projection(projection)
        first = {n.channel_first for n in nodes if isinstance(n, brainstate.nn.Conv2d)}
        if len(first) > 1:
            raise cannot("images with channels first and last in one model here", "use one `channel_first`.")

    def _check_projection(self, p: Projection) -> None:
        name, syn, out = self.names[id(p)], getattr(p, "syn", None), getattr(p, "out", None)
        if not isinstance(p.comm, _LAYERS):
            raise ValueError(
                f"`comm` of `{name}` ({type(p.comm).__name__}) cannot be written: etrax writes Linear and Conv2d only."
            )
        if p.modules:
            raise cannot(f"what `{name}` applies before `comm`", "pass spikes to it directly.")
        if syn is not None and (type(syn) is not Expon or type(p.post) is CubaLIF):
            raise cannot(
                f"the synapse {type(syn).__name__} of `{name}` onto {type(p.post).__name__}",
                "it has Expon onto LIF only.",
            )
        if out is not None and type(out) is not CUBA:
            raise cannot(f"the output {type(out).__name__} of `{name}`", "it has current-based synapses (CUBA) only.")
        if type(p) not in (AlignPostProj, CurrentProj, DeltaProj):
            raise cannot(f"`{name}` ({type(p).__name__})", "use AlignPostProj, CurrentProj or DeltaProj.")

    # -- one step on marks -----------------------------------------------------------------

    def _mark(self) -> None:
        """Give every element of every signal a number of its own; spikes of the step before are signals too."""
        signals = [(self.entry, False)]
        signals += [(self.source[id(n)], late) for n in self.neurons for late in (False, True)]
        signals += [(self.source[id(n)], False) for n in self.layers]
        total = sum(source.size for source, _ in signals)
        values = 1.0 + np.random.default_rng(0).choice(2**22, total, replace=False) / 2**22  # exact in float32
        start = 0
        for source, late in signals:
            part = values[start : start + source.size]
            self._known.update({float(value): (source, late, i) for i, value in enumerate(part)})
            self._marks[source, late] = jnp.broadcast_to(part.reshape(source.shape), self.lead + source.shape)
            start += source.size

    def _run(self, model: brainstate.nn.Module) -> Any:
        changes: list[Change] = []
        for n in self.neurons:
            changes += self._emitting(n)
            changes += [(shared, "update", lambda: None) for shared in (n.before_updates or {}).values()]
        for p in self.projections:
            changes.append(self._taking(p))
        for n in self.layers:
            changes.append(self._taking(n, self._marks[self.source[id(n)], False]))
        with watched(changes):
            return model.update(self._marks[self.entry, False])

    def _emitting(self, n: Neuron) -> list[Change]:
        """A population that gives its marks, and notes when it is called."""
        mine = self.source[id(n)]

        def update(x=None):
            if x is not None:
                raise cannot(f"the external current of `{mine.name}`", "let it enter through a CurrentProj.")
            self.order[mine] = len(self.order)
            return self._marks[mine, False]

        def get_spike(*states, **named):
            return self._marks[mine, mine not in self.order]

        return [(n, "update", update), (n, "get_spike", get_spike)]

    def _taking(self, module: Any, out: Any = None) -> Change:
        """A projection or layer that notes what enters it and gives ``out``."""

        def update(x):
            name = self.names[id(module)]
            if isinstance(module, Projection) and self.source.get(id(module.post)) in self.order:
                raise cannot(f"`{name}`, called after its `post`", "call it before.")
            if id(module) in self.inputs:
                raise cannot(f"`{name}`, called twice in one step", "make it two modules.")
            self.inputs[id(module)] = x
            return out

        return module, "update", update

    # -- what it tells ---------------------------------------------------------------------

    def connections(self, value: Any, what: str) -> list[Connection]:
        """Where the elements of a value come from; ``what`` is its title in messages."""
        try:
            flat = np.asarray(u.get_mantissa(value), float)
        except (TypeError, ValueError) as error:
            raise cannot(f"{what}", f"it must be one array ({error}).") from error
        flat = flat[(0,) * len(self.lead)].reshape(-1)
        found: dict[tuple[Source, bool], Connection] = {}
        for here, number in enumerate(flat):
            if number == 0.0:
                continue
            if float(number) not in self._known:
                raise cannot(
                    f"{what}, which is computed from inputs or spikes",
                    "pass them on as they are (concatenated, reshaped, selected) and leave arithmetic to layers.",
                )
            source, late, there = self._known[float(number)]
            connection = found.setdefault((source, late), Connection(source, late))
            connection.there.append(there)
            connection.here.append(here)
        return list(found.values())

    def when(self, source: Source) -> float:
        """When in a step a source has its signal: the input before all populations, layers after them."""
        return -1 if source is self.entry else self.order.get(source, math.inf)


def _titles(classes: tuple[type, ...]) -> str:
    return ", ".join(cls.__name__ for cls in classes)
