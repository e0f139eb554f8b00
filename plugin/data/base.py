"""What all sources of recorded spikes share: records, the checks they pass, binning, batches, held-out records.

A record is a list of spikes ``(t_k, c_k)``, ``t_k`` in seconds from its beginning and ``c_k`` one of the ``n_units``
input units. Binned from ``start`` on with step ``dt`` it is the raster

    x[s, j] = 1  if some spike has  floor((t_k - start) / dt) = s  and  floor(c_k * units / n_units) = j,

``s = 0 .. steps - 1``, or the number of such spikes with ``counts=True``. Spikes outside the window are left out.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple

import brainunit as u
import numpy as np

from etrax.module import check_dt

__all__ = [
    "AFTER",
    "Batches",
    "Binned",
    "Record",
    "RecordError",
    "Recordings",
    "check_labels",
    "check_record",
    "check_speakers",
    "seconds",
]

AFTER = 1e-6  # seconds from the last spike to the end of a record whose length is not stated
_LONG = 100.0  # seconds after which a record that states no length is taken for one in other units
_EDGE = 1e-6  # part of a step by which a time may fall short of an edge through rounding and still lie beyond it


class RecordError(ValueError):
    """A malformed file or record; the message names both and the fix."""


class Record(NamedTuple):
    """One recording.

    Attributes
    ----------
    times : array (n,)
        Spike times in seconds, in ascending order.
    units : array of int (n,)
        Unit of each spike.
    """

    times: np.ndarray
    units: np.ndarray


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


class Recordings(abc.ABC):
    """A source of recorded spikes; a subclass sets the attributes and says how to read one record.

    Attributes
    ----------
    name : str
        What messages call it: the path of a file, as a rule.
    labels : array of int32 (N,)
        Class of each record.
    speakers : array of int (N,) or None
        Who or what each record comes from; a split keeps them apart.
    classes : tuple of str
        What each label means.
    n_units : int or None
        Input units; None until a pass over the records has found it (see :meth:`scan`).
    duration : Quantity or None
        Length of the longest record; None until found likewise.
    longest : int or None
        The record that ``duration`` was found from; None where it is stated.
    """

    name: str
    labels: np.ndarray
    speakers: np.ndarray | None
    classes: tuple[str, ...]
    n_units: int | None
    duration: u.Quantity | None
    longest: int | None = None

    @abc.abstractmethod
    def _read(self, index: int) -> Record:
        """The record as it is stored, unchecked."""

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Record:
        """One record, checked.

        Raises
        ------
        RecordError
            If it cannot be read, or has a time that is negative, not finite or out of order, or a unit out of range.
        """
        return check_record(self._read(index), self.n_units, f"record {index} of {self.name!r}")

    def scan(self) -> None:
        """Read and check every record once, and set ``n_units`` and ``duration`` where they are not known."""
        last, top, longest = 0.0, -1, 0
        for index in range(len(self)):
            record = self.read(index)
            if len(record.times):
                longest = index if record.times[-1] > last else longest
                last, top = max(last, float(record.times[-1])), max(top, int(record.units.max()))
        if top < 0:
            raise RecordError(f"{self.name!r} has no spike in any of its {len(self)} records: check how it was made.")
        if self.n_units is None:
            self.n_units = top + 1
        if self.duration is None:
            self.duration, self.longest = (last + AFTER) * u.second, longest

    def batches(
        self,
        batch_size: int,
        *,
        records: Sequence[int] | np.ndarray | None = None,
        shuffle: bool = False,
        seed: int = 0,
        dt: u.Quantity | None = None,
        start: u.Quantity | None = None,
        duration: u.Quantity | None = None,
        units: int | None = None,
        counts: bool = False,
        drop_last: bool = False,
    ) -> Batches:
        """Iterate over binned batches; in memory is one batch at a time.

        Parameters
        ----------
        batch_size : int
            Records of a batch.
        records : array of int, optional
            Which records, e.g. from :meth:`split`; all if left out.
        shuffle : bool
            Whether each epoch has an order of its own, drawn from ``seed`` and the epoch.
        seed : int
            Of the orders.
        dt : Quantity, optional
            Time step; that of the environment if left out.
        start : Quantity, optional
            Beginning of the time window, 0 s if left out.
        duration : Quantity, optional
            Length of the window: that of the longest record from ``start`` on if left out, for which a file that does
            not state it is read once.
        units : int, optional
            Number of input units of a batch; neighbours are pooled. A divisor of ``n_units``.
        counts : bool
            Whether to count the spikes of a step instead of noting that there was one.
        drop_last : bool
            Whether to leave out the last batch if it is smaller.

        Returns
        -------
        Batches
            The iterator; its position can be saved and restored.

        Raises
        ------
        ValueError
            If an argument has a bad value.
        RecordError
            If the length of the records is neither stated nor given and one ends after 100 s, which tells of times in
            other units; while iterating, if a record is malformed.
        """
        return Batches(
            self,
            batch_size,
            np.arange(len(self)) if records is None else records,
            shuffle=shuffle,
            seed=seed,
            dt=check_dt() if dt is None else dt,
            start=0.0 * u.second if start is None else start,
            duration=duration,
            units=units,
            counts=counts,
            drop_last=drop_last,
        )

    def split(
        self, fraction: float = 0.1, *, seed: int = 0, records: Sequence[int] | np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hold records out, e.g. for validation.

        With two or more speakers, whole speakers are held out: in an order drawn from ``seed``, as many as bring the
        number of records nearest to ``fraction``, at least one. Otherwise that share of each class is.

        Parameters
        ----------
        fraction : float
            Share of the records to hold out, between 0 and 1.
        seed : int
            Of the choice.
        records : array of int, optional
            Records to divide; all if left out.

        Returns
        -------
        kept, held_out : array of int
            Numbers of records, ascending.

        Raises
        ------
        ValueError
            If ``fraction`` is not between 0 and 1, or nothing is left on one side.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"`fraction` must be between 0 and 1, got {fraction!r}.")
        chosen = np.arange(len(self)) if records is None else _check_numbers(records, len(self), self.name)
        rng = np.random.default_rng(seed)
        out = np.zeros(len(chosen), bool)
        speakers = None if self.speakers is None else self.speakers[chosen]
        if speakers is not None and len(np.unique(speakers)) > 1:
            order = rng.permutation(np.unique(speakers))[:-1]
            sizes = np.cumsum([np.count_nonzero(speakers == speaker) for speaker in order])
            out = np.isin(speakers, order[: 1 + int(np.argmin(np.abs(sizes - fraction * len(chosen))))])
        else:
            for label in np.unique(self.labels[chosen]):
                of_class = rng.permutation(np.flatnonzero(self.labels[chosen] == label))
                out[of_class[: round(fraction * len(of_class))]] = True
        if out.all() or not out.any():
            raise ValueError(
                f"`fraction` {fraction} of the {len(chosen)} records of {self.name!r} leaves nothing on one side: "
                "take one nearer to 0.5, or more records."
            )
        return np.sort(chosen[~out]), np.sort(chosen[out])


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
        source: Recordings,
        batch_size: int,
        records: Sequence[int] | np.ndarray,
        *,
        shuffle: bool,
        seed: int,
        dt: u.Quantity,
        start: u.Quantity,
        duration: u.Quantity | None,
        units: int | None,
        counts: bool,
        drop_last: bool,
    ):
        _whole("batch_size", batch_size)
        self._dt = seconds("dt", dt)
        self._start = seconds("start", start, zero=True)
        length = None if duration is None else seconds("duration", duration)
        if source.n_units is None or (length is None and source.duration is None):
            source.scan()
        if source.n_units is None:
            raise ValueError(f"{source.name!r} does not know its number of units: give `n_units` when opening it.")
        if length is None:
            end = seconds("duration", source.duration)
            if source.longest is not None and end > _LONG:
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
        self.units = source.n_units if units is None else units
        if _whole("units", self.units) > source.n_units or source.n_units % self.units:
            raise ValueError(f"`units` must divide the {source.n_units} units of {source.name!r}, got {units}.")
        self._n_units: int = source.n_units
        self.batch_size, self.epoch, self.index = batch_size, 0, 0
        self._source, self._shuffle, self._seed = source, shuffle, seed
        self._counts, self._drop_last = counts, drop_last
        self._records = _check_numbers(records, len(source), source.name)
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
        batch = self._batch(self._order()[first : first + self.batch_size])
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

    def _batch(self, records: np.ndarray) -> Binned:
        xs = np.zeros((self.steps, len(records), self.units), np.uint8)
        flat = xs.reshape(-1)
        for column, index in enumerate(records):
            times, units = self._source.read(int(index))
            step = np.floor((times.astype(np.float64) - self._start) / self._dt + _EDGE).astype(np.int64)
            inside = (step >= 0) & (step < self.steps)
            unit = units[inside].astype(np.int64) * self.units // self._n_units
            at = (step[inside] * len(records) + column) * self.units + unit
            if self._counts:
                at, number = np.unique(at, return_counts=True)
                flat[at] = np.minimum(number, 255)
            else:
                flat[at] = 1
        return Binned(xs, self._source.labels[records], np.asarray(records))


def check_record(record: Record, n_units: int | None, name: str) -> Record:
    """Return the record; a RecordError that names it if it is malformed."""
    times, units = np.asarray(record.times), np.asarray(record.units)
    if times.ndim != 1 or times.shape != units.shape:
        raise RecordError(
            f"{name} has times of shape {times.shape} and units of shape {units.shape}: give one unit for each time."
        )
    if not np.issubdtype(units.dtype, np.integer) and len(units):
        raise RecordError(f"{name} has units of type {units.dtype}: a unit is a whole number from 0 on.")
    if not np.issubdtype(times.dtype, np.number) and len(times):
        raise RecordError(f"{name} has times of type {times.dtype}: a time is a number of seconds.")
    for bad, fault, fix in (
        (~np.isfinite(times), "is not a finite number", "leave that spike out"),
        (times < 0, "is negative", "count time from the beginning of the record"),
        (np.diff(times, prepend=times[:1]) < 0, "comes after a later one", "sort the spikes of a record by time"),
    ):
        if bad.any():
            spike = int(np.argmax(bad))
            raise RecordError(f"{name}: the time of spike {spike}, {times[spike]} s, {fault}; {fix}.")
    limit = np.inf if n_units is None else n_units
    bad = (units < 0) | (units >= limit)
    if bad.any():
        spike = int(np.argmax(bad))
        last = "" if n_units is None else f" to {n_units - 1}"
        raise RecordError(f"{name}: spike {spike} is of unit {units[spike]}; units must be from 0{last}.")
    return Record(times, units)


def check_labels(labels, n_records: int, n_classes: int | None, name: str) -> np.ndarray:
    """Labels as int32; a RecordError that names the first record without a valid one."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise RecordError(f"the labels of {name!r} must be a list of whole numbers, got {labels.dtype} {labels.shape}.")
    if len(labels) < n_records:
        raise RecordError(
            f"record {len(labels)} of {name!r} has no label: there are {n_records} records but {len(labels)} labels; "
            "give one for each."
        )
    if len(labels) > n_records:
        raise RecordError(
            f"label {n_records} of {name!r} has no record: there are {n_records} records but {len(labels)} labels; "
            "give one for each."
        )
    bad = (labels < 0) | (labels >= (np.inf if n_classes is None else n_classes))
    if bad.any():
        index = int(np.argmax(bad))
        last = "" if n_classes is None else f" to {n_classes - 1}"
        raise RecordError(f"record {index} of {name!r} has label {labels[index]}; labels must be from 0{last}.")
    return labels.astype(np.int32)


