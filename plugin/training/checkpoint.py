"""Checkpoints: all that a training needs to go on, in files of `etrax.storage`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import brainstate
import jax.numpy as jnp
import numpy as np

from etrax.files import remove_drafts
from etrax.storage import OtherVersion, load, save

__all__ = ["LAYOUT", "PARTS", "Checkpoints", "check_same", "pack_random", "unpack_random"]

LAYOUT = 1  # what a checkpoint holds, and under which names; those without a number are read as 1
PARTS = ("identity", "states", "random", "position", "data", "best", "log_size")


class Checkpoints:
    """The checkpoints of one training in one folder: the newest ones, by number of batches, and the best.

    Looking at them changes nothing in the folder; whoever writes holds it, see `etrax.training.folder`.

    Parameters
    ----------
    folder : path
        Where they are.
    keep : int
        How many of the newest stay.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 3):
        self.folder = Path(folder)
        self.keep = keep
        self.last: Path | None = None

    def tidy(self) -> None:
        """Delete the drafts that killed processes left."""
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
            If there are files and none is whole, or the newest one is of another version.
        """
        bad = []
        for path in reversed(self.paths()):
            try:
                content = load(path)
            except OtherVersion:
                raise
            except ValueError as error:
                bad.append(str(error))
                continue
            if bad:
                warnings.warn(f"{' '.join(bad)} Going on from {str(path)!r}.", stacklevel=2)
            _check_layout(path, content)
            self.last = path
            return content
        if bad:
            raise ValueError(f"no checkpoint in {str(self.folder)!r} is whole: {' '.join(bad)}")
        return None

    def clear(self) -> None:
        """Delete all of them."""
        for path in [*self.paths(), self.folder / "best.npz"]:
            path.unlink(missing_ok=True)


def _check_layout(path: Path, content: Mapping[str, Any]) -> None:
    layout = content.get("layout", 1)
    if layout != LAYOUT:
        raise ValueError(
            f"checkpoint {str(path)!r} is of another version of etrax (layout {layout}, here {LAYOUT}): go on with that version, or "
            "begin anew in another folder."
        )
    if missing := [part for part in PARTS if part not in content]:
        raise ValueError(
            f"file {str(path)!r} is no checkpoint of a training (it lacks {', '.join(missing)}): move it out of the folder."
        )


def check_same(saved: Mapping[str, str], given: Mapping[str, str]) -> None:
    """A ValueError for a setting that is not what the training was begun with; a setting of a later version may be missing."""
    for name, value in given.items():
        if saved.get(name, value) != value:
            new, old = _apart(value, saved[name])
            raise ValueError(
                f"`{name}` is {new} but the training to resume was begun with {old}: give that, or start anew."
            )


def _apart(new: str, old: str, longest: int = 200) -> tuple[str, str]:
    """Both, or of long ones the part from where they differ."""
    if max(len(new), len(old)) <= longest:
        return new, old
    common = os.path.commonprefix([new, old])  # noqa: RUF071 - characters are meant, not folders
    start = max(common.rfind("("), common.rfind(" ")) + 1
    return f"...{new[start : start + 60]}...", f"...{old[start : start + 60]}..."


# -- what else a training goes on with ------------------------------------------------------
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
