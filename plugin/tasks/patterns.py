"""Pattern generation from spike trains, a regression.

Some outputs are to follow fixed curves, output ``k``

    y_k(t) = c_k sum_f a_kf sin(2 pi f t / T + p_kf),      f = 1, 2, 3, 5,   c_k such that  max |y_k| = 1,

with amplitudes ``a_kf`` from [0.5, 2], phases ``p_kf`` from [0, 2 pi] and ``T`` the length of the trial: 1, 2, 3 and 5 Hz for
one of 1 s. The input tells the time: in each fifth of the trial another group of four neurons fires at ``max_rate``,
the others at 2 Hz. After the pattern generation of Bellec et al. 2020 (Nature Communications 11:3625, supplement) and
Nicola and Clopath 2017 (Nature Communications 8:2208).
"""

from __future__ import annotations

import brainunit as u
import numpy as np

from etrax.checks import positive, whole_number
from etrax.data.batch import Batch

from .base import Task, bernoulli, drawn, duration_steps
from .recipe import Recipe

__all__ = ["make"]

_GROUPS, _GROUP = 5, 4
_BACKGROUND = 2.0  # Hz
_CYCLES = np.array([1, 2, 3, 5])


def make(
    *,
    duration: u.Quantity = 1000.0 * u.ms,
    n_patterns: int = 3,
    pattern_seed: int = 0,
    max_rate: u.Quantity = 100.0 * u.Hz,
) -> Task:
    """Pattern generation: follow sums of sinusoids.

    Spikes are new in each trial of training; those of validation and test are fixed. The curves are the same in all.

    Parameters
    ----------
    duration : Quantity
        Length of a trial.
    n_patterns : int
        Number of outputs.
    pattern_seed : int
        Of amplitudes and phases.
    max_rate : Quantity
        Firing rate of the group whose time it is.

    Raises
    ------
    ValueError
        If an option is not positive or has the wrong unit, if the trial has fewer steps than groups, if the rate asks
        for more than a spike per step, or if ``dt`` is not set.
    """
    n_steps = duration_steps("duration", duration)
    n_patterns = whole_number("n_patterns", n_patterns)
    if n_steps < _GROUPS:
        raise ValueError(f"`duration` is {duration}, which is {n_steps} steps: make it {_GROUPS} or more.")
    rate = float(positive("max_rate", max_rate, unit=u.Hz).to_decimal(u.Hz))
    rng = np.random.default_rng(pattern_seed)
    amplitude, phase = rng.uniform(0.5, 2.0, (n_patterns, 4)), rng.uniform(0.0, 2 * np.pi, (n_patterns, 4))
    angle = 2 * np.pi * np.arange(n_steps)[:, None, None] / n_steps * _CYCLES + phase
    curves = np.sum(amplitude * np.sin(angle), axis=-1)
    curves = (curves / np.abs(curves).max(axis=0)).astype(np.float32)
    mask = np.ones(n_steps, np.float32)
    group = np.arange(n_steps) * _GROUPS // n_steps
    rates = np.where(group[:, None] == np.repeat(np.arange(_GROUPS), _GROUP), rate, min(_BACKGROUND, rate))

    def draw(n: int, seed: int) -> Batch:
        xs = bernoulli(np.repeat(rates[:, None], n, axis=1), np.random.default_rng(seed))
        return Batch(xs, np.broadcast_to(curves[:, None], (n_steps, n, n_patterns)), mask)

    draw(1, 0)  # whether the rate fits the step
    return Task(
        name="patterns",
        n_in=_GROUPS * _GROUP,
        classes=(),
        outputs=tuple(f"pattern {number}" for number in range(n_patterns)),
        n_steps=n_steps,
        recipe=Recipe(weight_scale=6.0 * u.mS, tau_out=20.0 * u.ms, epochs=20),
        **drawn(draw, n_train=512, n_validation=64, n_test=64),
    )
