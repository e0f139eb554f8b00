"""Looking at a chunk that has run, block by block from its end: Jacobian, learning signals, adjoints.

All steps of a block are looked at together, from the stored states: one derivative of the summed loss, which gives the
learning signals of equation (18) of docs/mathematics.md, or, through depth, one for each population from the top down, with
what the populations above it send back, equation (37) of docs/mathematics.md. Then each population's adjoint is scanned back
through the block (`Adjoint`), which looks at each step again if the entries of its Jacobian are many.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from etrax.contract.jacobian import Kind

from .adjoint import Adjoint, Passed
from .adjoint import Steps as Scanned
from .graph import Graph
from .hops import Block, Crossed, Crossings, Later, added
from .planning import Limits, block_length
from .pure import Values
from .signals import Signals
from .step import Handed, Observed, Step
from .structure import Blocks
from .traces.base import Steps

__all__ = ["Found", "Level", "LookBack", "Past", "blocks_of"]

# what is seen has an axis of time, but for what is constant
_AXES = Observed._make(None if field == "constant" else 0 for field in Observed._fields)


class Past(NamedTuple):
    """A chunk that has run, over time.

    Attributes
    ----------
    states : dict
        Values of the written states, one more than there are steps.
    mask
        Weights of the losses.
    sent : dict
        What left each connection.
    signals : dict
        Learning signals that are known already.
    slices
        Arguments of the steps.
    """

    states: Values
    mask: Any
    sent: dict[str, Any]
    signals: dict[str, Any]
    slices: tuple


class Level(NamedTuple):
    """What is found with one more hop, and what looking back begins with at the end of a chunk.

    Attributes
    ----------
    passed : dict
        What the adjoint of each population passed on and noted, of those whose adjoint is asked for, see `Adjoint.end`.
    grads : dict
        Gradients of parameters outside every projection, ``{number: value}``, added to those that it began with.
    """

    passed: dict[int, Passed]
    grads: dict[int, Any]


class Found(NamedTuple):
    """What looking back finds.

    Attributes
    ----------
    levels : list of Level
        With 0, 1, 2, ... hops.
    later : list of Later
        What each level but the last hands to the steps before.
    loss, aux
        Over time.
    steps : dict
        Signals and Jacobian over time, of each population with a trace that learns step by step.
    """

    levels: list[Level]
    later: list[Later]
    loss: Any
    aux: Any
    steps: dict[int, Steps]


class Looked(NamedTuple):
    """What a block showed: learning signals, gradients beside the traces, and how to scan a population's adjoint back through it."""

    signals: dict[str, Any]
    grads: dict[int, Any]
    scan: Callable[[int, dict[str, Any], Passed], Passed]


