r"""Sets that weights are kept in: after each update they are projected onto them.

.. math::
    w \leftarrow \arg\min_{v \in C} |v - w|

``C`` is a box for :class:`Clamp`, the orthant given by the signs of the presynaptic neurons for :class:`Dale`; any
function of a weight that returns one of its shape and unit will do as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.checks import check_array, is_whole
from etrax.text import dotted, unit_text

__all__ = ["Clamp", "Dale", "make_projection"]


@dataclasses.dataclass(frozen=True)
class Clamp:
    """Keep weights between two bounds.

    Parameters
    ----------
    low, high : Quantity or float, optional
        Bounds in the unit of the weight; ``None`` leaves that side open.

    Raises
    ------
    ValueError
        If there is no bound, or if ``low`` is above ``high``.
    """

    low: Any = None
    high: Any = None

    def __post_init__(self):
        if self.low is None and self.high is None:
            raise ValueError("`Clamp` needs a bound: give `low`, `high` or both, e.g. `Clamp(low=0.0 * u.mS)`.")
        for name in ("low", "high"):
            bound = getattr(self, name)
            if bound is not None:
                check_array(name, bound, where=" of `Clamp`")
                if np.any(np.isnan(u.get_mantissa(bound))):
                    raise ValueError(f"`{name}` of `Clamp` is {bound}: give a number, or None for no bound.")
        if self.low is not None and self.high is not None:
            if not u.get_unit(self.low).has_same_dim(u.get_unit(self.high)) or not self.low <= self.high:
                raise ValueError(f"`low` must not be above `high` (one unit), got {self.low} and {self.high}.")

    def __call__(self, weight):
        """The nearest weights within the bounds."""
        low, high = _in_unit_of(weight, "low", self.low), _in_unit_of(weight, "high", self.high)
        return _like(weight, jnp.clip(u.get_mantissa(weight), low, high))


@dataclasses.dataclass(frozen=True)
class Dale:
    """Keep the sign of all weights that leave a neuron: excitatory or inhibitory (Dale's principle).

    Parameters
    ----------
    signs : sequence of {-1, 0, 1}
        Of each presynaptic neuron; 0 leaves its weights free.
    axis : int
        Axis of the weight that numbers presynaptic neurons, the first one in `brainstate.nn.Linear`.

    Raises
    ------
    ValueError
        If a sign is another number, or if the weight has another number of presynaptic neurons.
    """

    signs: Sequence[int]
    axis: int = 0

    def __post_init__(self):
        signs = tuple(int(s) if s in (-1, 0, 1) else s for s in np.asarray(self.signs).ravel().tolist())
        if not signs or any(s not in (-1, 0, 1) for s in signs):
            raise ValueError(f"`signs` must be -1, 0 or 1 for each presynaptic neuron, got {self.signs!r}.")
        object.__setattr__(self, "signs", signs)
        if not is_whole(self.axis):
            raise ValueError(f"`axis` must be a whole number, got {self.axis!r}.")

    def __call__(self, weight):
        """The nearest weights of these signs: one that has crossed zero becomes zero."""
        value, signs = u.get_mantissa(weight), self._signs(weight)
        return _like(weight, jnp.where(value * signs < 0, 0, value))

    def flipped(self, weight):
        """Weights of the same size with these signs: initial ones, say."""
        value, signs = u.get_mantissa(weight), self._signs(weight)
        return _like(weight, jnp.where(value * signs < 0, -value, value))

    def _signs(self, weight):
        shape = u.math.shape(weight)
        if not -len(shape) <= self.axis < len(shape) or shape[self.axis] != len(self.signs):
            raise ValueError(
                f"`signs` holds {len(self.signs)} signs but the weight has shape {shape}: give one for each entry of axis {self.axis}."
            )
        around = [1] * len(shape)
        around[self.axis] = -1
        return np.reshape(np.asarray(self.signs, np.int8), around)


def make_projection(
    params: Mapping[tuple, brainstate.State], constraints: Mapping[str, Callable[[Any], Any]]
) -> Callable[[], None]:
    """A function that applies constraints to parameters, where they are.

    Parameters
    ----------
    params : dict
        ``path -> ParamState``.
    constraints : dict
        ``pattern -> function`` of one weight; ``*`` and ``?`` in a pattern as for file names. It is compared with the
        dotted path of the parameter and with that path and the key of the array in it, e.g. ``"projection.comm.weight"``
        and ``"projection.comm.weight.bias"``.

    Raises
    ------
    ValueError
        If a pattern fits no parameter, or a function changes the shape or the unit of a weight.
    """
    targets: list[tuple[brainstate.State, str, str, Callable]] = []
    known: set[str] = set()
    for pattern, function in constraints.items():
        found = []
        for path, state in params.items():
            whole = dotted(path)
            for name in _leaves(whole, state.value)[0]:
                known |= {whole, name}
                if fnmatchcase(whole, pattern) or fnmatchcase(name, pattern):
                    found.append((state, whole, name, function))
        if not found:
            raise ValueError(
                f"`constraints` has {pattern!r}, which fits no parameter; they are {', '.join(sorted(known))}."
            )
        targets += found

    def project() -> None:
        for state, whole, name, function in targets:
            leaves, structure = _leaves(whole, state.value)
            leaves[name] = _checked(function(leaves[name]), leaves[name], name)
            state.value = jax.tree.unflatten(structure, list(leaves.values()))

    return project


def _leaves(whole: str, value) -> tuple[dict[str, Any], Any]:
    """The arrays of a parameter by name, and how to put them together again."""
    flat, structure = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda leaf: isinstance(leaf, u.Quantity))
    return {dotted((whole, *path)): leaf for path, leaf in flat}, structure


def _checked(new, old, name: str):
    if u.math.shape(new) != u.math.shape(old) or u.get_unit(new) != u.get_unit(old):
        raise ValueError(
            f"the constraint on {name!r} turned a weight of shape {u.math.shape(old)}, unit {u.get_unit(old)}, into shape "
            f"{u.math.shape(new)}, unit {u.get_unit(new)}: it must keep both."
        )
    return jax.tree.map(lambda a, b: jnp.asarray(a, jnp.result_type(b)), new, old)


def _in_unit_of(weight, name: str, bound):
    if bound is None:
        return None
    unit = u.get_unit(weight)
    if not u.get_unit(bound).has_same_dim(unit):
        raise ValueError(
            f"`{name}` of `Clamp` is {bound} but the weight is in {unit_text(unit)}: give a bound in that unit."
        )
    return float(bound.to_decimal(unit)) if isinstance(bound, u.Quantity) else float(bound)


def _like(weight, value):
    return u.Quantity(value, unit=weight.unit) if isinstance(weight, u.Quantity) else value
