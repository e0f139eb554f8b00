"""Write event files in the format of `etrax.data.hdf5`, record by record."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import brainunit as u
import numpy as np

from etrax.checks import is_whole, whole_number
from etrax.files import as_path, atomic

from .batch import fields
from .hdf5 import h5py_or_error
from .record import AFTER, Record, RecordError, check_record, seconds

__all__ = ["EventWriter", "write_batches", "write_events"]

_BLOCK = 256  # records per chunk of the file


class EventWriter:
    """Write an event file record by record; use it in a ``with`` block.

    The file takes its name when the block ends without an error; until then, and after an error, a file that was there
    before stays as it is. In memory is one record at a time.

    Parameters
    ----------
    path : str or path
        The file to write.
    n_units : int
        Input units.
    duration : Quantity, optional
        Length of a record; that of the longest if left out.
    classes : sequence of str, optional
        What each label means.

    Raises
    ------
    ValueError
        If an argument has a bad value.
    ModuleNotFoundError
        If h5py is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        n_units: int,
        duration: u.Quantity | None = None,
        classes: Sequence[str] | None = None,
    ):
        self._h5py = h5py_or_error()
        self._path, self._n_units = as_path(path), whole_number("n_units", n_units, most=2**32)
        self._duration = None if duration is None else seconds("duration", duration)
        self._classes = None if classes is None else tuple(classes)
        self._stack = contextlib.ExitStack()
        self._file: Any = None
        self._last, self._n = 0.0, 0

    def __enter__(self) -> EventWriter:
        if not self._path.parent.is_dir():
            raise ValueError(f"`path` {str(self._path)!r} lies in no folder: make {str(self._path.parent)!r} first.")
        h5py = self._h5py
        with contextlib.ExitStack() as stack:
            draft = stack.enter_context(atomic(self._path))
            self._file = file = stack.enter_context(h5py.File(draft, "w"))
            unit = np.uint16 if self._n_units <= 2**16 else np.uint32
            for name, dtype in (
                ("spikes/times", h5py.vlen_dtype(np.float64)),
                ("spikes/units", h5py.vlen_dtype(unit)),
                ("labels", np.uint16),
                ("extra/speaker", np.int64),
            ):
                file.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(_BLOCK,))
            if self._classes is not None:
                file.create_dataset("extra/keys", data=[name.encode() for name in self._classes])
            file.attrs["n_units"] = self._n_units
            self._stack = stack.pop_all()
        return self

    def append(self, times: Any, units: Any, label: int, speaker: int | None = None) -> None:
        """Add a record.

        Parameters
        ----------
        times : Quantity (n,)
            Spike times from the beginning of the record, ascending.
        units : array of int (n,)
            Unit of each spike.
        label : int
            Class of the record.
        speaker : int, optional
            Who or what it comes from; for all records or for none.

        Raises
        ------
        RecordError
            If the record is malformed; nothing of it is written.
        """
        if self._file is None:
            raise ValueError(
                "`append` was called outside the block of the writer: use `with EventWriter(...) as file:`."
            )
        name = f"record {self._n} for {str(self._path)!r}"
        if not isinstance(times, u.Quantity) or not times.unit.has_same_dim(u.second):
            raise RecordError(f"{name} has times without a unit of time: write e.g. `times * u.ms`.")
        array = np.asarray(units)
        record = check_record(
            Record(
                np.asarray(times.to_decimal(u.second), np.float64).reshape(-1),
                array.astype(np.int64) if not array.size else array.reshape(-1),
            ),
            self._n_units,
            name,
        )
        limit = 2**16 if self._classes is None else len(self._classes)
        if not is_whole(label) or not 0 <= label < limit:
            raise RecordError(f"{name} has label {label!r}; labels must be whole numbers from 0 to {limit - 1}.")
        if self._n and (speaker is None) != (len(self._file["extra/speaker"]) == 0):
            raise RecordError(f"{name} {'has no' if speaker is None else 'has a'} speaker, unlike those before it.")
        if self._duration is not None and len(record.times) and record.times[-1] > self._duration:
            raise RecordError(f"{name} has a spike at {record.times[-1]} s, after its end at {self._duration} s.")
        values = {"spikes/times": record.times, "spikes/units": record.units, "labels": label}
        if speaker is not None:
            values["extra/speaker"] = int(speaker)
        for key, value in values.items():
            data = self._file[key]
            data.resize((self._n + 1,))
            content = self._h5py.check_vlen_dtype(data.dtype)
            data[self._n] = value if content is None else np.asarray(value, content)
        self._n += 1
        if len(record.times):
            self._last = max(self._last, float(record.times[-1]))

    def __len__(self) -> int:
        """Records written so far."""
        return self._n

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        file, self._file = self._file, None
        try:
            if kind is None:
                self._finish(file)
        except BaseException:
            self._stack.__exit__(*sys.exc_info())
            raise
        self._stack.__exit__(kind, error, trace)

    def _finish(self, file: Any) -> None:
        if not self._n:
            raise RecordError(f"{str(self._path)!r} would have no record: append at least one.")
        if not len(file["extra/speaker"]):
            del file["extra/speaker"]
        file.attrs["duration"] = self._last + AFTER if self._duration is None else self._duration


