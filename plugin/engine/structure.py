"""The kinds of the entries of a population's Jacobian, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from etrax.contract.jacobian import Entries, Kind

from .names import Drive

__all__ = ["Blocks", "Structure"]


class Blocks(NamedTuple):
    """The Jacobian of a step: ``D`` with keys (..., new state, old state) and ``f`` with keys (..., new state, drive).

    See equation (11) of docs/mathematics.md.
    """

    D: Entries
    f: Entries


@dataclass
class Structure:
    """Kinds of the entries of one population's Jacobian, and what follows from them.

    ``trace[drive][state]`` is the kind of the eligibility trace of the parameters behind a
    drive: uniform means that it does not depend on the postsynaptic neuron. ``suffix`` holds
    the kinds of a product of many ``D``. See equations (28) and (29) of docs/mathematics.md.
    """

    D: dict[tuple[str, str], Kind]
    f: dict[tuple[str, Drive], Kind]
    states: list[str]
    suffix: dict[tuple[str, str], Kind] = field(init=False)
    trace: dict[Drive, dict[str, Kind]] = field(init=False)

    def __post_init__(self):
        suffix = {(s, s): Kind.UNIFORM for s in self.states}
        while True:
            grown = dict(suffix)
            for (i, k), left in suffix.items():
                for (k2, j), right in self.D.items():
                    if k == k2:
                        grown[i, j] = max(grown.get((i, j), Kind.ZERO), left, right)
            if grown == suffix:
                break
            suffix = grown
        self.suffix = suffix
        self.trace = {}
        for drive in sorted({d for _, d in self.f}):
            kinds: dict[str, Kind] = {}
            for (i, k), left in suffix.items():
                if (k, drive) in self.f:
                    kinds[i] = max(kinds.get(i, Kind.ZERO), left, self.f[k, drive])
            self.trace[drive] = kinds
