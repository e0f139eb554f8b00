"""Store and recall as spike trains.

A bit is shown in each of some periods of 200 ms. In some of them a store cue comes with it; in the last one, without
a bit, the recall cue: which bit was shown with the last store cue? After Bellec et al. 2018 (Long short-term memory and
learning-to-learn in networks of spiking neurons, NeurIPS), with one recall, at the end of the trial. Four groups of
input neurons, for bit 0, bit 1, store and recall, fire at ``max_rate`` in their periods and at 2 Hz otherwise.
"""

from __future__ import annotations

import brainunit as u
import numpy as np

from etrax.checks import positive, whole_number
from etrax.data.batch import Batch

from .base import Task, bernoulli, drawn, duration_steps
from .recipe import Recipe

__all__ = ["make"]

_GROUP = 10  # input neurons of each of the four groups
_STORE = 1 / 3  # chance of a store cue
_BACKGROUND = 2.0  # Hz


def make(*, n_periods: int = 6, period: u.Quantity = 200.0 * u.ms, max_rate: u.Quantity = 100.0 * u.Hz) -> Task:
    """Store-recall: which bit came with the last store cue?

    Training trials are new in each epoch; those of validation and test are fixed.

    Parameters
    ----------
    n_periods : int
        Periods of a trial, the recall included; 2 or more.
    period : Quantity
        Length of a period.
    max_rate : Quantity
        Firing rate of a group in its periods.

    Raises
    ------
    ValueError
        If an option is not positive or has the wrong unit, if there is one period only, if the rate asks for more than
        a spike per step, or if ``dt`` is not set.
    """
    length = duration_steps("period", period)
    n_periods = whole_number("n_periods", n_periods)
    if n_periods < 2:
        raise ValueError(f"`n_periods` must be 2 or more, one to store and one to recall; got {n_periods}.")
    rate = float(positive("max_rate", max_rate, unit=u.Hz).to_decimal(u.Hz))
    n_steps = n_periods * length
    mask = (np.arange(n_steps) >= n_steps - length).astype(np.float32)

    def draw(n: int, seed: int) -> Batch:
        rng = np.random.default_rng(seed)
        shown = n_periods - 1
        bits, store = rng.integers(0, 2, (shown, n)), rng.random((shown, n)) < _STORE
        store[rng.integers(0, shown, n), np.arange(n)] = True
        last = shown - 1 - np.argmax(store[::-1], axis=0)
        rates = np.full((n_periods, n, 4), min(_BACKGROUND, rate))
        rates[:shown, :, 0] = np.where(bits == 0, rate, rates[:shown, :, 0])
        rates[:shown, :, 1] = np.where(bits == 1, rate, rates[:shown, :, 1])
        rates[:shown, :, 2] = np.where(store, rate, rates[:shown, :, 2])
        rates[shown, :, 3] = rate
        rates = np.repeat(np.repeat(rates, length, axis=0), _GROUP, axis=2)
        label = bits[last, np.arange(n)].astype(np.int32)
        return Batch(bernoulli(rates, rng), np.broadcast_to(label, (n_steps, n)), mask)

    draw(1, 0)  # whether the rate fits the step
    return Task(
        name="store_recall",
        n_in=4 * _GROUP,
        classes=("0", "1"),
        n_steps=n_steps,
        recipe=Recipe(tau_a=n_periods * period, weight_scale=10.0 * u.mS, epochs=20),
        **drawn(draw),
    )
