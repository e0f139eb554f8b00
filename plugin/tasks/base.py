"""What a task is made of, and the checks that all tasks share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax.numpy as jnp
import numpy as np

from etrax.checks import check_dt, check_seed, positive, whole_number
from etrax.data.batch import Batch

from .recipe import Recipe

__all__ = ["Epoch", "Task", "batches_of", "bernoulli", "drawn", "duration_steps", "encoder", "held_out", "seed_of"]

_BLOCK = 64
_TRAINING, _VALIDATION, _TEST = 0, 1, 2  # streams of random numbers


def _nothing_is_open() -> None:
    """Close the files of the task; this one has opened none."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A classification of spike trains, or a regression if it has no classes.

    Attributes
    ----------
    name : str
        As `etrax.tasks.get` knows it.
    n_in : int
        Input channels.
    classes : tuple of str
        What each label means; their number is ``n_out``.
    n_steps : int
        Time steps ``T`` of a trial.
    n_train : int
        Training trials of an epoch.
    recipe : Recipe
        Network and training that suit the task.
    train : callable
        ``train(batch_size, seed=0, epoch=0)`` iterates over the full batches of an epoch; the same three
        numbers give the same spikes. Trials that do not fill a batch are left out of that epoch. The iterator is an
        `Epoch`, whose position can be saved and restored.
    validation, test : callable
        ``validation(batch_size)`` iterates over the same trials and spikes at each call; the last batch may
        be smaller.
    outputs : tuple of str
        What each output of a regression means.
    stepwise : bool
        Whether the class asked for changes within the counted steps, so that each of them is an answer of its own.
    close : callable
        Closes the files that the task has opened; so does the end of a ``with`` block. Nothing can be read of them afterwards.
    dt : Quantity, optional
        The time step that its trials were made for.
    """

    name: str
    n_in: int
    classes: tuple[str, ...]
    n_steps: int
    n_train: int
    recipe: Recipe
    train: Callable[..., Iterator[Batch]]
    validation: Callable[[int], Iterator[Batch]]
    test: Callable[[int], Iterator[Batch]]
    outputs: tuple[str, ...] = ()
    stepwise: bool = False
    close: Callable[[], None] = _nothing_is_open
    dt: Any = None

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def regression(self) -> bool:
        """Whether values are asked for instead of classes."""
        return not self.classes

    @property
    def n_out(self) -> int:
        """Number of classes, or of outputs of a regression."""
        return len(self.classes or self.outputs)

    @property
    def loss(self) -> str:
        """The loss that suits the task: ``"cross_entropy"``, ``"stepwise_cross_entropy"``, or ``"mse"`` for a regression."""
        if self.regression:
            return "mse"
        return "stepwise_cross_entropy" if self.stepwise else "cross_entropy"

    def updates(self, batch_size: int) -> int:
        """Full batches in an epoch; a ValueError if there is none."""
        batch_size = whole_number("batch_size", batch_size)
        if batch_size > self.n_train:
            raise ValueError(
                f"`batch_size` is {batch_size} but task {self.name!r} has {self.n_train} training trials: make it smaller."
            )
        return self.n_train // batch_size


class Epoch:
    """The full batches of an epoch, in order.

    Parameters
    ----------
    make : callable
        ``make(number)`` gives a batch, the same each time.
    n, batch_size : int
        Trials of the epoch and of a batch.
    """

    def __init__(self, make: Callable[[int], Batch], n: int, batch_size: int):
        batch_size = whole_number("batch_size", batch_size)
        self._make, self._n, self._next = make, n // batch_size, 0

    def __iter__(self) -> Epoch:
        return self

    def __len__(self) -> int:
        """Batches of the epoch."""
        return self._n

    def __next__(self) -> Batch:
        if self._next >= self._n:
            raise StopIteration
        batch = self._make(self._next)
        self._next += 1
        return batch

    def state(self) -> dict[str, int]:
        """The position, for :meth:`restore`."""
        return {"next": self._next}

    def restore(self, state: dict[str, int]) -> None:
        """Go on from a position that :meth:`state` gave, without drawing the batches before it."""
        self._next = int(state["next"])


def encoder(min_rate: u.Quantity, max_rate: u.Quantity):
    """A braintools encoder of values in [0, 1] as Bernoulli spikes between two rates."""
    module = getattr(braintools, "spike", braintools)  # where the encoders live since braintools 0.4
    low, high = (float(rate.to_decimal(u.Hz)) for rate in (min_rate, max_rate))
    return module.RateEncoder(gain=high, min_rate=low, max_rate=high)


def batches_of(n: int, batch_size: int) -> Iterator[tuple[int, slice]]:
    """Number and extent of the batches of ``n`` trials, the last one perhaps smaller."""
    batch_size = whole_number("batch_size", batch_size)
    for number, start in enumerate(range(0, n, batch_size)):
        yield number, slice(start, min(start + batch_size, n))


def held_out(make: Callable[[int, slice], Batch], n: int) -> Callable[[int], Iterator[Batch]]:
    """Batches of ``n`` trials whose spikes do not depend on the batch size.

    ``make(number, extent)`` gives the trials of one block; blocks are made at first use and kept as bytes.
    """
    kept: list[Batch] = []

    def batches(batch_size: int) -> Iterator[Batch]:
        batch_size = whole_number("batch_size", batch_size)
        if not kept:
            blocks = [make(number, extent) for number, extent in batches_of(n, _BLOCK)]
            xs = np.concatenate([np.asarray(block.xs, np.int8) for block in blocks], axis=1)
            ys = np.concatenate([np.asarray(block.ys) for block in blocks], axis=1)
            kept.append(Batch(xs, ys, blocks[0].mask))
        xs, ys, mask = kept[0]
        for _, extent in batches_of(n, batch_size):
            yield Batch(jnp.asarray(xs[:, extent], brainstate.environ.dftype()), ys[:, extent], mask)

    return batches


def drawn(
    make: Callable[[int, int], Batch], *, n_train: int = 1024, n_validation: int = 256, n_test: int = 512
) -> dict[str, Any]:
    """The trials of a task that draws them: ``make(n, seed)`` gives ``n`` of them, the same for the same numbers.

    Training trials are new in each epoch; those of validation and test are fixed. Returns the arguments ``n_train``,
    ``train``, ``validation`` and ``test`` of `Task`.
    """

    def train(batch_size: int, seed: int = 0, epoch: int = 0) -> Epoch:
        batch_size = whole_number("batch_size", batch_size, most=n_train)
        for name, number in (("seed", seed), ("epoch", epoch)):
            check_seed(number, name)
        return Epoch(lambda number: make(batch_size, seed_of(_TRAINING, seed, epoch, number)), n_train, batch_size)

    def fixed(n: int, stream: int):
        return held_out(lambda number, at: make(at.stop - at.start, seed_of(stream, number)), n)

    return {
        "n_train": n_train,
        "train": train,
        "validation": fixed(n_validation, _VALIDATION),
        "test": fixed(n_test, _TEST),
    }


def bernoulli(rates: np.ndarray, rng: np.random.Generator):
    """Spikes of independent Bernoulli processes with the given rates in Hz, an array of any shape.

    Raises
    ------
    ValueError
        If a rate asks for more than one spike per step.
    """
    chance = rates * float(check_dt().to_decimal(u.second))
    if chance.max() > 1:
        raise ValueError(
            f"a firing rate of {rates.max():g} Hz asks for {chance.max():.2g} spikes per step of {check_dt()}: "
            "make the rate lower or `dt` shorter."
        )
    return jnp.asarray(rng.random(rates.shape, np.float32) < chance, brainstate.environ.dftype())


def seed_of(*numbers: int) -> int:
    """One seed from several numbers; other numbers give an unrelated one."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def duration_steps(name: str, duration) -> int:
    """A positive duration as a number of time steps.

    Raises
    ------
    ValueError
        If ``dt`` is not set or the duration is not a positive time.
    """
    positive(name, duration, unit=u.ms)
    dt = check_dt()
    steps = round(float(duration.to_decimal(u.ms) / dt.to_decimal(u.ms)))
    if steps < 1:
        raise ValueError(f"`{name}` is {duration} but one time step is {dt}: make it at least that long.")
    return steps
