"""What a user's step function gives: it calls the learner once and returns the loss of one step, a real number."""

from __future__ import annotations

import warnings
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.checks import noted
from etrax.contract.recorder import active
from etrax.text import shown

__all__ = ["Repeats", "first_of", "kept", "loss_of", "one_call", "unknown"]

_MANY = 3  # functions of one code: twice may be chance


def one_call(fn: Callable, slices: tuple) -> Any:
    """``fn(*slices)``; a ValueError unless it called the learner exactly once."""
    try:
        with noted(lambda: f"That was in `step_fn`, which got one step of each sequence, of shape {_shapes(slices)}."):
            result = fn(*slices)
    except jax.errors.JAXTypeError as error:
        raise TypeError(
            f"{unknown('`step_fn`, or the model that it calls,')} Return the loss as it is, and take numbers from what `return_value=True` "
            "gives."
        ) from error
    recorder = active()
    if recorder is not None:
        recorder.close()
    return result


def loss_of(result: Any, has_aux: bool) -> tuple[Any, Any]:
    """The loss of a step and what else was returned; an error unless the loss is one number that can have a gradient.

    Raises
    ------
    TypeError
        If nothing was returned, or not a pair where ``has_aux`` says so, or one where it does not; if the loss is no
        floating-point number.
    ValueError
        If it is more than one number.
    """
    if result is None:
        raise TypeError("`step_fn` returned None: end it with `return` and the loss of the step.")
    several = isinstance(result, tuple | list)
    if has_aux and not (several and len(result) == 2):
        what = f"{len(result)} values" if several else type(result).__name__
        raise TypeError(
            f"`step_fn` must return `(loss, aux)` with `has_aux=True`, got {what}: return a pair, or leave `has_aux` out."
        )
    if several and not has_aux:
        advice = "for `(loss, aux)` pass `has_aux=True`" if len(result) == 2 else "return the loss alone"
        raise TypeError(f"`step_fn` must return a scalar loss for one step, got {len(result)} values: {advice}.")
    loss, aux = result if has_aux else (result, None)
    kept(aux)
    if not isinstance(u.get_mantissa(loss), jax.Array | np.ndarray | np.generic | float | int | complex):
        raise TypeError(
            f"`step_fn` must return a scalar loss for one step, got a {type(loss).__name__}: return a number."
        )
    if u.math.ndim(loss) != 0:
        raise ValueError(
            f"`step_fn` must return a scalar loss for one step, got shape {u.math.shape(loss)}: reduce over batch and "
            "outputs inside it, e.g. with `.mean()`."
        )
    dtype = jnp.result_type(u.get_mantissa(loss))
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"`step_fn` returned a loss of type {dtype}, which has no gradient: return a real floating-point number; a comparison, "
            "a count or an argmax belongs into `aux`."
        )
    return loss, aux


def kept(aux: Any) -> Any:
    """What a step gives beside its loss, which is stacked over time; a TypeError if it is nothing that can be."""
    for leaf in jax.tree.leaves(aux):
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | float | int | complex):
            raise TypeError(
                f"`step_fn` returned {shown(leaf)} beside the loss, which cannot be stacked over time: return arrays and numbers, in "
                "dicts, lists and tuples."
            )
    return aux


def unknown(who: str) -> str:
    """What to say of a function that asks for the value of what JAX has only begun to follow."""
    return (
        f"{who} asks for a value that is not known yet, as by `float(x)`, `x.item()`, `np.asarray(x)` or `if x > 1`: it runs once, to be "
        "compiled. Use `jnp` for `np`, and `jnp.where` for `if`."
    )


class Repeats:
    """Tells of step functions that are made anew for each call, since each of them is compiled anew."""

    def __init__(self) -> None:
        self._seen: weakref.WeakSet = weakref.WeakSet()
        self._counts: Counter = Counter()

    def note(self, fn: Callable) -> None:
        """A sequence is run with ``fn``; a warning at the third one of the same code."""
        code = getattr(fn, "__code__", None)  # functions made inside this package are made once for what they do
        if code is None or fn in self._seen or str(fn.__module__).startswith("etrax."):
            return
        self._seen.add(fn)
        self._counts[code] += 1
        if self._counts[code] == _MANY:
            warnings.warn(
                f"`step_fn` is another function at each call ({fn.__qualname__}, line {code.co_firstlineno} of {code.co_filename}), and each "
                "is compiled anew, which takes long: define it once, outside the loop, and pass the same one. Hand what changes as one "
                "more sequence, or keep it in a `brainstate.State`.",
                stacklevel=3,
            )


def _shapes(slices: tuple) -> str:
    return ", ".join(str(u.math.shape(leaf)) for leaf in jax.tree.leaves(slices, is_leaf=u.math.is_quantity))


def first_of(sequences: tuple) -> tuple:
    """One step's arguments."""
    return jax.tree.map(lambda leaf: leaf[0], sequences)
