"""Event files in the HDF5 format of SHD and SSC.

Published with the Spiking Heidelberg Digits and Spiking Speech Commands (Cramer, Stradmann, Schemmel and Zenke 2022,
IEEE Trans. Neural Netw. Learn. Syst. 33:2744): record ``i`` has its spike times in seconds in ``spikes/times[i]``, the
units of these spikes in ``spikes/units[i]``, both of variable length, and its class in ``labels[i]``. Optional are
``extra/speaker``, a number for each record, and ``extra/keys``, the names of the classes. The files that `EventWriter`
writes carry the root attributes ``n_units`` and ``duration`` (seconds) beside.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import brainunit as u
import numpy as np

from etrax.checks import whole_number
from etrax.files import as_path

from .record import Record, RecordError, check_labels, check_speakers, decoded
from .recordings import Recordings

__all__ = ["EventFile", "h5py_or_error"]


def h5py_or_error():
    """The module h5py; a ModuleNotFoundError that says how to get it."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "event files are read and written with h5py, which is not installed: pip install 'etrax[data]'"
        ) from error
    return h5py


class EventFile(Recordings):
    """An event file, read from disk record by record.

    Opening reads labels and speakers and checks what the file says of itself; spikes are checked as they are read.
    Close it with :meth:`close`, or use it in a ``with`` block; a copy for another process (pickled) opens it anew. See `etrax.data.Recordings` for what it can do.

    Parameters
    ----------
    path : str or path
        The file.
    n_units : int, optional
        Input units, 700 in SHD and SSC; what the file states if left out, else one above the highest unit in it.

    Raises
    ------
    RecordError
        If it is not a complete HDF5 file, or lacks a part of the format, or its parts do not fit together.
    ModuleNotFoundError
        If h5py is not installed.

    Examples
    --------
    >>> import brainunit as u, etrax.data, tempfile
    >>> path = tempfile.mkdtemp() + "/two.h5"
    >>> n = etrax.data.write_events(path, [([1.0, 2.5] * u.ms, [0, 2], 0), ([0.5] * u.ms, [1], 1)], n_units=3)
    >>> with etrax.data.EventFile(path) as file:
    ...     batch = next(file.batches(2, dt=1.0 * u.ms, duration=4.0 * u.ms))
    >>> batch.xs.shape, batch.xs[:, 0].tolist(), batch.labels.tolist()
    ((4, 2, 3), [[0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]], [0, 1])
    """

    def __init__(self, path: str | os.PathLike, *, n_units: int | None = None):
        h5py = h5py_or_error()
        self.name = os.fspath(path)
        self._file = _open(h5py, as_path(path))
        try:
            self._check(h5py, n_units)
        except BaseException:
            self.close()
            raise

    def _check(self, h5py: Any, n_units: int | None) -> None:
        file = self._file
        for part in ("spikes/times", "spikes/units", "labels"):
            if not isinstance(file.get(part), h5py.Dataset):
                missing = "no record has a label" if part == "labels" else "no record has spikes"
                raise RecordError(
                    f"{self.name!r} lacks the data set {part!r}, so {missing}: write the file in the format of SHD, "
                    "e.g. with `etrax.data.write_events`."
                )
        self._times, self._units = file["spikes/times"], file["spikes/units"]
        for data in (self._times, self._units):
            content = h5py.check_vlen_dtype(data.dtype)
            if data.ndim != 1 or content is None or not np.issubdtype(content, np.number):
                raise RecordError(
                    f"{data.name[1:]!r} of {self.name!r} must hold one list of numbers for each record, got "
                    f"{data.dtype} {data.shape}: write it as data of variable length."
                )
        n = len(self._times)
        if len(self._units) != n:
            first = min(n, len(self._units))
            raise RecordError(
                f"record {first} of {self.name!r} is incomplete: there are times of {n} records and units of "
                f"{len(self._units)}; give both for each."
            )
        keys = file.get("extra/keys")
        if keys is not None and keys.shape != (keys.size,):
            raise RecordError(
                f"'extra/keys' of {self.name!r} must be a list, a name for each class; got shape {keys.shape}."
            )
        keys = None if keys is None else [decoded(key) for key in keys[()]]
        self.labels = check_labels(file["labels"][()], n, None if keys is None else len(keys), self.name)
        if not n:
            raise RecordError(f"{self.name!r} has no record: write at least one.")
        speakers = file.get("extra/speaker")
        self.speakers = check_speakers(None if speakers is None else speakers[()], n, self.name)
        self.classes = tuple(keys or map(str, range(int(self.labels.max()) + 1)))
        stated, length = self._stated("n_units"), self._stated("duration")
        known = n_units if n_units is not None or stated is None else int(stated)
        self.n_units = None if known is None else whole_number("n_units", known)
        self.duration = None if length is None else length * u.second

    def _stated(self, name: str) -> float | None:
        """What the file states of itself."""
        stated = self._file.attrs.get(name)
        try:
            number = None if stated is None else float(stated)
        except (TypeError, ValueError):
            number = 0.0
        if number is not None and not (
            np.isfinite(number) and number > 0 and (name == "duration" or number == int(number))
        ):
            kind = "a number of seconds" if name == "duration" else "a whole number"
            raise RecordError(
                f"the attribute `{name}` of {self.name!r} must be {kind} above 0, got {stated}: write the file again."
            )
        return number

    def _read(self, index: int) -> Record:
        if not self._file:
            raise RecordError(
                f"{self.name!r} is closed: read its records inside the `with` block, or before `close()`."
            )
        try:
            return Record(self._times[index], self._units[index])
        except (OSError, RuntimeError) as error:
            raise RecordError(
                f"record {index} of {self.name!r} cannot be read ({error}): the file is damaged; fetch or write it again."
            ) from error

    def close(self) -> None:
        """Close the file; batches of it cannot be read any more."""
        self._file.close()

    def __getstate__(self) -> dict[str, Any]:
        """What a process of its own needs; handles of HDF5 are of one process."""
        kept = {name: value for name, value in vars(self).items() if name not in ("_file", "_times", "_units")}
        return {**kept, "_path": os.path.abspath(self._file.filename if self._file else self.name)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        path = state.pop("_path")
        vars(self).update(state)
        self._file = _open(h5py_or_error(), Path(path))
        self._times, self._units = self._file["spikes/times"], self._file["spikes/units"]

    def __enter__(self) -> EventFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(h5py: Any, path: Path) -> Any:
    if not path.is_file():
        raise RecordError(f"`path` {str(path)!r} is not a file: give an event file in the format of SHD.")
    if not h5py.is_hdf5(path):
        raise RecordError(
            f"{str(path)!r} is not an HDF5 file: give one in the format of SHD (unpack it first if it is compressed)."
        )
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise RecordError(
            f"{str(path)!r} cannot be opened, so not even its first record can be read ({error}): if it is truncated, "
            "fetch or write it again."
        ) from error
