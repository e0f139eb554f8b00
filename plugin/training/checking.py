"""Checks of a batch before anything is learnt from it, and which of its steps count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import numpy as np

from etrax.checks import check_array, noted
from etrax.learners.sizes import reset_to

from .losses import Loss
from .options import within

__all__ = ["batch_check", "windowed"]


def batch_check(model: brainstate.nn.Module, loss: Loss) -> Callable[[Any, Any, np.ndarray], None]:
    """A function of ``(xs, ys, mask)``: a ValueError for labels without an output, or a loss of a shape that does not fit."""
    known: dict[tuple, tuple[int, ...]] = {}

    def step(x, y):
        reset_to(model, x.shape[0])  # the batch before may have had another size
        output = model(x)
        with noted(
            lambda: (
                f"That was in `loss`, which got an output of shape {_shapes(output)} and a target of shape {_shapes(y)}."
            )
        ):
            value = u.get_mantissa(loss.function(output, y))
        check_array("loss", value, where=" of a step")
        return output, value

    def check(xs, ys, mask):
        ys = np.asarray(ys)
        if loss.classifies and (ys.ndim != 2 or not np.issubdtype(ys.dtype, np.integer)):
            raise ValueError(
                f"`ys` is an array of {ys.dtype} of shape {ys.shape}, but a loss of classes takes labels: give whole numbers of "
                "shape (T, B) or (B,), or another `loss`."
            )
        key = (xs.shape[1:], str(xs.dtype), ys.shape[1:], str(ys.dtype), mask.ndim)
        if key not in known:
            output, value = brainstate.transform.eval_shape(step, xs[0], ys[0])
            _check_shape(value.shape, xs.shape[1], mask)
            known[key] = output.shape if loss.classifies else ()
        if loss.classifies:
            _check_labels(ys, mask, known[key][-1])

    return check


def _shapes(values: Any) -> str:
    return ", ".join(str(u.math.shape(leaf)) for leaf in jax.tree.leaves(values))


def _check_shape(shape: tuple[int, ...], n: int, mask: np.ndarray) -> None:
    if shape not in ((), (n,)):
        raise ValueError(
            f"`loss` gives shape {shape} at a step of {n} trials: return one loss per trial, of shape ({n},), e.g. with "
            "`.mean(axis=-1)`, or one number for all."
        )
    if shape == () and mask.ndim == 2:
        raise ValueError(
            f"`loss` gives one number for all trials of a step, but the mask of the batch, of shape {mask.shape}, has a weight for "
            f"each: return one loss per trial, of shape ({n},), or give a mask of shape ({len(mask)},)."
        )


def _check_labels(ys: np.ndarray, mask: np.ndarray, n_out: int) -> None:
    counted = np.broadcast_to(np.reshape(mask, (len(ys), -1)) > 0, ys.shape)
    wrong = ys[(ys >= n_out) | (ys < 0) & counted]  # where the mask is 0, -1 may stand for no label
    if wrong.size:
        raise ValueError(f"`ys` has label {wrong[0]}, but the model has {n_out} outputs: labels are 0 to {n_out - 1}.")


def windowed(mask: np.ndarray, window: tuple[u.Quantity, u.Quantity] | None) -> np.ndarray:
    """A mask within a loss window."""
    if window is None:
        return mask
    inside = within(window, len(mask), brainstate.environ.get_dt())
    return mask * inside.reshape(-1, *[1] * (mask.ndim - 1))
