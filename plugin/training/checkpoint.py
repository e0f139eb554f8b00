"""Checkpoints: all that a training needs to go on, in files of `etrax.storage`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import brainstate
import braintools
import jax.numpy as jnp
import numpy as np

from etrax.files import remove_drafts
from etrax.storage import load, save

__all__ = ["Checkpoints", "optimizer_states", "pack_random", "unpack_random"]


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


# -- what else a training goes on with ------------------------------------------------------
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
