"""Which weight of a layer connects what to what.

A layer that is ``y[post_k] += x[pre_k] w_k``, with a bias perhaps, has one trace value per weight ``w_k``: all
pairs for a dense layer, its non-zeros for a sparse one, ``pre_k = post_k = k`` for an element-wise one. The
layers of `brainstate.nn` are known here; a layer of one's own joins them with one function::

    @etrax.register_pattern(MySparseLayer)
    def _(layer):
        return etrax.Pattern(lambda: layer.weight.value(), pre=layer.rows, post=layer.columns)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import brainevent
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Pattern", "pattern_of", "register_pattern", "sampled", "sampled_rows"]

BLOCK = 2**16  # synapses at a time: what is gathered for them stays small


@dataclass(eq=False)
class Pattern:
    """The weights of a layer and what they connect.

    Parameters
    ----------
    weights : callable
        ``() -> array``, read from the layer's states: ``(n_in, n_out)`` for a dense layer, which acts on the last
        axis of its input; one per synapse for another; or one number that all synapses share. Each depends on one
        entry of the parameters, as through a mask, a sign or an element-wise transform.
    pre, post : array of int, optional
        Per synapse, the number of what it reads of an input and of what it writes of an output, both flat. A dense
        layer has none.
    bias : callable, optional
        ``() -> array``, one per output.
    events : bool
        Whether the layer takes every input that is not zero for 1.
    sparse_product : bool
        Whether the layer cannot be batched by `jax.vmap`, so that its product is computed here.
    """

    weights: Callable[[], Any]
    pre: Any = None
    post: Any = None
    bias: Callable[[], Any] | None = None
    events: bool = False
    sparse_product: bool = False

    def __post_init__(self):
        if (self.pre is None) != (self.post is None):
            raise ValueError(
                "`pre` and `post` of a Pattern go together: give both for a sparse layer, none for a dense one."
            )
        if self.pre is not None:
            with jax.ensure_compile_time_eval():
                self.pre, self.post = (jnp.asarray(i).reshape(-1).astype(jnp.int32) for i in (self.pre, self.post))
            if self.pre.shape != self.post.shape:
                raise ValueError(
                    f"`pre` and `post` of a Pattern have {self.pre.size} and {self.post.size} entries: give one per synapse."
                )

    def read(self) -> tuple[Any, Any]:
        """Weights and bias."""
        return self.weights(), None if self.bias is None else self.bias()

    def product(self, out_size: int, x):
        """What the layer gives, for ``x`` of shape ``(..., n_in)``."""
        w, bias = self.read()
        unit = u.get_unit(x) * u.get_unit(w)
        x, w = u.get_mantissa(x), jnp.broadcast_to(u.get_mantissa(w).reshape(-1), self.pre.shape)
        y = sparse_product(out_size, x.reshape(-1, x.shape[-1]), w, self.pre, self.post)
        y = u.maybe_decimal(u.Quantity(y.reshape(*x.shape[:-1], out_size), unit=unit))
        return y if bias is None else y + bias


_PATTERNS: dict[type, Callable] = {}


def register_pattern(layer: type) -> Callable:
    """Decorate ``layer -> Pattern or None``, which says what the weights of a class of layers connect.

    Subclasses are included unless they override ``update`` or ``__call__``.

    Parameters
    ----------
    layer : type
        The class of a layer.
    """

    def decorate(rule: Callable) -> Callable:
        _PATTERNS[layer] = rule
        return rule

    return decorate


def pattern_of(layer: Any) -> Pattern | None:
    """What the weights of a layer connect; None if that is not known."""
    kind = type(layer)
    for base in kind.__mro__:
        if base in _PATTERNS:
            same = all(getattr(kind, name, None) is getattr(base, name, None) for name in ("update", "__call__"))
            return _PATTERNS[base](layer) if same else None
    return None


# -- products over synapses ------------------------------------------------------------------


def _blocks(*arrays):
    """Arrays over synapses as ``(blocks, size)``, padded with an index that is out of range and reads as zero."""
    n = arrays[0].shape[0]
    count = max(1, -(-n // BLOCK))
    size = -(-n // count)

    def split(a):
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


# -- the layers of brainstate ----------------------------------------------------------------


def _entry(state: brainstate.State, name: str) -> Callable | None:
    return (lambda: state.value[name]) if name in state.value else None


@register_pattern(brainstate.nn.Linear)
def _linear(layer):
    weights = _entry(layer.weight, "weight")
    if layer.w_mask is not None:
        return Pattern(lambda: weights() * layer.w_mask, bias=_entry(layer.weight, "bias"))
    return Pattern(weights, bias=_entry(layer.weight, "bias"))


@register_pattern(brainstate.nn.SignedWLinear)
def _signed(layer):
    if u.math.ndim(layer.weight.value) != 2:
        return None
    sign = 1.0 if layer.w_sign is None else layer.w_sign
    return Pattern(lambda: u.math.abs(layer.weight.value) * sign)


@register_pattern(brainstate.nn.AllToAll)
def _all_to_all(layer):
    weights, bias = _entry(layer.weight, "weight"), _entry(layer.weight, "bias")
    if not layer.include_self and u.math.ndim(weights()) == 2:
        others = 1.0 - np.eye(*u.math.shape(weights()))
        return Pattern(lambda: weights() * others.astype(jnp.result_type(u.get_mantissa(weights()))), bias=bias)
    return Pattern(weights, bias=bias)


@register_pattern(brainstate.nn.EventLinear)
def _event_linear(layer):
    return Pattern(lambda: layer.weight.value, events=layer.float_as_event)


@register_pattern(brainstate.nn.OneToOne)
def _one_to_one(layer):
    each = np.arange(math.prod(layer.in_size))
    return Pattern(_entry(layer.weight, "weight"), each, each, _entry(layer.weight, "bias"))


@register_pattern(brainstate.nn.SparseLinear)
def _sparse(layer):
    matrix = layer.spar_mat
    own = isinstance(matrix, u.sparse.COO | u.sparse.CSR | u.sparse.CSC)
    if isinstance(matrix, u.sparse.COO):
        pre, post = matrix.row, matrix.col
    elif isinstance(matrix, u.sparse.CSR | brainevent.CSR):
        pre, post = _expand(matrix.indptr), matrix.indices
    elif isinstance(matrix, u.sparse.CSC | brainevent.CSC):
        pre, post = matrix.indices, _expand(matrix.indptr)
    else:
        return None
    return Pattern(_entry(layer.weight, "weight"), pre, post, _entry(layer.weight, "bias"), sparse_product=own)


@register_pattern(brainstate.nn.FixedNumConn)
def _fixed_number(layer):
    if layer.conn_num < 1 or layer.efferent_target != "post":
        return None
    indices = np.asarray(layer.conn.indices)
    each = np.repeat(np.arange(len(indices)), indices.shape[-1]) if indices.ndim == 2 else _expand(layer.conn.indptr)
    return Pattern(lambda: layer.weight.value, each, indices)


@register_pattern(brainstate.nn.EventFixedNumConn)
def _event_fixed_number(layer):
    pattern = _fixed_number(layer)
    if pattern is not None:
        pattern.events = True
    return pattern


def _expand(indptr):
    """Row (or column) of every non-zero of a compressed matrix."""
    return np.repeat(np.arange(len(indptr) - 1), np.diff(np.asarray(indptr)))
