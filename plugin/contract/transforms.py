"""Whether training can take a constant out of its range: a transform keeps it there, an update of its number does not."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.text import dotted

from .bounds import Bound, known
from .constant import bounds_of, is_trained, limits_of, read, trained

__all__ = ["warn_of_free_constants"]

# Where a transform is looked at; most are monotone, so that the ends would do.
_PLACES = (-1e30, -1e4, -10.0, -1.0, 0.0, 1.0, 10.0, 1e4, 1e30)


def warn_of_free_constants(model: brainstate.nn.Module) -> None:
    """One UserWarning for each trained constant of a model that an update can move out of its range."""
    for path, module in model.nodes().items():
        given = vars(module)
        for name, value in trained(module).items():
            # no transform knows of another constant that moves as well
            bounds = [b for b in bounds_of(type(module), name) if not is_trained(given.get(b.other))]
            others = limits_of(module, bounds)
            unit = u.get_unit(read(value))
            if bounds and not _keeps(value, unit, bounds, others):
                warnings.warn(
                    f"`{name}` of {type(module).__name__} is trained and must be {' and '.join(map(str, bounds))}, but updates can "
                    f"take it elsewhere: give it as `{_advice(unit, bounds, others)}`. (If `TrainOptions(constraints=...)` "
                    f"clamps {dotted((*path, name))}, which is not known when a learner is compiled, filter this warning.)",
                    UserWarning,
                    stacklevel=2,
                )


def _keeps(given: Any, unit: u.Unit, bounds: Sequence[Bound], others: dict[str, Any]) -> bool:
    """Whether what a constant is made of gives values within bounds only, whatever is learned."""
    if not isinstance(given, brainstate.nn.Param):
        return False
    for place in _PLACES:
        value = given.t.forward(jax.tree.map(lambda leaf, x=place: jnp.full_like(leaf, x), given.val.value))
        number = known(value if given.precompute is None else given.precompute(value), unit)
        for bound in bounds:
            limit = bound.number(unit, others)
            if number is not None and limit is not None:
                # in the limit a transform gives the end of its range
                outside = bound.broken(number, limit) & ~np.isclose(number, limit, rtol=1e-6, atol=0.0)
                if outside.any():
                    return False
    return True


def _advice(unit: u.Unit, bounds: Sequence[Bound], others: dict[str, Any]) -> str:
    """A parameter that stays within bounds, as one writes it."""

    def end(bound: Bound) -> str:
        number = bound.number(unit, others)
        if number is None or (np.ndim(number) and np.ptp(number) > 0):
            return str(bound.other)
        written = f"{float(np.ravel(number)[0]):g}"
        if unit.is_unitless:
            return written
        return f"{written} * u.{unit}" if str(unit).isidentifier() else f"{written} * u.get_unit(value)"

    low = [end(bound) for bound in bounds if bound.is_lower]
    high = [end(bound) for bound in bounds if not bound.is_lower]
    if low and high:
        transform = f"SigmoidT({low[0]}, {high[0]})"
    else:
        transform = f"SoftplusT({low[0]})" if low else f"NegSoftplusT({high[0]})"
    return f"brainstate.nn.Param(value, t=brainstate.nn.{transform})"
