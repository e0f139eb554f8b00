"""A population: one neuron module with everything whose states are aligned to it.

The Jacobian diagonal of the whole is composed by the chain rule from what the parts
report, in the order of one step: synapses, outputs, neuron, filters of its spikes. The
same-step coupling (conductance, current, potential, spike, filtered spike) enters here,
once: equations (10) and (11) of docs/mathematics.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp

from etrax.contract import Entries, Neuron, Synapse, SynOut
from etrax.contract.constant import trained
from etrax.contract.jacobian import Kind, coefficient, compose
from etrax.contract.recorder import Recorder
from etrax.text import dotted

from .names import Drive, Old, Path
from .structure import Blocks

__all__ = ["Hidden", "Population", "canonical"]

_JUMP = Drive("delta", "jump")


@dataclass(frozen=True)
class Hidden:
    """One state variable of a population."""

    name: str  # the path, dotted: the key of everything the learner keeps about this state
    path: Path
    state: brainstate.HiddenState
    unit: u.Unit


class Population:
    """One neuron module, the synapses aligned to it and the filters of its spikes.

    Parameters
    ----------
    neuron : Neuron
        The module; its states exist already.
    paths : dict
        ``id -> path`` of the states and modules of the model.
    """

    def __init__(self, neuron: Neuron, paths: dict[int, Path]):
        self.neuron = neuron
        self.terms: list[tuple[SynOut, Any]] = list(neuron.receivers.values())
        self.synapses = [source for _, source in self.terms if isinstance(source, Synapse)]
        direct = [source for _, source in self.terms if not isinstance(source, Synapse)]
        self.direct = {id(s): Drive(dotted(paths.get(id(s), (s.name,))), "conductance") for s in direct}
        # a filter that was replaced is no part of the model any more, though the neuron still knows it
        self.filters = [part for part in neuron.filters if id(part) in paths]
        self.parts = [*self.synapses, neuron, *self.filters]
        for part in self.synapses:
            if id(part) not in paths:
                raise ValueError(
                    f"{type(part).__name__} is attached to {dotted(paths[id(neuron)]) or type(neuron).__name__} but is not part of the model, and "
                    "still drives the neurons: make projection and neurons anew together, or assign the projection to an attribute."
                )
        self.hidden: list[Hidden] = []
        self.names: dict[int, dict[str, str]] = {}
        for part in self.parts:
            part.check_states()
            _check_names(part, neuron)
            names = {}
            for name, state in part.hidden.items():
                path = paths[id(state)]
                names[name] = dotted(path)
                self.hidden.append(Hidden(names[name], path, state, u.get_unit(state.value)))
            self.names[id(part)] = names
        self.constants = {
            id(part): {name: Drive(dotted((*paths[id(part)], name)), "constant") for name in trained(part)}
            for part in self.parts
        }
        self.varshape = tuple(neuron.varshape)
        self.size = math.prod(self.varshape)
        shape = u.math.shape(self.hidden[0].state.value)
        self.batch = shape[: len(shape) - len(self.varshape)]
        self.rows = math.prod(self.batch)
        self.units = {h.name: h.unit for h in self.hidden}

    def drive(self, projection) -> Drive:
        """The drive through which a projection acts: input of its synapse, the conductance itself, or a jump."""
        syn = getattr(projection, "syn", None)
        return self.direct.get(id(projection), _JUMP) if syn is None else self.input(syn)

    def drive_unit(self, projection, y) -> u.Unit:
        """The unit in which the drive of a projection that sends ``y`` is counted."""
        if id(projection) in self.direct:
            return u.get_unit(y)
        syn = getattr(projection, "syn", None)
        return self.first(self.neuron if syn is None else syn)[1]

    def compose(self, recorder: Recorder, entries: dict[int, Entries]) -> Blocks:
        """The Jacobian of the whole, as mantissas in the states' units.

        Parameters
        ----------
        recorder : Recorder
            Of one step.
        entries : dict
            ``id(part) -> `` what it registered for that step.
        """
        new_rows = {}
        units = {_JUMP: self.first(self.neuron)[1]}
        units |= {drive: u.get_unit(getattr(p, n)) for p in self.parts for n, drive in self.constants[id(p)].items()}
        for syn in self.synapses:
            drive = self.input(syn)
            units[drive] = self.first(syn)[1]
            new_rows[id(syn)] = self._advance(entries, syn, {"y": {drive: 1.0}})
        sources: dict[Any, dict] = {"current": {}, "slope": {}, "delta": {_JUMP: 1.0}}
        affine = all(out.is_affine for out, _ in self.terms)
        for i, (out, source) in enumerate(self.terms):
            if id(source) in self.direct:
                units[self.direct[id(source)]] = u.get_unit(recorder.y[id(source)])
                conductance = {self.direct[id(source)]: 1.0}
            else:
                new = recorder.new[id(source)]
                read = {**source.conductance_jacobian(**new), **source.conductance_constant_jacobian(**new)}
                conductance = compose(read, {**new_rows[id(source)], **self._acting(source)})["g"]
            if affine:
                _add(sources, compose(out.jacobian(), {"g": conductance}))
            else:
                sources["g", i] = conductance
        new_rows[id(self.neuron)] = rows = self._advance(entries, self.neuron, sources)
        before = {name: {Old(state): 1.0} for name, state in self.names[id(self.neuron)].items()}
        for early, states, at in ((True, recorder.old, before), (False, recorder.new, rows)):
            parts = [part for part in self.filters if (id(part) in recorder.early) == early]
            if parts:
                spike = self._spike(states[id(self.neuron)], at)
                new_rows |= {id(part): self._advance(entries, part, {"z": spike}) for part in parts}
        D: Entries = {}
        f: Entries = {}
        for part in self.parts:
            for name, row in new_rows[id(part)].items():
                state = self.names[id(part)][name]
                for origin, value in row.items():
                    if isinstance(origin, Old):
                        block, source, unit = D, origin.state, self.units[origin.state]
                    else:
                        block, source, unit = f, origin, units[origin]
                    block[state, source] = coefficient(value, self.units[state], unit, f"d {state} / d {source}")
        return Blocks(D, f)

    def _spike(self, states: dict, rows: dict[str, dict]) -> dict:
        """The row of the spike that the neuron emits in ``states``, given their rows."""
        read = {**self.neuron.spike_jacobian(**states), **self.neuron.spike_constant_jacobian(**states)}
        return compose(read, {**rows, **self._acting(self.neuron)})["z"]

    def input(self, syn) -> Drive:
        """What enters a synapse, in the unit of its first state and named by it."""
        return Drive(self.first(syn)[0], "input")

    def first(self, part) -> tuple[str, u.Unit]:
        """Name and unit of a part's first state."""
        name = next(iter(self.names[id(part)].values()))
        return name, self.units[name]

    def _advance(self, entries: dict[int, Entries], part, drives: dict[str, dict]) -> dict[str, dict]:
        """Rows of one part's new states, given the rows of its drives."""
        if id(part) not in entries:
            raise RuntimeError(
                f"{type(part).__name__} ({', '.join(self.names[id(part)].values())}) was not stepped: every part of a population must be "
                "called once in each step of the model."
            )
        names = self.names[id(part)]
        rows = {name: {Old(state): 1.0} for name, state in names.items()}
        out = compose(entries[id(part)], {**drives, **rows, **self._acting(part)})
        return {name: out.get(name, {}) for name in names}

    def _acting(self, part) -> dict[str, dict]:
        """Rows of a part's trained constants: drives like any other."""
        return {name: {drive: 1.0} for name, drive in self.constants[id(part)].items()}

    def canonical(self, value: Any, kind: Kind):
        """An entry as an array of shape (), (size,) or (rows, size), by its kind."""
        return canonical(value, kind, self.batch, self.varshape)


