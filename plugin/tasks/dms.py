"""Delayed match-to-sample as spike trains.

A sample is shown, then nothing for the delay, then a second stimulus together with a go cue: is it the same
stimulus? The trials are those of ``braintools.cogtask.DelayMatchSample``; a channel of activity ``p`` in [0, 1]
fires as a Bernoulli process between a background rate and ``max_rate``. Only the response counts.
"""

from __future__ import annotations

import brainstate
import braintools
import brainunit as u
import jax.numpy as jnp
import numpy as np

from etrax.checks import positive
from etrax.data.batch import Batch

from .base import Epoch, Task, duration_steps, encoder, held_out, seed_of
from .recipe import Recipe

__all__ = ["make"]

_N_TRAIN, _N_VALIDATION, _N_TEST = 1024, 256, 512
_TRAINING, _VALIDATION, _TEST = 0, 1, 2  # streams of random numbers
_STIMULI, _COPIES = 8, 4  # directions, and input channels for each of them and for the cue
_FIXATION, _SAMPLE, _RESPONSE = 50.0 * u.ms, 200.0 * u.ms, 200.0 * u.ms
_REACTION = 50.0 * u.ms  # no answer is asked for so soon after the second stimulus has come
_BACKGROUND = 2.0 * u.Hz


def make(*, delay: u.Quantity = 500.0 * u.ms, max_rate: u.Quantity = 100.0 * u.Hz) -> Task:
    """Delayed match-to-sample: eight directions, half of the trials match.

    Training trials are new in each epoch; those of validation and test are fixed.

    Parameters
    ----------
    delay : Quantity
        Time between the sample and the second stimulus.
    max_rate : Quantity
        Firing rate of a channel at its preferred direction.

    Raises
    ------
    ValueError
        If an option is not positive or has the wrong unit, or ``dt`` is not set.
    """
    duration_steps("delay", delay)
    positive("max_rate", max_rate, unit=u.Hz)
    dt = brainstate.environ.get_dt()
    encode = encoder(_BACKGROUND, max_rate)
    tau_a = max(200.0, float(delay.to_decimal(u.ms))) * u.ms  # what is kept over the delay, adaptation keeps
    before = sum(duration_steps("phase", phase) for phase in (_FIXATION, _SAMPLE, delay))
    n_steps = before + duration_steps("phase", _RESPONSE)
    mask = (np.arange(n_steps) >= before + duration_steps("phase", _REACTION)).astype(np.float32)

    def trials(seed: int):
        return braintools.cogtask.DelayMatchSample(
            t_fixation=_FIXATION,
            t_sample=_SAMPLE,
            t_delay=delay,
            t_response=_RESPONSE,
            num_stimuli=_STIMULI,
            feature_per_direction=_COPIES,
            cue_dim=_COPIES,
            response_cue=[1.0] * _COPIES,
            seed=seed,
            dt=dt,
        )

    @brainstate.transform.jit
    def spikes(values, labels):
        return encode(values, n_time=1)[0], jnp.maximum(labels - 1, 0)  # cogtask: 0 hold, 1 match, 2 non-match

    def batch(source, first: int, n: int, seed: int) -> Batch:
        values, labels = source.batch_sample(n, start_index=first)
        with brainstate.environ.context(dt=dt), brainstate.random.seed_context(seed):
            xs, ys = spikes(values, labels)
            return Batch(xs, ys, mask)

    def train(batch_size: int, seed: int = 0, epoch: int = 0) -> Epoch:
        source = sources.setdefault(seed, trials(seed_of(_TRAINING, seed)))

        def draw(number: int) -> Batch:
            first = epoch * _N_TRAIN + number * batch_size
            return batch(source, first, batch_size, seed_of(_TRAINING, seed, epoch, number))

        return Epoch(draw, _N_TRAIN, batch_size)

    def fixed(n: int, seed: int):
        source = trials(seed_of(seed))
        return held_out(lambda number, at: batch(source, at.start, at.stop - at.start, seed_of(seed, number)), n)

    sources: dict[int, braintools.cogtask.Task] = {}
    return Task(
        name="dms",
        n_in=_COPIES * (_STIMULI + 1),
        classes=("match", "non-match"),
        n_steps=n_steps,
        n_train=_N_TRAIN,
        recipe=Recipe(tau_a=tau_a, beta=1.0 * u.mV, weight_scale=6.0 * u.mS, epochs=20),
        train=train,
        validation=fixed(_N_VALIDATION, _VALIDATION),
        test=fixed(_N_TEST, _TEST),
    )
