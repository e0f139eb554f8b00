"""What depends on what, found by following data and never by looking at numbers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero

__all__ = ["dependent", "sensitive"]


def dependent(fn: Callable[[Any], dict], moved: Any) -> set:
    """The keys of ``fn(moved)`` whose values depend on ``moved``; everything else that ``fn`` reads is held.

    Batching follows every data dependency, through comparisons and stopped gradients too, so what is not found is
    known not to vary. Nothing is computed.

    Parameters
    ----------
    fn : callable
        ``moved -> {key: pytree}``.
    moved : pytree
        Arrays, or their shapes and dtypes.
    """
    seen: set = set()

    def probe(moved):
        return [_marked(jnp.asarray(leaf), key, seen) for key, v in fn(moved).items() for leaf in jax.tree.leaves(v)]

    jax.eval_shape(jax.vmap(probe), jax.tree.map(_lifted, moved))
    return seen


def sensitive(fn: Callable[[Any], dict], moved: Any) -> set:
    """The keys of ``fn(moved)`` that have a derivative with respect to ``moved``.

    A comparison, a rounding, an argmax, an integer and a stopped gradient let none pass: what is not found has a derivative
    that is zero by structure. Nothing is computed.

    Parameters
    ----------
    fn : callable
        ``moved -> {key: pytree}``.
    moved : pytree
        Floating-point arrays, or their shapes and dtypes.
    """
    seen: set = set()

    def probe(moved):
        leaves = {key: [jnp.asarray(leaf) for leaf in jax.tree.leaves(v)] for key, v in fn(moved).items()}
        return [
            _felt(leaf, k, seen) for k, v in leaves.items() for leaf in v if jnp.issubdtype(leaf.dtype, jnp.inexact)
        ]

    def pushed(moved):
        return jax.jvp(probe, (moved,), (jax.tree.map(jnp.ones_like, moved),))[1]

    jax.eval_shape(pushed, moved)
    return seen


def _felt(value: jax.Array, key: Hashable, seen: set) -> jax.Array:
    """``value``; ``key`` is added to ``seen`` if it has a tangent."""

    @jax.custom_jvp
    def identity(x):
        return x

    def push(primals, tangents):
        (x,), (tangent,) = primals, tangents
        if not isinstance(tangent, SymbolicZero):
            seen.add(key)
        return x, jnp.zeros_like(x)

    identity.defjvp(push, symbolic_zeros=True)
    return identity(value)


def _lifted(leaf):
    """One more axis in front."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype)
    return jnp.asarray(leaf)[None]


def _marked(value: jax.Array, key: Hashable, seen: set) -> jax.Array:
    """``value``; ``key`` is added to ``seen`` if it is batched."""

    @custom_vmap
    def identity(x):
        return x

    @identity.def_vmap
    def _(axis_size, in_batched, x):
        seen.add(key)
        return identity(x), in_batched[0]

    return identity(value)
