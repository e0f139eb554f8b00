"""What a training writes down while it runs: a table, curves for TensorBoard, a progress bar."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import braintools
from tqdm import tqdm

from etrax.files import atomic

__all__ = ["COLUMNS", "HEADER", "LOG", "Log", "bar_of", "write_metrics"]

LOG = "log.csv"

COLUMNS = (
    "batch",
    "epoch",
    "loss",
    "accuracy",
    "rate_hz",
    "gradient_norm",
    "learning_rate",
    "validation_loss",
    "validation_accuracy",
    "validation_rate_hz",
)
HEADER = ",".join(COLUMNS).encode()


class Log:
    """Rows of numbers as ``log.csv`` and, if asked for, as curves in ``tensorboard/``.

    After a break the table is cut back to what the checkpoint knows of, and the curves are drawn anew from it: no row
    comes twice.

    Parameters
    ----------
    folder : path
        Where to write.
    tensorboard : bool
        Whether to write curves, through `braintools.trainer.TensorBoardLogger`.
    size : int, optional
        Bytes of ``log.csv`` to go on from; a new one is begun if left out.

    Raises
    ------
    ValueError
        If ``log.csv`` is shorter than ``size``, or cannot be written.
    ModuleNotFoundError
        If TensorBoard is asked for and no package is installed that writes for it.
    """

    def __init__(self, folder: str | os.PathLike, *, tensorboard: bool = False, size: int | None = None):
        self.path = Path(folder) / LOG
        try:
            self._open(size)
        except OSError as error:
            raise ValueError(
                f"`folder`: {str(self.path)!r} cannot be written ({error.strerror}): move away what is in its place, or name another folder."
            ) from error
        self._curves = self._open_curves(Path(folder)) if tensorboard else None

    def _open(self, size: int | None) -> None:
        if size is None:
            self._file = open(self.path, "w", newline="")
            csv.writer(self._file).writerow(COLUMNS)
        else:
            there = self.path.stat().st_size if self.path.is_file() else 0
            if there < size:
                raise ValueError(
                    f"{str(self.path)!r} has {there} bytes but the checkpoint was made when it had {size}: put it back, or start anew."
                )
            os.truncate(self.path, size)
            self._file = open(self.path, "a", newline="")

    def _open_curves(self, folder: Path) -> Any:
        shutil.rmtree(folder / "tensorboard" / "run", ignore_errors=True)
        curves = braintools.trainer.TensorBoardLogger(str(folder), name="tensorboard", version="run")
        self._file.flush()
        with open(self.path, newline="") as file:
            rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        try:
            curves.log_metrics({}, step=0)
        except ImportError as error:
            raise ModuleNotFoundError(
                "`tensorboard` needs a package that writes its files: pip install 'etrax[tensorboard]', or leave it out."
            ) from error
        for row in rows:
            _draw(curves, row)
        return curves

    def write(self, row: dict[str, Any]) -> None:
        """Append a row; columns without a number stay empty."""
        line = io.StringIO()
        csv.writer(line).writerow(["" if row.get(c) is None else _text(row[c]) for c in COLUMNS])
        self._file.write(line.getvalue())
        self._file.flush()
        if self._curves is not None:
            _draw(self._curves, {k: float(v) for k, v in row.items() if v is not None})

    def size(self) -> int:
        """Bytes of the table, all of them on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Write out what is left."""
        with contextlib.suppress(OSError):  # of a row that could not be written, which has been told
            self._file.close()
        if self._curves is not None:
            self._curves.save()
            self._curves.finalize()


def write_metrics(path: str | os.PathLike, rows: list[dict[str, Any]]) -> None:
    """Write rows of a history as CSV; the file is there in full or not at all."""
    with atomic(path) as draft, open(draft, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def bar_of(total: int | None, *, disable: bool = False) -> tqdm:
    """A bar over batches, with the time left; rarer lines where the output is no terminal."""
    interval = 0.2 if sys.stderr.isatty() else 10.0
    known = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} batches{postfix}, {remaining} left"
    endless = "{desc}{n_fmt} batches{postfix}, {elapsed}"
    return tqdm(
        total=total,
        disable=disable,
        mininterval=interval,
        bar_format=endless if total is None else known,
        dynamic_ncols=True,
        file=sys.stderr,
    )


def _draw(curves, row: dict[str, float]) -> None:
    curves.log_metrics({k: v for k, v in row.items() if k not in ("batch", "epoch")}, step=int(row["batch"]))


def _text(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)
