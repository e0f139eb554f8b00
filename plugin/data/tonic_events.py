"""Event data sets of the package tonic, with the interface of event files.

A record of tonic is a structured array with the fields ``t`` (microseconds) and ``x``, ``y``, ``p`` as far as the sensor
has them; its sensor has ``(W, H, P)`` places. An event becomes a spike of unit ``(p * H + y) * W + x``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .record import Record, RecordError, check_labels, decoded
from .recordings import Recordings

__all__ = ["TonicEvents"]


class TonicEvents(Recordings):
    """A data set of tonic; see `etrax.data.Recordings` for what it can do.

    Parameters
    ----------
    dataset : str or tonic.Dataset
        Name of a class of ``tonic.datasets``, e.g. ``"SHD"``, or a data set that is open already.
    **options
        Arguments of that class, e.g. ``save_to="data", train=True``; it fetches what is not there.

    Raises
    ------
    ModuleNotFoundError
        If tonic is not installed.
    ValueError
        If tonic has no such data set.
    RecordError
        If it does not state the size of its sensor, or a label is negative.
    """

    def __init__(self, dataset: Any, **options: Any):
        if isinstance(dataset, str):
            dataset = _make(dataset, options)
        elif options:
            raise ValueError(f"{', '.join(options)}: an open data set takes no options; give its name to have it made.")
        self._dataset = dataset
        self.name = f"tonic {type(dataset).__name__}"
        size = getattr(dataset, "sensor_size", None)
        if size is None:
            raise RecordError(f"{self.name!r} has no `sensor_size`, so its units are unknown: set (W, H, P).")
        self._size = tuple(int(n) for n in size)
        self.n_units = int(np.prod(self._size))
        stated = getattr(dataset, "targets", None)
        known = () if stated is None else list(stated)
        targets = known if len(known) == len(dataset) else [dataset[i][1] for i in range(len(dataset))]
        targets = [decoded(target) if isinstance(target, bytes) else target for target in targets]
        names = sorted({str(target) for target in targets})
        whole = all(isinstance(target, int | np.integer) for target in targets)
        labels = targets if whole else [names.index(str(target)) for target in targets]
        classes = getattr(dataset, "classes", None)
        top = max(map(int, labels), default=-1)
        self.classes = tuple(map(str, range(top + 1))) if whole else tuple(names)
        if whole and classes is not None and len(classes) > top:
            self.classes = tuple(map(decoded, classes))
        self.labels = check_labels(np.asarray(labels, np.int64), len(dataset), len(self.classes), self.name)
        speakers = getattr(dataset, "speaker", None)
        self.speakers = None if speakers is None or len(speakers) != len(labels) else np.asarray(speakers)
        self.duration = None

    def _read(self, index: int) -> Record:
        events = np.asarray(self._dataset[index][0])
        fields = events.dtype.names or ()
        if "t" not in fields or "x" not in fields:
            raise RecordError(
                f"record {index} of {self.name!r} is no array of events with fields t and x: give the data set without "
                "a transform."
            )
        width, height, polarities = (*self._size, 1, 1)[:3]
        unit = np.zeros(len(events), np.int64)
        for field, n in (("p", polarities), ("y", height), ("x", width)):
            if n == 1 and field != "x":
                continue  # a field that cannot vary may be absent, or hold any constant
            place = events[field].astype(np.int64)
            if len(place) and (place.min() < 0 or place.max() >= n):
                wrong = place.min() if place.min() < 0 else place.max()
                raise RecordError(
                    f"record {index} of {self.name!r} has an event with {field} = {wrong}; its sensor has {n}, "
                    "numbered from 0 on: renumber them with a transform of the data set, a polarity of -1 as 0."
                )
            unit = unit * n + place
        return Record(events["t"].astype(np.float64) * 1e-6, unit)


def _make(name: str, options: dict[str, Any]) -> Any:
    try:
        import tonic
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "event data sets by name come from tonic, which is not installed: pip install 'etrax[events]'"
        ) from error
    kind = getattr(tonic.datasets, name, None)
    if not isinstance(kind, type):
        known = sorted(key for key, value in vars(tonic.datasets).items() if isinstance(value, type))
        raise ValueError(f"`dataset` must be one of {', '.join(known)}; got {name!r}.")
    return kind(**options)
