"""Handwritten digits as spike trains.

1797 images of 8 x 8 pixels, written by 13 people (Alpaydin and Kaynak 1998, optical recognition of handwritten
digits, UCI repository; the part of it that comes with scikit-learn). A pixel of intensity ``p`` in [0, 1] fires as a Bernoulli
process of rate ``p * max_rate``; the decision is read in the second half of the trial.
"""

from __future__ import annotations

import brainstate
import brainunit as u
import numpy as np

from etrax.checks import positive
from etrax.data.batch import Batch

from .base import Epoch, Task, duration_steps, encoder, held_out, seed_of
from .recipe import Recipe

__all__ = ["make", "parts_of_digits"]

_SPLIT = 0  # seed of the one split: never the seed of a run
_TRAINING, _VALIDATION, _TEST = 0, 1, 2  # streams of random numbers


def make(*, duration: u.Quantity = 100.0 * u.ms, max_rate: u.Quantity = 200.0 * u.Hz) -> Task:
    """Handwritten digits: 60 % of the images for training, 20 % for validation, 20 % for test, stratified.

    Training spikes are drawn anew in each epoch; those of validation and test are fixed.

    Parameters
    ----------
    duration : Quantity
        Length of a trial.
    max_rate : Quantity
        Firing rate of a black pixel.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn is not installed.
    ValueError
        If an option is not positive or has the wrong unit, or ``dt`` is not set.
    """
    n_steps = duration_steps("duration", duration)
    positive("max_rate", max_rate, unit=u.Hz)
    parts = parts_of_digits()
    mask = (np.arange(n_steps) >= n_steps // 2).astype(np.float32)
    dt = brainstate.environ.get_dt()
    encode = brainstate.transform.jit(lambda images: encoder(0.0 * u.Hz, max_rate)(images, n_time=n_steps))

    def batch(part: str, index, seed: int) -> Batch:
        images, labels = parts[part]
        with brainstate.environ.context(dt=dt), brainstate.random.seed_context(seed):
            xs = encode(images[index])
        return Batch(xs, np.broadcast_to(labels[index], (n_steps, len(labels[index]))), mask)

    def train(batch_size: int, seed: int = 0, epoch: int = 0) -> Epoch:
        n = len(parts["train"][1])
        order = np.random.default_rng([seed, epoch]).permutation(n)

        def draw(number: int) -> Batch:
            extent = slice(number * batch_size, (number + 1) * batch_size)
            return batch("train", order[extent], seed_of(_TRAINING, seed, epoch, number))

        return Epoch(draw, n, batch_size)

    def fixed(part: str, seed: int):
        return held_out(lambda number, extent: batch(part, extent, seed_of(seed, number)), len(parts[part][1]))

    return Task(
        name="digits",
        n_in=64,
        classes=tuple("0123456789"),
        n_steps=n_steps,
        n_train=len(parts["train"][1]),
        recipe=Recipe(),
        train=train,
        validation=fixed("validation", _VALIDATION),
        test=fixed("test", _TEST),
    )


def parts_of_digits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images in [0, 1] of shape ``(n, 64)`` and labels of each part."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "task 'digits' takes its images from scikit-learn, which is not installed: pip install 'etrax[demo]'"
        ) from error
    images, labels = load_digits(return_X_y=True)
    images, labels = (images / 16.0).astype(np.float32), labels.astype(np.int32)
    x_train, x_rest, y_train, y_rest = train_test_split(
        images, labels, test_size=0.4, stratify=labels, random_state=_SPLIT
    )
    x_val, x_test, y_val, y_test = train_test_split(x_rest, y_rest, test_size=0.5, stratify=y_rest, random_state=_SPLIT)
    return {"train": (x_train, y_train), "validation": (x_val, y_val), "test": (x_test, y_test)}
