"""Answers of a classifier: labels that fit its outputs, right and given answers, and how many agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from .losses import Loss

__all__ = ["accuracy_of", "answers_of", "label_check"]


def label_check(run: Callable, loss: Loss) -> Callable[[Any, Any, np.ndarray], None]:
    """A function of ``(xs, ys, mask)``: a ValueError if the loss takes labels and ``ys`` holds one without an output."""
    n_out = None

    def check(xs, ys, mask):
        nonlocal n_out
        if not loss.classifies:
            return
        ys = np.asarray(ys)
        if ys.ndim != 2 or not np.issubdtype(ys.dtype, np.integer):
            raise ValueError(
                f"`ys` is an array of {ys.dtype} of shape {ys.shape}, but a loss of classes takes labels: give whole numbers of "
                "shape (T, B) or (B,), or another `loss`."
            )
        if n_out is None:
            n_out = brainstate.transform.eval_shape(run, xs[0]).shape[-1]
        counted = np.broadcast_to(np.reshape(mask, (len(ys), -1)) > 0, ys.shape)
        wrong = ys[(ys >= n_out) | (ys < 0) & counted]  # where the mask is 0, -1 may stand for no label
        if wrong.size:
            raise ValueError(
                f"`ys` has label {wrong[0]}, but the model has {n_out} outputs: labels are 0 to {n_out - 1}."
            )

    return check


def answers_of(outputs, ys, mask, loss: Loss):
    """Right answers, given ones, and which count: ``(T, B, n_out)`` to three of ``(B,)`` or, step by step, ``(B, T)``."""
    weight = jnp.broadcast_to(jnp.reshape(mask, (*mask.shape, *[1] * (2 - mask.ndim))), ys.shape)
    counted = weight > 0
    if loss.stepwise:
        return ys.T, jnp.argmax(outputs, axis=-1).T, counted.T
    last = len(ys) - 1 - jnp.argmax(counted[::-1], axis=0)  # what is asked for may change before and after
    given = jnp.argmax(jnp.sum(weight[..., None] * jax.nn.softmax(outputs, axis=-1), axis=0), axis=-1)
    return jnp.take_along_axis(ys, last[None], axis=0)[0], given, jnp.ones(given.shape, bool)


def accuracy_of(right, given, counted):
    """Share of the counted answers that are right."""
    return jnp.sum(counted & (right == given)) / jnp.maximum(jnp.sum(counted), 1)
