"""Files that are there in full or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .text import shown

__all__ = ["as_path", "atomic", "remove_drafts", "writable_folder"]


def as_path(path: str | os.PathLike, name: str = "path") -> Path:
    """``path`` as a `Path`; a TypeError names the argument if it is none."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`{name}` must be a path, got {shown(path)}: write e.g. `{name}='run'`.")
    return Path(path)


@contextlib.contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """The name of a draft beside ``path``, which takes its place when the block ends without an error.

    The draft is on the disk before it takes the name: neither a killed process nor a power cut leaves half a file there.
    An OSError says so if it cannot be there.
    """
    path = as_path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"`path` {str(path)!r} lies in no folder: make {str(path.parent)!r} first.")
    if path.is_dir():
        raise IsADirectoryError(f"`path` {str(path)!r} is a folder: give the name of a file in it.")
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield draft
        _sync(draft)
        os.replace(draft, path)
        _sync(path.parent)
    finally:
        with contextlib.suppress(OSError):  # there is none, or its folder is gone
            draft.unlink()


def remove_drafts(folder: Path, pattern: str) -> None:
    """Delete the drafts that killed processes left of files of that pattern."""
    for draft in folder.glob(f".{pattern}"):
        draft.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    if os.name != "posix" and path.is_dir():  # elsewhere a folder cannot be opened
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def writable_folder(path: str | os.PathLike, name: str = "out") -> Path:
    """Make the folder if need be and try to write there; a ValueError names the argument if that fails."""
    path = as_path(path, name)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = (
            "a file of that name is in the way"
            if isinstance(error, FileExistsError | NotADirectoryError)
            else error.strerror
        )
        raise ValueError(
            f"`{name}` {str(path)!r} cannot be written ({reason}): name a folder you may write to."
        ) from error
    return path
