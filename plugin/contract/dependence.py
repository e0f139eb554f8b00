"""What depends on what, found by following data and never by looking at numbers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero

__all__ = ["dependent", "felt_by", "sensitive"]


def dependent(fn: Callable[..., dict], moved: Any, *held: Any) -> set:
    """The keys of ``fn(moved)`` whose values depend on ``moved``; everything else that ``fn`` reads is held.

    Batching follows every data dependency, through comparisons and stopped gradients too, so what is not found is
    known not to vary. Nothing is computed.

    Parameters
    ----------
    fn : callable
        ``(moved, *held) -> {key: pytree}``.
    moved, *held : pytree
        Arrays, or their shapes and dtypes.
    """
    seen: set = set()

    def probe(moved, *held):
        out = fn(moved, *held)
        return [_marked(jnp.asarray(leaf), key, seen) for key, v in out.items() for leaf in jax.tree.leaves(v)]

    jax.eval_shape(jax.vmap(probe, in_axes=(0, *[None] * len(held))), jax.tree.map(_lifted, moved), *held)
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


def felt_by(fn: Callable[[dict], dict], moved: dict[Hashable, Any]) -> dict[Hashable, set]:
    """For each key of ``fn(moved)``, the keys of ``moved`` by which it has a derivative; as `sensitive`, of many at once.

    Parameters
    ----------
    fn : callable
        ``{key: pytree} -> {key: pytree}``.
    moved : dict
        ``key -> floating-point arrays``.
    """

    fn = jax.jit(fn)  # so that what the keys have in common, all but the way back, is traced once

    def summed(key, seen, moved):
        out = fn({k: jax.tree.map(lambda leaf, k=k: _asked(leaf, k, seen), v) for k, v in moved.items()})[key]
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(out)]
        return sum((jnp.sum(leaf) for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)), jnp.zeros(()))

    found: dict[Hashable, set] = {key: set() for key in jax.eval_shape(fn, moved)}
    for key, seen in found.items():
        jax.eval_shape(jax.grad(partial(summed, key, seen)), moved)
    return found


def _asked(value: jax.Array, key: Hashable, seen: set) -> jax.Array:
    """``value``; ``key`` is added to ``seen`` if a derivative by it is asked for."""

    @jax.custom_vjp
    def identity(x):
        return x

    def back(_, cotangent):
        seen.add(key)
        return (cotangent,)

    identity.defvjp(lambda x: (x, None), back)
    return identity(value)


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
