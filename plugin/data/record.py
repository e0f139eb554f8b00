"""One recording, and the checks that it passes."""

from __future__ import annotations

from typing import NamedTuple

import brainunit as u
import numpy as np

__all__ = [
    "AFTER",
    "Record",
    "RecordError",
    "check_labels",
    "check_numbers",
    "check_record",
    "check_speakers",
    "decoded",
    "seconds",
]

AFTER = 1e-6  # seconds from the last spike to the end of a record whose length is not stated


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


def decoded(name: bytes | str) -> str:
    """The name of a class; files of other programs may have it in Latin-1."""
    if not isinstance(name, bytes):
        return str(name)
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def seconds(name: str, value, *, zero: bool = False) -> float:
    """A positive (or zero) time in seconds; else a ValueError naming ``name``."""
    if not isinstance(value, u.Quantity) or not value.unit.has_same_dim(u.second):
        raise ValueError(f"`{name}` must be a quantity in units like ms, got {value!r}: write e.g. `1.0 * u.ms`.")
    number = float(value.to_decimal(u.second))
    if not np.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise ValueError(f"`{name}` must be a time {'from 0 on' if zero else 'above 0'}, got {value}.")
    return number


def check_numbers(records, n: int, name: str) -> np.ndarray:
    records = np.asarray(records)
    if records.ndim != 1 or not len(records) or not np.issubdtype(records.dtype, np.integer):
        raise ValueError(f"`records` must be a list of one or more numbers of records, got {records!r}.")
    if records.min() < 0 or records.max() >= n:
        raise ValueError(f"`records` must be from 0 to {n - 1}, the records of {name!r}; got {records.max()}.")
    return records.astype(np.int64)
