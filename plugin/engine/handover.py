"""What is known of a layer's step already takes the place of its evaluation."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .pure import Pure, Values

__all__ = ["Entered", "Left", "handed_over", "zero_cotangent"]


class Entered(NamedTuple):
    """What entered a layer in a step: its input, and the values of the states that it reads and that change."""

    x: Any
    read: Values


class Left(NamedTuple):
    """What left a layer in a step: the values that it wrote to states, and its output."""

    wrote: Values
    y: Any


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def handed_over(comm: Pure, values: Values, x: Any, left: Left) -> tuple[Values, Any]:
    """``left``, known to be ``comm(values, x)``, with its derivative with respect to ``x``."""
    return left.wrote, left.y


def _handed_over_fwd(comm, values, x, left):
    return (left.wrote, left.y), (values, x, left)


def _handed_over_bwd(comm, residuals, cotangent):
    values, x, left = residuals
    _, pullback = jax.vjp(lambda x: comm(values, x), x)
    return jax.tree.map(zero_cotangent, values), pullback(cotangent)[0], jax.tree.map(zero_cotangent, left)


def zero_cotangent(leaf):
    """No cotangent, of the type that JAX has for a leaf."""
    if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(jnp.shape(leaf), jax.dtypes.float0)


handed_over.defvjp(_handed_over_fwd, _handed_over_bwd)
