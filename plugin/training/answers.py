"""Answers of a classifier: right and given ones, which count, and how many agree."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .losses import Loss

__all__ = ["answers_of"]


def answers_of(outputs, ys, mask, loss: Loss):
    """Right answers, given ones, and which count: ``(T, B, n_out)`` to three of ``(B,)`` or, step by step, ``(B, T)``.

    A trial without a step that counts has no answer that does.
    """
    weight = jnp.broadcast_to(jnp.reshape(mask, (*mask.shape, *[1] * (2 - mask.ndim))), ys.shape)
    counted = weight > 0
    if loss.stepwise:
        return ys.T, jnp.argmax(outputs, axis=-1).T, counted.T
    last = len(ys) - 1 - jnp.argmax(counted[::-1], axis=0)  # what is asked for may change before and after
    given = jnp.argmax(jnp.sum(weight[..., None] * jax.nn.softmax(outputs, axis=-1), axis=0), axis=-1)
    return jnp.take_along_axis(ys, last[None], axis=0)[0], given, jnp.any(counted, axis=0)