class LookBack:
    """Looks back at the chunks of one step function.

    Parameters
    ----------
    step : Step
        The step function.
    adjoints : list of Adjoint
        Of each population.
    signals : Signals
        Which states the loss gives a learning signal to.
    weights : list of int
        Numbers of the parameters that get a gradient of single steps.
    stepwise : frozenset of int
        Populations with a trace that learns step by step.
    limits : Limits
        How much is looked at together.
    crossings : Crossings, optional
        What crosses from neurons to others, where credit goes back that way.
    """

    def __init__(  # noqa: PLR0913 - the parts of an engine
        self,
        step: Step,
        adjoints: list[Adjoint],
        signals: Signals,
        weights: list[int],
        stepwise: frozenset[int],
        limits: Limits,
        crossings: Crossings | None = None,
    ):
        self.step = step
        self.graph: Graph = step.graph
        self.adjoints = adjoints
        self.signals = signals
        self.weights = weights
        self.stepwise = stepwise
        self.limits = limits
        self.crossings = crossings
        self._look = step.observe.vmap(set(step.written), in_axes=0, out_axes=_AXES)

    def run(self, values: Values, past: Past, begun: list[Level]) -> Found:
        """Look back at a chunk.

        Parameters
        ----------
        values : dict
            Values of the states that no step writes, and of those before the chunk.
        past : Past
            The chunk.
        begun : list of Level
            What the adjoints and gradients begin with, with 0, 1, 2, ... hops.
        """
        K = past.mask.shape[0]
        size = block_length(K, self.limits.block)

        def body(carry, start, size=size):
            begun, later = carry
            found = self._block(values, past, begun, later, start, size)
            return (found.levels, found.later), (found.loss, found.aux, found.steps)

        carry = (begun, [] if self.crossings is None else [self.crossings.end(values)] * (len(begun) - 1))
        if size == K:
            carry, out = body(carry, 0)
            return Found(*carry, *out)
        rest = K % size
        carry, out = jax.lax.scan(body, carry, jnp.arange(rest, K, size), reverse=True)
        out = jax.tree.map(lambda a: a.reshape(K - rest, *a.shape[2:]), out)
        if rest:
            carry, first = body(carry, 0, rest)
            out = jax.tree.map(lambda *parts: jnp.concatenate(parts), first, out)
        return Found(*carry, *out)

    def _block(self, values: Values, past: Past, begun: list[Level], later: list[Later], start, size: int) -> Found:
        """Look at one block, and scan the adjoints back through it."""
        step = self.step
        fixed = {i: v for i, v in values.items() if i not in step.written}
        at = _cut(past._replace(states={}), start, size)
        around = _cut(past.states, start, size + 1)
        before, new = (jax.tree.map(lambda a, cut=cut: a[cut], around) for cut in (slice(-1), slice(1, None)))
        block = Block(fixed, before, Handed({i: new[i] for i in step.settled}, at.sent, at.mask), at.slices)

        def total(zeros, weights):
            out = self._look({**fixed, **before, **weights}, zeros, block.handed, *at.slices)
            value = jnp.zeros(()) if out.loss is None else jnp.sum(jnp.where(at.mask > 0, at.mask * out.loss, 0.0))
            return value, out

        weights = {i: values[i] for i in self.weights}
        signals, more = at.signals, {}
        if weights:
            zeros = {s: jnp.zeros((size, *step.zeros[s].shape), step.zeros[s].dtype) for s in self.signals.states}
            (signals, more), out = jax.grad(total, argnums=(0, 1), has_aux=True)(zeros, weights)  # (18), (20)
        else:
            out = total({}, {})[1]

        def counted(signal):
            return jnp.where((at.mask > 0).reshape(-1, *[1] * (signal.ndim - 1)), signal, 0.0)

        signals = {s: counted(signal) for s, signal in signals.items()}
        steps = {
            i: Steps(self._of(i, signals), blocks_of(i, out.varying, out.constant, steps=size)) for i in self.stepwise
        }
        scan = jax.jit(
            partial(self._scan, block, out, start + jnp.arange(size)), static_argnums=0
        )  # traced once for all levels
        looked = Looked(signals, more, scan)
        if self.crossings is None or not weights:
            levels = [
                Level(
                    {i: looked.scan(i, signals, passed) for i, passed in level.passed.items()},
                    jax.tree.map(jnp.add, level.grads, more) if weights else level.grads,
                )
                for level in begun
            ]
        else:
            crossed = self.crossings.of(values, block, size)
            levels, later = self._descend(crossed, begun, later, looked, start)
        return Found(levels, later, out.loss, out.aux, steps)

    def _descend(
        self, crossed: Crossed, begun: list[Level], later: list[Later], looked: Looked, start
    ) -> tuple[list[Level], list[Later]]:
        """Level by level, and in each from the populations at the top down, with what is sent back to them."""
        levels, handed, arrived = [], [], crossed.nothing
        for number, level in enumerate(begun):
            passed, gone = dict(level.passed), crossed.nothing
            signals = {s: v + arrived.new[s] for s, v in looked.signals.items()}
            for i in self.signals.order:
                if i in passed:
                    passed[i] = looked.scan(i, signals, passed[i])  # (37), (38)
                    sent = crossed.down(i, passed[i].credit, start)
                    signals = {s: v + sent.new[s] for s, v in signals.items()}
                    gone = added(gone, sent)
            for constant in self.graph.constants:
                of = passed[constant.population]
                credit = of.credit[constant.drive].at[0].add(arrived.earlier[constant.name])
                passed[constant.population] = of._replace(credit={**of.credit, constant.drive: credit})
            levels.append(Level(passed, added(added(level.grads, looked.grads), added(gone.params, arrived.params))))
            if number < len(later):
                arrived, before = crossed.hop(gone, later[number])
                handed.append(before)
        return levels, handed

    def _of(self, index: int, signals: dict[str, Any]) -> dict[str, Any]:
        """The signals of one population."""
        return {h.name: signals[h.name] for h in self.graph.populations[index].hidden if h.name in signals}

    def _scan(self, block: Block, out: Observed, numbers, index: int, signals: dict[str, Any], passed: Passed):
        """Scan the adjoint of one population back through a block."""
        step = self.step
        seen: Any = out.varying

        def blocks(varying):
            return blocks_of(index, varying, out.constant)

        if self._varies_much(index):
            seen = (block.before, block.handed, block.slices)

            def blocks(begin):
                before, handed, slices = begin
                again = step.observe({**block.fixed, **before}, step.zeros, handed, *slices)[1]
                return blocks_of(index, again.varying, again.constant)

        return self.adjoints[index].back(Scanned(numbers, self._of(index, signals), seen), blocks, passed)

    def _varies_much(self, index: int) -> bool:
        """Whether entries are so many that to store them costs more than to look at each step again."""
        structure, drives = self.graph.structures[index], self.adjoints[index].drives
        kinds = [*structure.D.values(), *(kind for (_, d), kind in structure.f.items() if d in drives)]
        return sum(kind is Kind.VARYING for kind in kinds) > self.limits.entries


def _cut(tree: Any, start, length: int) -> Any:
    return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, length), tree)


def blocks_of(index: int, varying: Blocks, constant: Blocks, *, steps: int = 0) -> Blocks:
    """The Jacobian of one population: of one step, or spread over ``steps`` that were looked at together."""

    def own(entries, spread):
        found = {key[1:]: v for key, v in entries.items() if key[0] == index}
        return {key: jnp.broadcast_to(v, (steps, *jnp.shape(v))) for key, v in found.items()} if spread else found

    return Blocks(*(own(c, steps > 0) | own(v, False) for c, v in zip(constant, varying, strict=True)))
