"""Checkpoints: all that a training needs to go on, in one file that is there in full or not at all.

A file is an uncompressed ``.npz`` (zip) of arrays, with the rest as JSON in the entry ``content``. The zip format keeps a
checksum of each entry, and its table comes last: a damaged or cut-off file is noticed.
"""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.files import atomic, remove_drafts

__all__ = [
    "Checkpoints",
    "load",
    "optimizer_states",
    "pack_random",
    "pack_states",
    "save",
    "unpack_random",
    "unpack_states",
]

FORMAT = 1
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError)


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
        If the file is missing, damaged or cut off, or not a checkpoint.
    """
    try:
        # a file of our own: NumPy would leave the one that it opens open if the zip is damaged
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            entries = {name: file[name] for name in file.files}
        outer = json.loads(entries.pop("content").tobytes().decode())
        if outer["format"] != FORMAT:
            raise ValueError(f"format {outer['format']} where {FORMAT} is known")
        return _decode(outer["content"], entries)
    except _DAMAGE as error:
        raise ValueError(
            f"checkpoint {str(path)!r} cannot be read ({type(error).__name__}: {error}): it is damaged or cut off; use another one."
        ) from error


class Checkpoints:
    """The checkpoints of one training in one folder: the newest ones, by number of batches, and the best.

    Parameters
    ----------
    folder : path
        Made if need be.
    keep : int
        How many of the newest stay.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 3):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.keep = keep
        self.last: Path | None = None
        remove_drafts(self.folder, "checkpoint-*.npz")
        remove_drafts(self.folder, "best.*.npz")

    def paths(self) -> list[Path]:
        """The files, oldest first."""
        return sorted(self.folder.glob("checkpoint-*.npz"))

    def save(self, number: int, content: dict[str, Any], *, best: bool = False) -> Path:
        """Write a checkpoint, as ``best.npz`` too if asked for, and drop the oldest ones."""
        path = self.folder / f"checkpoint-{number:09d}.npz"
        if best:  # first: a process that is killed in between makes it again, while nothing would make it up later
            save(self.folder / "best.npz", content)
        save(path, content)
        self.last = path
        for old in self.paths()[: -self.keep]:
            if old != path:
                old.unlink(missing_ok=True)
        return path

    def latest(self) -> dict[str, Any] | None:
        """The newest checkpoint that is whole; None if there is no file.

        Raises
        ------
        ValueError
            If there are files and none is whole.
        """
        bad = []
        for path in reversed(self.paths()):
            try:
                content = load(path)
            except ValueError as error:
                bad.append(str(error))
                continue
            if bad:
                warnings.warn(f"{' '.join(bad)} Going on from {str(path)!r}.", stacklevel=2)
            self.last = path
            return content
        if bad:
            raise ValueError(f"no checkpoint in {str(self.folder)!r} is whole: {' '.join(bad)}")
        return None

    def clear(self) -> None:
        """Delete all of them."""
        for path in [*self.paths(), self.folder / "best.npz"]:
            path.unlink(missing_ok=True)


# -- states --------------------------------------------------------------------------------
def pack_states(states: Mapping[str, brainstate.State]) -> dict[str, Any]:
    """Values of states by name, with their units."""
    return {name: _pack(state.value) for name, state in states.items()}


def unpack_states(states: Mapping[str, brainstate.State], packed: Mapping[str, Any]) -> None:
    """Set states to what :func:`pack_states` took down.

    Raises
    ------
    ValueError
        If there are other states, or some of another shape or unit.
    """
    if set(states) != set(packed):
        missing, extra = sorted(set(states) - set(packed)), sorted(set(packed) - set(states))
        raise ValueError(
            f"the checkpoint does not fit: it lacks {', '.join(missing) or 'nothing'} and has {', '.join(extra) or 'nothing'} "
            "beside what is here; use the model, learner and optimizer that it was made with."
        )
    values = {}
    for name, state in states.items():
        new, old = packed[name], _pack(state.value)
        shapes = [[list(np.shape(leaf)) for leaf in p["leaves"]] for p in (new, old)]
        if new["units"] != old["units"] or shapes[0] != shapes[1]:
            raise ValueError(
                f"the checkpoint does not fit: {name} has shapes {shapes[0]}, units {new['units']} there and shapes {shapes[1]}, "
                f"units {old['units']} here; use the sizes and units that it was made with."
            )
        values[name] = jax.tree.unflatten(jax.tree.structure(state.value), new["leaves"])
    for name, state in states.items():
        state.value = values[name]


def optimizer_states(optimizer: Any) -> dict[str, brainstate.State]:
    """All states of an optimizer of braintools and of the schedules in it, by name; not the parameters."""
    found: dict[str, brainstate.State] = {}
    seen: set[int] = set()

    def visit(name: str, thing: Any) -> None:
        if isinstance(thing, brainstate.ParamState) or id(thing) in seen:
            return
        if isinstance(thing, brainstate.State):
            seen.add(id(thing))
            found[name] = thing
        elif isinstance(thing, braintools.optim.Optimizer | braintools.optim.LRScheduler):
            seen.add(id(thing))
            for key in sorted(vars(thing)):
                visit(f"{name}.{key}", vars(thing)[key])
        elif isinstance(thing, list | tuple):
            for i, item in enumerate(thing):
                visit(f"{name}.{i}", item)
        elif isinstance(thing, dict):
            for key, item in thing.items():
                visit(f"{name}.{key}", item)

    visit("optimizer", optimizer)
    return found


def pack_random() -> dict[str, Any]:
    """The random states of `brainstate.random` and of NumPy's global generator."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - packages draw from it
    key = brainstate.random.get_key_data()
    return {"key": key, "numpy": [kind, np.asarray(keys), int(position), int(has_gauss), float(gauss)]}


def unpack_random(packed: Mapping[str, Any]) -> None:
    """Go on with the random numbers from where :func:`pack_random` was called."""
    brainstate.random.set_key(jnp.asarray(packed["key"]))
    kind, keys, *rest = packed["numpy"]
    np.random.set_state((kind, np.asarray(keys), *rest))  # noqa: NPY002 - as above


def _pack(value) -> dict[str, Any]:
    whole = jax.tree.leaves(value, is_leaf=lambda leaf: isinstance(leaf, u.Quantity))
    return {"leaves": jax.tree.leaves(value), "units": [str(u.get_unit(leaf)) for leaf in whole]}


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
    raise TypeError(f"a checkpoint holds numbers, texts and arrays, got {type(value).__name__} at {name!r}.")


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
