"""What a user's step function gives: it calls the learner once and returns the loss of one step, a real number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.contract.recorder import active

__all__ = ["first_of", "loss_of", "one_call"]


def one_call(fn: Callable, slices: tuple) -> Any:
    """``fn(*slices)``; a ValueError unless it called the learner exactly once."""
    result = fn(*slices)
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


def first_of(sequences: tuple) -> tuple:
    """One step's arguments."""
    return jax.tree.map(lambda leaf: leaf[0], sequences)