def write_events(
    path: str | os.PathLike,
    records: Iterable[Sequence[Any]],
    *,
    n_units: int,
    duration: u.Quantity | None = None,
    classes: Sequence[str] | None = None,
) -> int:
    """Write recordings as an event file; see `EventWriter` for arguments and errors.

    Parameters
    ----------
    records : iterable of (times, units, label) or (times, units, label, speaker)
        One for each recording, consumed one by one.

    Returns
    -------
    int
        Number of records.

    Examples
    --------
    >>> import brainunit as u, etrax.data, tempfile
    >>> records = [([1.0, 2.5] * u.ms, [0, 2], 0), ([0.5] * u.ms, [1], 1)]  # times, units, label
    >>> etrax.data.write_events(tempfile.mkdtemp() + "/two.h5", records, n_units=3)
    2
    """
    with EventWriter(path, n_units=n_units, duration=duration, classes=classes) as file:
        for record in records:
            file.append(*record)
        return len(file)


def write_batches(
    path: str | os.PathLike,
    batches: Iterable[Any],
    *,
    dt: u.Quantity,
    classes: Sequence[str] | None = None,
) -> int:
    """Write trials as an event file, e.g. ``task.train(32)`` of ``etrax.tasks.get("digits")``.

    A spike of step ``s`` gets the time ``(s + 1/2) dt``, so that binning with the same ``dt`` gives the same raster.

    Parameters
    ----------
    path : str or path
        The file to write.
    batches : iterable of tuple
        ``(xs, ys)`` or ``(xs, ys, mask)``, as training takes them: rasters ``xs (T, B, n_in)`` of 0 and 1 and labels
        ``ys (T, B)`` or ``(B,)``; the label of a trial is that of the last step that the mask counts.
    dt : Quantity
        Time step of the rasters.
    classes : sequence of str, optional
        What each label means.

    Returns
    -------
    int
        Number of records.

    Raises
    ------
    ValueError
        If a batch is none of a classification, or its inputs are other values than 0 and 1.
    """
    step = seconds("dt", dt)
    writer: EventWriter | None = None
    with contextlib.ExitStack() as stack:
        for batch in batches:
            xs, ys, mask = map(np.asarray, fields(batch))
            if ys.ndim != 2 or not np.issubdtype(ys.dtype, np.integer):
                raise ValueError(
                    f"`batches` must have labels, whole numbers of shape (T, B) or (B,), as targets, got {ys.dtype} "
                    f"{ys.shape}: an event file holds a class for each trial, not values to follow."
                )
            if xs.ndim != 3:
                raise ValueError(f"`batches` must have inputs of shape (T, B, n_in), got {xs.shape}: flatten them.")
            counted = np.broadcast_to(mask.reshape(len(xs), -1) > 0, ys.shape)
            last = len(xs) - 1 - np.argmax(counted[::-1], axis=0)
            labels = ys[last, np.arange(ys.shape[1])]
            if not np.isin(xs, (0, 1)).all():
                raise ValueError("`batches` must hold spikes, 0 or 1: threshold other values first.")
            if writer is None:
                duration = len(xs) * step * u.second
                writer = stack.enter_context(EventWriter(path, n_units=xs.shape[2], duration=duration, classes=classes))
            for trial, label in zip(np.moveaxis(xs, 1, 0), labels, strict=True):
                at, unit = np.nonzero(trial)
                writer.append((at + 0.5) * step * u.second, unit, int(label))
        if writer is None:
            raise ValueError("`batches` is empty: give at least one batch of trials.")
        return len(writer)
