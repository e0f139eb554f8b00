"""Files that are there in full or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["atomic", "writable_folder"]


@contextlib.contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """The name of a draft beside ``path``, which takes its place when the block ends without an error."""
    path = Path(path)
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def writable_folder(path: str | os.PathLike, name: str = "out") -> Path:
    """Make the folder if need be and try to write there; a ValueError names the argument if that fails."""
    path = Path(path)
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
