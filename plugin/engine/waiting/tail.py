r"""The eligibility trace of steps that are long past: of all that came before the chunks of `pending.Pending`.

A population forgets, so what a step adds to the trace has by then shrunk by the product ``Q`` of all ``D`` since. Where no
state is slow, nothing of it is left. Where one is (an adaptation, a slow receptor), the others follow it: ``Q`` has rank
one, and all traces are multiples of one of them. With the slow state ``p``, called the lead, traces are kept as

.. math::
    E = \epsilon_p, \qquad e_s = \epsilon_s - r_s E, \qquad r_s' = (M_{sp} + \sum_k M_{sk} r_k) / (M_{pp} + \sum_k M_{pk} r_k)

with ``M`` the product of ``D`` over a chunk. This choice of ``r`` makes ``e`` independent of ``E``: it only shrinks. Any
``r`` is right, so where this one would be large (a neuron whose lead is not its slowest state), it is 0 and ``E`` feeds ``e``.

The others, ``e``, count while they are larger than the rounding error of the trace that the newest chunk alone forms in the
same neuron, or in most neurons of the sample, by the largest entry of each state. (A few large traces hide nothing: neurons do
not share theirs. A few neurons that are far from their threshold, and form none, cost nothing.) Bounds of ``e`` are carried
on, and no product is spent on what is too small.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from etrax.contract import Entries
from etrax.contract.jacobian import Kind, matmul, transpose_apply
from etrax.engine.adjoint import Passed
from etrax.engine.chunk import Engine
from etrax.engine.graph import Graph
from etrax.engine.sources import Connection
from etrax.engine.traces.base import TraceValue, collect
from etrax.engine.traces.choose import steps_to
from etrax.engine.traces.dense import DenseTrace

__all__ = ["Tail", "when"]

# In units of the rounding of a number, relative to the size of the newest chunk's trace. A chunk waits until it should be
# below the first, at rest; it adds nothing if it is below the second (a sum over its steps is not more exact).
WAITED_FOR, DROPPED = 1 / 8, 8
MOST = 3 / 4  # of the neurons of a sample
LARGEST = 1e9  # of ``r``
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
        self.layer = engine.layers[connection.name]
        self.structure = engine.graph.structures[connection.population]
        self.adjoint = engine.adjoints[connection.population]
        self.lead: Any = None
        self.steps = 0
        if type(self.trace) is not DenseTrace or self.layer.pre is not None or self.trace.stored != self.layer.dtype:
            return
        tolerance, graph = WAITED_FOR * float(jnp.finfo(self.layer.dtype).eps), engine.graph
        times = {s: forgetting(graph, connection, s, tolerance) for s in self.trace.kinds}
        slow = [s for s, (_, most) in times.items() if most > longest]
        spared = [s for s, kind in self.trace.kinds.items() if kind > Kind.UNIFORM and s not in slow]
        if len(slow) > 1 or not spared or any(times[s][0] <= longest for s in slow):
            return
        self.lead = slow[0] if slow else None
        self.followers = [s for s in self.trace.kinds if s != self.lead]
        self.steps = int(max(times[s][1] for s in self.followers))

    # -- the change of variables ---------------------------------------------------------

    def _shift(self, r: dict, sign: float) -> Entries:
        """From traces to ``(E, e)`` (``sign`` -1), and back (+1)."""
        return {(s, s): 1.0 for s in self.adjoint.states} | {(s, self.lead): sign * v for s, v in r.items()}

    def _turned(self, M: Entries, r: dict, fits: Callable) -> tuple[Entries, dict]:
        """``M`` for ``(E, e)``, and the next ``r``, as far as it ``fits``."""
        if self.lead is None:
            return M, r
        M = matmul(M, self._shift(r, 1.0))
        whole, after, feeds = M[self.lead, self.lead], {}, {}
        for s in r:
            safe = jnp.abs(M[s, self.lead]) <= LARGEST * jnp.abs(whole)
            ratio = jnp.where(safe & (whole != 0), M[s, self.lead] / jnp.where(whole == 0, 1.0, whole), 0.0)
            good = fits(s, ratio) & safe & (whole != 0)
            after[s] = self._fit(jnp.where(good, ratio, 0.0), s)
            feeds[s, self.lead] = self._fit(jnp.where(good, 0.0, M[s, self.lead]), s)
        return matmul(self._shift(after, -1.0), M) | feeds, after

    def _fit(self, value, state):
        return jnp.broadcast_to(value, self._shape(state))

    def _shape(self, state) -> tuple[int, ...]:
        return self.adjoint.shapes[self.structure.suffix[state, self.lead]]

    def _all(self, condition, shape):
        """Where a condition by row and neuron holds for all that share a value of this shape."""
        condition = condition.reshape(self.adjoint.shapes[Kind.VARYING])
        return jnp.all(condition, axis=tuple(range(2 - len(shape))))

    # -- what is carried on --------------------------------------------------------------

    def start(self, eps: TraceValue, blank: bool) -> dict:
        """The trace before the sequence; ``blank`` says that it is zero."""
        zero = jnp.zeros((self.layer.rows, self.layer.out_size), self.layer.dtype)
        bound = {s: zero if blank else zero + _extent(item) for s, item in eps.items()}
        some = jnp.any(jnp.stack([jnp.any(b > 0) for b in bound.values()]))
        flags = dict.fromkeys(("alive", "used", "led"), jnp.zeros((), bool) if blank else some)
        r = {s: self._fit(jnp.zeros((), zero.dtype), s) for s, k in self.structure.suffix if k == self.lead and s != k}
        size = dict.fromkeys(self.followers, zero)
        return {"eps": eps, "r": r, "bound": bound, "size": size, **flags}

    def advance(
        self, tail: dict, values, grads: dict, passed: Passed, size: Bounds, leaving: tuple | None = None
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
        passed : Passed
            Of the chunk.
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
        size = {s: size[s] for s in self.followers}
        back = transpose_apply(self._shift(tail["r"], 1.0), passed.back)
        M, r = self._turned(passed.M, tail["r"], self._fits(tail, passed.M, size, leaving))
        own, tail = {k: grads[k] for k in self.trace.indices if k in grads}, {**tail, "size": size}
        own, tail, every = self._wane(own, tail, values, back, M)
        tail |= {"r": r}
        if leaving is not None:
            tail = self.join(tail, *leaving)
        if self.lead in tail["eps"]:
            own, tail = self._follow(own, tail, values, back, M, every, leaving)
        return {**grads, **own}, tail

    def _fits(self, tail: dict, M: Entries, size: Bounds, leaving: tuple | None) -> Callable:
        """Whether a new ``r`` serves: else what comes into ``E``, and leaves ``e`` by it, would be a difference of large numbers."""
        if self.lead is None:
            return lambda s, ratio: True
        alive = {s: jnp.where(tail["alive"], tail["bound"][s], 0.0) for s in self.followers}
        enters = self._bounds(M, alive)[self.lead]
        left: dict[str, Any] = dict.fromkeys(self.trace.kinds, 0.0)
        if leaving is not None:
            _, slot, kept = leaving
            left = self._bounds(kept(slot).turned(self._shift({}, 1.0)), kept(slot).sizes)

        def fits(s, ratio):
            moved = jnp.abs(self.layer.full(ratio)) * (enters + left[self.lead])
            return self._all(moved <= DROPPED * jnp.maximum(left[s], size[s]), self._shape(s))

        return fits

    def _wane(self, own: dict, tail: dict, values, back: dict, M: Entries) -> tuple[dict, dict, Any]:
        """Credit and ageing of all states while the followers count; and whether they did."""
        trace, lead, alive = self.trace, self.lead, tail["alive"]
        bound = self._bounds(M, {s: jnp.where(alive | (s == lead), v, 0.0) for s, v in tail["bound"].items()})
        counts = self._matters(bound, tail["size"])
        every = alive | counts

        def fn(_, at):
            own, eps = at
            eps = {
                s: v if s == lead else jax.tree.map(lambda leaf: jnp.where(alive, leaf, 0.0), v) for s, v in eps.items()
            }
            return collect(own, trace.carried(values, eps, back)), trace.aged(eps, M)

        own, eps = when(every, 0, fn, (own, tail["eps"]))
        return own, {**tail, "eps": eps, "bound": bound, "alive": counts, "used": tail["used"] | every}, every

    def _follow(  # noqa: PLR0913 - what `advance` has found so far
        self, own: dict, tail: dict, values, back, M: Entries, every, leaving: tuple | None
    ) -> tuple[dict, dict]:
        """Credit and ageing of the lead, unless it went with ``every`` state, and what joins it from a chunk."""
        lead = self.lead
        rho, ahead = {(lead, lead): jnp.where(every, 1.0, M[lead, lead])}, {lead: jnp.where(every, 0.0, back[lead])}

        def follow(_, at):
            own, E = at
            return collect(own, self.trace.carried(values, E, ahead)), self.trace.aged(E, rho)

        at, taken = (own, {lead: tail["eps"][lead]}), jnp.zeros((), bool)
        if leaving is not None:
            taken, slot, kept = leaving

            def add(slot, at):
                own, E = follow(slot, at)
                F = kept(slot).brought({(lead, lead): 1.0}, [lead])
                return own, jax.tree.map(jnp.add, self.trace.formed(F, kept(slot).x), E)

            at = when(taken, slot, add, at)
        own, E = when(tail["led"] & ~every & ~taken, 0, follow, at)
        return own, {**tail, "eps": {**tail["eps"], **E}, "led": tail["led"] | taken}

    def join(self, tail: dict, taken, slot, kept: Callable) -> dict:
        """Add what a chunk that waits no longer has left of all states but the lead, where it is more than rounding."""
        shift = self._shift(tail["r"], -1.0)
        left = self._bounds(kept(slot).turned(shift), kept(slot).sizes)
        needed = taken & self._matters(left, tail["size"])

        def add(slot, old):
            formed = self.trace.formed(kept(slot).brought(shift, self.followers), kept(slot).x)
            return jax.tree.map(lambda a, b: jnp.where(tail["alive"], a, 0.0) + b, old, formed)

        eps = when(needed, slot, add, {s: tail["eps"][s] for s in self.followers})
        joins = {s: taken if s == self.lead else needed for s in left}
        bound = {s: v + jnp.where(joins[s], left[s], 0.0) for s, v in tail["bound"].items()}
        flags = {key: tail[key] | needed for key in ("alive", "used")}
        return {**tail, "eps": {**tail["eps"], **eps}, "bound": bound, **flags}

    def whole(self, tail: dict, kept: Callable, slots: int) -> TraceValue:
        """The trace in full, with the chunks that still wait, which are added as they are."""
        weight = {(s, s): jnp.where(tail["alive"], 1.0, 0.0) for s in self.followers}
        eps = self.trace.aged(tail["eps"], {**self._shift(tail["r"], 1.0), **weight})
        tail = {**tail, "eps": eps, "r": jax.tree.map(jnp.zeros_like, tail["r"]), "alive": jnp.ones((), bool)}
        eps = jax.lax.fori_loop(0, slots, lambda slot, tail: self.join(tail, True, slot, kept), tail)["eps"]
        if self.lead in eps:
            formed = self.trace.formed(kept(None).brought(self._shift({}, 1.0), [self.lead]), kept(None).x)
            eps = {**eps, self.lead: jax.tree.map(jnp.add, eps[self.lead], formed[self.lead])}
        return eps

    def cleared(self, tail: dict) -> TraceValue:
        """A trace of zero, without new memory."""
        used = tail["used"] | tail["led"]
        return when(used, 0, lambda at, eps: jax.tree.map(lambda leaf: jnp.where(at == 0, 0.0, leaf), eps), tail["eps"])

    def _bounds(self, M: Entries, size: Bounds) -> Bounds:
        """Bounds of the traces after a time whose product of all ``D`` is ``M``."""
        M = {key: jnp.abs(self.layer.full(v)) for key, v in M.items()}
        out = matmul(M, {(s, "size"): v for s, v in size.items()})
        return {s: out.get((s, "size"), jnp.zeros_like(next(iter(size.values())))) for s in self.trace.kinds}

    def _matters(self, bound: Bounds, size: Bounds):
        """Whether followers of size ``bound`` are more than the rounding error of a trace of ``size`` anywhere; NaN is."""

        def hidden(bound, size):
            rounding = DROPPED * jnp.finfo(self.layer.dtype).eps * size
            worst = jnp.max(jnp.where(bound <= rounding, 0.0, bound), 1, keepdims=True)
            return jnp.all(jnp.mean(worst <= rounding, 1) >= MOST)

        return ~reduce(jnp.logical_and, [hidden(bound[s], size[s]) for s in self.followers])


def forgetting(graph: Graph, connection: Connection, state: str, tolerance: float) -> tuple[float, float]:
    """Steps in which one state behind a connection decays to ``tolerance``, at rest: of the fastest neuron and of the slowest."""
    least, most = graph.rest.get((connection.population, state, state), (0.0, 0.0))
    return steps_to(tolerance, least), steps_to(tolerance, most)


def when(condition, at, fn: Callable, operand):
    """``fn(at, operand)`` if the condition holds, else ``operand``.

    A loop works in place where a conditional copies. What depends neither on its counter ``at`` nor on ``operand`` would be
    taken out of it and done in any case.
    """
    return jax.lax.fori_loop(at, at + jnp.asarray(condition, int), fn, operand)


def _extent(item: dict):
    """The largest entry of one state's trace by row and neuron, or by row where all neurons share it."""
    x = jnp.abs(item["x"])
    most = jnp.max(x, 1, keepdims=x.ndim == 2)
    return jnp.maximum(most, jnp.abs(item["one"])) if "one" in item else most
