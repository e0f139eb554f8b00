"""The values that a constant of an equation may have, and what is said of one that is outside."""

from __future__ import annotations

from typing import Any, NamedTuple

import brainunit as u
import jax
import numpy as np

from etrax.text import quantity_text

__all__ = ["Bound", "known", "refuse"]

_WORDS = {"above": "above", "least": "at least", "below": "below", "most": "at most"}
_MIRRORED = {"above": "below", "below": "above", "least": "most", "most": "least"}
_BROKEN = {"above": np.less_equal, "least": np.less, "below": np.greater_equal, "most": np.greater}


class Bound(NamedTuple):
    """One end of a range.

    Attributes
    ----------
    side : {'above', 'least', 'below', 'most'}
        Which end, and whether the limit itself is inside: it is for ``'least'`` and ``'most'``.
    limit : float, Quantity or str
        A name is that of another constant, or attribute, of the module.
    """

    side: str
    limit: Any

    @classmethod
    def of(cls, side: str, limit: Any, unit: u.Unit | None) -> Bound:
        """A bound of a constant that has this unit: a number is a number of it."""
        plain = isinstance(limit, str | u.Quantity) or unit is None or unit.is_unitless
        return cls(side, limit if plain else u.Quantity(float(limit), unit=unit))

    @property
    def other(self) -> str | None:
        """The name of the other constant, if the limit is one."""
        return self.limit if isinstance(self.limit, str) else None

    @property
    def is_lower(self) -> bool:
        """Whether what is below the limit is outside."""
        return self.side in ("above", "least")

    def seen_from(self, name: str) -> Bound:
        """What the bound of the constant ``name`` says of the other one."""
        return Bound(_MIRRORED[self.side], name)

    def __str__(self) -> str:
        """How it reads: above 0 ms."""
        return f"{_WORDS[self.side]} " + (f"`{self.other}`" if self.other else quantity_text(self.limit, "g"))

    def broken(self, number: np.ndarray, limit: Any) -> np.ndarray:
        """Where numbers are outside, given the limit in their unit."""
        return _BROKEN[self.side](number, limit)

    def number(self, unit: u.Unit, values: dict[str, Any]) -> Any:
        """The limit as a number in a unit; None if it is named and not among ``values`` or not known."""
        if self.other:
            return known(values[self.other], unit) if self.other in values else None
        return known(self.limit, unit) if isinstance(self.limit, u.Quantity) else self.limit


def known(value: Any, unit: u.Unit) -> np.ndarray | None:
    """Numbers in a unit; None where they are not known, inside a transformation, or where there are none."""
    try:
        with jax.ensure_compile_time_eval():  # what is no tracer is known inside `jit` as well
            number = np.asarray(u.Quantity(value).to_decimal(unit))
    except TypeError:  # of JAX, for a tracer
        return None
    return number if np.issubdtype(number.dtype, np.number) else None


def refuse(what: str, value: Any, bounds: tuple[Bound, ...], others: dict[str, Any]) -> None:
    """A ValueError if the value is not finite or outside, as far as it is known.

    Parameters
    ----------
    what : str
        How a message names the constant.
    value : ArrayLike
        Its value.
    bounds : tuple of Bound
        Its range.
    others : dict
        The values of the other constants by name, those that are there.
    """
    unit = u.get_unit(value)
    number = known(value, unit)
    if number is None:
        return

    def first(wrong: np.ndarray, numbers: Any) -> str:
        at = tuple(np.argwhere(wrong)[0])
        return quantity_text(u.Quantity(np.broadcast_to(numbers, wrong.shape)[at], unit=unit), "g")

    def got(wrong: np.ndarray) -> str:
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        return f"got {first(wrong, number)}" + (f" at index {at}" if at else "")

    wrong = ~np.isfinite(number)
    if wrong.any():
        raise ValueError(f"{what} must be finite, {got(wrong)}.")
    for bound in bounds:
        limit = bound.number(unit, others)
        if limit is None:
            continue
        wrong = np.asarray(bound.broken(number, limit))
        if wrong.any():
            where = f" where `{bound.other}` is {first(wrong, limit)}" if bound.other else ""
            raise ValueError(f"{what} must be {bound}, {got(wrong)}{where}.")
