"""The folder of a training: held by one process at a time, and asked what it holds without a change to it."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etrax.files import as_path

from .checkpoint import Checkpoints
from .logs import HEADER, LOG

# elsewhere nothing keeps two processes apart
fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None

__all__ = ["begun", "claimed", "epochs_at_first", "resumable", "unfinished"]

_LOCK = ".lock"


@contextlib.contextmanager
def claimed(folder: str | os.PathLike, name: str = "folder") -> Iterator[None]:
    """Hold a folder; the system lets go of it when the process ends, in whatever way.

    Raises
    ------
    ValueError
        If a process holds it already; ``name`` is the argument that gave the folder.
    """
    path = Path(folder) / _LOCK
    if fcntl is None:
        yield
        return
    handle = _locked(path, name)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone, which whoever wrote there has told
            path.unlink()  # while it is held: whoever has opened it meanwhile sees that it is gone
        os.close(handle)


def _locked(path: Path, name: str) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(handle, path):  # the one that held it has taken it away
                os.close(handle)
                continue
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
        except BlockingIOError as error:
            holder = os.read(handle, 20).decode(errors="replace") or "another"
            os.close(handle)
            raise ValueError(
                f"`{name}` {str(path.parent)!r} is in use by process {holder}: wait until it ends, stop it, or name another folder."
            ) from error
        except OSError:
            os.close(handle)
            raise
        return handle


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def begun(folder: str | os.PathLike) -> str:
    """What a training that starts anew would destroy, in words; empty if that is nothing."""
    folder = as_path(folder, "folder")
    if not folder.is_dir():
        return ""
    try:
        saved = Checkpoints(folder).latest()
    except ValueError:  # none of them is whole, or of this version
        return "a training that is not finished, whose checkpoints cannot be read"
    if saved is None:
        log = folder / LOG
        return f"a {LOG} without checkpoints" if log.is_file() and log.read_bytes().strip() not in (b"", HEADER) else ""
    at = saved["position"]
    if not at[
        "count"
    ]:  # one that failed in its first batch has nothing to lose, and may have been given wrong arguments
        return ""
    if at["stopped"] is None:
        return "a training that is not finished"
    return f"a training that is finished ({at['count']} batches, stopped by {at['stopped']!r})"


def unfinished(folder: str | os.PathLike) -> bool:
    """Whether a folder holds checkpoints of a training that has begun and not come to its end."""
    return "not finished" in begun(folder)


def epochs_at_first(folder: str | os.PathLike, otherwise: int) -> int:
    """The epochs that a training in a folder was begun with: a schedule made for them stays when more are asked for."""
    saved = Checkpoints(folder).latest()
    return otherwise if saved is None else saved.get("begun_with", {}).get("epochs", otherwise)


def resumable(folder: str | os.PathLike) -> Path:
    """The folder of a training to go on with: one with checkpoints, or one where it was stopped before the first of them.

    Raises
    ------
    ValueError
        If it is not there, or holds files and none of a training.
    """
    path = as_path(folder, "folder")
    if not path.is_dir():
        raise ValueError(f"`folder` {str(path)!r} does not exist, so there is nothing to resume: check its name.")
    held = {entry.name for entry in path.iterdir()} - {_LOCK}
    if held and LOG not in held and not Checkpoints(path).paths():
        raise ValueError(f"`folder` {str(path)!r} holds no checkpoint, so there is nothing to resume: check its name.")
    return path
