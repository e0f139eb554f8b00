"""The adjoint of one population: an element-wise scan back through time.

    a_t = L_t + D_{t+1}^T a_{t+1},        M_t = D_K ... D_{t+1}

with the learning signals ``L_t`` and the Jacobian ``D_t``. No weight enters: what the weights' gradients and traces
need of it are factors that are multiplied with their inputs in one product over the chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from etrax.contract import Entries
from etrax.contract.jacobian import Kind, matmul, transpose_apply

from .population import Population
from .sources import Connection, TrainedConstant
from .structure import Structure

__all__ = ["Adjoint", "put"]

Passed = dict[str, dict]


class Adjoint:
    """What a scan back through the steps of one population passes on and notes.

    As far as they are asked for (`end`), a scan (`back`) keeps

    ``back``
        ``D_t^T a_t``, the cotangents of the states before the steps that were scanned;
    ``ct``
        ``f_t . a_t``, the cotangents of the drives over time;
    ``M``
        the product of all ``D`` from the first scanned step to the end of the chunk;
    ``F``
        ``M_t f_t`` over time;
    ``sizes``
        sums over time of ``|M_t f_t|``, weighted.

    Of the drives of constants, whose input is always 1, only the sums over time are kept.

    Parameters
    ----------
    population : Population
        Its states.
    structure : Structure
        Kinds of their Jacobian entries.
    sources : list
        What drives it with trained parameters.
    dtype : dtype
        Of all values.
    """

    def __init__(
        self, population: Population, structure: Structure, sources: list[Connection | TrainedConstant], dtype: Any
    ):
        self.structure = structure
        self.states = [h.name for h in population.hidden]
        self.drives = sorted({s.drive for s in sources})
        self.summed = {s.drive for s in sources if isinstance(s, TrainedConstant)}
        full = (population.rows, population.size)
        self.shapes = {Kind.UNIFORM: (), Kind.PER_NEURON: full[1:], Kind.VARYING: full}
        self.dtype = dtype

    def end(self, K: int, back: bool, ct: bool, forms: bool, room: Passed | None = None) -> Passed:
        """What a scan begins with at the end of a chunk of ``K`` steps; ``forms`` asks for ``M`` and ``F``.

        ``room`` holds longer arrays in place of some of ``ct`` and ``F``, and under ``sizes`` says which sums are asked
        for, ``{key: drive}``.
        """

        def blank(d, kind):
            shape = self.shapes[kind]
            if d in self.summed:
                return jnp.zeros(shape, self.dtype)
            return jnp.zeros((*shape[:-1], K, *shape[-1:]) if kind is Kind.VARYING else (K, *shape), self.dtype)

        out: Passed = {}
        if back:
            out["back"] = {state: jnp.zeros(self.shapes[Kind.VARYING], self.dtype) for state in self.states}
        if ct:
            out["ct"] = {d: blank(d, Kind.VARYING) for d in self.drives}
        if forms:
            suffix, trace = self.structure.suffix, self.structure.trace
            out["M"] = {(i, j): jnp.full(self.shapes[kind], i == j, self.dtype) for (i, j), kind in suffix.items()}
            out["F"] = {d: {s: blank(d, kind) for s, kind in trace[d].items()} for d in self.drives}
        if room:
            out = {key: value | room.get(key, {}) for key, value in out.items()}
            zero = jnp.zeros(self.shapes[Kind.VARYING], self.dtype)
            out["sizes"] = {k: dict.fromkeys(self.structure.trace[d], zero) for k, d in room["sizes"].items()}
        return out

    def back(self, L: dict, blocks: Callable, seen: Any, times, passed: Passed, weights: dict | None = None) -> Passed:
        """Scan back through consecutive steps.

        Parameters
        ----------
        L : dict
            ``state -> `` learning signals over time; a state that is absent has none.
        blocks : callable
            What is seen of a step to its ``D`` and ``f``.
        seen : pytree
            What is seen, over time.
        times : array
            Numbers of the steps in the chunk.
        passed : dict
            What the steps after them passed on, or `end`.
        weights : dict, optional
            ``key -> (drive, weights over time)`` of the sums in ``sizes``.
        """
        of = {key: drive for key, (drive, _) in (weights or {}).items()}

        def step(passed, at):
            t, L, seen, weight = at
            (D, f), passed = blocks(seen), dict(passed)
            if "back" in passed:
                a = {s: b + L[s] if s in L else b for s, b in passed["back"].items()}
                if "ct" in passed:
                    passed["ct"] = {
                        d: self._note(d, noted, sum(v * a[s] for (s, d2), v in f.items() if d2 == d), Kind.VARYING, t)
                        for d, noted in passed["ct"].items()
                    }
                zero = dict.fromkeys(a, 0.0)
                passed["back"] = {s: self._fit(v, Kind.VARYING) for s, v in {**zero, **transpose_apply(D, a)}.items()}
            if "M" in passed:
                M, trace = passed["M"], self.structure.trace
                F, M = matmul(M, f), self.product(M, D)
                passed["F"] = {
                    d: {s: self._note(d, old, F[s, d], trace[d][s], t) for s, old in noted.items()}
                    for d, noted in passed["F"].items()
                }
                passed["M"] = M
                for key, w in weight.items():
                    sums = passed["sizes"][key]
                    new = {s: old + self._fit(jnp.abs(F[s, of[key]]) * w, Kind.VARYING) for s, old in sums.items()}
                    passed["sizes"] = {**passed["sizes"], key: new}
            return passed, None

        weight = {key: w for key, (_, w) in (weights or {}).items()}
        return jax.lax.scan(step, passed, (times, L, seen, weight), reverse=True)[0]

    def product(self, later: Entries, earlier: Entries) -> Entries:
        """The product of all ``D`` over two stretches of time."""
        M = matmul(later, earlier)
        return {key: self._fit(M.get(key, 0.0), kind) for key, kind in self.structure.suffix.items()}

    def _fit(self, value, kind: Kind):
        return jnp.broadcast_to(jnp.asarray(value, self.dtype), self.shapes[kind])

    def _note(self, drive: str, noted, value, kind: Kind, t):
        value = self._fit(value, kind)
        return noted + value if drive in self.summed else put(noted, value, t)


def put(over_time, value, t):
    """Note the value of step ``t``; time is the middle axis of ``(rows, time, size)``, as matrix products want it."""
    return jax.lax.dynamic_update_index_in_dim(over_time, value, t, max(0, over_time.ndim - 2))
