"""Blocks of named scalar entries: the algebra of Jacobian diagonals.

A block maps ``(row, column)`` to an array; a missing entry is zero. Keeping the entries
apart (instead of an ``S x S`` array multiplied by einsum) lets known zeros vanish and XLA
fuse the rest; entries of smaller shape (a constant for all neurons, one value per neuron)
stay small through every product by broadcasting.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp

from .dependence import dependent

__all__ = ["Entries", "Kind", "automatic", "coefficient", "compose", "derived", "matmul", "transpose_apply"]

Entries = dict[tuple[Any, ...], Any]


class Kind(enum.IntEnum):
    """How an entry of a Jacobian varies; ordered, so that a product has the larger kind of its factors."""

    ZERO = 0
    UNIFORM = 1
    PER_NEURON = 2
    VARYING = 3

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


def matmul(a: Entries, b: Entries) -> Entries:
    """The product of two blocks, entry by entry."""
    out: Entries = {}
    for (i, k), left in a.items():
        for (k2, j), right in b.items():
            if k == k2:
                term = left * right
                out[i, j] = out[i, j] + term if (i, j) in out else term
    return out


def transpose_apply(block: Entries, vector: dict[Hashable, Any]) -> dict[Hashable, Any]:
    """``block^T vector`` for a vector given as ``row -> value``."""
    out: dict[Hashable, Any] = {}
    for (i, j), entry in block.items():
        if i in vector:
            term = entry * vector[i]
            out[j] = out[j] + term if j in out else term
    return out


def compose(entries: Entries, rows: dict[str, dict]) -> dict[str, dict]:
    """Chain rule, equation (10) of docs/mathematics.md: entries of a part, its sources described by ``rows``, give its rows.

    ``rows[source]`` maps the ultimate sources (old states, drives) to coefficients; so does
    each row returned. Sources without a row (a current that no synapse feeds) drop out.
    """
    out: dict[str, dict] = {}
    for (target, source), entry in entries.items():
        row = out.setdefault(target, {})
        for origin, factor in rows.get(source, {}).items():
            term = entry * factor
            row[origin] = row[origin] + term if origin in row else term
    return out


def coefficient(entry: Any, unit_out: u.Unit, unit_in: u.Unit, name: str) -> Any:
    """The mantissa of a Jacobian entry in ``unit_out / unit_in``; a ValueError names an entry of another dimension."""
    target = unit_out / unit_in
    quantity = u.Quantity(entry)
    if not quantity.unit.has_same_dim(target):
        raise ValueError(
            f"the Jacobian entry {name} has unit {quantity.unit}, but a derivative of a state in {unit_out} "
            f"with respect to {unit_in} has unit {target}: correct `jacobian` of that module."
        )
    return quantity.to_decimal(target)


def automatic(fn: Callable[[dict], dict], point: dict[str, Any]) -> Entries:
    """Jacobian entries of an element-wise function by forward differentiation, one JVP per source of one trace of it.

    Parameters
    ----------
    fn : callable
        ``{source: value} -> {target: value}``, element-wise in all of them.
    point : dict
        Where to differentiate; entries that are None are left alone.

    Returns
    -------
    dict
        ``(target, source) -> derivative`` with its unit; targets that do not depend on a source are absent.
    """
    entries: Entries = {}
    sources = {name: value for name, value in point.items() if value is not None}
    shape = jnp.broadcast_shapes(*(u.math.shape(v) for v in sources.values()))
    sources = {name: u.math.broadcast_to(value, shape) for name, value in sources.items()}

    traced = jax.jit(lambda values: fn(dict(zip(sources, values, strict=True))), inline=True)

    def moved(name, value):
        return traced(tuple({**sources, name: value}.values()))

    for name, value in sources.items():
        moving = dependent(partial(moved, name), value)
        ones = jax.tree.map(jnp.ones_like, value)
        _, tangents = jax.jvp(partial(moved, name), (value,), (ones,))
        for target, tangent in tangents.items():
            if target in moving:
                unit = u.get_unit(tangent) / u.get_unit(value)
                entries[target, name] = u.maybe_decimal(u.Quantity(u.get_mantissa(tangent), unit=unit))
    return entries


def derived(method: Callable) -> Callable:
    """Mark a method that gives a Jacobian by automatic differentiation, which a closed form may override."""
    vars(method)["derived"] = True
    return method
