"""What a learner knows of a model: its populations, its connections, the kinds of its Jacobian entries.

Everything is found by running one step of the model under a recorder; kinds are found by
dependency (does an entry change when states or inputs change?), never by looking at values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.contract import Neuron
from etrax.contract.constant import read, trained
from etrax.contract.dependence import dependent
from etrax.contract.elementwise import same
from etrax.contract.jacobian import Kind
from etrax.contract.pattern import pattern_of, split
from etrax.contract.recorder import NOT_OF_PRE, Recorder, recording
from etrax.text import dotted

from .handover import Entered, Left, handed_over
from .listeners import JacobianEntries
from .names import Path
from .population import Hidden, Population
from .pure import Pure, States, Values
from .sources import Connection, Source, TrainedConstant
from .structure import Blocks, Structure

__all__ = ["Graph"]


class Probed(NamedTuple):
    """What one step of the model shows: its output, its Jacobian, what entered its projections, and its early filters."""

    out: Any
    blocks: Blocks
    x: dict[str, Any]
    early: dict[int, list[tuple[Any, Any]]]  # of each population, see `Recorder.early`


class Graph:
    """Populations and connections of a model, found by one recorded step.

    Parameters
    ----------
    model : brainstate.nn.Module
        Its states exist already.
    *args
        An example input of one step.
    diagonal : bool
        Whether ``D`` is kept; without it a trace holds the newest step only.
    moving : iterable of State
        States that somebody else writes from step to step.

    Raises
    ------
    ValueError
        If there is no population, if a projection's neurons are not part of the model, or if a parameter is of integers.
    """

    def __init__(
        self, model: brainstate.nn.Module, *args, diagonal: bool = True, moving: Iterable[brainstate.State] = ()
    ):
        self.model = model
        self.diagonal = diagonal
        found = model.states()
        self.paths: dict[int, Path] = {id(state): path for path, state in found.items()}
        self.states = States(found.values())
        self.params = {path: state for path, state in found.items() if isinstance(state, brainstate.ParamState)}
        self._check_types()
        nodes = model.nodes()
        neurons = [node for node in nodes.values() if isinstance(node, Neuron)]
        if not neurons:
            raise ValueError(
                "the model has no etrax neurons, so there is nothing to trace: build it from `etrax.neurons` and "
                "`etrax.synapses`, and keep every module as an attribute of the model."
            )
        self._node_paths = {id(node): path for path, node in nodes.items()}
        self.modules = frozenset(self._node_paths)
        self.populations = [Population(neuron, self.paths | self._node_paths) for neuron in neurons]
        self._index = {id(p.neuron): i for i, p in enumerate(self.populations)}
        self.connections: dict[int, Connection] = {}
        self.constants = [c for i in range(len(self.populations)) for c in self._constants_of(i)]
        self.parts = frozenset(id(part) for p in self.populations for part in p.parts)
        self.step = Pure(self._probe, self.states)
        used, self.written = self.step.trace(*args)
        self.used = frozenset(used)
        self.moving = {*self.written, *(self.states.index(s) for s in moving)}
        for connection in self.connections.values():
            connection.settle(self.moving)
        self._outline = jax.eval_shape(self.step, self.states.read(used), *args)
        self._check_early(used, args)
        self.structures = self._classify(used, args)
        self._example = (used, args)

    @cached_property
    def diagonal_at_start(self) -> dict[tuple[int, str, str], float]:
        """Largest diagonal entries of ``D`` in the state in which it is first asked for, by population and state."""
        used, args = self._example
        D = jax.jit(self.step)(self.states.read(used), *args)[1].blocks.D
        return {key: float(jnp.max(jnp.abs(value))) for key, value in D.items() if key[1] == key[2]}

    def current(self) -> bool:
        """Whether the populations still hold the states that were found."""
        return all(
            state is h.state
            for p in self.populations
            for h, state in zip(p.hidden, (s for part in p.parts for s in part.hidden.values()), strict=True)
        )

    @property
    def hidden(self) -> list[Hidden]:
        """All states that can carry a trace."""
        return [h for p in self.populations for h in p.hidden]

    @property
    def sources(self) -> list[Source]:
        """Everything whose parameters are trained through a trace."""
        return [*self.connections.values(), *self.constants]

    def shifts(self, by_source: dict[str, Any]) -> dict[int, dict[str, Any]]:
        """Mantissas per neuron, by the name of a trained constant, in the shape of its population: ``{id(part): {name: ...}}``."""
        parts = {self._node_paths[id(part)]: id(part) for p in self.populations for part in p.parts}
        found: dict[int, dict[str, Any]] = {}
        for constant in self.constants:
            if constant.name in by_source:
                path, name = constant.path[:-1], str(constant.path[-1])
                shape = self.populations[constant.population].varshape
                found.setdefault(parts[path], {})[name] = by_source[constant.name].reshape(shape)
        return found

    def sources_of(self, index: int) -> list[Source]:
        """What drives one population with trained parameters."""
        return [source for source in self.sources if source.population == index]

    @property
    def covered(self) -> set[int]:
        """``id`` of the parameters that are trained through a trace."""
        return {id(s) for c in self.sources for s in c.params.values()}

    def _constants_of(self, index: int) -> list[TrainedConstant]:
        population, found = self.populations[index], []
        for part in population.parts:
            for name, given in trained(part).items():
                unit, shape = u.get_unit(getattr(part, name)), population.varshape

                def value(given=given, unit=unit, shape=shape):
                    return jnp.broadcast_to(u.Quantity(read(given)).to_decimal(unit), shape).reshape(-1)

                pure = Pure(value, self.states)
                used = [self.states.all[i] for i in pure.trace()[0]]
                params = {self.paths[id(s)]: s for s in used if isinstance(s, brainstate.ParamState)}
                found.append(TrainedConstant((*self._node_paths[id(part)], name), index, params, pure))
        return found

    def send(
        self,
        handed: dict[str, Left] | None = None,
        wrote: dict[str, Values] | None = None,
        entered: dict[str, Entered] | None = None,
    ) -> Callable:
        """How a recorder lets projections communicate: parameters held constant, inputs not.

        With ``handed``, what is known of a layer already takes the place of its evaluation; derivatives with respect to
        the input are still those of the layer. What each layer writes is noted in ``wrote``, and what enters it, with its
        derivatives, in ``entered``.
        """

        def communicate(projection, x):
            connection = self._connect(projection, x)
            x = _through(connection.before, x)
            used, _ = connection.comm.trace(x)
            values = jax.tree.map(_constant, self.states.read(used))
            what = Entered(x, {i: values[i] for i in connection.changing})
            if entered is not None:
                entered[connection.name] = what
            if handed is not None and connection.name in handed:
                new, y = handed_over(connection.comm, values, x, handed[connection.name])
            else:
                new, y = connection.comm(values, x)
            self.states.write(new)
            if wrote is not None:
                wrote[connection.name] = new
            return what, y

        return communicate

    def _connect(self, projection, x) -> Connection:
        """The connection of a projection, made when the projection is first met."""
        if id(projection) not in self.connections:
            path = self._node_paths.get(id(projection))
            index = self._index.get(id(projection.post))
            if path is None or index is None:
                raise ValueError(
                    f"{projection.name} or its `post` is not an attribute of the model: assign both to attributes, so "
                    "that their states belong to it."
                )
            population = self.populations[index]
            before, layer = split(projection.comm)
            pattern = pattern_of(layer)
            if pattern is not None and pattern.sparse_product:
                layer = partial(pattern.product, population.size)
            comm = Pure(lambda x: projection.sized(layer(x)), self.states)
            if before:
                ahead = Pure(partial(_through, before), self.states)
                x = jax.eval_shape(ahead, self.states.read(ahead.trace(x)[0]), x)[1]
            used, _ = comm.trace(x)
            covered = [self.states.all[i] for i in used if isinstance(self.states.all[i], brainstate.ParamState)]
            params = {self.paths[id(s)]: s for s in covered if id(s) in self.paths}
            y = jax.eval_shape(lambda v, x: comm(v, x)[1], self.states.read(used), x)
            drive = population.drive(projection)
            unit = population.drive_unit(projection, y)
            scale = (
                float(u.Quantity(1.0, unit=u.get_unit(y)).to_decimal(unit)) if u.get_unit(y).has_same_dim(unit) else 1.0
            )
            shape = jax.eval_shape(lambda a: a, x)
            changing = [i for i in used if not isinstance(self.states.all[i], brainstate.ParamState)]
            self.connections[id(projection)] = Connection(
                path, projection, index, drive, comm, params, scale, shape, y, pattern, before, changing
            )
        return self.connections[id(projection)]

    def compose(self, recorder: Recorder, entries: JacobianEntries) -> Blocks:
        """``D`` and ``f`` of every population, keyed by (population, row, column)."""
        blocks = Blocks({}, {})
        for i, population in enumerate(self.populations):
            for whole, own in zip(blocks, population.compose(recorder, entries.of), strict=True):
                whole.update({(i, *key): value for key, value in own.items()})
        return blocks

    def _probe(self, *args) -> Probed:
        entries = JacobianEntries()
        recorder = Recorder(entries, modules=self.modules, send=self.send(), traced=self.parts)
        with recording(recorder):
            out = self.model(*args)
        x = {self.connections[key].name: value for key, value in recorder.x.items()}
        early = {
            i: [recorder.early[id(f)] for f in p.filters if id(f) in recorder.early]
            for i, p in enumerate(self.populations)
        }
        return Probed(out, self.compose(recorder, entries), x, early)

    def _check_early(self, used: list[int], args: tuple) -> None:
        """Raise a ValueError if a filter ahead of its ``pre`` takes anything but the spikes of the last step of that."""
        values = self.states.read(used)

        def entered(i, k, own):
            return self.step({**values, **own}, *args)[1].early[i][k]

        for i, pairs in self._outline[1].early.items():
            own = {
                n: values[n] for n in (self.states.index(h.state) for h in self.populations[i].hidden) if n in values
            }
            if not all(same(partial(entered, i, k), own) for k in range(len(pairs))):
                raise ValueError(NOT_OF_PRE)

    def _classify(self, used: list[int], args: tuple) -> list[Structure]:
        values = self.states.read(used)

        def run(moved):
            states, args = moved
            blocks = self.step({**values, **states}, *args)[1].blocks
            return {("D", key): v for key, v in blocks.D.items()} | {("f", key): v for key, v in blocks.f.items()}

        seen = dependent(run, ({i: v for i, v in values.items() if i in self.moving}, args))

        def kind(what, key, entry):
            if (what, key) in seen:
                return Kind.VARYING
            return Kind.UNIFORM if np.prod(entry.shape) == 1 else Kind.PER_NEURON

        outline, structures = self._outline[1].blocks, []
        for i, population in enumerate(self.populations):
            D = {key[1:]: kind("D", key, v) for key, v in outline.D.items() if key[0] == i and self.diagonal}
            f = {key[1:]: kind("f", key, v) for key, v in outline.f.items() if key[0] == i}
            structures.append(Structure(D, f, [h.name for h in population.hidden]))
        return structures

    def _check_types(self) -> None:
        for path, state in self.params.items():
            for leaf in map(u.get_mantissa, jax.tree.leaves(state.value, is_leaf=lambda v: isinstance(v, u.Quantity))):
                if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
                    raise ValueError(
                        f"the parameter {dotted(path)} is of type {jnp.result_type(leaf)}, which has no gradient: give "
                        "it floating-point values, e.g. 3.0 for 3."
                    )


def _through(modules: list, x):
    for module in modules:
        x = module(x)
    return x


def _constant(leaf):
    return jax.lax.stop_gradient(leaf)
