"""Whether a function is element-wise, read off the operations that its derivative consists of.

The program of a JVP is followed from the tangents of the inputs to those of the outputs.
Every operation on the way must act on single elements: sums, products of matrices, shifts and
indexing are found wherever they stand, in a branch that is not taken at present as well, which
no comparison of numbers at a few points could promise. What passes through a comparison or a
stopped gradient carries no tangent and is left out, as it is left out of every gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp

__all__ = ["Mixing", "same", "touched"]

_SINGLE = frozenset(
    "abs add add_any atan2 cbrt ceil clamp conj convert_element_type copy copy_p cos cosh div erf erf_inv erfc exp exp2 "
    "expm1 floor imag integer_pow log log1p logistic max min mul neg pow real reduce_precision rem round rsqrt select_n "
    "sign sin sinh sqrt square sub tan tanh".split()
)
_RESHAPING = frozenset({"broadcast_in_dim", "reshape", "squeeze"})  # harmless where the shape stays the same
_CALLS = frozenset(
    "jit pjit closed_call core_call core_closed_call checkpoint remat remat2 custom_jvp_call custom_vjp_call "
    "custom_vjp_call_jaxpr".split()
)
_WORDS = {
    "reduce_sum": "a sum or mean over an axis",
    "reduce_max": "a maximum over an axis",
    "reduce_min": "a minimum over an axis",
    "cumsum": "a cumulative sum",
    "dot_general": "a matrix product",
    "slice": "a shift or slice",
    "concatenate": "a shift or concatenation",
    "dynamic_slice": "indexing",
    "gather": "indexing",
    "scatter-add": "indexing",
    "transpose": "a transposition",
    "rev": "a reversal",
    "sort": "sorting",
    "custom_lin": "a function with `jax.custom_vjp` (it hides its derivative: give it a `jax.custom_jvp`)",
}


class Mixing(Exception):
    """An operation through which elements may act on each other; its text names the operation."""


def touched(fn: Callable[[dict], dict], point: dict[str, Any], shape: tuple[int, ...]) -> set:
    """The keys of ``fn(point)`` that have a derivative, if all derivatives are element-wise.

    Parameters
    ----------
    fn : callable
        ``{source: value} -> {target: value}``.
    point : dict
        Values of the sources, all of shape ``shape``; only their types matter.
    shape : tuple of int
        The shape in which an element is one neuron of one sample.

    Raises
    ------
    Mixing
        If an operation between a source and a target is not known to be element-wise.
    """

    def tangent(tangents):
        return jax.jvp(lambda p: _inexact(fn(p)), (point,), (tangents,))[1]

    ones = jax.tree.map(jnp.ones_like, point)
    try:
        program, out = jax.make_jaxpr(tangent, return_shape=True)(ones)
    except TypeError as error:
        raise (Mixing(_WORDS["custom_lin"]) if "custom_vjp" in str(error) else error) from error
    marks = _follow(program.jaxpr, [""] * len(program.jaxpr.invars), shape)
    for mark in marks:
        if mark:
            raise Mixing(mark)
    keys: list[Hashable] = [key for key in sorted(out) for _ in jax.tree.leaves(out[key])]
    return {key for key, mark in zip(keys, marks, strict=True) if mark is not None}


def same(fn: Callable[[Any], tuple[Any, Any]], point: Any) -> bool:
    """Whether both values that ``fn(point)`` returns are computed by the same operations, derivatives included."""
    shapes: Any = jax.eval_shape(fn, point)
    one, other = shapes
    structures: list[Any] = [jax.tree.structure(one), jax.tree.structure(other)]
    if structures[0] != structures[1]:
        return False

    def both(point, tangents):
        return jax.jvp(fn, (point,), (tangents,))

    try:
        jaxpr = jax.make_jaxpr(both)(point, jax.tree.map(jnp.ones_like, point)).jaxpr
    except TypeError:
        return False  # no forward derivative
    numbers: dict[Any, Any] = {}
    known: dict[Any, Any] = {}

    def number(v):
        return ("literal", str(v)) if hasattr(v, "val") else numbers.setdefault(v, ("input", len(numbers)))

    for eqn in jaxpr.eqns:
        key = (eqn.primitive.name, str(eqn.params), tuple(number(v) for v in eqn.invars))
        result = known.setdefault(key, len(known))
        numbers.update({v: ("result", result, i) for i, v in enumerate(eqn.outvars)})
    outputs = [number(v) for v in jaxpr.outvars]
    values, tangents = outputs[: len(outputs) // 2], outputs[len(outputs) // 2 :]
    return all(half[: len(half) // 2] == half[len(half) // 2 :] for half in (values, tangents))


def _inexact(values: dict) -> dict:
    """The leaves that can have a derivative."""
    leaves = {key: [u.get_mantissa(leaf) for leaf in jax.tree.leaves(value)] for key, value in values.items()}
    return {key: [v for v in vs if jnp.issubdtype(jnp.result_type(v), jnp.inexact)] for key, vs in leaves.items()}


def _follow(jaxpr, marks: list[str | None], shape: tuple[int, ...]) -> list[str | None]:
    """How the inputs' marks reach the outputs: None (not at all), "" (element by element), or the operation that mixes."""
    marked = {v: mark for v, mark in zip(jaxpr.invars, marks, strict=True) if mark is not None}

    def mark_of(v):
        return None if hasattr(v, "val") else marked.get(v)

    for eqn in jaxpr.eqns:
        inputs = [mark_of(v) for v in eqn.invars]
        if any(mark is not None for mark in inputs):
            outputs = _pass(eqn, inputs, shape)
            marked.update({v: mark for v, mark in zip(eqn.outvars, outputs, strict=True) if mark is not None})
    return [mark_of(v) for v in jaxpr.outvars]


