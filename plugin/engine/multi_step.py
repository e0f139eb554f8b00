"""A chunk's own gradient by backpropagation through its steps, equation (39) of docs/mathematics.md."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .pure import Values, like
from .step import Step

__all__ = ["Backpropagated", "backpropagate"]


class Backpropagated(NamedTuple):
    """What backpropagation through a chunk gives.

    Attributes
    ----------
    signals : dict
        Learning signals over time: the adjoint of the chunk at its first step, for the trace before it, and zeros.
    grads : dict
        The chunk's own gradient, ``{number: value}``.
    loss, aux
        Over time.
    """

    signals: dict[str, Any]
    grads: dict[int, Any]
    loss: Any
    aux: Any


def backpropagate(step: Step, values: Values, weights: list[int], slices: tuple, mask: Any) -> Backpropagated:
    """Backpropagate the losses of a chunk, weighted by ``mask``, to parameters and to the states of its first step."""
    fixed = {i: v for i, v in values.items() if i not in step.written}
    K = mask.shape[0]

    def total(first, weights):
        def body(state, at):
            slices, zeros, weight = at
            new, (loss, aux) = step.shifted({**fixed, **weights, **state}, zeros, weight, *slices)
            return like(state, {**state, **new}), (loss, aux)

        zeros = jax.tree.map(lambda z: jnp.concatenate([z[None], jnp.zeros((K - 1, *z.shape), z.dtype)]), first)
        start = {i: values[i] for i in step.written}
        _, (loss, aux) = jax.lax.scan(body, start, (slices, zeros, mask))
        return jnp.sum(jnp.where(mask > 0, loss * mask, 0.0)), (loss, aux)

    trained = {i: values[i] for i in weights}
    (first, grads), (loss, aux) = jax.grad(total, argnums=(0, 1), has_aux=True)(step.zeros, trained)
    signals = {s: jnp.zeros((K, *v.shape), v.dtype).at[0].set(v) for s, v in first.items()}
    return Backpropagated(signals, grads, loss, aux)
