"""Constants of a module's equations: declared in the class, checked in the constructor, read as values."""

from __future__ import annotations

from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.text import unit_text

from .recorder import active

__all__ = ["Constant", "declared", "is_trained", "read", "trained"]


class Constant:
    """A constant in the equations of a module, declared in its class: ``tau = Constant(u.ms)``.

    The constructor assigns what the user gave (``self.tau = tau``): a number with unit, one value
    per neuron, an initialiser, or, for a constant that is trained, a ``brainstate.ParamState`` or a
    ``brainstate.nn.Param``. The equations read ``self.tau`` and get its present value.

    Parameters
    ----------
    unit : Unit, optional
        Its dimension is checked.

    Raises
    ------
    ValueError
        On assignment, if the value does not fit the shape of the module or has another dimension.
    """

    def __init__(self, unit: u.Unit | None = None):
        self.unit = unit
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, module: Any, value: Any) -> None:
        if getattr(module, "varshape", None) is None:  # a copy in the making: what it gets was checked before
            vars(module)[self.name] = value
            return
        if isinstance(value, brainstate.State | brainstate.nn.Param):
            fit(self.name, read(value), module.varshape, self.unit)
        else:
            value = fit(self.name, value, module.varshape, self.unit)
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
        held = recorder is not None and recorder.holds(module)
        return jax.tree.map(jax.lax.stop_gradient, read(given)) if held else read(given)


def declared(cls: type) -> dict[str, Constant]:
    """The constants that a class declares, by name."""
    found = {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}
    return {name: value for name, value in found.items() if isinstance(value, Constant)}


def trained(module: Any) -> dict[str, Any]:
    """The constants of a module that are trained: ``name -> ParamState or Param``."""
    given = {name: vars(module).get(name) for name in declared(type(module))}
    return {name: value for name, value in given.items() if is_trained(value)}


def is_trained(given: Any) -> bool:
    """Whether what the user gave for a constant is a parameter to be trained."""
    state = given.val if isinstance(given, brainstate.nn.Param) else given
    return isinstance(state, brainstate.ParamState)


def read(given: Any) -> Any:
    """The present value of what the user gave for a constant."""
    if isinstance(given, brainstate.nn.Param):
        return given.value()
    return given.value if isinstance(given, brainstate.State) else given


def fixed(owner: Any, name: str, value: Any) -> Any:
    """A constant of a synaptic output; a TypeError if it is a parameter to be trained."""
    if isinstance(value, brainstate.State | brainstate.nn.Param):
        raise TypeError(
            f"`{name}` of {type(owner).__name__} is a {type(value).__name__}, but constants of outputs are not trained: give its "
            f"value, e.g. `{name}=param.value`."
        )
    return value


def fit(name: str, value: Any, shape: tuple[int, ...], unit: u.Unit | None = None) -> Any:
    """A constant as a scalar, or an array that fits ``shape``, in the precision of the environment.

    Raises
    ------
    ValueError
        If it does not fit the shape, or has not the dimension of ``unit``.
    """
    try:
        value = braintools.init.param(value, shape)
    except ValueError as error:
        raise ValueError(f"`{name}` must be a scalar or fit the shape {shape} of the module ({error}).") from error
    if unit is not None and not u.get_unit(value).has_same_dim(unit):
        example = "a plain number" if unit.is_unitless else f"e.g. `10.0 * u.{unit}`"
        raise ValueError(
            f"`{name}` is in {unit_text(u.get_unit(value))} but must be in units like {unit_text(unit)}: write {example}."
        )
    if u.math.ndim(value) and jnp.issubdtype(u.get_mantissa(value).dtype, jnp.floating):
        value = value.astype(brainstate.environ.dftype())
    return value