def _join(marks) -> str | None:
    """The mark of what depends on all of these: a mixing operation, if there is one among them."""
    found = [mark for mark in marks if mark is not None]
    return max(found, default=None, key=len)


def _pass(eqn, inputs: list[str | None], shape: tuple[int, ...]) -> list[str | None]:
    name, params = eqn.primitive.name, eqn.params
    if name in _CALLS:
        inner = next((params[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in params), None)
        if inner is not None:
            return _follow(getattr(inner, "jaxpr", inner), inputs, shape)
    if name == "cond" and inputs[0] is None:
        results = [_follow(branch.jaxpr, inputs[1:], shape) for branch in params["branches"]]
        return [_join(marks) for marks in zip(*results, strict=True)]
    if name == "scan":
        return _scan(eqn, inputs, shape)
    if name == "while":
        skip, fixed = params["cond_nconsts"], params["body_nconsts"]
        return _loop(params["body_jaxpr"].jaxpr, inputs[skip : skip + fixed], inputs[skip + fixed :], [], shape)
    mark = _join(inputs)
    shapes = {v.aval.shape for v, known in zip(eqn.invars, inputs, strict=True) if known is not None}
    shapes |= {v.aval.shape for v in eqn.outvars}
    if not mark and (name not in _SINGLE | _RESHAPING or shapes != {shape}):
        mark = _WORDS.get(name, f"the operation `{name}`")
    return [mark] * len(eqn.outvars)


def _scan(eqn, inputs: list[str | None], shape: tuple[int, ...]) -> list[str | None]:
    """A loop; what is sliced or stacked over its steps has another shape outside than inside."""
    body = eqn.params["jaxpr"].jaxpr
    sliced = sum(a.aval.shape != b.aval.shape for a, b in zip(eqn.invars, body.invars, strict=True))
    stacked = sum(a.aval.shape != b.aval.shape for a, b in zip(eqn.outvars, body.outvars, strict=True))
    carried = len(eqn.outvars) - stacked
    fixed = len(eqn.invars) - sliced - carried
    xs = ["a loop over an axis" if mark is not None else None for mark in inputs[fixed + carried :]]
    out = _loop(body, inputs[:fixed], inputs[fixed : fixed + carried], xs, shape)
    return [
        *out[:carried],
        *("stacking the steps of a loop" if mark is not None else None for mark in out[carried:]),
    ]


def _loop(body, consts: list, carry: list, xs: list, shape: tuple[int, ...]) -> list[str | None]:
    """The marks of a loop's outputs once those of its carry no longer grow."""
    while True:
        out = _follow(body, [*consts, *carry, *xs], shape)
        grown = [old or _join((old, new)) for old, new in zip(carry, out, strict=False)]
        if grown == carry:
            return [*carry, *out[len(carry) :]]
        carry = grown
