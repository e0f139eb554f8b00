"""Chunks of a sequence that wait for the credit of later ones, in place of a trace that every chunk reads and writes.

The factors of a chunk's gradient and trace are kept until later chunks have sent back what they owe it. Its gradient
is then one product, with cotangents ``ct_t + (M_t f_t) . A`` where ``A`` is the adjoint at its end that came from them. By
the time it leaves, its population has forgotten it, or all but its slowest state: what is left joins the `tail.Tail`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from etrax.contract import Entries
from etrax.contract.jacobian import Kind, matmul, transpose_apply
from etrax.engine.adjoint import Wanted
from etrax.engine.chunk import ChunkResult, Engine, Space
from etrax.engine.sources import Connection
from etrax.engine.traces.base import collect

from .tail import Tail, when

__all__ = ["Kept", "Pending"]

MOST_CHUNKS = 15  # that wait at the same time, before the newest one
MOST_STEPS = 640  # likewise, if that is at least `FEW` chunks: enough for time constants of 35 steps in float32
FEW = 3
HEAVIEST = 16  # how many traces the chunks that wait may weigh
LONGER = 4 / 3  # may a trial be, and still be held at once: no factors of a trace are kept of it
MOSTLY = 1 / 2  # of what a chunk holds belongs to populations that wait, if all of a sequence is to be held
Ring = dict[str, dict]


class Pending:
    """The last chunks of a sequence, in slots that are taken in turn.

    Parameters
    ----------
    engine : Engine
        What runs a chunk.
    steps : int
        Of a chunk.
    length : int
        Steps of the sequence; what is fewer than a chunk at its end does not wait.
    trial : bool
        Whether the trace before the sequence is zero and nobody reads the one after it.

    Attributes
    ----------
    tails : dict
        Of the connections whose chunks may wait, by name: those of populations that forget soon enough.
    slots : int
        How many chunks wait, with the newest; 0 if none does.
    whole : bool
        Whether the sequence is no longer than what would wait, so that it can as well be one chunk: that holds little more,
        mostly less, and costs less. Not if credit goes through depth, which would be another gradient, nor beside large
        populations that do not wait, which would hold much more.
    """

    def __init__(self, engine: Engine, steps: int, length: int, trial: bool):
        self.engine, self.steps, self.trial = engine, steps, trial
        self.chunks, self.ragged = divmod(length, steps)
        self.tails: dict[str, Tail] = {}
        self.sources: list[Connection] = []
        longest = min(MOST_CHUNKS * steps, max(MOST_STEPS, FEW * steps))
        worth = (self.chunks > 2 or (trial and length > steps)) and engine.weights and not engine.credit.through_time
        for i in engine.order if worth else []:
            found = [s for s in engine.graph.sources_of(i) if isinstance(s, Connection) and s.params]
            tails = {s.name: Tail(engine, s, longest) for s in found}
            if found and all(tail.steps and self._weighs(tail) <= HEAVIEST for tail in tails.values()):
                self.sources += found
                self.tails |= tails
        slots = max(map(self._slots, self.tails.values()), default=0)
        short = 0 < length <= slots * steps * (LONGER if trial else 1)
        self.whole = short and not engine.credit.through_depth and self._share() >= MOSTLY
        self.slots = 0 if self.whole else min(self.chunks, slots)
        self.sums = {
            (s.name, what): (s.population, s.drive)
            for s in self.sources
            for what in (("x", "one") if self.tails[s.name].layer.bias else ("x",))
        }

    def _slots(self, tail: Tail) -> int:
        """How many chunks there are until a population has forgotten one, with the newest."""
        return 1 + -(-tail.steps // self.steps)

    def _weighs(self, tail: Tail) -> float:
        """The weight of all chunks that would wait, in traces."""
        layer = tail.layer
        states = sum(kind is Kind.VARYING for kind in tail.trace.kinds.values())
        step = layer.rows * (layer.in_size + layer.out_size * (1 + states)) * layer.dtype.itemsize
        return step * self.steps * min(self.chunks, self._slots(tail)) / tail.trace.nbytes()

    def _share(self) -> float:
        """How much of what a chunk holds belongs to populations that wait."""

        def held(i):
            population, graph = self.engine.graph.populations[i], self.engine.graph
            layers = [self.engine.layers[s.name] for s in graph.sources_of(i) if s.name in self.engine.layers]
            states = population.rows * population.size * len(population.hidden)
            return states + sum(layer.rows * (layer.in_size + layer.out_size) for layer in layers)

        return sum(map(held, {s.population for s in self.sources})) / sum(map(held, self.engine.order))

    def run(self, fixed: dict, state: dict, eps: dict, grads: dict, part: Callable) -> ChunkResult:
        """All chunks of the sequence.

        Parameters
        ----------
        fixed, state : dict
            Values of the states that no step writes, and of the others.
        eps, grads : dict
            The trace, and what the gradients begin with.
        part : callable
            ``(start, length)`` to the arguments of these steps and the weights of their losses.
        """
        K, n = self.steps, self.chunks

        def body(carry, number):
            return self.chunk(carry, number, {**fixed, **carry[0]}, *part(number * K, K))

        others = {name: trace for name, trace in eps.items() if name not in self.tails}
        carry, out = jax.lax.scan(body, (state, others, grads, *self.start(eps)), jnp.arange(n))
        loss, aux = jax.tree.map(lambda a: a.reshape(n * K, *a.shape[2:]), out)
        formed: dict = {}
        if self.ragged:
            carry, formed, out = self.rest(carry, {**fixed, **carry[0]}, *part(n * K, self.ragged))
            loss, aux = jax.tree.map(lambda *parts: jnp.concatenate(parts), (loss, aux), out)
        state, eps, grads = self.finish(carry, {**fixed, **state}, formed)
        return ChunkResult(state, eps, grads, loss, aux)

    # -- what is kept --------------------------------------------------------------------

    def start(self, eps: dict) -> tuple[Ring, dict]:
        """Empty slots, and the tails."""
        engine, R = self.engine, self.slots
        ring: Ring = {key: {} for key in ("x", "passed", "Q", "A", "size")}
        for i in {s.population for s in self.sources}:
            adjoint = engine.adjoints[i]
            blanks = adjoint.end(R * self.steps, Wanted(credit=True, forms=True))
            drives = [d for d in adjoint.drives if d not in adjoint.summed]
            ring["passed"][i] = {key: {d: getattr(blanks, key)[d] for d in drives} for key in ("credit", "F")}
            ring["Q"][i] = {key: jnp.zeros((R, *v.shape), v.dtype) for key, v in blanks.M.items()}
            ring["A"][i] = {s: jnp.zeros((R, *adjoint.shapes[Kind.VARYING]), adjoint.dtype) for s in adjoint.states}
        for name, tail in self.tails.items():
            layer = tail.layer
            ring["x"][name] = jnp.zeros((layer.rows, R * self.steps, layer.in_size), layer.dtype)
            shape = (R, layer.rows, layer.out_size)
            ring["size"][name] = {s: jnp.zeros(shape, layer.dtype) for s in tail.trace.kinds}
        return ring, {name: tail.start(eps[name], self.trial) for name, tail in self.tails.items()}

    # -- one chunk -----------------------------------------------------------------------

    def chunk(self, carry: tuple, number, values, slices, mask) -> tuple[tuple, Any]:
        """Run chunk ``number``; ``carry`` is the states, the other traces, gradients, slots and tails."""
        _, eps, grads, ring, tails = carry
        slot, oldest = number % self.slots, (number + 1) % self.slots
        leaves = (number + 1 >= self.slots) & (number + 1 < self.chunks)
        credit, F = ({i: kept[key] for i, kept in ring["passed"].items()} for key in ("credit", "F"))
        space = Space(ring["x"], credit, F, self.sums, slot * self.steps)
        looked = self.engine.look(values, slices, mask, space=space)
        seen, grads = looked.factors, jax.tree.map(jnp.add, grads, looked.grads)
        (eps, grads, ring), tails = self._credit(values, eps, grads, ring, seen), dict(tails)
        ring["x"] = {name: seen.x[name] for name in ring["x"]}
        for i, kept in ring["passed"].items():
            ring["passed"][i] = {key: {d: getattr(seen.passed[i], key)[d] for d in v} for key, v in kept.items()}
            ring["A"][i] = {s: v.at[slot].set(0.0) for s, v in ring["A"][i].items()}
            ring["Q"][i] = {(s, k): v.at[slot].set(float(s == k)) for (s, k), v in ring["Q"][i].items()}
        for source in self.sources:
            name, tail, passed = source.name, self.tails[source.name], seen.passed[source.population]
            x, one = (passed.sizes.get((name, what), {}) for what in ("x", "one"))
            size = {s: tail.layer.full(v) for s, v in x.items()}
            bound = {s: jnp.maximum(v, tail.layer.full(one[s])) if one else v for s, v in size.items()}
            ring["size"][name] = {s: v.at[slot].set(bound[s]) for s, v in ring["size"][name].items()}

            def kept(slot, source=source):
                return Kept(self, ring, source, slot)

            def learn(slot, grads, tail=tail, kept=kept):
                return collect(grads, tail.trace.gradient(values, kept(slot).x, kept(slot).credited()))

            grads |= when(leaves, oldest, learn, {k: grads[k] for k in tail.trace.indices if k in grads})
            grads, tails[name] = tail.advance(tails[name], values, grads, passed, size, (leaves, oldest, kept))
        return (looked.values, eps, grads, ring, tails), (looked.loss, looked.aux)

    def rest(self, carry: tuple, values, slices, mask) -> tuple[tuple, dict, Any]:
        """Run the last steps, fewer than a chunk has; nothing comes after them, so they do not wait.

        Also returns what they add to the traces.
        """
        _, eps, grads, ring, tails = carry
        looked = self.engine.look(values, slices, mask)
        seen, grads = looked.factors, jax.tree.map(jnp.add, grads, looked.grads)
        (eps, grads, ring), tails = self._credit(values, eps, grads, ring, seen), dict(tails)
        formed = {}
        for source in self.sources:
            name, tail, passed = source.name, self.tails[source.name], seen.passed[source.population]
            x, F = seen.x[name], passed.F[source.drive]
            most = jnp.max(jnp.abs(x), -1)[..., None]
            size = {s: jnp.sum(jnp.abs(tail.layer.over_time(v)) * most, 1) for s, v in F.items()}
            grads = collect(grads, tail.trace.gradient(values, x, passed.credit[source.drive]))
            grads, tails[name] = tail.advance(tails[name], values, grads, passed, size)
            if not self.trial:
                formed[name] = tail.trace.formed(F, x)
        return (looked.values, eps, grads, ring, tails), formed, (looked.loss, looked.aux)

    def _credit(self, values, eps, grads, ring: Ring, seen) -> tuple[dict, dict, Ring]:
        """What a chunk sends back to the chunks that wait; other sources learn from it and advance at once."""
        engine, eps, grads = self.engine, dict(eps), dict(grads)
        ring = {key: dict(kept) for key, kept in ring.items()}
        for i in engine.order:
            others = [s for s in engine.graph.sources_of(i) if s.name not in self.tails]
            learnt, grads = engine.learn(others, seen, values, eps, grads)
            eps |= {name: engine.traces[name].keep(value) for name, value in learnt.items()}
        for i in ring["Q"]:
            back, M, adjoint = seen.passed[i].back, seen.passed[i].M, engine.adjoints[i]
            sent = jax.vmap(lambda Q, back=back: transpose_apply(Q, back))(ring["Q"][i])
            ring["A"][i] = {s: v + sent[s] if s in sent else v for s, v in ring["A"][i].items()}
            ring["Q"][i] = jax.vmap(lambda Q, M=M, adjoint=adjoint: adjoint.product(M, Q))(ring["Q"][i])
        return eps, grads, ring

    # -- the end -------------------------------------------------------------------------

    def finish(self, carry: tuple, values, formed: dict) -> tuple[dict, dict, dict]:
        """Let all chunks go.

        Returns the states, the traces, with ``formed`` added (zero after a trial), and the gradients.
        """
        after, eps, grads, ring, tails = carry
        eps = jax.tree.map(jnp.zeros_like, eps) if self.trial else dict(eps)
        for source in self.sources:
            name, tail, every = source.name, self.tails[source.name], Kept(self, ring, source)
            grads = collect(grads, tail.trace.gradient(values, every.x, every.credited()))
            if self.trial:
                eps[name] = tail.cleared(tails[name])
                continue

            def kept(slot, source=source):
                return Kept(self, ring, source, slot)

            trace = tail.whole(tails[name], kept, self.slots)
            eps[name] = jax.tree.map(jnp.add, trace, formed[name]) if name in formed else trace
        return after, eps, grads


class Kept:
    """The factors of one chunk that waits, or of all one after the other, for one connection."""

    def __init__(self, pending: Pending, ring: Ring, source: Connection, slot=None):
        i, K = source.population, pending.steps
        self.trace, self.structure = pending.engine.traces[source.name], pending.engine.graph.structures[i]
        self.kinds, self.slots = self.trace.kinds, pending.slots if slot is None else 1

        def cut(array, kind=Kind.VARYING):
            axis = 1 if kind is Kind.VARYING else 0
            return array if slot is None else jax.lax.dynamic_slice_in_dim(array, slot * K, K, axis)

        def pick(array):
            return array if slot is None else array[slot][None]

        self.x = cut(ring["x"][source.name])
        self.ct = cut(ring["passed"][i]["credit"][source.drive])
        self.F = {s: cut(v, self.kinds[s]) for s, v in ring["passed"][i]["F"][source.drive].items()}
        self.Q = {key: pick(v) for key, v in ring["Q"][i].items()}
        self.A = {s: pick(v) for s, v in ring["A"][i].items()}
        self.sizes = {s: pick(v)[0] for s, v in ring["size"][source.name].items()}

    def credited(self):
        """``ct_t + (M_t f_t) . A``, the cotangent of the drive over time."""
        parts = [self._over_time(v, self.kinds[s]) * self._each(self.A[s], Kind.VARYING) for s, v in self.F.items()]
        return sum(parts, self._over_time(self.ct, Kind.VARYING)).reshape(self.ct.shape)

    def turned(self, shift: Entries) -> Entries:
        """``Q`` of one chunk, for other variables."""
        return matmul(shift, {key: v[0] for key, v in self.Q.items()})

    def brought(self, shift: Entries, states) -> dict:
        """``Q M_t f_t``: what the steps add to the trace at the present, for some states and other variables."""
        F = {(s, "F"): self._over_time(v, self.kinds[s]) for s, v in self.F.items()}
        shift = {key: v[..., None, None, :] if jnp.ndim(v) else v for key, v in shift.items() if key[0] in states}
        Q = {key: self._each(v, self.structure.suffix[key]) for key, v in self.Q.items()}
        out = matmul(matmul(shift, Q), F)
        return {s: jnp.broadcast_to(out[s, "F"], F[s, "F"].shape).reshape(self.F[s].shape) for s in states}

    def _over_time(self, value, kind: Kind):
        """Factors over time as something that broadcasts to (rows, slots, time, size)."""
        if kind is Kind.VARYING:
            return value.reshape(value.shape[0], self.slots, -1, value.shape[-1])
        value = value[:, None] if kind is Kind.UNIFORM else value
        return value.reshape(1, self.slots, -1, value.shape[-1])

    def _each(self, value, kind: Kind):
        """One value per slot in the same form."""
        if kind is Kind.VARYING:
            return jnp.swapaxes(value, 0, 1)[:, :, None]
        value = value[:, None] if kind is Kind.UNIFORM else value
        return value[None, :, None]
