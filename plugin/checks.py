"""Checks of arguments that more than one part of the package makes; each names the argument, its value and the fix."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from .text import shown, unit_text, written

__all__ = [
    "check_array",
    "check_callable",
    "check_chunk_size",
    "check_dt",
    "check_finite",
    "check_flag",
    "check_kind",
    "check_made_by",
    "check_mask",
    "check_model",
    "check_name",
    "check_seed",
    "check_sequences",
    "check_size",
    "check_unit",
    "check_values",
    "check_weights",
    "first_not_finite",
    "is_whole",
    "not_finite",
    "noted",
    "place",
    "positive",
    "whole_number",
]


def check_dt() -> Any:
    """The time step of the environment; a ValueError if there is none, or it is no time above 0."""
    dt = brainstate.environ.get("dt", None)
    if dt is None:
        raise ValueError(
            "`dt` is not set: put the call inside `with brainstate.environ.context(dt=1.0 * u.ms):`, or call "
            "`brainstate.environ.set(dt=...)`."
        )
    good = isinstance(dt, u.Quantity) and dt.unit.has_same_dim(u.ms) and dt.size == 1
    with contextlib.suppress(jax.errors.ConcretizationTypeError):  # its value is not known inside a transformation
        good = good and 0 < float(dt.mantissa) < np.inf
    if not good:
        raise ValueError(
            f"`dt` must be one time above 0, got {shown(dt)}: write e.g. `brainstate.environ.set(dt=1.0 * u.ms)`."
        )
    return dt


def check_unit(value, unit: u.Unit, what: str, where: str):
    """``value`` if it has the dimension of ``unit``; a ValueError that names both and the fix otherwise."""
    got = u.get_unit(value)
    if not got.has_same_dim(unit):
        raise ValueError(
            f"{what} is in {unit_text(got)} but {where} takes {unit_text(unit)}: give the weights (and bias) of `comm` "
            f"the unit {unit_text(unit)}, e.g. `w_init=braintools.init.KaimingNormal(unit=...)`, or no bias with `b_init=None`."
        )
    return value


def check_array(name: str, value: Any, unit: u.Unit | None = None, *, where: str = "", example: str = "1.0") -> None:
    """A TypeError unless ``value`` is a number or an array of them; a ValueError unless it has the dimension of ``unit``."""
    mantissa = u.get_mantissa(value) if isinstance(value, u.Quantity) else value
    if isinstance(mantissa, jax.Array | np.ndarray | np.generic | int | float) and _is_numeric(mantissa):
        if unit is None or u.get_unit(value).has_same_dim(unit):
            return
        wanted = "a plain number, without a unit" if unit.is_unitless else f"in units like {unit_text(unit)}"
        raise ValueError(
            f"`{name}`{where} is in {unit_text(u.get_unit(value))} but must be {wanted}: write e.g. `{written(example, unit)}`."
        )
    raise TypeError(f"`{name}`{where} must be a number or an array, got {shown(value)}: write e.g. `jnp.asarray(...)`.")


def _is_numeric(value: Any) -> bool:
    dtype = value.dtype if hasattr(value, "dtype") else np.result_type(value)
    return any(jnp.issubdtype(dtype, kind) for kind in (np.bool_, np.number, jax.dtypes.prng_key))


def check_flag(name: str, value: Any) -> None:
    """A TypeError unless ``value`` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False, got {shown(value)}.")


