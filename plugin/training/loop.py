"""The loop of a training: batch after batch, with validation, log and checkpoints in between."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import brainstate
import numpy as np

from etrax.data.batch import fields
from etrax.storage import pack_states, unpack_states

from .checking import windowed
from .checkpoint import LAYOUT, Checkpoints, check_same, pack_random, unpack_random
from .evaluation import Evaluation
from .feed import Feed
from .logs import Log
from .optimizers import learning_rate, reduces_on_plateau
from .options import TrainOptions

__all__ = ["Loop", "Position"]


@dataclasses.dataclass
class Position:
    """How far a training has come; all of it goes into a checkpoint.

    Attributes
    ----------
    epoch, batch : int
        Where it is in the data.
    count : int
        Batches so far.
    totals : dict
        Sums over the batches of the epoch, each by its weight.
    weights : dict
        What to divide them by: counted steps of all trials, by their weights in the mask; answers; trials.
    history : list of dict
        A row for each epoch that has ended.
    validation : dict
        What the last validation gave.
    validated : int, optional
        Batches up to the last validation.
    best_loss, since_best
        The lowest validation loss, and validations since.
    seconds : float
        Wall time.
    stopped : str, optional
        Why it has ended.
    """

    epoch: int = 0
    batch: int = 0
    count: int = 0
    totals: dict[str, float] = dataclasses.field(default_factory=dict)
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    validation: dict[str, float] = dataclasses.field(default_factory=dict)
    validated: int | None = None
    best_loss: float | None = None
    since_best: int = 0
    seconds: float = 0.0
    stopped: str | None = None

    def row(self) -> dict[str, Any]:
        """Means over the epoch so far, the columns of the history; NaN where nothing counted."""
        means = {
            f"train_{k}": total / self.weights[k] if self.weights[k] else math.nan for k, total in self.totals.items()
        }
        return {"epoch": self.epoch + 1, **means, **self.validation, "seconds": self.seconds}


@dataclasses.dataclass
class Loop:
    """All parts of one training.

    Attributes
    ----------
    update : callable
        From `etrax.training.update.make_update`.
    measure : callable, optional
        ``() -> Evaluation``, the validation.
    states, params : dict
        All states by name, and the trained parameters among them.
    identity : dict
        What must be the same on resuming.
    begun_with : dict
        What may change on resuming, as it was at the start.
    """

    options: TrainOptions
    feed: Feed
    update: Callable
    measure: Callable[[], Evaluation] | None
    optimizer: Any
    states: dict[str, brainstate.State]
    params: dict[str, brainstate.State]
    identity: dict[str, str]
    begun_with: dict[str, Any]
    bar: Any
    on_epoch: Callable | None = None
    store: Checkpoints | None = None
    at: Position = dataclasses.field(default_factory=Position)
    best: dict[str, Any] | None = None
    log: Log | None = None
    interrupts: int = 0
    _began: float = dataclasses.field(default_factory=time.perf_counter)

    # -- in one piece --------------------------------------------------------------------

    def run(self, saved: dict[str, Any] | None = None) -> None:
        """Train to the end, from a checkpoint or from the start."""
        data = None
        if saved is not None:
            check_same(saved["identity"], self.identity)
            unpack_states(self.states, saved["states"])
            self.at, self.best, data = Position(**saved["position"]), saved["best"], saved["data"]
            self.begun_with = saved.get("begun_with", self.begun_with)
            self._began -= self.at.seconds
        with contextlib.ExitStack() as stack:
            if self.store is not None:
                size = None if saved is None else saved["log_size"]
                self.log = Log(self.store.folder, tensorboard=self.options.tensorboard, size=size)
                stack.callback(self.log.close)
            stack.enter_context(self._interrupts_later())
            stack.enter_context(brainstate.environ.context(fit=True))
            if self.at.stopped in ("epochs", "max_batches"):  # more of them may be asked for now
                self.at.stopped = None
            self.bar.update(self.at.count)
            self._check_end()
            if self.at.stopped is None:
                self.feed.start(self.at.epoch, self.at.batch, data)
            if saved is not None:
                unpack_random(saved["random"])
            elif self.store is not None:
                self.store.clear()  # not before: a wrong argument leaves the training that was there
                self.save()
            while self.at.stopped is None:
                self._next()
        self.at.seconds = time.perf_counter() - self._began
        if self.options.patience is not None and self.best is not None:
            unpack_states(self.params, self.best)

    def _next(self) -> None:
        """A batch or the end of an epoch, and what is due after it."""
        batch = self.feed.next()
        before = self.at.best_loss
        if batch is None:
            self._end_epoch()
        else:
            self._train_on(batch)
        self._check_end()
        every = self.options.checkpoint_every
        due = batch is None if every is None else batch is not None and self.at.count % every == 0
        better = self.at.best_loss != before
        if due or better or self.at.stopped or self.interrupts:
            self.save(best=better)
        if self.interrupts:
            raise KeyboardInterrupt(f"stopped after batch {self.at.count}, which is saved")

    # -- batches and epochs --------------------------------------------------------------

    def _train_on(self, batch: Any) -> None:
        options, at = self.options, self.at
        xs, ys, mask = fields(batch)
        measured = self.update(xs, ys, self.windowed(mask))
        fault = measured.pop("fault")
        measured = {k: float(v) for k, v in measured.items()}
        at.batch, at.count = at.batch + 1, at.count + 1
        if fault:
            raise FloatingPointError(self._failure(measured, fault))
        weights = (measured.pop("weight"), measured.pop("answers"), xs.shape[1])
        for key, weight in zip(("loss", "accuracy", "rate_hz"), weights, strict=True):
            at.weights[key] = at.weights.get(key, 0.0) + weight
            at.totals[key] = at.totals.get(key, 0.0) + (weight * measured[key] if weight else 0.0)
        if not weights[0]:
            measured["loss"] = math.nan
        row = {**measured, "learning_rate": learning_rate(self.optimizer)} if at.count % options.log_every == 0 else {}
        if options.schedule_every == "batch" and not reduces_on_plateau(self.optimizer):
            self.optimizer.lr.step()
        last = options.max_batches is not None and at.count >= options.max_batches
        if options.validate_every is None:
            due = last
        else:
            due = at.count % options.validate_every == 0
        if due:
            row.update(self.validate())
        self._write(row)
        self._show()

    def _end_epoch(self) -> None:
        at = self.at
        if at.batch == 0:
            if at.count == 0:
                raise ValueError("`task` gives no batch: check that it has trials for a full one, and is not used up.")
            at.stopped = "data"
            return
        if self.options.validate_every is None and at.validated != at.count:  # a training may have ended there before
            self._write(self.validate())
        at.seconds = time.perf_counter() - self._began
        at.history.append(at.row())
        if self.options.schedule_every == "epoch" and not reduces_on_plateau(self.optimizer):
            self.optimizer.lr.step()
        at.epoch, at.batch, at.totals, at.weights = at.epoch + 1, 0, {}, {}
        if self.on_epoch is not None:
            self.on_epoch(at.history)
        if at.epoch < self.options.epochs:
            self.feed.start(at.epoch)

    def _check_end(self) -> None:
        at, options = self.at, self.options
        if at.stopped is None and options.patience is not None and at.since_best >= options.patience:
            at.stopped = "patience"
        if at.stopped is None and at.epoch >= options.epochs:
            at.stopped = "epochs"
        if at.stopped is None and options.max_batches is not None and at.count >= options.max_batches:
            at.stopped = "max_batches"

    def windowed(self, mask):
        """A mask within the loss window; a ValueError if nothing is left of it. In a stream, parts may count nowhere."""
        window = self.options.loss_window
        self.options.window(len(mask), brainstate.environ.get_dt())  # an error if it does not meet the batch
        within = windowed(mask, window)
        if within.any() or not self.options.reset:
            return within
        if window is None or not mask.any():
            raise ValueError(
                "the mask of a batch is 0 at every step: no step counts, so nothing could be learnt from it."
            )
        steps = np.flatnonzero(mask.any(axis=tuple(range(1, mask.ndim))))
        dt = brainstate.environ.get_dt()
        raise ValueError(
            f"`loss_window` is {window[0]} to {window[1]}, but the mask of the batch counts from {steps[0] * dt} to "
            f"{(steps[-1] + 1) * dt} only: no step counts; choose a window that meets it."
        )

    # -- validation ----------------------------------------------------------------------

    def validate(self) -> dict[str, float]:
        """Measure without learning, if there is something to measure on; states and random numbers are put back."""
        if self.measure is None:
            return {}
        values, random = {name: state.value for name, state in self.states.items()}, pack_random()
        with brainstate.environ.context(fit=False):
            held_out = self.measure()
        for name, state in self.states.items():
            state.value = values[name]
        unpack_random(random)
        at = self.at
        at.validated = at.count
        at.validation = {
            "validation_loss": held_out.loss,
            "validation_accuracy": held_out.accuracy,
            "validation_rate_hz": held_out.rate,
        }
        if not held_out.loss < (float("inf") if at.best_loss is None else at.best_loss) - self.options.min_delta:
            at.since_best += 1
        else:
            at.best_loss, at.since_best = held_out.loss, 0
            self.best = pack_states(self.params)
        if reduces_on_plateau(self.optimizer):
            self.optimizer.lr.step(held_out.loss)
        return at.validation

    # -- what is written -----------------------------------------------------------------

    def save(self, *, best: bool = False) -> None:
        """Write a checkpoint."""
        if self.store is None or self.log is None:
            return
        self.at.seconds = time.perf_counter() - self._began
        content = {
            "layout": LAYOUT,
            "begun_with": self.begun_with,
            "identity": self.identity,
            "states": pack_states(self.states),
            "random": pack_random(),
            "position": dataclasses.asdict(self.at),
            "data": self.feed.state(),
            "best": self.best,
        }
        try:
            content["log_size"] = self.log.size()
            self.store.save(self.at.count, content, best=best)
        except OSError as error:
            raise self._unwritten("the checkpoint", error) from error

    def _write(self, row: dict[str, float]) -> None:
        if row and self.log is not None:
            known = {key: value for key, value in row.items() if value == value}  # an accuracy may be NaN
            try:
                self.log.write({"batch": self.at.count, "epoch": self.at.epoch + 1, **known})
            except OSError as error:
                raise self._unwritten("the log", error) from error

    def _show(self) -> None:
        row = self.at.row()
        accuracy = f"accuracy {row['train_accuracy']:.1%}, " if row["train_accuracy"] == row["train_accuracy"] else ""
        self.bar.set_postfix_str(
            f"loss {row['train_loss']:.3f}, {accuracy}{row['train_rate_hz']:.1f} Hz", refresh=False
        )
        self.bar.update()

    def _failure(self, measured: dict[str, float], fault: str) -> str:
        at, good = self.at, self._good()
        return (
            f"training failed at batch {at.count} (epoch {at.epoch + 1}, batch {at.batch} of it): {fault}; loss {measured['loss']:g}, "
            f"norm of the gradient {measured['gradient_norm']:g}; {good}. If the data are right, lower the learning rate or set "
            "`clip_norm`."
        )

    def _unwritten(self, what: str, error: OSError) -> OSError:
        assert self.store is not None
        told = OSError(
            f"{what} of batch {self.at.count} cannot be written to {str(self.store.folder)!r} ({error.strerror or error}); {self._good()}. "
            "Make room there, or bring the folder back, and go on with `resume=True`."
        )
        told.errno = error.errno
        return told

    def _good(self) -> str:
        last = self.store and self.store.last
        return f"the last good checkpoint is {str(last)!r}" if last and last.exists() else "there is no checkpoint"

    @contextlib.contextmanager
    def _interrupts_later(self) -> Iterator[None]:
        """Let a first Ctrl-C wait until the batch is done, so that it can be saved; a second one does not wait."""
        if self.store is None or threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number, frame):
            self.interrupts += 1
            signal.signal(signal.SIGINT, previous)

        previous = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)
