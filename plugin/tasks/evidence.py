"""Evidence accumulation as spike trains.

Seven cues come one after the other, each from the left or from the right, then nothing for a delay, then a recall cue:
on which side were there more? The task is that of Bellec et al. 2020 (Nature Communications 11:3625, Fig. 4), after the
experiment of Morcos and Harvey 2016. Four groups of ten input neurons: left and right fire at 40 Hz during the cues
of their side, the third at 40 Hz during the recall, the fourth at 10 Hz all the time. A cue lasts 100 ms and is
followed by a pause of 50 ms; a trial draws with equal chances whether its cues come from the left with probability 0.3
or 0.7. The answer counts in the recall, the last 150 ms.

The paper draws the delay between cues and recall from 500 to 1500 ms; the code published with it has one of 1050 ms,
which makes trials of ``7 * 150 + 1050 + 150 = 2250`` steps of 1 ms. That is the default here; ``delay_spread`` draws
it. Trials are then as long as the longest, and a shorter delay is made up for before the first cue, so that the recall
comes at the same steps in all.
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
_CUE, _PAUSE, _RECALL = 100.0 * u.ms, 50.0 * u.ms, 150.0 * u.ms
_BACKGROUND = 0.25  # of the firing rate of a cue
_BIAS = 0.3


def make(
    *,
    delay: u.Quantity = 1050.0 * u.ms,
    delay_spread: u.Quantity | None = None,
    n_cues: int = 7,
    max_rate: u.Quantity = 40.0 * u.Hz,
) -> Task:
    """Evidence accumulation: were there more cues from the left or from the right?

    Training trials are new in each epoch; those of validation and test are fixed.

    Parameters
    ----------
    delay : Quantity
        Time between the pause after the last cue and the recall.
    delay_spread : Quantity, optional
        Draw the delay of each trial from ``delay - delay_spread`` to ``delay + delay_spread``; for 500 to 1500 ms
        ``delay=1000 * u.ms, delay_spread=500 * u.ms``.
    n_cues : int
        Cues of a trial, an odd number.
    max_rate : Quantity
        Firing rate during a cue.

    Raises
    ------
    ValueError
        If an option is not positive or has the wrong unit, if ``n_cues`` is even or the spread not shorter than the
        delay, if the rate asks for more than a spike per step, or if ``dt`` is not set.
    """
    wait = duration_steps("delay", delay)
    spread = 0 if delay_spread is None else duration_steps("delay_spread", delay_spread)
    if spread >= wait:
        raise ValueError(f"`delay_spread` is {delay_spread} but `delay` {delay}: make the spread shorter.")
    n_cues = whole_number("n_cues", n_cues)
    if n_cues % 2 == 0:
        raise ValueError(f"`n_cues` must be odd, so that one side has more; got {n_cues}.")
    rate = float(positive("max_rate", max_rate, unit=u.Hz).to_decimal(u.Hz))
    cue, pause, recall = (duration_steps("phase", phase) for phase in (_CUE, _PAUSE, _RECALL))
    cues = n_cues * (cue + pause)
    n_steps = cues + wait + spread + recall
    mask = (np.arange(n_steps) >= n_steps - recall).astype(np.float32)

    def draw(n: int, seed: int) -> Batch:
        rng = np.random.default_rng(seed)
        right = rng.random((n_cues, n)) < np.where(rng.random(n) < 0.5, _BIAS, 1 - _BIAS)
        begin = n_steps - recall - cues - (wait + rng.integers(-spread, spread + 1, n))
        rates = np.zeros((n_steps, n, 4))
        trial = np.arange(n)
        for number in range(n_cues):
            for step in range(cue):
                rates[begin + number * (cue + pause) + step, trial, right[number].astype(int)] = rate
        rates[n_steps - recall :, :, 2] = rate
        rates[:, :, 3] = _BACKGROUND * rate
        label = (2 * right.sum(0) > n_cues).astype(np.int32)
        return Batch(bernoulli(np.repeat(rates, _GROUP, axis=2), rng), np.broadcast_to(label, (n_steps, n)), mask)

    draw(1, 0)  # whether the rate fits the step
    return Task(
        name="evidence",
        n_in=4 * _GROUP,
        classes=("left", "right"),
        n_steps=n_steps,
        recipe=Recipe(
            tau_a=2000.0 * u.ms,
            weight_scale=6.0 * u.mS,
            beta=0.1 * u.mV,
            tau_out=20.0 * u.ms,
            batch_size=64,
            learning_rate=5e-3,
            epochs=20,
        ),
        **drawn(draw),
    )
