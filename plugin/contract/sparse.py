"""Products over synapses: matrix products at given places only."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["sampled", "sampled_rows", "sparse_product"]

BLOCK = 2**16  # synapses at a time: what is gathered for them stays small


# -- products over synapses ------------------------------------------------------------------
def _blocks(*arrays):
    """Arrays over synapses as ``(blocks, size)``, padded with an index that is out of range and reads as zero."""
    n = arrays[0].shape[0]
    count = max(1, -(-n // BLOCK))
    size = -(-n // count)

    def split(a):
        a = jnp.asarray(a)  # as wide as integers are now: an index of 64 bits has no place in a model of 32
        fill = jnp.iinfo(a.dtype).max if jnp.issubdtype(a.dtype, jnp.integer) else 0
        return jnp.pad(a, (0, count * size - n), constant_values=fill).reshape(count, size)

    return tuple(split(a) for a in arrays)


def _rows(array, index):
    return jnp.take(array, index, axis=0, mode="fill", fill_value=0)


def sampled(x, y, pre, post):
    """``sum_c x[c, pre_k] y[c, post_k]`` for every synapse ``k``: a matrix product, at these places only."""
    x, y = x.T, y.T
    out = jax.lax.map(lambda at: jnp.sum(_rows(x, at[0]) * _rows(y, at[1]), 1), _blocks(pre, post))
    return out.reshape(-1)[: pre.shape[0]]


def sampled_rows(x, y, pre, post):
    """The same for each row: ``x`` (rows, time, I) and ``y`` (rows, time, N) give ``(rows, synapses)``."""
    rows = x.shape[0]
    x, y = jnp.moveaxis(x, 2, 0), jnp.moveaxis(y, 2, 0)
    out = jax.lax.map(lambda at: jnp.sum(_rows(x, at[0]) * _rows(y, at[1]), 2).T, _blocks(pre, post))
    return jnp.swapaxes(out, 0, 1).reshape(rows, -1)[:, : pre.shape[0]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def sparse_product(out_size: int, x, w, pre, post):
    """``y[c, post_k] += x[c, pre_k] w_k``, of shape ``(c, out_size)``."""
    x = x.astype(jnp.result_type(x, w)).T

    def add(y, at):
        pre, post, w = at
        return y.at[post].add(_rows(x, pre) * w[:, None], mode="drop"), None

    return jax.lax.scan(add, jnp.zeros((out_size, x.shape[1]), x.dtype), _blocks(pre, post, w))[0].T


def _sparse_product_fwd(out_size, x, w, pre, post):
    return sparse_product(out_size, x, w, pre, post), (x, w, pre, post)


def _sparse_product_bwd(out_size, residuals, ct):
    x, w, pre, post = residuals
    back = sparse_product(x.shape[1], ct, w, post, pre).astype(x.dtype)
    none = np.zeros(pre.shape, jax.dtypes.float0)
    return back, sampled(x, ct, pre, post).astype(w.dtype), none, none


sparse_product.defvjp(_sparse_product_fwd, _sparse_product_bwd)
