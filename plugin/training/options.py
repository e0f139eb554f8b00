"""How to train: everything that decides on the result, and when to log, validate and save.

The metadata of a field is its option of the command line: see `etrax.cli.options`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

import brainunit as u
import numpy as np

from etrax.checks import check_array, check_flag, check_kind, check_seed, positive
from etrax.text import shown

__all__ = ["TrainOptions", "check_window", "title", "within"]

_CONSTRAINTS = "write e.g. `constraints={'*.comm.weight': etrax.Clamp(low=0 * u.mS)}`"
UPDATES = ("step", "chunk", "trial")
FREE = ("epochs", "max_batches", "log_every", "tensorboard", "checkpoint_every", "keep")  # may change on resuming


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of `etrax.train`.

    Attributes
    ----------
    update : {'trial', 'chunk', 'step'} or int
        When the weights change: after each batch of trials, each chunk of ``chunk_size`` steps, each step, or each ``k`` steps.
        States and traces go on in the middle of a trial.
    chunk_size : int, optional
        Steps evaluated in parallel; as many as fit the learner's ``memory`` if left out.
    reset : bool
        Whether each batch starts from rest. Without, states and traces go on from batch to batch: an endless stream.
    epochs : int
        Passes over the data.
    max_batches : int, optional
        Stop after so many batches; needed for streams that never end.
    batch_size, seed : int
        Handed to ``task.train`` and, the size, to ``task.validation``.
    learning_rate : float
        Of Adam, if `etrax.train` is given no optimizer.
    clip_norm : float, optional
        Largest norm of the gradient of all parameters together, each in the unit of its parameter's inverse.
    schedule_every : {'epoch', 'batch'}
        When the schedule of the learning rate takes a step; `ReduceLROnPlateau` takes one at each validation instead.
    decay_constants : bool
        Whether an optimizer's weight decay draws constants that learn (a threshold, a time constant) to zero too.
    rate_limit : Quantity
        Firing rate up to which there is no cost.
    rate_cost : float
        Weight of ``mean(max(0, rate / rate_limit - 1)^2)`` at every step beside the loss; its gradient takes the way of
        the loss, through the trace.
    loss_window : tuple of Quantity, optional
        ``(start, stop)`` of the time in a batch that the loss counts in, on top of the mask of the batch; in validation too.
    constraints : dict
        ``pattern -> function`` of a weight, applied at the start and after each update, e.g.
        ``{"*.comm.weight": etrax.Clamp(low=0 * u.mS)}``; see `etrax.training.constraints`.
    validate_every : int, optional
        Batches between validations; at the end of each epoch if left out.
    patience : int, optional
        Stop after so many validations in a row without a lower loss, and take the weights of the lowest one.
    min_delta : float
        By how much a validation loss must fall to count as lower.
    log_every : int
        Batches between rows of the log.
    tensorboard : bool
        Whether to write the log for TensorBoard too.
    checkpoint_every : int, optional
        Batches between checkpoints; at the end of each epoch if left out.
    keep : int
        Newest checkpoints to keep, beside the best.

    Raises
    ------
    ValueError
        If an option has a value that is not allowed.

    Examples
    --------
    >>> import etrax
    >>> etrax.TrainOptions(update=50, clip_norm=1.0).learning_rate
    0.001
    >>> etrax.TrainOptions(update="week")
    Traceback (most recent call last):
        ...
    ValueError: `update` must be one of step, chunk, trial, or a number of steps; got 'week'.
    """

    update: str | int = field(
        default="trial",
        metadata={
            "metavar": "WHEN",
            "help": "when weights change: trial, chunk, step, or a number of steps between updates",
        },
    )
    chunk_size: int | None = field(
        default=None,
        metadata={
            "metavar": "K",
            "help": "time steps evaluated in parallel; changes speed and memory, not the gradient",
            "unset": "as many as fit in memory",
        },
    )
    reset: bool = True
    epochs: int = field(default=1, metadata={"help": "passes over the training trials"})
    max_batches: int | None = field(default=None, metadata={"help": "stop after so many batches"})
    batch_size: int = field(default=32, metadata={"metavar": "B", "help": "trials in a batch"})
    seed: int = field(default=0, metadata={"help": "of weights, order of trials and spikes"})
    learning_rate: float = field(default=1e-3, metadata={"help": "at the start"})
    clip_norm: float | None = field(
        default=None, metadata={"help": "largest norm of the gradient of all weights (per mS)"}
    )
    schedule_every: str = "epoch"
    decay_constants: bool = False
    rate_limit: u.Quantity = field(
        default_factory=lambda: 100.0 * u.Hz,
        metadata={"unit": u.Hz, "help": "firing rate up to which there is no cost"},
    )
    rate_cost: float = field(default=0.0, metadata={"help": "weight of the cost of higher rates; 0 leaves it out"})
    loss_window: tuple[u.Quantity, u.Quantity] | None = field(
        default=None,
        metadata={
            "name": "window",
            "metavar": ("START", "STOP"),
            "unit": u.ms,
            "help": "time in a trial that the loss counts in",
        },
    )
    constraints: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    validate_every: int | None = field(
        default=None, metadata={"help": "batches between validations", "unset": "each epoch"}
    )
    patience: int | None = field(
        default=None,
        metadata={"help": "stop after N validations without a lower loss; keep the best weights"},
    )
    min_delta: float = field(
        default=0.0, metadata={"help": "by how much a validation loss must fall to count as lower"}
    )
    log_every: int = field(default=10, metadata={"help": "batches between rows of log.csv"})
    tensorboard: bool = field(default=False, metadata={"help": "write the log for TensorBoard too"})
    checkpoint_every: int | None = field(
        default=None, metadata={"help": "batches between checkpoints", "unset": "each epoch"}
    )
    keep: int = field(default=3, metadata={"help": "newest checkpoints to keep, beside the best"})

    def __post_init__(self):
        if isinstance(self.update, str):
            if self.update not in UPDATES:
                raise ValueError(
                    f"`update` must be one of {', '.join(UPDATES)}, or a number of steps; got {self.update!r}."
                )
        else:
            positive("update", self.update, whole=True)
        if self.update == "chunk" and self.chunk_size is None:
            raise ValueError(
                "`update='chunk'` needs a `chunk_size`: give a number of steps, or that number as `update`."
            )
        for name in ("epochs", "batch_size", "log_every", "keep"):
            positive(name, getattr(self, name), whole=True)
        for name in ("chunk_size", "max_batches", "validate_every", "patience", "checkpoint_every"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name), whole=True)
        positive("learning_rate", self.learning_rate)
        if self.clip_norm is not None:
            positive("clip_norm", self.clip_norm)
        if self.schedule_every not in ("epoch", "batch"):
            raise ValueError(f"`schedule_every` must be 'epoch' or 'batch', got {self.schedule_every!r}.")
        positive("rate_limit", self.rate_limit, unit=u.Hz)
        for name in ("rate_cost", "min_delta"):
            check_array(name, getattr(self, name), u.UNITLESS)
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` must be a number from 0 on, got {getattr(self, name)!r}.")
        for name in ("reset", "decay_constants", "tensorboard"):
            check_flag(name, getattr(self, name))
        check_kind("constraints", self.constraints, Mapping, "a dict", _CONSTRAINTS)
        for pattern, function in self.constraints.items():
            if isinstance(function, type) or not callable(function):
                raise TypeError(
                    f"`constraints` has {shown(function)} for {pattern!r}, which is no function: {_CONSTRAINTS}."
                )
        if self.loss_window is not None:
            check_window(self.loss_window)
        check_seed(self.seed)

    def window(self, n_steps: int, dt: u.Quantity) -> np.ndarray:
        """Which of the steps the loss window counts, shape ``(n_steps,)``; a ValueError if none."""
        inside = within(self.loss_window, n_steps, dt)
        if self.loss_window is not None and not inside.any():
            raise ValueError(
                f"`loss_window` is {self.loss_window[0]} to {self.loss_window[1]} but a batch lasts {n_steps * dt}: no step counts."
            )
        return inside

    def fixed(self) -> dict[str, str]:
        """The options that must stay as they are when a training is resumed, as text."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in FREE}
        given["constraints"] = {pattern: title(function) for pattern, function in self.constraints.items()}
        return {name: str(value) for name, value in given.items()}


def title(function: Callable) -> str:
    """A function as text that is the same in another process."""
    return (
        repr(function)
        if dataclasses.is_dataclass(function)
        else getattr(function, "__qualname__", type(function).__name__)
    )


def within(window: tuple[u.Quantity, u.Quantity] | None, n_steps: int, dt: u.Quantity) -> np.ndarray:
    """Which of the steps lie in a loss window, shape ``(n_steps,)``."""
    if window is None:
        return np.ones(n_steps, bool)
    start, stop = (round(float(t.to_decimal(u.ms) / dt.to_decimal(u.ms))) for t in window)
    return (np.arange(n_steps) >= start) & (np.arange(n_steps) < stop)


def check_window(window) -> None:
    """A ValueError unless ``window`` is two times, the first before the second."""
    try:
        start, stop = window
        good = start.unit.has_same_dim(u.ms) and stop.unit.has_same_dim(u.ms) and 0 * u.ms <= start < stop
    except (TypeError, ValueError, AttributeError):
        good = False
    if not good:
        raise ValueError(
            f"`loss_window` must be two times, the first before the second, e.g. `(50 * u.ms, 100 * u.ms)`; got {window!r}."
        )
