"""The adjoint of one population: an element-wise scan back through time.

See equations (22) to (25) of docs/mathematics.md. No weight enters: what the weights' gradients and traces need of it are
factors that are multiplied with their inputs in one product over the chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from etrax.contract.jacobian import Entries, Kind, matmul, transpose_apply

from .names import Drive
from .population import Population
from .sources import Source, TrainedConstant
from .structure import Blocks, Structure

__all__ = ["Adjoint", "Passed", "Steps", "Wanted", "put"]


class Wanted(NamedTuple):
    """What is asked of a scan back: see the fields of `Passed` of the same names; ``forms`` are ``M`` and ``F``."""

    back: bool = False
    credit: bool = False
    forms: bool = False


class Passed(NamedTuple):
    """What a scan back through the steps of one population passes on and notes, as far as it is asked for.

    Of the drives of constants, whose input is always 1, only the sums over time are kept.

    Attributes
    ----------
    F : dict
        ``M_t f_t`` over time, by drive and state.
    M : dict
        The product of all ``D`` from the first scanned step to the end of the chunk.
    back : dict
        ``D_t^T a_t`` by state, the cotangents of the states before the steps that were scanned.
    credit : dict
        ``f_t . a_t`` by drive, the cotangents of the drives over time.
    """

    F: Any = None
    M: Any = None
    back: Any = None
    credit: Any = None


class Steps(NamedTuple):
    """Consecutive steps of a chunk that are scanned.

    Attributes
    ----------
    numbers : array
        Their numbers in the chunk.
    signals : dict
        ``state -> `` learning signals over time; a state that is absent has none.
    seen : pytree
        What is seen of them, over time.
    """

    numbers: Any
    signals: dict[str, Any]
    seen: Any


class Adjoint:
    """Scans back through the steps of one population.

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

    def __init__(self, population: Population, structure: Structure, sources: list[Source], dtype: Any):
        self.structure = structure
        self.states = [h.name for h in population.hidden]
        self.drives = sorted({s.drive for s in sources})
        self.summed = {s.drive for s in sources if isinstance(s, TrainedConstant)}
        full = (population.rows, population.size)
        self.shapes = {Kind.UNIFORM: (), Kind.PER_NEURON: full[1:], Kind.VARYING: full}
        self.dtype = dtype

    def end(self, K: int, wanted: Wanted) -> Passed:
        """What a scan begins with at the end of a chunk of ``K`` steps."""

        def blank(d, kind):
            shape = self.shapes[kind]
            if d in self.summed:
                return jnp.zeros(shape, self.dtype)
            return jnp.zeros((*shape[:-1], K, *shape[-1:]) if kind is Kind.VARYING else (K, *shape), self.dtype)

        suffix, trace = self.structure.suffix, self.structure.trace
        zero = jnp.zeros(self.shapes[Kind.VARYING], self.dtype)
        out = Passed()
        if wanted.back:
            out = out._replace(back=dict.fromkeys(self.states, zero))
        if wanted.credit:
            out = out._replace(credit={d: blank(d, Kind.VARYING) for d in self.drives})
        if wanted.forms:
            M = {(i, j): jnp.full(self.shapes[kind], i == j, self.dtype) for (i, j), kind in suffix.items()}
            F = {d: {s: blank(d, kind) for s, kind in trace[d].items()} for d in self.drives}
            out = out._replace(M=M, F=F)
        return out

    def back(self, steps: Steps, blocks: Callable[[Any], Blocks], passed: Passed) -> Passed:
        """Scan back through consecutive steps.

        Parameters
        ----------
        steps : Steps
            The steps.
        blocks : callable
            What is seen of a step to its Jacobian.
        passed : Passed
            What the steps after them passed on, or `end`.
        """

        def step(passed: Passed, at: Steps):
            D, f = blocks(at.seen)
            if passed.back is not None:
                passed = self._pass_back(passed, D, f, at)
            if passed.M is not None:
                passed = self._pass_forms(passed, D, f, at)
            return passed, None

        return jax.lax.scan(step, passed, steps, reverse=True)[0]

    def _pass_back(self, passed: Passed, D: Entries, f: Entries, at: Steps) -> Passed:
        L = at.signals
        a = {s: b + L[s] if s in L else b for s, b in passed.back.items()}  # (22)
        credit = passed.credit
        if credit is not None:  # (23)
            credit = {
                d: self._note(d, noted, sum(v * a[s] for (s, d2), v in f.items() if d2 == d), Kind.VARYING, at.numbers)
                for d, noted in credit.items()
            }
        sent: dict[Any, Any] = {**dict.fromkeys(a, 0.0), **transpose_apply(D, a)}
        return passed._replace(back={s: self._fit(v, Kind.VARYING) for s, v in sent.items()}, credit=credit)

    def _pass_forms(self, passed: Passed, D: Entries, f: Entries, at: Steps) -> Passed:
        M, trace = passed.M, self.structure.trace
        F, M = matmul(M, f), self.product(M, D)  # (25)
        noted = {
            d: {s: self._note(d, old, F[s, d], trace[d][s], at.numbers) for s, old in noted.items()}
            for d, noted in passed.F.items()
        }
        return passed._replace(M=M, F=noted)

    def product(self, later: Entries, earlier: Entries) -> Entries:
        """The product of all ``D`` over two stretches of time."""
        M = matmul(later, earlier)
        return {key: self._fit(M.get(key, 0.0), kind) for key, kind in self.structure.suffix.items()}

    def _fit(self, value, kind: Kind):
        return jnp.broadcast_to(jnp.asarray(value, self.dtype), self.shapes[kind])

    def _note(self, drive: Drive, noted, value, kind: Kind, t):
        value = self._fit(value, kind)
        return noted + value if drive in self.summed else put(noted, value, t)


def put(over_time, value, t):
    """Note the value of step ``t``; time is the middle axis of ``(rows, time, size)``, as matrix products want it."""
    return jax.lax.dynamic_update_index_in_dim(over_time, value, t, max(0, over_time.ndim - 2))
