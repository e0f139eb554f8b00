"""Recordings binned and batched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import brainunit as u
import numpy as np

from etrax.checks import whole_number

from .record import RecordError, check_numbers, seconds

if TYPE_CHECKING:
    from .recordings import Recordings

__all__ = ["EDGE", "LONG", "Batches", "Binned", "Binning"]

LONG = 100.0  # seconds after which a record that states no length is taken for one in other units
EDGE = 1e-6  # part of a step by which a time may fall short of an edge through rounding and still lie beyond it


class Binned(NamedTuple):
    """Records that are run together.

    Attributes
    ----------
    xs : array of uint8 (steps, B, units)
        Spikes of each step, 0 or 1, or their number up to 255 with ``counts=True``.
    labels : array of int32 (B,)
        Class of each record.
    records : array of int (B,)
        Number of each record in its source.
    """

    xs: np.ndarray
    labels: np.ndarray
    records: np.ndarray


class Binning:
    """Turns the spikes of a source into rasters.

    Parameters
    ----------
    source : Recordings
        Where the records come from.
    dt : Quantity
        Time step.
    start : Quantity, optional
        Beginning of the time window; 0 s if left out.
    duration : Quantity, optional
        Its length; up to the end of the longest record if left out. Without ``start`` no spike may come after it.
    units : int, optional
        Number of units of a raster; neighbours are pooled.
    counts : bool
        Whether to count the spikes of a step.

    Attributes
    ----------
    steps, units : int
        Shape of a raster.

    Raises
    ------
    ValueError
        If an argument has a bad value.
    RecordError
        If the length of the records is neither stated nor given and one ends after 100 s.
    """

    def __init__(
        self,
        source: Recordings,
        *,
        dt: u.Quantity,
        start: u.Quantity | None,
        duration: u.Quantity | None,
        units: int | None,
        counts: bool,
    ):
        self.source, self._counts = source, counts
        self._dt = seconds("dt", dt)
        self._start = 0.0 if start is None else seconds("start", start, zero=True)
        self._whole = start is None and duration is not None
        length = None if duration is None else seconds("duration", duration)
        if source.n_units is None or (length is None and source.duration is None):
            source.scan()
        if source.n_units is None:
            raise ValueError(f"{source.name!r} does not know its number of units: give `n_units` when opening it.")
        if length is None:
            end = seconds("duration", source.duration)
            if source.longest is not None and end > LONG:
                raise RecordError(
                    f"record {source.longest} of {source.name!r} ends at {end:g} s: times must be in seconds, so divide them "
                    "by 1000 if they are in ms, by 1e6 if in us; if it is that long, give `duration`."
                )
            length = end - self._start
            if not length > 0:
                raise ValueError(
                    f"`start` is {start}, but the longest record ends at {source.duration}: start earlier."
                )
        self.steps = max(1, int(np.ceil(length / self._dt * (1 - 1e-9))))
        self.units = source.n_units if units is None else whole_number("units", units)
        if self.units > source.n_units or source.n_units % self.units:
            raise ValueError(f"`units` must divide the {source.n_units} units of {source.name!r}, got {units}.")
        self._n_units: int = source.n_units

    def __call__(self, records: np.ndarray) -> Binned:
        """Those records, read and binned."""
        xs = np.zeros((self.steps, len(records), self.units), np.uint8)
        flat = xs.reshape(-1)
        found = kept = 0
        for column, index in enumerate(records):
            times, units = self.source.read(int(index))
            step = np.floor((times.astype(np.float64) - self._start) / self._dt + EDGE).astype(np.int64)
            inside = (step >= 0) & (step < self.steps)
            found, kept = found + len(times), kept + int(inside.sum())
            if self._whole and not inside.all():
                raise self._outside(index, times, f"{np.sum(~inside)} of its {len(times)} spikes lie")
            unit = units[inside].astype(np.int64) * self.units // self._n_units
            at = (step[inside] * len(records) + column) * self.units + unit
            if self._counts:
                at, number = np.unique(at, return_counts=True)
                flat[at] = np.minimum(number, 255)
            else:
                flat[at] = 1
            if len(times):
                last = (index, times)
        if found and not kept:
            raise self._outside(*last, "all spikes of its batch lie")
        return Binned(xs, self.source.labels[records], np.asarray(records))

    def _outside(self, index: int, times: np.ndarray, which: str) -> RecordError:
        stop = self._start + self.steps * self._dt
        return RecordError(
            f"record {index} of {self.source.name!r} has times from {times[0]:g} to {times[-1]:g} s, and {which} outside the window from "
            f"{self._start:g} to {stop:g} s: divide times by 1000 if they are in ms, by 1e6 if in us; give a longer `duration`; or, to cut a "
            "window out, `start` and `duration`, of times on a clock that does not begin at 0 too."
        )


class Batches:
    """Binned batches of a source; made by `Recordings.batches`.

    An iterator that goes on from its position to the end of the epoch; iterating again gives the next epoch.

    Attributes
    ----------
    epoch, index : int
        Number of the epoch, and of the batch in it that comes next.
    batch_size, steps, units : int
        Shape of a full batch: ``xs`` is ``(steps, batch_size, units)``.
    """

    def __init__(
        self,
        binning: Binning,
        batch_size: int,
        records: Sequence[int] | np.ndarray,
        *,
        shuffle: bool,
        seed: int,
        drop_last: bool,
    ):
        self._binning, self.steps, self.units = binning, binning.steps, binning.units
        self.batch_size, self.epoch, self.index = batch_size, 0, 0
        self._shuffle, self._seed, self._drop_last = shuffle, seed, drop_last
        self._records = check_numbers(records, len(binning.source), binning.source.name)
        self._drawn: tuple[tuple[int, int], np.ndarray] | None = None  # the last order, and what it was drawn from

    def __len__(self) -> int:
        """Batches of an epoch."""
        n = len(self._records)
        return n // self.batch_size if self._drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Binned:
        if self.index >= len(self):
            self.epoch, self.index = self.epoch + 1, 0
            raise StopIteration
        first = self.index * self.batch_size
        batch = self._binning(self._order()[first : first + self.batch_size])
        self.index += 1
        return batch

    def _order(self) -> np.ndarray:
        """The records in the order of the epoch."""
        if not self._shuffle:
            return self._records
        key = (self._seed, self.epoch)
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = (key, np.random.default_rng(key).permutation(self._records))
        return self._drawn[1]

    def state(self) -> dict[str, Any]:
        """The position: what :meth:`restore` needs to go on with the batch after the one last handed out."""
        return {"epoch": self.epoch, "index": self.index, "seed": self._seed, **self._layout()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a position that :meth:`state` gave; later batches are the same bit for bit.

        Raises
        ------
        ValueError
            If it is a position in batches of another size, or in another number of records.
        """
        for name, value in self._layout().items():
            if state.get(name) != value:
                raise ValueError(
                    f"`state` is a position with {name} {state.get(name)!r}, but here it is {value!r}: make the "
                    "batches with the arguments they had."
                )
        self.epoch, self.index, self._seed = int(state["epoch"]), int(state["index"]), int(state["seed"])

    def _layout(self) -> dict[str, Any]:
        return {"batch_size": self.batch_size, "n_records": len(self._records), "shuffle": self._shuffle}
