"""What depends on what, found by following data and never by looking at numbers."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

__all__ = ["marked", "varying"]


def marked(value: jax.Array, key: Hashable, seen: set) -> jax.Array:
    """Pass ``value`` through; under ``vmap`` add ``key`` to ``seen`` if the value depends on what is mapped.

    Batching follows every data dependency (also through comparisons and stopped gradients),
    so an unmarked value is known not to vary, without looking at any number.
    """

    @custom_vmap
    def identity(x):
        return x

    @identity.def_vmap
    def _(axis_size, in_batched, x):
        seen.add(key)
        return identity(x), in_batched[0]

    return identity(value)


def varying(fn: Callable[[dict], dict], fixed: dict, mapped: dict) -> set:
    """The keys of ``fn({**fixed, **mapped})`` that depend on ``mapped``, found by dependency and not by value."""
    seen: set = set()

    def probe(inputs):
        out = fn({**fixed, **inputs})
        return [marked(jnp.asarray(leaf), key, seen) for key, value in out.items() for leaf in jax.tree.leaves(value)]

    lifted = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], mapped)
    jax.eval_shape(jax.vmap(probe), lifted)
    return seen
