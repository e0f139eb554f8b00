"""Which weight of a layer connects what to what.

A layer that is ``y[post_k] += x[pre_k] w_k``, with a bias perhaps, has one trace value per weight ``w_k``: all
pairs for a dense layer, its non-zeros for a sparse one, ``pre_k = post_k = k`` for an element-wise one. The
layers of `brainstate.nn` are known here; a layer of one's own joins them with one function::

    @etrax.register_pattern(MySparseLayer)
    def _(layer):
        return etrax.Pattern(lambda: layer.weight.value(), pre=layer.rows, post=layer.columns)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.checks import check_callable
from etrax.text import shown

from .sparse import sparse_product

__all__ = ["Pattern", "pattern_of", "register_pattern", "split"]


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
        check_callable("weights", self.weights, "lambda: layer.weight.value")
        if self.bias is not None:
            check_callable("bias", self.bias, "lambda: layer.bias.value")
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

    Examples
    --------
    >>> import brainstate, etrax, jax.numpy as jnp
    >>> class Ring(brainstate.nn.Module):
    ...     def __init__(self, n):
    ...         super().__init__()
    ...         self.w, self.pre = brainstate.ParamState(jnp.ones(n)), jnp.roll(jnp.arange(n), 1)
    ...     def update(self, x):
    ...         return x[..., self.pre] * self.w.value
    >>> @etrax.register_pattern(Ring)
    ... def _(ring):
    ...     return etrax.Pattern(lambda: ring.w.value, pre=ring.pre, post=jnp.arange(ring.pre.size))
    >>> etrax.contract.pattern.pattern_of(Ring(3)).pre.tolist()
    [2, 0, 1]
    """

    if not isinstance(layer, type) or issubclass(layer, Pattern):
        raise TypeError(f"`layer` must be a class of layers, got {shown(layer)}: write `@register_pattern(MyLayer)`.")

    def decorate(rule: Callable) -> Callable:
        check_callable("rule", rule, "lambda layer: Pattern(...)")
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


def split(layer: Any) -> tuple[list[Any], Any]:
    """What acts ahead of the parameters in a chain of layers, and the layer that has them (a chain, where several do).

    As dropout in ``brainstate.nn.Sequential(brainstate.nn.Dropout(0.5), brainstate.nn.Linear(...))``: what leaves it
    enters the layer.
    """
    if type(layer) is not brainstate.nn.Sequential:
        return [], layer
    parts = list(layer.layers)
    trained = [k for k, part in enumerate(parts) if _has_parameters(part)]
    if not trained:
        return [], layer
    first = trained[0]
    rest = parts[first:]
    return parts[:first], rest[0] if len(rest) == 1 else layer[first:]


def _has_parameters(part: Any) -> bool:
    return isinstance(part, brainstate.nn.Module) and bool(part.states(brainstate.ParamState))