def check_name(value: Any, name: str = "name") -> None:
    """A TypeError unless ``value`` is a text or None."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"`{name}` must be a text, got {shown(value)}: give other arguments by their keyword.")


def check_callable(name: str, value: Any, example: str, args: tuple | None = None) -> None:
    """A TypeError unless ``value`` is a function, of as many arguments as ``args``, if they are given."""
    if not callable(value):
        raise TypeError(f"`{name}` must be a function, got {shown(value)}: write e.g. `{example}`.")
    if args is None:
        return
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # one of C, which tells of no arguments
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        raise TypeError(
            f"`{name}` must take {len(args)} {'argument' if len(args) == 1 else 'arguments'} ({error}): write e.g. `{example}`."
        ) from None


def check_kind(name: str, value: Any, kind: type | tuple[type, ...], what: str, advice: str = "") -> None:
    """A TypeError unless ``value`` is an instance of ``kind``, in words ``what``; ``advice`` says how to come by one."""
    if isinstance(value, kind):
        return
    if isinstance(value, type) and issubclass(value, kind):
        advice = f"make an instance of it, e.g. `{value.__name__}(...)`"
    raise TypeError(f"`{name}` must be {what}, got {shown(value)}{advice and ': '}{advice}.")


def check_made_by(name: str, value: Any, attribute: str, maker: str) -> None:
    """A TypeError unless ``value`` has an attribute that what ``maker`` gives has, in whose package it may not be looked up."""
    if isinstance(value, type) or not hasattr(value, attribute):
        raise TypeError(f"`{name}` must be what {maker} gives, got {shown(value)}.")


def check_model(model: Any, name: str = "model") -> None:
    """A TypeError unless it is a network: an instance of a module, and no learner of one."""
    check_kind(
        name, model, brainstate.nn.Module, "a brainstate.nn.Module", "give an instance of the class of your network"
    )
    if hasattr(model, "etrace_grad"):
        raise TypeError(f"`{name}` is the learner {type(model).__name__}: give the network in it, `learner.model`.")


def check_size(name: str, value: Any) -> tuple[int, ...]:
    """A shape as a tuple of int; a ValueError unless it is one whole number above 0 or several."""
    sizes = tuple(value) if isinstance(value, tuple | list) else (value,)
    if not sizes or not all(is_whole(size) and size > 0 for size in sizes):
        raise ValueError(f"`{name}` must be a whole number above 0, or a tuple of them, got {shown(value)}.")
    return tuple(map(int, sizes))


@contextlib.contextmanager
def noted(words: Callable[[], str]) -> Iterator[None]:
    """What a user wrote runs inside: to an error there, whoever raises it, is added where that was and what is expected."""
    try:
        yield
    except Exception as error:
        error.add_note(words())
        raise


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, of Python or NumPy; a bool is none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def whole_number(name: str, value: Any, *, least: int = 1, most: int | None = None, bytes: bool = False) -> int:
    """A whole number as an int; a ValueError naming ``name`` if it is none, or not within the bounds (both included).

    A number of ``bytes`` may be written as a float, 1e9.
    """
    if bytes and isinstance(value, float) and value.is_integer():
        value = int(value)
    if is_whole(value) and value >= least and (most is None or value <= most):
        return int(value)
    bounds = f"from {least} to {most}" if most is not None else "above 0" if least == 1 else f"from {least} on"
    raise ValueError(f"`{name}` must be a whole number {bounds}, got {int(value) if is_whole(value) else repr(value)}.")


def positive(name: str, value, *, unit: u.Unit | None = None, whole: bool = False):
    """Return ``value`` if it is a positive number (of the unit's dimension); else a ValueError naming ``name``."""
    if whole:
        return whole_number(name, value)
    if unit is None:
        number = value
    elif isinstance(value, u.Quantity) and value.unit.has_same_dim(unit):
        number = value.to_decimal(unit)
    else:
        raise ValueError(
            f"`{name}` must be a quantity in units like {unit}, got {value!r}: write e.g. `1.0 * u.{unit}`."
        )
    if unit is None and (isinstance(number, bool) or not isinstance(number, int | float | np.number)):
        raise ValueError(f"`{name}` must be a number above 0, got {value!r}.")
    if not np.isfinite(number) or not number > 0:
        raise ValueError(f"`{name}` must be a number above 0, got {value}.")
    return value


def check_seed(seed: Any, name: str = "seed") -> None:
    """A ValueError naming ``name`` unless the seed is a whole number from 0 to 2**32 - 1."""
    if not is_whole(seed) or not 0 <= seed < 2**32:
        raise ValueError(f"`{name}` must be a whole number from 0 to 2**32 - 1, got {seed!r}.")


def check_sequences(sequences: tuple) -> int:
    """The common length of all sequences; a ValueError names what is wrong with one."""
    if not sequences:
        raise ValueError("no sequence given: pass time-major arrays, e.g. `etrace_grad(xs, ys, step_fn=...)`.")
    lengths = {}
    for position, sequence in enumerate(sequences):
        leaves = jax.tree_util.tree_leaves_with_path(sequence)
        if not leaves:
            raise ValueError(f"sequence {position} holds no array: pass time-major arrays, or drop the argument.")
        for path, leaf in leaves:
            name = _named(position, path)
            if jnp.ndim(leaf) == 0:
                raise ValueError(f"{name} is a scalar and has no time axis: let `step_fn` close over constants.")
            lengths[name] = jnp.shape(leaf)[0]
    if len(set(lengths.values())) > 1:
        raise ValueError(
            "all sequences must have one length T along their first axis, got "
            + ", ".join(f"{n}: {length}" for n, length in lengths.items())
            + "."
        )
    T = next(iter(lengths.values()))
    if T == 0:
        raise ValueError("the sequences are empty (T = 0): give at least one step.")
    return T


def check_values(sequences: tuple, mask=None) -> None:
    """A ValueError if a sequence holds NaN or infinity, as far as its values are known.

    The first one is what enters the network, which runs at every step; of the others, steps that the mask excludes may hold
    anything.
    """
    for position, sequence in enumerate(sequences):
        for path, leaf in jax.tree_util.tree_leaves_with_path(sequence):
            check_finite(leaf, _named(position, path), counted=mask if position else None, axes=("step", "sample"))


def _named(position: int, path: tuple) -> str:
    return f"sequence {position}{jax.tree_util.keystr(path)}"


def check_finite(leaf, name: str, *, counted=None, axes: tuple[str, ...] = ("sample",)) -> None:
    """Raise a ValueError if an array, of one step unless ``axes`` says more, holds NaN or infinity; see `not_finite`."""
    if what := not_finite(leaf, counted=counted, axes=axes):
        raise ValueError(f"{name} holds {what}: clean the data before training.")


def not_finite(leaf, *, counted=None, axes: tuple[str, ...] = ("step", "sample")) -> str:
    """What an array holds that is not finite, and where first; empty if nothing, or if the values are not known yet.

    Parameters
    ----------
    leaf : array
        Any; one of whole numbers is finite.
    counted : array, optional
        Weights, of the leading axes of ``leaf``: where one is 0, anything may stand.
    axes : tuple of str
        What the leading axes of ``leaf`` number.
    """
    if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
        return ""
    try:
        at = int(first_not_finite(leaf, counted))
    except jax.errors.ConcretizationTypeError:
        return ""  # inside a transformation
    if at < 0:
        return ""
    value = jnp.ravel(leaf)[at]
    return f"{'NaN' if value != value else 'infinity'}, {place(at, jnp.shape(leaf), axes)}"


@jax.jit
def first_not_finite(leaf, counted):
    """The number of the first entry that is not finite; -1 if there is none."""
    if leaf.size == 0:
        return jnp.asarray(-1)
    bad = ~jnp.isfinite(leaf)
    if counted is not None:
        bad &= jnp.reshape(counted > 0, (*counted.shape, *[1] * (bad.ndim - counted.ndim)))
    return jnp.where(jnp.any(bad), jnp.argmax(jnp.ravel(bad)), -1)


def place(at: int, shape: tuple[int, ...], axes: tuple[str, ...]) -> str:
    """Where entry number ``at`` of an array stands, in words; its leading axes number ``axes``."""
    index = tuple(int(i) for i in np.unravel_index(at, shape))
    named = [f"{axis} {i}" for axis, i in zip(axes, index, strict=False)]
    named += [f"index {index}"] if len(index) > len(axes) or not index else []
    return f"first at {', '.join(named)}"


def check_weights(mask, name: str = "`mask`") -> None:
    """A ValueError if weights ``(T,)`` or ``(T, B)`` are negative or not finite, as far as their values are known."""
    negative = not_finite(jnp.where(jnp.asarray(mask) < 0, jnp.nan, 0.0)).replace("NaN", "a negative weight")
    if what := not_finite(mask) or negative:
        raise ValueError(f"{name} holds {what}: give finite weights from 0 on, or leave it out.")


def check_mask(mask, T: int):
    """The weights of the steps, shape ``(T,)``."""
    if mask is None:
        return np.ones((T,), brainstate.environ.dftype())
    if isinstance(mask, list | tuple):
        mask = np.asarray(mask)
    check_array("mask", mask, u.UNITLESS, example="jnp.arange(T) >= 150")
    mask = jnp.asarray(mask, brainstate.environ.dftype())
    if mask.shape != (T,):
        raise ValueError(f"`mask` must have shape ({T},), one weight per step, got {mask.shape}.")
    check_weights(mask)
    return mask


def check_chunk_size(chunk_size: Any) -> int | None:
    """Steps of a chunk as an int, or None; a ValueError or TypeError if it is no whole number above 0."""
    if chunk_size is None:
        return None
    if not is_whole(chunk_size):
        raise TypeError(f"`chunk_size` must be None or an int, got {chunk_size!r}.")
    if chunk_size < 1:
        raise ValueError(f"`chunk_size` must be at least 1, got {chunk_size}.")
    return int(chunk_size)
