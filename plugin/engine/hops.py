"""What crosses from neurons to others in a block of steps, and how credit comes back: equation (39) of docs/mathematics.md.

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

__all__ = ["Block", "Crossing", "Crossings", "Later", "added", "before_growth"]


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

    def of(self, values: Values, block: Block, size: int) -> tuple[dict[str, Entered], Callable]:
        """What entered the layers in a block of ``size`` steps, and the function from cotangents of it to a `Crossing`."""
        cross = self.step.cross.vmap({*self.step.written}, in_axes=(0, None, 0, *[0] * len(block.slices)))

        def entered(*moved):
            of = Crossing(*moved)
            at = {**block.fixed, **block.before, **of.params, **of.old}
            found = cross(at, of.new, of.earlier, block.handed, *block.slices)
            return {name: e.x for name, e in found.items()}, {name: e.read for name, e in found.items()}

        x, pullback, read = jax.vjp(entered, *self._moved(values, block.before, (size,)), has_aux=True)
        none = jax.tree.map(jnp.zeros_like, x)
        return {name: Entered(x[name], read[name]) for name in x}, lambda ct: Crossing(*pullback({**none, **ct}))

    def none(self, values: Values, block: Block, size: int) -> Crossing:
        """No crossing, in a block of ``size`` steps."""
        return jax.tree.map(jnp.zeros_like, self._moved(values, block.before, (size,)))

    def into(self, index: int, values: Values, entered: dict[str, Entered], credit: dict) -> dict[str, Any]:
        """Cotangents of what entered the layers of one population, by the credit of its drives in the block."""
        of = [c for c in self.graph.connections.values() if c.population == index]
        return {c.name: self.layers[c.name].back(values, entered[c.name], credit[c.drive]) for c in of}

    def hop(self, values: Values, block: Block, crossing: Crossing, later: Later) -> tuple[Crossing, Later]:
        """What one level hands to the next: in the block, and to the step before it.

        Parameters
        ----------
        values, block
            Of the block.
        crossing : Crossing
            All cotangents of one level.
        later : Later
            What the level hands over from the steps after the block.
        """
        states = {i: v for i, v in crossing.old.items() if i not in self.waiting}
        over = Crossing({}, states, crossing.earlier, jax.tree.map(jnp.zeros_like, crossing.params))
        waiting = later.waiting
        if waiting:
            late = {i: crossing.old[i] for i in self.waiting}
            over, waiting = self._through_waiting(values, block, late, over, waiting)
        old = {s: self._mantissas(s, over.old[i]) for s, i in self.numbers.items() if i in over.old}
        new = {s: jnp.concatenate([v[1:], later.hidden[s][None]]) for s, v in old.items()}
        new |= {s: new[s] + v for s, v in over.new.items() if s in new}
        return over._replace(new=new, old={}), Later({s: v[0] for s, v in old.items()}, waiting)

    def _through_waiting(self, values: Values, block: Block, late: Values, over: Crossing, waiting: Values):
        """Add what goes back through spikes that wait; also returns the cotangents of those before the block."""

        def step(carry, at):
            waiting, earlier, params = carry
            before, handed, slices, late = at

            def wait(*moved):
                of = Crossing(*moved)
                at = {**block.fixed, **before, **of.params, **of.old}
                new, _ = self.step.cross(at, of.new, of.earlier, handed, *slices)
                return {i: new[i] for i in self.waiting}

            _, pullback = jax.vjp(wait, *self._moved(values, before, ()))
            found = Crossing(*pullback(waiting))
            waiting = {i: added(found.old[i], late[i]) for i in self.waiting}
            states = {i: v for i, v in found.old.items() if i not in self.waiting}
            return (waiting, added(earlier, found.earlier), added(params, found.params)), (found.new, states)

        steps = (block.before, block.handed, block.slices, late)
        start = (waiting, over.earlier, over.params)
        (waiting, earlier, params), (new, states) = jax.lax.scan(step, start, steps, reverse=True)
        return Crossing(new, added(over.old, states), earlier, params), waiting

    def _moved(self, values: Values, before: Values, time: tuple[int, ...]) -> Crossing:
        """What a crossing is differentiated by: what there is, and zeros that shift it."""
        new = {s: jnp.zeros((*time, *z.shape), z.dtype) for s, z in self.step.zeros.items()}
        old = {i: before[i] for i in (*self.numbers.values(), *self.waiting) if i in before}
        homes = {c.name: self.graph.populations[c.population] for c in self.graph.constants}
        earlier = {n: jnp.zeros(p.size, self.step.zeros[p.hidden[0].name].dtype) for n, p in homes.items()}
        return Crossing(new, old, earlier, {i: values[i] for i in self.params})

    def _mantissas(self, name: str, ct: Any) -> Any:
        """Cotangents of a state over time as ``(time, rows, size)``."""
        (leaf,), like = jax.tree.leaves(ct), self.step.zeros[name]
        return leaf.reshape(-1, *like.shape).astype(like.dtype)


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
