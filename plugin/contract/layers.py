"""What the weights of the layers of `brainstate.nn` connect."""

from __future__ import annotations

import math
from collections.abc import Callable

import brainevent
import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from .pattern import Pattern, register_pattern

__all__ = []


# -- the layers of brainstate ----------------------------------------------------------------
def _weights(layer) -> Callable:
    return lambda: layer.weight.value["weight"]


def _bias(layer) -> Callable | None:
    return (lambda: layer.weight.value["bias"]) if "bias" in layer.weight.value else None


@register_pattern(brainstate.nn.Linear)
def _linear(layer):
    weights = _weights(layer)
    if layer.w_mask is not None:
        return Pattern(lambda: weights() * layer.w_mask, bias=_bias(layer))
    return Pattern(weights, bias=_bias(layer))


@register_pattern(brainstate.nn.SignedWLinear)
def _signed(layer):
    if u.math.ndim(layer.weight.value) != 2:
        return None
    sign = 1.0 if layer.w_sign is None else layer.w_sign
    return Pattern(lambda: u.math.abs(layer.weight.value) * sign)


@register_pattern(brainstate.nn.AllToAll)
def _all_to_all(layer):
    weights, bias = _weights(layer), _bias(layer)
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
    return Pattern(_weights(layer), each, each, _bias(layer))


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
    return Pattern(_weights(layer), pre, post, _bias(layer), sparse_product=own)


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
