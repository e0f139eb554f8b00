"""The trial tasks of ``braintools.cogtask`` as spike trains.

A channel of activity ``v`` becomes ``copies`` input neurons that fire as Bernoulli processes of rate
``background + clip(v, 0, 1) (max_rate - background)``; with ``signed=True``, as many others do so for ``-v``.

What counts is the answer: the phases of class ``Response``, ``Recall``, ``Match`` or ``Comparison``, or the last phase
if there is none, from ``reaction`` after their beginning on. Where one answer is asked for in all trials, so that only
its time says something, every step counts. Trials of a length that is drawn end together, with silence before
them, so that the same steps count in all.
"""

from __future__ import annotations

import inspect
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.checks import positive, whole_number
from etrax.data.batch import Batch

from .base import Task, drawn, duration_steps, encoder
from .recipe import Recipe

__all__ = ["make", "names"]

_ct = braintools.cogtask
_ANSWERS = (_ct.Response, _ct.Recall, _ct.Match, _ct.Comparison)
_PROBE = 64  # trials from which is found what is asked for
_OURS = ("seed", "dt", "name")  # arguments of every task there that are set here


def names() -> list[str]:
    """The trial tasks of the installed braintools."""
    found = (name for name in _ct.__all__ if inspect.isclass(kind := getattr(_ct, name)) and issubclass(kind, _ct.Task))
    return sorted(name for name in found if name != "Task")


def make(
    source: Any,
    *,
    copies: int = 4,
    max_rate: u.Quantity = 100.0 * u.Hz,
    background: u.Quantity = 2.0 * u.Hz,
    reaction: u.Quantity = 50.0 * u.ms,
    signed: bool = False,
    **options: Any,
) -> Task:
    """A trial task of ``braintools.cogtask``.

    A classification, of label 0 (hold) and the labels of the answers; a regression where the task asks for a vector.
    Training trials are new in each epoch; those of validation and test are fixed.

    Parameters
    ----------
    source : str or braintools.cogtask.Task
        One of :func:`names`, or a task of one's own.
    copies : int
        Input neurons of each channel.
    max_rate, background : Quantity
        Firing rates of a channel of activity 1 and 0.
    reaction : Quantity
        Time after the beginning of an answer's phase in which it does not count yet; half of the phase at most.
    signed : bool
        Whether negative activity has input neurons of its own.
    **options
        Arguments of the class in braintools, e.g. ``t_delay=500 * u.ms``.

    Raises
    ------
    ValueError
        If there is no such task or option, or an option has a bad value, or ``dt`` is not set.
    """
    copies = whole_number("copies", copies)
    positive("max_rate", max_rate, unit=u.Hz)
    positive("background", background, unit=u.Hz)
    wait = duration_steps("reaction", reaction)
    dt = brainstate.environ.get_dt()
    trials = _make(source, options, dt)
    answers = _answers(trials)
    encode = encoder(background, max_rate)
    categorical = trials.output_mode == "categorical"

    def trial(key):
        values, target, info = trials.sample_trial(0, key=key)
        step = jnp.arange(len(values))
        counts = jnp.zeros(len(values), bool)
        end: Any = 0
        for name, start, stop in info["phase_history"]:
            end = jnp.maximum(end, stop)
            if name in answers:
                counts |= (step >= start + jnp.minimum(wait, (stop - start) // 2)) & (step < stop)
        late = len(values) - end
        return tuple(jnp.roll(array, late, axis=0) for array in (values, target, counts))

    @brainstate.transform.jit(static_argnums=1)
    def sample(seed, n: int):
        return jax.vmap(trial, out_axes=1)(jax.random.split(jax.random.key(seed), n))

    @brainstate.transform.jit
    def spikes(values):
        if signed:
            values = jnp.concatenate([values, -values], axis=-1)
        return encode(jnp.repeat(jnp.clip(values, 0.0, 1.0), copies, axis=-1), n_time=1)[0]

    with brainstate.environ.context(dt=dt):
        _, targets, counts = (np.asarray(array) for array in sample(np.uint32(0), _PROBE))
    counted = counts.all(axis=1)
    if not counted.any():
        raise ValueError(
            f"the answers of {trials.name!r} have no step in common in all trials: end with a fixed phase."
        )
    if categorical and len(np.unique(targets[counted])) == 1:
        counted = np.ones_like(counted)
    mask = counted.astype(np.float32)
    n_classes = max(int(targets.max()) + 1, trials.num_classes or 0) if categorical else 0

    def draw(n: int, seed: int) -> Batch:
        with brainstate.environ.context(dt=dt), brainstate.random.seed_context(seed):
            values, target, _ = sample(np.uint32(seed), n)
            return Batch(jnp.asarray(spikes(values), brainstate.environ.dftype()), target, mask)

    return Task(
        name=f"cogtask-{trials.name}",
        n_in=trials.num_inputs * copies * (2 if signed else 1),
        classes=("hold", *(f"answer {label}" for label in range(1, n_classes))) if categorical else (),
        outputs=() if categorical else tuple(f"output {number}" for number in range(trials.num_outputs)),
        stepwise=bool(categorical and (np.diff(targets[counted], axis=0) != 0).any()),
        n_steps=counted.size,
        recipe=Recipe(tau_a=500.0 * u.ms, beta=1.0 * u.mV, weight_scale=6.0 * u.mS, epochs=20),
        **drawn(draw),
    )


def _make(source: Any, options: dict[str, Any], dt: Any) -> Any:
    if isinstance(source, _ct.Task):
        if options:
            raise ValueError(f"{', '.join(options)}: a task that is made takes no options; give its name instead.")
        return source
    if source not in names():
        raise ValueError(f"`source` must be one of {', '.join(names())}; got {source!r}.")
    kind = getattr(_ct, source)
    known = [name for name in inspect.signature(kind).parameters if name not in ("kwargs", *_OURS)]
    for option in options:
        if option not in known:
            raise ValueError(
                f"task 'cogtask:{source}' has no option `{option}`; its options are copies, max_rate, background, "
                f"reaction, signed, {', '.join(known)}."
            )
    return kind(dt=dt, **options)


def _answers(trials: Any) -> set[str]:
    """Names of the phases that ask for an answer."""
    leaves: list[Any] = []

    def walk(phase):
        children = phase.children()
        for child in children:
            walk(child)
        if not children:
            leaves.append(phase)

    walk(trials.phases)
    return {leaf.name for leaf in leaves if isinstance(leaf, _ANSWERS)} or {leaves[-1].name}
