"""Constants of a module's equations: declared in the class, checked when they are assigned, read as values."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.checks import check_array
from etrax.text import shown, unit_text, written

from .bounds import Bound, refuse
from .recorder import active

__all__ = ["REQUIRED", "Constant", "bounds_of", "declared", "is_trained", "limits_of", "read", "trained"]


REQUIRED = inspect.Parameter.empty


class Constant:
    """A constant in the equations of a module, declared once, in its class.

    ``tau: Any = Constant(default=5.0 * u.ms, above=0, doc="Time constant.")`` is an argument of the constructor with this
    default, at this place; the values that it may have; and its line in the docstring. The user gives a number with unit,
    one value per neuron, an initialiser, or, for a constant that is trained, a ``brainstate.ParamState`` or a
    ``brainstate.nn.Param``. The equations read ``self.tau`` and get its present value.

    Without an annotation, ``tau = Constant(u.ms)``, it is no argument: a constructor of your own assigns ``self.tau``.

    Parameters
    ----------
    unit : Unit, optional
        Its dimension is checked. That of ``default``, if left out.
    default : Quantity or float, optional
        Without one, the user must give a value. With None the constant may be left out.
    above, below : float, Quantity or str, optional
        Limits of its values: a number in its unit, or the name of another constant or attribute.
    least, most : float, Quantity or str, optional
        The same, and the limit is a value too.
    doc : str
        What it is, for the docstring.
    kw_only : bool
        Whether it is given by keyword only.

    Raises
    ------
    ValueError
        On assignment, if the value does not fit the shape of the module, has another dimension, is not finite, or is
        outside; the last two as far as it is known, so not within `jax.jit` and its like.

    Examples
    --------
    >>> import brainunit as u, etrax
    >>> class Slow(etrax.Filter):
    ...     tau: object = etrax.Constant(default=100.0 * u.ms, above=0, doc="Time constant.")
    >>> Slow(2, tau=0.0 * u.ms)
    Traceback (most recent call last):
        ...
    ValueError: `tau` of Slow must be above 0 ms, got 0 ms.
    """

    def __init__(  # noqa: PLR0913 - the two ends of a range, each with or without its limit
        self,
        unit: u.Unit | None = None,
        *,
        default: Any = REQUIRED,
        above: Any = None,
        below: Any = None,
        least: Any = None,
        most: Any = None,
        doc: str = "",
        kw_only: bool = False,
    ):
        has_unit = isinstance(default, u.Quantity | u.Unit | int | float | np.ndarray | jax.Array)
        self.unit = u.get_unit(default) if unit is None and has_unit else unit
        self.default = default
        ends = {"above": above, "least": least, "below": below, "most": most}
        self.bounds = tuple(Bound.of(side, limit, self.unit) for side, limit in ends.items() if limit is not None)
        self.doc = doc
        self.kw_only = kw_only
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, module: Any, value: Any) -> None:
        if value is None and self.default is None:
            vars(module)[self.name] = value  # the constant is absent
            return
        if not getattr(module, "constants_learn", True):
            present = value = fixed(module, self.name, value, self.unit if self.default is REQUIRED else None)
        elif getattr(module, "varshape", None) is None or _in_the_making(value):  # a copy: it was checked before
            vars(module)[self.name] = value
            return
        elif isinstance(value, brainstate.State | brainstate.nn.Param):
            present = fit(self.name, read(value), module.varshape, self.unit)
        else:
            present = value = fit(self.name, value, module.varshape, self.unit)
        bounds = bounds_of(type(module), self.name)
        refuse(f"`{self.name}` of {type(module).__name__}", present, bounds, limits_of(module, bounds))
        vars(module)[self.name] = value

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        if module is None:
            return self
        if self.name not in vars(module):
            raise AttributeError(f"{type(module).__name__!r} object has no attribute {self.name!r} yet")
        given = vars(module)[self.name]
        if not is_trained(given):
            return read(given)
        recorder = active()
        return read(given) if recorder is None else recorder.constant(module, self.name, read(given))


def declared(cls: type) -> dict[str, Constant]:
    """The constants that a class declares, by name."""
    found = {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}
    return {name: value for name, value in found.items() if isinstance(value, Constant)}


def bounds_of(cls: type, name: str) -> tuple[Bound, ...]:
    """The range of a constant: its own bounds, and what the bounds of others say of it."""
    constants = declared(cls)
    implied = [b.seen_from(k) for k, constant in constants.items() for b in constant.bounds if b.other == name]
    return (*constants[name].bounds, *implied)


def limits_of(module: Any, bounds: Iterable[Bound]) -> dict[str, Any]:
    """What bounds name, by name: of two constants that bound each other, the first that is assigned has no limit yet."""
    return {b.other: getattr(module, b.other) for b in bounds if b.other and hasattr(module, b.other)}


def trained(module: Any) -> dict[str, Any]:
    """The constants of a module that are trained: ``name -> ParamState or Param``."""
    given = {name: vars(module).get(name) for name in declared(type(module))}
    return {name: value for name, value in given.items() if is_trained(value)}


def is_trained(given: Any) -> bool:
    """Whether what the user gave for a constant is a parameter to be trained."""
    state = given.val if isinstance(given, brainstate.nn.Param) else given
    return isinstance(state, brainstate.ParamState)


def _in_the_making(given: Any) -> bool:
    """Whether it is a parameter that has no value yet: brainstate puts a copy together from outside to inside."""
    return isinstance(given, brainstate.nn.Param) and not hasattr(given, "val")


def read(given: Any) -> Any:
    """The present value of what the user gave for a constant."""
    if isinstance(given, brainstate.nn.Param):
        return given.value()
    return given.value if isinstance(given, brainstate.State) else given


def fixed(owner: Any, name: str, value: Any, unit: u.Unit | None) -> Any:
    """A constant of a synaptic output; an error if it is a parameter to be trained, no number, or of another unit."""
    if isinstance(value, brainstate.State | brainstate.nn.Param):
        raise TypeError(
            f"`{name}` of {type(owner).__name__} is a {type(value).__name__}, but constants of outputs are not trained: give its "
            f"value, e.g. `{name}=param.value`."
        )
    if not isinstance(value, u.Unit):
        check_array(name, value, unit, where=f" of {type(owner).__name__}")
    return value


def fit(name: str, value: Any, shape: tuple[int, ...], unit: u.Unit | None = None) -> Any:
    """A constant as a scalar, or an array that fits ``shape``, in the precision of the environment.

    Raises
    ------
    ValueError
        If it does not fit the shape, or has not the dimension of ``unit``.
    """
    if isinstance(value, list | tuple | str | bool | complex) or value is None:
        raise ValueError(
            f"`{name}` must be a number with its unit, an array of one per neuron, or an initialiser, got {shown(value)}: write e.g. "
            f"`{written('10.0', unit)}`, or `{written('np.array([...])', unit)}`."
        )
    try:
        value = braintools.init.param(value, shape)
        check_array(name, value)
        if jnp.broadcast_shapes(u.math.shape(value), shape) != tuple(shape):
            raise ValueError(f"its shape is {u.math.shape(value)}")
    except ValueError as error:
        raise ValueError(f"`{name}` must be a scalar or fit the shape {shape} of the module ({error}).") from error
    if unit is not None and not u.get_unit(value).has_same_dim(unit):
        example = "a plain number" if unit.is_unitless else f"e.g. `{written('10.0', unit)}`"
        raise ValueError(
            f"`{name}` is in {unit_text(u.get_unit(value))} but must be in units like {unit_text(unit)}: write {example}."
        )
    if u.math.ndim(value) and jnp.issubdtype(u.get_mantissa(value).dtype, jnp.floating):
        value = value.astype(brainstate.environ.dftype())
    return value
