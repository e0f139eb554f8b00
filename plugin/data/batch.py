"""A batch of trials, and how one is read."""

from __future__ import annotations

from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from etrax.checks import check_array, check_weights
from etrax.text import shown

__all__ = ["Batch", "fields"]


class Batch(NamedTuple):
    """Trials that are run together.

    Attributes
    ----------
    xs : array (T, B, n_in)
        Input spikes, 0 or 1.
    ys : array of int (T, B), or of float (T, B, n_out)
        Class asked for at each step; for a regression, the values asked for.
    mask : array (T,)
        Weight of each step in the loss and in the decision.
    """

    xs: Any
    ys: Any
    mask: Any


def fields(batch) -> tuple[Any, Any, np.ndarray]:
    """Inputs, targets and mask of a batch.

    Parameters
    ----------
    batch : tuple
        ``(xs, ys)``, ``(xs, ys, mask)``, or a tuple with the names ``xs`` and ``labels`` such as a data set of records gives.
        ``xs`` is ``(T, B, ...)``, ``ys`` ``(T, B, ...)``, or ``(B,)`` for one target throughout, the mask ``(T,)`` or ``(T, B)``.

    Raises
    ------
    ValueError
        If it is something else, or the mask holds what is no weight.
    """
    if hasattr(batch, "xs") and hasattr(batch, "labels"):
        batch = (batch.xs, batch.labels)
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        got = f"{len(batch)} parts" if isinstance(batch, tuple | list) else shown(batch)
        raise ValueError(
            f"a batch must be (xs, ys) or (xs, ys, mask), time-major; got {got}: for one batch write `[(xs, ys)]`, a list of it."
        )
    xs, ys, mask = (*batch, None)[:3]
    for name, part in (("xs", xs), ("ys", ys)):
        check_array(name, np.asarray(part) if isinstance(part, list | tuple) else part, u.UNITLESS, where=" of a batch")
    if np.ndim(xs) < 2 or np.ndim(ys) < 1:
        raise ValueError(
            f"`xs` of a batch must be of shape (T, B, ...), `ys` (T, B, ...) or (B,), got {np.shape(xs)}, {np.shape(ys)}."
        )
    T, B = np.shape(xs)[:2]
    xs = jnp.asarray(xs)
    if not jnp.issubdtype(xs.dtype, jnp.inexact):  # spikes as integers, which take less room on their way here
        xs = xs.astype(brainstate.environ.dftype())
    if np.ndim(ys) == 1:
        ys = np.broadcast_to(np.asarray(ys), (T, *np.shape(ys)))
    mask = np.ones(T, np.float32) if mask is None else np.asarray(mask)
    if np.shape(ys)[:2] != (T, B) or mask.shape not in ((T,), (T, B)):
        raise ValueError(
            f"`xs` of a batch has {T} steps of {B} trials, but `ys` has shape {np.shape(ys)} and the mask {mask.shape}: they must agree."
        )
    check_weights(mask, "the `mask` of a batch")
    return xs, ys, mask
