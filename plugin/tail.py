r"""The eligibility trace of steps that are long past: of all that came before the chunks of `pending.Pending`.

A population forgets, so what a step adds to the trace has by then shrunk by the product ``Q`` of all ``D`` since. Where no
state is slow, nothing of it is left. Where one is (an adaptation, a slow receptor), the others follow it: ``Q`` has rank
one, and all traces are multiples of one of them. With the slow state ``p``, called the lead, traces are kept as

.. math::
    E = \epsilon_p, \qquad e_s = \epsilon_s - r_s E, \qquad r_s' = (M_{sp} + \sum_k M_{sk} r_k) / (M_{pp} + \sum_k M_{pk} r_k)

with ``M`` the product of ``D`` over a chunk. This choice of ``r`` makes ``e`` independent of ``E``, ``e' = \hat M e``, and is exact for any
``r`` to begin with. As ``e`` only shrinks, it counts just while it is larger than the rounding error of the trace that the
newest chunk alone forms, by the largest entry of each state: a bound of it is carried on, and no product is spent on
what the bound says is too small.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from .carry import Dense, Trace, collect, memory
from .engine import Engine
from .graph import Connection
from .jacobian import Entries, Kind, matmul, transpose_apply

__all__ = ["Tail", "when"]

# In units of the rounding of a number, relative to the size of the newest chunk's trace. A chunk waits until it should be
# below the first, at rest; it adds nothing if it is below the second (a sum over its steps is not more exact).
WAITED_FOR, DROPPED = 1 / 8, 8

Bounds = dict[str, jax.Array]


class Tail:
    """The trace of one connection before the chunks that wait.

    Parameters
    ----------
    engine : Engine
        What runs a chunk.
    connection : Connection
        Whose trace it is.
    longest : int
        Steps that may be waited for.

    Attributes
    ----------
    lead : str or None
        The state that does not forget within ``longest`` steps.
    followers : list
        The others.
    steps : int
        After how many steps all others have forgotten, at rest; 0 if waiting for it is of no use.
    """

    def __init__(self, engine: Engine, connection: Connection, longest: int):
        self.trace: Any = engine.traces[connection.name]
        self.structure = engine.graph.structures[connection.population]
        self.adjoint = engine.adjoints[connection.population]
        self.lead: Any = None
        self.steps = 0
        if type(self.trace) is not Dense or self.trace.pre is not None or self.trace.stored != self.trace.dtype:
            return
        tolerance = WAITED_FOR * float(jnp.finfo(self.trace.dtype).eps)
        times = {s: memory(engine.graph, connection, tolerance, [s]) or longest + 1 for s in self.trace.kinds}
        slow = [s for s, steps in times.items() if steps > longest]
        spared = [s for s, kind in self.trace.kinds.items() if kind > Kind.UNIFORM and s not in slow]
        if len(slow) > 1 or not spared:
            return
        self.lead = slow[0] if slow else None
        self.followers = [s for s in self.trace.kinds if s != self.lead]
        self.steps = max(times[s] for s in self.followers)

    # -- the change of variables ---------------------------------------------------------

    def _shift(self, r: dict, sign: float) -> Entries:
        """From traces to ``(E, e)`` (``sign`` -1), and back (+1)."""
        return {(s, s): 1.0 for s in self.adjoint.states} | {(s, self.lead): sign * v for s, v in r.items()}

    def _turned(self, M: Entries, r: dict) -> tuple[Entries, dict]:
        """``M`` for ``(E, e)``, and the next ``r``."""
        if self.lead is None:
            return M, r
        M = matmul(M, self._shift(r, 1.0))
        whole = M[self.lead, self.lead]
        safe = jnp.abs(whole) > jnp.finfo(self.trace.dtype).tiny
        after = {s: self._fit(jnp.where(safe, M[s, self.lead] / jnp.where(safe, whole, 1.0), 0.0), s) for s in r}
        M = matmul(self._shift(after, -1.0), M)
        return {key: v for key, v in M.items() if key[1] != self.lead or key[0] == self.lead}, after

    def _fit(self, value, state):
        return jnp.broadcast_to(value, self.adjoint.shapes[self.structure.suffix[state, self.lead]])

    # -- what is carried on --------------------------------------------------------------

    def start(self, eps: Trace, blank: bool) -> dict:
        """The trace before the sequence; ``blank`` says that it is zero."""
        zero = jnp.zeros((self.trace.rows, self.trace.out_size), self.trace.dtype)
        bound = {s: zero if blank else zero + _extent(eps[s]) for s in self.followers}
        some = (
            jnp.zeros((), bool) if blank else jnp.any(jnp.stack([jnp.any(leaf != 0) for leaf in jax.tree.leaves(eps)]))
        )
        follows = [s for s, k in self.structure.suffix if k == self.lead and s != k]
        r = {s: self._fit(jnp.zeros((), zero.dtype), s) for s in follows} if self.lead in self.trace.kinds else {}
        return {
            "eps": eps,
            "r": r,
            "bound": bound,
            "alive": some,
            "used": some,
            "led": some,
            "size": dict.fromkeys(bound, jnp.zeros((), zero.dtype)),
        }

    def advance(
        self, tail: dict, values, grads: dict, passed: dict, size: Bounds, leaving: tuple | None = None
    ) -> tuple[dict, dict]:
        """Give the credit that a chunk sends back, and go on to its end.

        Parameters
        ----------
        tail : dict
            The trace before the chunk.
        values : dict
            Values of the states that the layer reads.
        grads : dict
            Gradients so far.
        passed : dict
            Of the chunk: ``back`` and ``M``, see `Adjoint`.
        size : dict
            ``state -> `` what the trace of the chunk alone amounts to, see `pending.Pending`.
        leaving : tuple, optional
            Of a chunk that need not wait any longer: whether there is one, its slot, a function of the slot that gives
            its `pending.Kept`.

        Returns
        -------
        tuple
            The gradients and the trace.
        """
        trace, lead = self.trace, self.lead
        back = transpose_apply(self._shift(tail["r"], 1.0), passed["back"])
        M, r = self._turned(passed["M"], tail["r"])
        eps, alive, led, grads = dict(tail["eps"]), tail["alive"], tail["led"], dict(grads)
        own = {k: grads[k] for k in trace.indices if k in grads}

        def wane(_, at):
            own, eps = at
            return collect(own, trace.carried(values, eps, back)), trace.aged(eps, M)

        own, eps = when(alive, 0, wane, (own, eps))
        bound = {s: jnp.where(alive, v, 0.0) for s, v in self._bounds(M, tail["bound"]).items()}
        size = {s: jnp.max(size[s]) for s in self.followers}
        counts, taken = alive & _matters(bound, size), jnp.zeros((), bool)
        state = {"r": r, "bound": bound, "alive": counts, "size": size}
        tail = {**tail, **state, "eps": eps}
        if leaving is not None:
            taken, slot, kept = leaving
            tail = self.join(tail, taken, slot, kept)
            eps = dict(tail["eps"])
        if lead in eps:  # unless it has gone with the others above
            rho, ahead = {(lead, lead): jnp.where(alive, 1.0, M[lead, lead])}, {lead: jnp.where(alive, 0.0, back[lead])}

            def follow(_, at):
                own, E = at
                return collect(own, trace.carried(values, E, ahead)), trace.aged(E, rho)

            def join(slot, at):
                own, E = follow(slot, at)
                F = kept(slot).brought({(lead, lead): 1.0}, [lead])
                return own, jax.tree.map(jnp.add, trace.formed(F, kept(slot).x), E)

            at = own, {lead: eps[lead]}
            if leaving is not None:
                at = when(taken, slot, join, at)
            own, E = when(led & ~alive & ~taken, 0, follow, at)
            eps |= E
            led |= taken
        return {**grads, **own}, {**tail, "eps": eps, "led": led}

    def join(self, tail: dict, taken, slot, kept: Callable) -> dict:
        """Add what a chunk that waits no longer has left of all states but the lead, where it is more than rounding."""
        shift = self._shift(tail["r"], -1.0)
        left = self._bounds(kept(slot).turned(shift), kept(slot).sizes)
        needed = taken & _matters(left, tail["size"])

        def add(slot, old):
            formed = self.trace.formed(kept(slot).brought(shift, self.followers), kept(slot).x)
            return jax.tree.map(lambda a, b: jnp.where(tail["alive"], a, 0.0) + b, old, formed)

        eps = when(needed, slot, add, {s: tail["eps"][s] for s in self.followers})
        bound = {s: v + jnp.where(needed, left[s], 0.0) for s, v in tail["bound"].items()}
        flags = {key: tail[key] | needed for key in ("alive", "used")}
        return {**tail, "eps": {**tail["eps"], **eps}, "bound": bound, **flags}

    def whole(self, tail: dict, kept: Callable, slots: int) -> Trace:
        """The trace in full, with the chunks that still wait."""
        tail = jax.lax.fori_loop(0, slots, lambda slot, tail: self.join(tail, True, slot, kept), tail)
        eps = dict(tail["eps"])
        if self.lead in eps:
            formed = self.trace.formed(kept(None).brought(self._shift({}, 1.0), [self.lead]), kept(None).x)
            eps[self.lead] = jax.tree.map(jnp.add, eps[self.lead], formed[self.lead])
        weight = {(s, s): jnp.where(tail["alive"], 1.0, 0.0) for s in self.followers}
        return self.trace.aged(eps, {**self._shift(tail["r"], 1.0), **weight})

    def cleared(self, tail: dict) -> Trace:
        """A trace of zero, without new memory."""
        used = tail["used"] | tail["led"]
        return when(used, 0, lambda at, eps: jax.tree.map(lambda leaf: jnp.where(at == 0, 0.0, leaf), eps), tail["eps"])

    def _bounds(self, M: Entries, size: Bounds) -> Bounds:
        """Bounds of the followers after a time whose product of all ``D`` is ``M``."""
        M = {key: jnp.abs(self.trace.full(v)) for key, v in M.items()}
        out = matmul(M, {(s, "size"): v for s, v in size.items()})
        return {s: out[s, "size"] for s in self.followers}


def when(condition, at, fn: Callable, operand):
    """``fn(at, operand)`` if the condition holds, else ``operand``.

    A loop works in place where a conditional copies. What depends neither on its counter ``at`` nor on ``operand`` would be
    taken out of it and done in any case.
    """
    return jax.lax.fori_loop(at, at + jnp.asarray(condition, int), fn, operand)


def _matters(bound: Bounds, size: Bounds):
    """Whether something of size ``bound`` is more than the rounding error of a trace of ``size`` in some state; NaN is."""
    within = [jnp.max(b) <= DROPPED * jnp.finfo(b.dtype).eps * size[s] for s, b in bound.items()]
    return ~reduce(jnp.logical_and, within)


def _extent(item: dict):
    """The largest entry of one state's trace by row and neuron, or by row where all neurons share it."""
    x = jnp.abs(item["x"])
    most = jnp.max(x, 1, keepdims=x.ndim == 2)
    return jnp.maximum(most, jnp.abs(item["one"])) if "one" in item else most
