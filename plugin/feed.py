"""Batches in order, from tasks and streams."""

from __future__ import annotations

from typing import Any

import brainstate
import jax.numpy as jnp
import numpy as np

from .options import TrainOptions

__all__ = ["Feed", "fields"]


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
        if not (hasattr(data, "train") or callable(data) or hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
            raise TypeError(f"`task` must be a task, a function or an iterable of batches, got {type(data).__name__}.")
        self._data, self._options = data, options
        self._iterator: Any = None

    def start(self, epoch: int, batch: int = 0, state: Any = None) -> None:
        """Go to a batch of an epoch."""
        if hasattr(self._data, "train"):
            batches = self._data.train(self._options.batch_size, seed=self._options.seed, epoch=epoch)
        else:
            batches = self._data(epoch) if callable(self._data) else self._data
        self._iterator = iter(batches)
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
        return next(self._iterator, None)

    def state(self) -> Any:
        """The iterator's own account of where it is, if it keeps one."""
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


def fields(batch) -> tuple[Any, Any, np.ndarray]:
    """Inputs, targets and mask of a batch.

    Parameters
    ----------
    batch : tuple
        ``(xs, ys)``, ``(xs, ys, mask)``, or a tuple with the names ``xs`` and ``labels`` such as a data set of records gives.
        ``xs`` is ``(T, B, ...)``, ``ys`` ``(T, B, ...)``, or ``(B,)`` for one target throughout, the mask ``(T,)`` or ``(T, B)``.

    Raises
    ------
    ValueError
        If it is something else, or the mask holds what is no weight.
    """
    if hasattr(batch, "xs") and hasattr(batch, "labels"):
        batch = (batch.xs, batch.labels)
    if len(batch) not in (2, 3):
        raise ValueError(f"a batch must be (xs, ys) or (xs, ys, mask), time-major; got {len(batch)} parts.")
    xs, ys, mask = (*batch, None)[:3]
    if np.ndim(xs) < 2 or np.ndim(ys) < 1:
        raise ValueError(
            f"`xs` of a batch must be of shape (T, B, ...), `ys` (T, B, ...) or (B,), got {np.shape(xs)}, {np.shape(ys)}."
        )
    T, B = np.shape(xs)[:2]
    xs = jnp.asarray(xs)
    if not jnp.issubdtype(xs.dtype, jnp.inexact):  # spikes as integers, which take less room on their way here
        xs = xs.astype(brainstate.environ.dftype())
    if np.ndim(ys) == 1:
        ys = np.broadcast_to(np.asarray(ys), (T, *np.shape(ys)))
    mask = np.ones(T, np.float32) if mask is None else np.asarray(mask)
    if np.shape(ys)[:2] != (T, B) or mask.shape not in ((T,), (T, B)):
        raise ValueError(
            f"`xs` of a batch has {T} steps of {B} trials, but `ys` has shape {np.shape(ys)} and the mask {mask.shape}: they must agree."
        )
    if not (np.all(np.isfinite(mask)) and np.all(mask >= 0)):
        raise ValueError(
            f"the mask of a batch goes from {mask.min()} to {mask.max()}: give finite weights from 0 on, or leave it out."
        )
    return xs, ys, mask
