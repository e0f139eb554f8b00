"""Values by which a gradient must not be differentiated again: it holds them, so that derivative would be wrong in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

__all__ = ["first_order"]


def first_order(value: Any, name: Callable[[], str | None] | str) -> Any:
    """``value``, whose derivative is a ValueError that says ``name``; or is passed on where ``name()`` is None.

    Parameters
    ----------
    value : pytree
        Of arrays; integers have no derivative.
    name : str or callable
        What the value is, in words; asked for only where a derivative is taken.
    """

    @jax.custom_jvp
    def identity(x):
        return x

    def push(primals, tangents):
        (x,), (tangent,) = primals, tangents
        what = None if isinstance(tangent, SymbolicZero) else name if isinstance(name, str) else name()
        if what is not None:
            raise ValueError(
                f"the gradient of an online learner cannot be differentiated with respect to {what}: that acts on what the learner "
                "holds while it takes its gradient. Differentiate by what acts after the projections (a readout, targets, the "
                "mask), or use `etrax.BPTT`."
            )
        return x, tangent

    identity.defjvp(push, symbolic_zeros=True)

    def guarded(leaf):
        return identity(leaf) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) else leaf

    return jax.tree.map(guarded, value)
