"""Nested numbers, texts and arrays in one file that is there in full or not at all; the values of states among them.

A file is an uncompressed ``.npz`` (zip) of arrays, with the rest as JSON in the entry ``content``. The zip format keeps a
checksum of each entry, and its table comes last: a damaged or cut-off file is noticed.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from .files import atomic

__all__ = ["OtherVersion", "load", "misfit", "pack", "pack_states", "save", "unpack_states"]

FORMAT = 1
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError)


class OtherVersion(ValueError):
    """A file that is whole, in a form that this version does not know."""


def save(path: str | os.PathLike, content: dict[str, Any]) -> None:
    """Write nested dicts and lists of numbers, texts and arrays.

    Raises
    ------
    TypeError
        If there is something else in them.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps({"format": FORMAT, "content": _encode(content, "", arrays)})
    with atomic(path) as draft, open(draft, "wb") as file:
        everything: dict[str, Any] = {"content": np.frombuffer(text.encode(), np.uint8), **arrays}
        np.savez(file, **everything)


def load(path: str | os.PathLike) -> dict[str, Any]:
    """What :func:`save` wrote, arrays as JAX arrays of the same dtype and weak type.

    Raises
    ------
    ValueError
        If the file is missing, damaged or cut off, or not one that :func:`save` wrote.
    OtherVersion
        If another version wrote it, in another form.
    """
    try:
        # a file of our own: NumPy would leave the one that it opens open if the zip is damaged
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            entries = {name: file[name] for name in file.files}
        outer = json.loads(entries.pop("content").tobytes().decode())
        if outer["format"] == FORMAT:
            return _decode(outer["content"], entries)
    except _DAMAGE as error:
        raise ValueError(
            f"file {str(path)!r} cannot be read ({type(error).__name__}: {error}): it is damaged or cut off, or no file of `etrax`; "
            "use another one."
        ) from error
    raise OtherVersion(
        f"file {str(path)!r} is of another version of etrax (format {outer['format']}, here {FORMAT}): read it with that version, or "
        "use another one."
    )


# -- states --------------------------------------------------------------------------------
def pack(value: Any) -> dict[str, Any]:
    """The arrays of a value and their units."""
    whole = jax.tree.leaves(value, is_leaf=lambda leaf: isinstance(leaf, u.Quantity))
    return {"leaves": jax.tree.leaves(value), "units": [str(u.get_unit(leaf)) for leaf in whole]}


def pack_states(states: Mapping[str, brainstate.State]) -> dict[str, Any]:
    """Values of states by name, with their units."""
    return {name: pack(state.value) for name, state in states.items()}


def misfit(states: Mapping[str, brainstate.State], packed: Mapping[str, Any]) -> str:
    """What keeps packed values from being those of the states, for people; empty if nothing does."""
    if set(states) != set(packed):
        missing, extra = sorted(set(states) - set(packed)), sorted(set(packed) - set(states))
        return f"it lacks {', '.join(missing) or 'nothing'} and has {', '.join(extra) or 'nothing'} beside what is here"
    for name, state in states.items():
        new, old = packed[name], pack(state.value)
        shapes = [[list(np.shape(leaf)) for leaf in p["leaves"]] for p in (new, old)]
        if new["units"] != old["units"] or shapes[0] != shapes[1]:
            return f"{name} has shapes {shapes[0]}, units {new['units']} there and shapes {shapes[1]}, units {old['units']} here"
    return ""


def unpack_states(states: Mapping[str, brainstate.State], packed: Mapping[str, Any]) -> None:
    """Set states to what :func:`pack_states` took down.

    Raises
    ------
    ValueError
        If there are other states, or some of another shape or unit.
    """
    if wrong := misfit(states, packed):
        raise ValueError(
            f"the checkpoint does not fit: {wrong}; use the model, learner and optimizer, and the sizes and units, that it "
            "was made with."
        )
    for name, state in states.items():
        state.value = jax.tree.unflatten(jax.tree.structure(state.value), packed[name]["leaves"])


# -- JSON and arrays -----------------------------------------------------------------------
def _encode(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(k): _encode(v, f"{name}/{k}" if name else str(k), arrays) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(v, f"{name}/{i}", arrays) for i, v in enumerate(value)]
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return {"#key": _encode(jax.random.key_data(value), name, arrays), "impl": str(jax.random.key_impl(value))}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        arrays[name] = np.asarray(value)
        kind = "jax" if isinstance(value, jax.Array) else "numpy"
        weak = isinstance(value, jax.Array) and value.weak_type and value.ndim == 0
        return {"#array": name, "dtype": str(value.dtype), "kind": kind, "weak": bool(weak)}
    raise TypeError(f"a file holds numbers, texts and arrays, got {type(value).__name__} at {name!r}.")


def _decode(value: Any, entries: dict[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_decode(v, entries) for v in value]
    if not isinstance(value, dict):
        return value
    if "#key" in value:
        return jax.random.wrap_key_data(_decode(value["#key"], entries), impl=value["impl"])
    if "#array" not in value:
        return {k: _decode(v, entries) for k, v in value.items()}
    array = entries[value["#array"]]
    dtype = jnp.dtype(value["dtype"])
    if array.dtype != dtype:
        array = array.view(dtype)  # NumPy writes bfloat16 and its like as bare bytes
    if value["kind"] == "numpy":
        return array
    if value["weak"]:
        # a weak scalar takes the precision of what it meets; only Python's numbers make one
        weak = jnp.asarray(array.item())
        return weak if weak.dtype == dtype else jnp.asarray(array, dtype)
    return jnp.asarray(array, dtype)
