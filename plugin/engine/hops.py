"""What crosses from neurons to others in a block of steps, and how credit comes back: equation (38) of docs/mathematics.md.

What enters a projection is made of spikes of this step and of earlier ones. A cotangent of it goes back to the new states of the
neurons that sent them, within the step, or to their old ones: that is a hop. Where spikes wait in a delay line, it goes back
through what waits, from step to step. No product with weights is in here but those of the layers, `Layer.back`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .graph import Graph
from .handover import Entered
from .layer import Layer
from .pure import Values
from .step import Handed, Step

__all__ = ["Block", "Crossed", "Crossing", "Crossings", "Later", "added", "before_growth"]


class Block(NamedTuple):
    """Consecutive steps, over time: states that no step writes, the others before each step, what is known, arguments."""

    fixed: Values
    before: Values
    handed: Handed
    slices: tuple


class Crossing(NamedTuple):
    """Cotangents of what acts on the inputs of layers.

    Attributes
    ----------
    new : dict
        ``state -> `` of new states, over time.
    old : dict
        ``number -> `` of states before the steps, over time.
    earlier : dict
        ``trained constant -> `` as it acts on spikes of the step before, ``(size,)``.
    params : dict
        ``number -> `` of parameters, as they act besides.
    """

    new: dict[str, Any]
    old: Values
    earlier: dict[str, Any]
    params: Values


class Later(NamedTuple):
    """Cotangents of states after a step, from the steps after it: of populations by name, of waiting spikes by number."""

    hidden: dict[str, Any]
    waiting: Values


class Crossings:
    """The crossings of one step function.

    Parameters
    ----------
    step : Step
        The step function.
    layers : dict
        ``name of a connection -> Layer``.
    waiting : list of int
        Numbers of the states where spikes wait.
    params : list of int
        Numbers of the parameters to differentiate.
    """

    def __init__(self, step: Step, layers: dict[str, Layer], waiting: list[int], params: list[int]):
        self.step = step
        self.graph: Graph = step.graph
        self.layers = layers
        self.waiting = waiting
        self.params = params
        self.numbers = {h.name: self.graph.states.index(h.state) for h in self.graph.hidden}

    def end(self, values: Values) -> Later:
        """What comes after a chunk: nothing."""
        hidden = {s: jnp.zeros(z.shape, z.dtype) for s, z in self.step.zeros.items()}
        return Later(hidden, {i: jax.tree.map(jnp.zeros_like, values[i]) for i in self.waiting})

    def of(self, values: Values, block: Block, size: int) -> Crossed:
        """The crossings of a block of ``size`` steps."""
        cross = self.step.cross.vmap({*self.step.written}, in_axes=(0, None, 0, *[0] * len(block.slices)))

        def entered(*moved):
            of = Crossing(*moved)
            at = {**block.fixed, **block.before, **of.params, **of.old}
            found = cross(at, of.new, of.earlier, block.handed, *block.slices)
            return {name: e.x for name, e in found.items()}, {name: e.read for name, e in found.items()}

        moved = self.moved(values, block.before, (size,))
        x, pullback, read = jax.vjp(entered, *moved, has_aux=True)
        return Crossed(self, values, block, {name: Entered(x[name], read[name]) for name in x}, pullback, moved)

    def waits(self, values: Values, block: Block, at: tuple, ct: Values) -> Crossing:
        """From cotangents of what waits after one step ``at`` of a block to those of what it is made of."""
        before, handed, slices = at

        def wait(*moved):
            of = Crossing(*moved)
            at = {**block.fixed, **before, **of.params, **of.old}
            new, _ = self.step.cross(at, of.new, of.earlier, handed, *slices)
            return {i: new[i] for i in self.waiting}

        return Crossing(*jax.vjp(wait, *self.moved(values, before, ()))[1](ct))

    def moved(self, values: Values, before: Values, time: tuple[int, ...]) -> Crossing:
        """What a crossing is differentiated by: what there is, and zeros that shift it."""
        new = {s: jnp.zeros((*time, *z.shape), z.dtype) for s, z in self.step.zeros.items()}
        old = {i: before[i] for i in (*self.numbers.values(), *self.waiting) if i in before}
        homes = {c.name: self.graph.populations[c.population] for c in self.graph.constants}
        earlier = {n: jnp.zeros(p.size, self.step.zeros[p.hidden[0].name].dtype) for n, p in homes.items()}
        return Crossing(new, old, earlier, {i: values[i] for i in self.params})

    def mantissas(self, name: str, ct: Any) -> Any:
        """Cotangents of a state over time as ``(time, rows, size)``."""
        (leaf,), like = jax.tree.leaves(ct), self.step.zeros[name]
        return leaf.reshape(-1, *like.shape).astype(like.dtype)


class Crossed:
    """The crossings of one block of steps."""

    def __init__(
        self,
        crossings: Crossings,
        values: Values,
        block: Block,
        entered: dict[str, Entered],
        pullback: Callable,
        moved: Crossing,
    ):
        self._of = crossings
        self._values = values
        self._block = block
        self._entered = entered
        self._pullback = pullback
        self.nothing: Crossing = jax.tree.map(jnp.zeros_like, moved)
        # traced once for all levels
        self.down = jax.jit(self._down, static_argnums=0)
        self.hop = jax.jit(self._hop)

    def _down(self, index: int, credit: dict, start) -> Crossing:
        """What goes back from what entered the layers of one population, by the credit of its drives over the chunk."""
        found = {}
        for c in self._of.graph.connections.values():
            if c.population == index:
                entered = self._entered[c.name]
                size = jax.tree.leaves(entered.x)[0].shape[0]
                part = jax.lax.dynamic_slice_in_dim(credit[c.drive], start, size, axis=1)
                found[c.name] = self._of.layers[c.name].back(self._values, entered, part)
        if not found:
            return self.nothing
        none = {name: jax.tree.map(jnp.zeros_like, e.x) for name, e in self._entered.items()}
        return Crossing(*self._pullback({**none, **found}))

    def _hop(self, crossing: Crossing, later: Later) -> tuple[Crossing, Later]:
        """What one level hands to the next: in the block, and to the step before it.

        Parameters
        ----------
        crossing : Crossing
            All cotangents of one level.
        later : Later
            What the level hands over from the steps after the block.
        """
        of, waiting = self._of, later.waiting
        states = {i: v for i, v in crossing.old.items() if i not in waiting}
        over = Crossing({}, states, crossing.earlier, self.nothing.params)
        if waiting:
            over, waiting = self._through_waiting({i: crossing.old[i] for i in waiting}, over, waiting)
        old = {s: of.mantissas(s, over.old[i]) for s, i in of.numbers.items() if i in over.old}
        new = {s: jnp.concatenate([v[1:], later.hidden[s][None]]) for s, v in old.items()}
        new |= {s: new[s] + v for s, v in over.new.items() if s in new}
        return over._replace(new=new, old={}), Later({s: v[0] for s, v in old.items()}, waiting)

    def _through_waiting(self, late: Values, over: Crossing, waiting: Values) -> tuple[Crossing, Values]:
        """Add what goes back through spikes that wait; also returns the cotangents of those before the block."""

        def step(carry, at):
            waiting, earlier, params = carry
            *at, late = at
            found = self._of.waits(self._values, self._block, tuple(at), waiting)
            states = {i: v for i, v in found.old.items() if i not in waiting}
            waiting = {i: added(found.old[i], late[i]) for i in waiting}
            return (waiting, added(earlier, found.earlier), added(params, found.params)), (found.new, states)

        steps = (*self._block[1:], late)
        start = (waiting, over.earlier, over.params)
        (waiting, earlier, params), (new, states) = jax.lax.scan(step, start, steps, reverse=True)
        return Crossing(new, added(over.old, states), earlier, params), waiting


def before_growth(credits: list[list[Any]]) -> Any:
    """The number of the last sum before increments grow beyond the first one twice in a row; the last one if they do not.

    Parameters
    ----------
    credits : list of list of array
        Partial sums, one more hop each: of every connection.
    """

    def sizes(values):
        return jnp.stack([jnp.linalg.norm(v.ravel()) for v in values])

    first = sizes(credits[0])
    steps = [sizes([b - a for a, b in zip(*pair, strict=True)]) for pair in pairwise(credits)]
    found = jnp.stack(
        [jnp.ones(()), *(jnp.max(jnp.where(first > 0, s / jnp.where(first > 0, first, 1.0), 0.0)) for s in steps)]
    )
    grows = (found[2:] > found[1:-1]) & (found[1:-1] > found[:-2]) & (found[2:] > 1)
    return jnp.where(jnp.any(grows), jnp.argmax(grows), len(credits) - 1).astype(jnp.int32)


def added(a: Any, b: Any) -> Any:
    """The sum of two pytrees."""
    return jax.tree.map(jnp.add, a, b)
