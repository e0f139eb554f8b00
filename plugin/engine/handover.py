"""Outputs of layers that are known already take the place of their evaluation."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .pure import Pure

__all__ = ["handed_over"]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def handed_over(comm: Pure, values, x, y):
    """``y``, known to be ``comm(x)``, with the derivative of ``comm`` with respect to ``x``."""
    return y


def _handed_over_fwd(comm, values, x, y):
    return y, (values, x, y)


def _handed_over_bwd(comm, residuals, cotangent):
    values, x, y = residuals
    _, pullback = jax.vjp(lambda x: comm(values, x)[1], x)
    return jax.tree.map(_zero_cotangent, values), pullback(cotangent)[0], jax.tree.map(_zero_cotangent, y)


def _zero_cotangent(leaf):
    if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(jnp.shape(leaf), jax.dtypes.float0)


handed_over.defvjp(_handed_over_fwd, _handed_over_bwd)
