"""Recordings of a file as a task: see `etrax.data`."""

from __future__ import annotations

import contextlib
from pathlib import Path

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from etrax.checks import check_dt
from etrax.data import Binned, EventFile, Rasters, RecordError, Recordings
from etrax.data.batch import Batch

from .base import Epoch, Task
from .recipe import Recipe

__all__ = ["make"]

_SPLIT = 0  # seed of the split: never the seed of a run


def make(  # noqa: PLR0913 - the options of a task, each with a default
    path: str,
    *,
    fraction: float = 0.2,
    start: u.Quantity | None = None,
    duration: u.Quantity | None = None,
    units: int | None = None,
    n_units: int | None = None,
    count_from: float = 0.5,
) -> Task:
    """Classification of the recordings of a file; read from disk batch by batch.

    Validation holds out whole speakers if the file names them, as does test if no file is given for it. The
    last part of a recording counts.

    Parameters
    ----------
    path : str
        An event file in the format of SHD, or rasters saved as ``.npz``; two, with a comma between, for training and test.
    fraction : float
        Share of the records for validation, and for test if there is no file for it.
    start, duration, units
        Time window and number of input units, as in `etrax.data.Recordings.batches`.
    n_units : int, optional
        Input units of the files, where they do not state it: the highest that fires may not be the last.
    count_from : float
        Part of the window after which the answer counts, from 0 to below 1.

    Raises
    ------
    ValueError
        If an option has a bad value, a file is malformed, the test file does not fit, or ``dt`` is not set.
    ModuleNotFoundError
        If h5py is needed and not installed.
    """
    dt = check_dt()
    if not 0 <= count_from < 1:
        raise ValueError(f"`count_from` must be from 0 to below 1, got {count_from!r}.")
    with contextlib.ExitStack() as opened:  # if something is wrong, the files are closed
        first, second = _files(path)
        source = _open(opened, first, n_units)
        if source.n_units is None or (duration is None and source.duration is None):
            source.scan()
        kept, validation = source.split(fraction, seed=_SPLIT)
        if second:
            tested = _open(opened, second, n_units, source)
            if duration is None and tested.duration is None:
                tested.scan()
            test = np.arange(len(tested))
        else:
            tested = source
            kept, test = source.split(min(0.5, fraction / (1 - fraction)), seed=_SPLIT, records=kept)
        longest = max(
            (source, tested), key=lambda of: 0.0 if of.duration is None else float(of.duration.to_decimal(u.second))
        )
        shape = longest.batches(1, dt=dt, start=start, duration=duration, units=units)
        window = {"dt": dt, "start": start, "duration": shape.steps * dt, "units": units}
        mask = (np.arange(shape.steps) >= int(count_from * shape.steps)).astype(np.float32)

        def trials(binned: Binned) -> Batch:
            xs = jnp.asarray(binned.xs, brainstate.environ.dftype())
            return Batch(xs, np.broadcast_to(binned.labels, xs.shape[:2]), mask)

        def train(batch_size: int, seed: int = 0, epoch: int = 0) -> Epoch:
            batches = source.batches(batch_size, records=kept, shuffle=True, seed=seed, drop_last=True, **window)
            batches.epoch = epoch

            def draw(number: int) -> Batch:
                batches.index = number
                return trials(next(batches))

            return Epoch(draw, len(kept), batch_size)

        def fixed(of: Recordings, records: np.ndarray):
            return lambda batch_size: map(trials, of.batches(batch_size, records=records, **window))

        return Task(
            name=f"data-{Path(first).stem}",
            n_in=shape.units,
            classes=source.classes,
            n_steps=shape.steps,
            n_train=len(kept),
            recipe=Recipe(),
            train=train,
            validation=fixed(source, validation),
            test=fixed(tested, test),
            close=opened.pop_all().close,
        )


def _files(path: str) -> tuple[str, str]:
    """The files for training and test, the second empty if there is none; the name of a file may have commas."""
    parts = path.split(",")
    divided = [tuple(",".join(part).strip() for part in (parts[:n], parts[n:])) for n in range(len(parts), 0, -1)]
    there = [
        (first, second) for first, second in divided if Path(first).is_file() and (not second or Path(second).is_file())
    ]
    return there[0] if there else (parts[0].strip(), ",".join(parts[1:]).strip())


def _open(opened: contextlib.ExitStack, path: str, n_units: int | None, like: Recordings | None = None) -> Recordings:
    source: Recordings
    if path.endswith(".npz"):
        source = Rasters.load(path)
        if n_units not in (None, source.n_units):
            raise ValueError(
                f"`n_units` is {n_units}, but the rasters in {path!r} have {source.n_units}: leave it out."
            )
    else:
        source = opened.enter_context(EventFile(path, n_units=n_units))
    if like is not None and source.n_units is None:
        source.n_units = like.n_units
    if like is not None and source.n_units != like.n_units:
        raise RecordError(
            f"{path!r} states {source.n_units} units, but {like.name!r} has {like.n_units}: give files alike."
        )
    if like is not None and source.labels.max() >= len(like.classes):
        record = int(np.argmax(source.labels >= len(like.classes)))
        raise RecordError(
            f"record {record} of {path!r} has label {source.labels[record]}, but {like.name!r} has "
            f"{len(like.classes)} classes: give files alike."
        )
    return source
