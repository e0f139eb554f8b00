"""Batches in order, from tasks and streams."""

from __future__ import annotations

from typing import Any

import brainunit as u

from etrax.checks import check_callable, check_dt
from etrax.data.batch import fields
from etrax.text import shown

from .options import TrainOptions

__all__ = ["Feed"]

_ROUNDING = 1e-6  # of a step


class Feed:
    """Batches in order, with a position that can be saved.

    Parameters
    ----------
    data : Task, callable or iterable
        A task gives ``train(batch_size, seed=, epoch=)``; a callable gets the number of the epoch and returns an iterable;
        an iterable is gone through once per epoch. An iterator with ``state()`` and ``restore(state)`` (nested dicts
        and lists of numbers, texts and arrays) goes on from there; of any other, the batches that were used are drawn
        again and dropped, so it must give the same ones again.
    options : TrainOptions
        Batch size and seed.

    Raises
    ------
    TypeError
        If the data is something else.
    """

    def __init__(self, data: Any, options: TrainOptions):
        if isinstance(data, str):
            raise TypeError(f"`task` is the name {data!r}: give the task, `etrax.tasks.get({data!r})`.")
        if hasattr(data, "shape") or isinstance(data, dict):
            raise TypeError(
                f"`task` is {shown(data)}, not batches of data: give e.g. `[(xs, ys)]`, one pair for each batch."
            )
        if not (hasattr(data, "train") or callable(data) or hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
            raise TypeError(f"`task` must be a task, a function or an iterable of batches, got {shown(data)}.")
        if callable(data) and not hasattr(data, "train"):
            check_callable("task", data, "def batches(epoch): ...", (0,))
        dt = getattr(data, "dt", None)
        if dt is not None and u.math.get_mantissa(abs(dt - check_dt()) / dt) > _ROUNDING:
            raise ValueError(
                f"`task` was made for steps of {dt}, but `dt` is {check_dt()} now: make it anew, or use its `dt`."
            )
        self._data, self._options = data, options
        self._iterator: Any = None
        self._ended = False

    def start(self, epoch: int, batch: int = 0, state: Any = None) -> None:
        """Go to a batch of an epoch."""
        if hasattr(self._data, "train"):
            batches = self._data.train(self._options.batch_size, seed=self._options.seed, epoch=epoch)
        else:
            batches = self._data(epoch) if callable(self._data) else self._data
        if not hasattr(batches, "__iter__") and not hasattr(batches, "__getitem__"):
            raise TypeError(
                f"`task` gave {shown(batches)} for epoch {epoch}: a function of the epoch must return batches, or yield them."
            )
        self._iterator, self._ended = iter(batches), False
        if state is not None and hasattr(self._iterator, "restore"):
            self._iterator.restore(state)
        else:
            for _ in range(batch):
                next(self._iterator, None)

    def peek(self) -> Any:
        """Inputs of the first batch, which is given again."""
        self.start(0)
        first = self._iterator.state() if self._restores() else None
        batch = self.next()
        if batch is None:
            raise ValueError("`task` gives no batch: check that it has trials for a full one, and is not used up.")
        if first is not None:
            self._iterator.restore(first)
        elif self._iterator is self._data:
            raise ValueError(
                "`task` is an iterator that cannot go back, and `learner` is not compiled: compile it with `etrax.compile(model, "
                "etrax.D_RTRL, xs[0], batch_size=...)`, or give a function that makes the iterator."
            )
        return fields(batch)[0]

    def next(self) -> Any | None:
        """The next batch; None at the end of the epoch."""
        batch = next(self._iterator, None)
        self._ended = batch is None
        return batch

    def state(self) -> Any:
        """The iterator's own account of where it is, if it keeps one and the next epoch does not begin with another."""
        if self._ended and self._iterator is not self._data:
            return None
        return self._iterator.state() if self._restores() else None

    def _restores(self) -> bool:
        return hasattr(self._iterator, "state") and hasattr(self._iterator, "restore")

    def total(self) -> int | None:
        """Batches of the whole training, as far as it can be told."""
        known = None
        if hasattr(self._data, "updates"):
            known = self._data.updates(self._options.batch_size)
        elif hasattr(self._data, "__len__"):
            known = len(self._data)
        total = None if known is None else known * self._options.epochs
        limits = [n for n in (total, self._options.max_batches) if n is not None]
        return min(limits) if limits else None