def check_speakers(speakers, n_records: int, name: str) -> np.ndarray | None:
    """Speakers as int64, or None; a RecordError if they are not one whole number for each record."""
    if speakers is None:
        return None
    speakers = np.asarray(speakers)
    if speakers.shape != (n_records,) or not np.issubdtype(speakers.dtype, np.integer):
        first = f"record {len(speakers)} has no speaker" if speakers.ndim == 1 and len(speakers) < n_records else "got"
        raise RecordError(
            f"the speakers of {name!r} must be one whole number for each of the {n_records} records, {first} "
            f"({speakers.dtype} {speakers.shape})."
        )
    return speakers.astype(np.int64)


def seconds(name: str, value, *, zero: bool = False) -> float:
    """A positive (or zero) time in seconds; else a ValueError naming ``name``."""
    if not isinstance(value, u.Quantity) or not value.unit.has_same_dim(u.second):
        raise ValueError(f"`{name}` must be a quantity in units like ms, got {value!r}: write e.g. `1.0 * u.ms`.")
    number = float(value.to_decimal(u.second))
    if not np.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise ValueError(f"`{name}` must be a time {'from 0 on' if zero else 'above 0'}, got {value}.")
    return number


def _whole(name: str, value) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"`{name}` must be a whole number above 0, got {value!r}.")
    return int(value)


def _check_numbers(records, n: int, name: str) -> np.ndarray:
    records = np.asarray(records)
    if records.ndim != 1 or not len(records) or not np.issubdtype(records.dtype, np.integer):
        raise ValueError(f"`records` must be a list of one or more numbers of records, got {records!r}.")
    if records.min() < 0 or records.max() >= n:
        raise ValueError(f"`records` must be from 0 to {n - 1}, the records of {name!r}; got {records.max()}.")
    return records.astype(np.int64)
