"""Several spikes in one step, as in counts of a recording, of what each spike uses up in part: one after the other.

The first spike is the model's own, with its derivative; those that follow it come from data, and have none.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["first_and_more", "power", "power_slope"]


def first_and_more(z) -> tuple:
    """The first spike of a count ``z``, and how many follow it at once."""
    more = jax.lax.stop_gradient(jnp.maximum(z - 1.0, 0.0))
    return z - more, more


def power(base, exponent):
    """``base ** exponent`` where the exponent is a count: 1 for none, also of zero and in its derivative by the base."""
    some = exponent > 0.0
    return jnp.where(some, jnp.where(some, base, 1.0) ** jnp.where(some, exponent, 1.0), 1.0)


def power_slope(base, exponent):
    """``d power / d base``."""
    return exponent * power(base, jnp.maximum(exponent - 1.0, 0.0))
