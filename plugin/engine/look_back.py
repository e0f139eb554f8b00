"""Looking at a chunk that has run, block by block from its end: Jacobian, learning signals, adjoints.

All steps of a block are looked at together, from the stored states: one derivative of the summed loss, which gives the
learning signals of equation (18) of docs/mathematics.md, or, through depth, one for each population from the top down, with
what the populations above it send back, equation (37) of docs/mathematics.md. Then each population's adjoint is scanned back
through the block (`Adjoint`), which looks at each step again if the entries of its Jacobian are many.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from etrax.contract.jacobian import Kind

from .adjoint import Adjoint, Passed
from .adjoint import Steps as Scanned
from .graph import Graph
from .planning import Limits, block_length
from .pure import Values
from .signals import Signals
from .step import Handed, Observed, Step
from .structure import Blocks
from .traces.base import Steps

__all__ = ["Begun", "Found", "LookBack", "Past", "blocks_of"]

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


class Found(NamedTuple):
    """What looking back finds.

    Attributes
    ----------
    passed : dict
        What the adjoint of each population passed on and noted.
    grads : dict
        Gradients of parameters outside every projection, added to those that it began with.
    loss, aux
        Over time.
    steps : dict
        Signals and Jacobian over time, of each population with a trace that learns step by step.
    """

    passed: dict[int, Passed]
    grads: dict[int, Any]
    loss: Any
    aux: Any
    steps: dict[int, Steps]


class Begun(NamedTuple):
    """What looking back begins with at the end of a chunk.

    Attributes
    ----------
    passed : dict
        Of the populations whose adjoint is asked for, see `Adjoint.end`.
    grads : dict
        Gradients so far, ``{number: value}``.
    """

    passed: dict[int, Passed]
    grads: dict[int, Any]


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
    """

    def __init__(
        self,
        step: Step,
        adjoints: list[Adjoint],
        signals: Signals,
        weights: list[int],
        stepwise: frozenset[int],
        limits: Limits,
    ):
        self.step = step
        self.graph: Graph = step.graph
        self.adjoints = adjoints
        self.signals = signals
        self.weights = weights
        self.stepwise = stepwise
        self.limits = limits
        self._look = step.observe.vmap(set(step.written), in_axes=0, out_axes=_AXES)

    def run(self, values: Values, past: Past, begun: Begun) -> Found:
        """Look back at a chunk.

        Parameters
        ----------
        values : dict
            Values of the states that no step writes, and of those before the chunk.
        past : Past
            The chunk.
        begun : Begun
            What the adjoints and gradients begin with.
        """
        K = past.mask.shape[0]
        size = block_length(K, self.limits.block)

        def body(carry, start, size=size):
            found = self._block(values, past, Begun(*carry), start, size)
            return (found.passed, found.grads), (found.loss, found.aux, found.steps)

        carry = (begun.passed, begun.grads)
        if size == K:
            (passed, grads), (loss, aux, steps) = body(carry, 0)
            return Found(passed, grads, loss, aux, steps)
        rest = K % size
        (passed, grads), out = jax.lax.scan(body, carry, jnp.arange(rest, K, size), reverse=True)
        out = jax.tree.map(lambda a: a.reshape(K - rest, *a.shape[2:]), out)
        if rest:
            (passed, grads), first = body((passed, grads), 0, rest)
            out = jax.tree.map(lambda *parts: jnp.concatenate(parts), first, out)
        loss, aux, steps = out
        return Found(passed, grads, loss, aux, steps)

    def _block(self, values: Values, past: Past, begun: Begun, start, size: int) -> Found:
        """Look at one block, and scan the adjoints back through it."""
        step = self.step
        fixed = {i: v for i, v in values.items() if i not in step.written}
        at = _cut(past._replace(states={}), start, size)
        around = _cut(past.states, start, size + 1)
        before, new = (jax.tree.map(lambda a, cut=cut: a[cut], around) for cut in (slice(-1), slice(1, None)))
        handed = Handed({i: new[i] for i in step.settled}, at.sent, at.mask)

        def total(zeros, weights):
            out = self._look({**fixed, **before, **weights}, zeros, handed, *at.slices)
            value = jnp.zeros(()) if out.loss is None else jnp.sum(jnp.where(at.mask > 0, at.mask * out.loss, 0.0))
            return (value, out.y), out._replace(y={})

        weights = {i: values[i] for i in self.weights}
        descend = step.through_depth and bool(weights)
        signals = at.signals
        if weights:
            zeros = {s: jnp.zeros((size, *step.zeros[s].shape), step.zeros[s].dtype) for s in self.signals.states}
            (value, sent), pullback, out = jax.vjp(total, zeros, weights, has_aux=True)
            one, above = jnp.ones_like(value), jax.tree.map(jnp.zeros_like, sent)
            signals, more = pullback((one, above))  # (18), (20)
        else:
            _, out = total({}, {})
        passed, steps = dict(begun.passed), {}

        def counted(signal):
            return jnp.where((at.mask > 0).reshape(-1, *[1] * (signal.ndim - 1)), signal, 0.0)

        for i in self.signals.order:
            if descend:
                signals = pullback((one, above))[0]  # (37)
            own = {h.name: counted(signals[h.name]) for h in self.graph.populations[i].hidden if h.name in signals}
            if i in self.stepwise:
                steps[i] = Steps(own, blocks_of(i, out.varying, out.constant, steps=size))
            if i in passed:
                seen: Any = out.varying

                def blocks(varying, i=i):
                    return blocks_of(i, varying, out.constant)

                if self._varies_much(i):
                    seen = (before, handed, at.slices)

                    def blocks(begin, i=i):
                        before, handed, slices = begin
                        again = step.observe({**fixed, **before}, step.zeros, handed, *slices)[1]
                        return blocks_of(i, again.varying, again.constant)

                scanned = Scanned(start + jnp.arange(size), own, seen)
                passed[i] = self.adjoints[i].back(scanned, blocks, passed[i])
                if descend:
                    above = {**above, **self._sent_back(i, passed[i], start, sent)}
        if descend:  # with parameters between two populations, outside a projection
            more = pullback((one, above))[1]
        grads = jax.tree.map(jnp.add, begun.grads, more) if weights else begun.grads
        return Found(passed, grads, out.loss, out.aux, steps)

    def _sent_back(self, index: int, passed: Passed, start, sent: dict[str, Any]) -> dict[str, Any]:
        """Cotangents of what enters one population in a block, in the shape and unit in which projections send it."""

        def shaped(connection):
            def fit(leaf):
                part = jax.lax.dynamic_slice_in_dim(passed.credit[connection.drive], start, leaf.shape[0], axis=1)
                return (jnp.swapaxes(part, 0, 1) * connection.scale).reshape(leaf.shape).astype(leaf.dtype)

            return jax.tree.map(fit, sent[connection.name])

        return {c.name: shaped(c) for c in self.graph.connections.values() if c.population == index}

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
