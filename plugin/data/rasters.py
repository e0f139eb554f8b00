"""Spike rasters in memory or on disk, with the interface of event files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import brainunit as u
import numpy as np

from etrax.files import as_path

from .record import Record, RecordError, check_labels, check_speakers, seconds
from .recordings import Recordings

__all__ = ["Rasters"]

_COARSE = 0.05  # seconds from which on a time step without a unit is taken for one in ms


class Rasters(Recordings):
    """NumPy spike rasters; see `etrax.data.Recordings` for what they can do.

    Parameters
    ----------
    spikes : array (N, T, n_units)
        Number of spikes of each record, step and unit; bool or whole numbers from 0 on, of any type. May be a ``numpy.memmap``.
    labels : array of int (N,)
        Class of each record.
    dt : Quantity
        Time step of the rasters.
    speakers : array of int (N,), optional
        Who or what each record comes from.
    classes : sequence of str, optional
        What each label means.
    name : str
        What messages call it.

    Raises
    ------
    RecordError
        If shapes or types do not fit together; while reading, if a record has a number of spikes that is negative
        or not whole.
    """

    def __init__(
        self,
        spikes: Any,
        labels: Any,
        *,
        dt: u.Quantity,
        speakers: Any = None,
        classes: Sequence[str] | None = None,
        name: str = "the rasters",
    ):
        self.name = name
        self._spikes = spikes if isinstance(spikes, np.memmap) else np.asarray(spikes)
        kind = self._spikes.dtype
        if self._spikes.ndim != 3 or kind.kind not in "buif":
            raise RecordError(
                f"the spikes of {name!r} must be whole numbers of shape (records, steps, units), got {kind} "
                f"{self._spikes.shape}."
            )
        n, steps, self.n_units = self._spikes.shape
        if not self._spikes.size:
            raise RecordError(
                f"the spikes of {name!r} have shape {self._spikes.shape}: give at least one record, one step and one unit."
            )
        if isinstance(classes, str):
            raise RecordError(
                f"`classes` of {name!r} must be several names, got {classes!r}: write e.g. `('low', 'high')`."
            )
        self.labels = check_labels(labels, n, None if classes is None else len(classes), name)
        self.speakers = check_speakers(speakers, n, name)
        self.classes = tuple(classes or map(str, range(int(self.labels.max()) + 1)))
        self._dt = seconds("dt", dt)
        self.duration = steps * self._dt * u.second

    @classmethod
    def load(cls, path: str | os.PathLike, *, dt: u.Quantity | None = None) -> Rasters:
        """Read an ``.npz`` file with arrays ``spikes``, ``labels`` and, as far as known, ``speakers`` and ``dt``.

        The unit of ``dt`` is the text ``dt_unit``, ``"ms"`` for instance; seconds without.

        Raises
        ------
        RecordError
            If there is no such file, it is damaged, or it lacks an array.
        ValueError
            If no time step is known, or one without a unit can hardly be in seconds.
        """
        name = os.fspath(as_path(path))
        if not Path(path).is_file():
            raise RecordError(f"`path` {name!r} is not a file: give rasters saved with `numpy.savez`.")
        try:
            with open(path, "rb") as raw, np.load(raw) as file:
                arrays = {key: file[key] for key in file.files}
        except Exception as error:  # whatever zipfile and NumPy raise on damaged bytes
            raise RecordError(
                f"{name!r} cannot be read as .npz ({error}): save it again with `numpy.savez`."
            ) from error
        for key in ("spikes", "labels"):
            if key not in arrays:
                raise RecordError(f"{name!r} lacks the array {key!r}, so no record has {key}: save it with the others.")
        if dt is None and "dt" not in arrays:
            raise ValueError(f"`dt` is needed, as {name!r} does not state its time step: write e.g. `dt=1.0 * u.ms`.")
        step = _step(arrays["dt"], arrays.get("dt_unit"), name) if dt is None else dt
        return cls(arrays["spikes"], arrays["labels"], dt=step, speakers=arrays.get("speakers"), name=name)

    def _read(self, index: int) -> Record:
        raster = np.asarray(self._spikes[index])
        if raster.dtype.kind == "f" and not (np.isfinite(raster) & (raster == np.rint(raster))).all():
            raise RecordError(f"record {index} of {self.name!r} has a number of spikes that is not whole: count them.")
        if (raster < 0).any():
            raise RecordError(f"record {index} of {self.name!r} has a negative number of spikes: count from 0 on.")
        step, unit = np.nonzero(raster)
        number = raster[step, unit].astype(np.int64)
        return Record((np.repeat(step, number) + 0.5) * self._dt, np.repeat(unit, number))


def _step(value: np.ndarray, unit: np.ndarray | None, name: str) -> u.Quantity:
    """The time step that a file states."""
    known = {"s": u.second, "ms": u.ms, "us": u.us}
    if value.ndim or value.dtype.kind not in "uif":
        raise ValueError(f"`dt` in {name!r} must be one number, got {value.dtype} of shape {value.shape}: save it so.")
    number = float(value)
    if unit is None:
        if number >= _COARSE:
            raise ValueError(
                f"`dt` in {name!r} is {number:g} without a unit, and hardly in seconds: save `dt_unit='ms'` with it, or give "
                f"`dt={number:g} * u.ms` here."
            )
        return number * u.second
    if str(unit) not in known:
        raise ValueError(f"`dt_unit` in {name!r} must be one of {', '.join(known)}; got {str(unit)!r}.")
    return number * known[str(unit)]
