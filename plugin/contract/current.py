"""The input current of a neuron as a function of its membrane potential."""

from __future__ import annotations

from typing import Any

import brainunit as u

from etrax.text import unit_text

__all__ = ["AffineCurrent", "Current", "named_current"]


class Current:
    """Input current of a neuron as a function of its membrane potential.

    Where every output is affine in the potential (:attr:`is_affine`), ``I(v) = offset + slope * v``;
    ``slope`` is None when no conductance-based output is among them, so that a purely
    current-driven neuron keeps a constant Jacobian.

    Parameters
    ----------
    external : ArrayLike
        Current that comes from outside, e.g. ``0 mA``.
    terms : list of (SynOut, ArrayLike)
        Outputs with the conductances bound to them.
    """

    def __init__(self, external, terms: list):
        self.external = external
        self.terms = terms

    def __call__(self, v):
        total = self.external
        for out, g in self.terms:
            total = add(total, out.update(g, v), f"`out` {type(out).__name__}", "current already summed up")
        return total

    @property
    def is_affine(self) -> bool:
        """Whether every output is affine in the potential."""
        return all(out.is_affine for out, _ in self.terms)

    @property
    def offset(self):
        """The current at zero potential."""
        total = self.external
        for out, g in self.terms:
            total = total + out.affine(g)[0]
        return total

    @property
    def slope(self):
        """``dI/dv``, or None where no output depends on the potential."""
        slopes = [s for s in (out.affine(g)[1] for out, g in self.terms) if s is not None]
        return sum(slopes[1:], slopes[0]) if slopes else None


class AffineCurrent:
    """A current given by its offset and slope, for automatic differentiation with respect to both."""

    def __init__(self, offset, slope):
        self.offset, self.slope = offset, slope

    def __call__(self, v):
        return self.offset if self.slope is None else self.offset + self.slope * v


def named_current(offset, slope) -> dict[str, Any]:
    """Offset and slope of a current under the names that Jacobian entries give them."""
    return {"current": offset} if slope is None else {"current": offset, "slope": slope}


def add(a, b, what: str, where: str):
    """``a + b``; a ValueError names the units where they do not fit."""
    if not u.get_unit(a).has_same_dim(u.get_unit(b)):
        raise ValueError(
            f"{what} gives {unit_text(u.get_unit(b))} but the {where} is in {unit_text(u.get_unit(a))}: check the unit of the "
            "weights, `CUBA(scale=...)`, `COBA(E=...)` and of the external current."
        )
    return a + b