def _check_names(part, neuron: Neuron) -> None:
    """A ValueError if a neuron's state has the name of an argument of its transition."""
    taken = {"current", "slope", "delta"} & set(part.hidden) if part is neuron else set()
    if taken:
        raise ValueError(
            f"{type(part).__name__} has a state called {', '.join(sorted(taken))}, as an argument of `transition` or a source of its "
            "Jacobian is: call the state otherwise."
        )


def _add(total: dict[Any, dict], rows: dict[Any, dict]) -> None:
    """Add rows to those of the same name."""
    for name, row in rows.items():
        for origin, value in row.items():
            old = total[name].get(origin)
            total[name][origin] = value if old is None else old + value


def canonical(value: Any, kind: Kind, batch: tuple[int, ...], varshape: tuple[int, ...]):
    """An array of shape (), (size,) or (rows, size) that stands for ``value`` in all of a population."""
    value = jnp.asarray(value)
    rows, size = math.prod(batch), math.prod(varshape)
    if kind is Kind.VARYING:
        return jnp.broadcast_to(value, (*batch, *varshape)).reshape(rows, size)
    if value.ndim > len(varshape):  # the same for all samples, since it depends on no state
        value = value[(0,) * (value.ndim - len(varshape))]
    if kind is Kind.UNIFORM:
        return value.reshape(())
    return jnp.broadcast_to(value, varshape).reshape(size)
