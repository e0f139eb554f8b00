"""Train the recurrent ALIF network of a recipe on a task, by one of several methods.

Examples
--------
>>> import brainstate, brainunit as u, etrax.experiment, etrax.tasks, etrax.training
>>> with brainstate.environ.context(dt=1.0 * u.ms):                          # doctest: +SKIP
...     task = etrax.tasks.get("digits")
...     run = etrax.experiment.fit(task, method="d_rtrl", seed=0)
...     print(etrax.training.evaluate(run.network, task.test(32)).accuracy)
0.969
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import brainstate
import braintools
import jax.numpy as jnp

from .baselines import BPTT
from .constraints import Dale
from .eprop import EProp
from .learner import D_RTRL, NoTrace, compile
from .logs import bar_of
from .network import RecurrentALIF, build
from .options import TrainOptions
from .tasks import Recipe, Task
from .tasks.base import seed_of
from .training import train

__all__ = [
    "METHODS",
    "OPTIMIZERS",
    "SCHEDULES",
    "WEIGHTS",
    "Method",
    "Run",
    "check_method",
    "dale",
    "fit",
    "options_of",
]

WEIGHTS = "projection.comm.weight"  # of inputs and neurons onto the neurons, in the network of `etrax.network`
OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "adabelief": "AdaBelief", "rmsprop": "RMSprop", "sgd": "SGD"}
SCHEDULES: dict[str, Callable[[float, int], Any]] = {
    "cosine": lambda rate, epochs: braintools.optim.CosineAnnealingLR(base_lr=rate, T_max=epochs, eta_min=rate / 20),
    "exponential": lambda rate, epochs: braintools.optim.ExponentialLR(base_lr=rate, gamma=0.05 ** (1 / epochs)),
    "constant": lambda rate, epochs: rate,
}


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to get gradients: a learner, its options, and which parameters it trains (paths that start with ``part``)."""

    title: str
    algorithm: Any
    part: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


METHODS: dict[str, Method] = {
    "d_rtrl": Method("D-RTRL", D_RTRL),
    "d_rtrl_depth": Method("D-RTRL through depth", D_RTRL, options={"through_depth": True}),
    "es_d_rtrl": Method("ES-D-RTRL", D_RTRL, options={"carry": "rank1"}),
    "eprop": Method("e-prop", EProp, options={"feedback": "symmetric"}),
    "eprop_random": Method("e-prop, random feedback", EProp, options={"feedback": "random"}),
    "eprop_adaptive": Method("e-prop, adaptive feedback", EProp, options={"feedback": "adaptive"}),
    "no_trace": Method("D = 0", NoTrace),
    "readout": Method("readout only", NoTrace, part="readout"),
    "bptt": Method("BPTT", BPTT),
}


@dataclasses.dataclass
class Run:
    """A finished training.

    Attributes
    ----------
    method : str
        Key of ``METHODS``.
    network : RecurrentALIF
        The trained network.
    learner : D_RTRL or BPTT
        What trained it.
    history : list of dict
        One row per epoch, the columns of ``metrics.csv``; a regression has none for the accuracy.
    seconds : float
        Wall time of the training, compilation and validation included.
    trace_bytes : int
        Bytes of eligibility traces carried from chunk to chunk: the same at every step, so also their peak.
    """

    task: Task
    recipe: Recipe
    method: str
    seed: int
    network: RecurrentALIF
    learner: Any
    history: list[dict[str, Any]]
    seconds: float
    trace_bytes: int


def fit(
    task: Task,
    recipe: Recipe | None = None,
    *,
    method: str = "d_rtrl",
    seed: int = 0,
    optimizer: str = "adam",
    schedule: str = "cosine",
    folder: str | os.PathLike | None = None,
    resume: bool = False,
    progress: Any = False,
    on_epoch: Callable[[list[dict[str, Any]]], None] | None = None,
    **changes: Any,
) -> Run:
    """Train a recurrent ALIF network on a task; the test trials are not touched.

    Each batch of trials starts from rest, with the gradient of the task's loss at the counted steps and of a cost of
    high firing rates at all steps (see `Recipe`). Feedback that adapts is trained and saved with the weights.

    Parameters
    ----------
    task : Task
        From `etrax.tasks.get`.
    recipe : Recipe, optional
        Network and training; the task's own if left out.
    method : str
        A key of ``METHODS``.
    seed : int
        Of initial weights, order of trials and training spikes.
    optimizer, schedule : str
        Keys of ``OPTIMIZERS`` and ``SCHEDULES``; a schedule takes a step at the end of each epoch.
    folder, resume, progress, on_epoch
        As in `etrax.train`.
    **changes
        Further fields of `TrainOptions`, e.g. ``chunk_size=50`` or ``update="chunk"``.

    Returns
    -------
    Run
        Network, history and cost.

    Raises
    ------
    ValueError
        If the method is unknown, a number is not positive, or the batch is larger than the training set.
    """
    recipe = task.recipe if recipe is None else recipe
    chosen = check_method(method)
    for name, given, known in (("optimizer", optimizer, OPTIMIZERS), ("schedule", schedule, SCHEDULES)):
        if given not in known:
            raise ValueError(f"`{name}` must be one of {', '.join(known)}; got {given!r}.")
    options = options_of(recipe, seed, **changes)
    task.updates(recipe.batch_size)
    network = build(task, recipe, seed=seed)
    for constraint in options.constraints.values():
        if isinstance(constraint, Dale):
            weight = network.projection.comm.weight
            weight.value = {"weight": constraint.flipped(weight.value["weight"])}
    example = jnp.zeros((recipe.batch_size, task.n_in), brainstate.environ.dftype())
    settings = dict(chosen.options)
    if chosen.algorithm is EProp:
        settings["feedback_seed"] = seed_of(seed, 1)  # other numbers than those of the weights
    learner = compile(network, chosen.algorithm, example, batch_size=recipe.batch_size, **settings)
    params = {path: s for path, s in learner.param_states.items() if chosen.part is None or path[0] == chosen.part}
    if chosen.part is not None:  # what is not trained needs no constraint
        options = dataclasses.replace(options, constraints={})

    def named(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
        kept = [{k: v for k, v in row.items() if not (task.regression and k.endswith("accuracy"))} for row in history]
        return [{"method": method, **row} for row in kept]

    rate = SCHEDULES[schedule](recipe.learning_rate, recipe.epochs)
    own = isinstance(progress, bool)
    bar = bar_of(task.updates(recipe.batch_size) * recipe.epochs, disable=not progress) if own else progress
    bar.set_description(chosen.title, refresh=False)
    result = train(
        learner,
        task,
        options,
        loss=task.loss,
        optimizer=getattr(braintools.optim, OPTIMIZERS[optimizer])(lr=rate),
        weights=params,
        folder=folder,
        resume=resume,
        progress=bar,
        on_epoch=on_epoch and (lambda history: on_epoch(named(history))),
    )
    if own:
        bar.close()
    trace_bytes = learner.report().trace_bytes if isinstance(learner, D_RTRL) else 0
    return Run(task, recipe, method, seed, network, learner, named(result.history), result.seconds, trace_bytes)


def options_of(recipe: Recipe, seed: int = 0, **changes: Any) -> TrainOptions:
    """The options of training that a recipe asks for, with some of them changed."""
    given = {
        name: getattr(recipe, name) for name in ("epochs", "batch_size", "learning_rate", "rate_limit", "rate_cost")
    }
    return TrainOptions(**{**given, "seed": seed, **changes})


def check_method(method: str) -> Method:
    """The method of that name; a ValueError lists the known ones."""
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}.")
    return METHODS[method]


def dale(n_in: int, n_rec: int, inhibitory: float) -> Dale:
    """Signs for the network of a recipe: inputs excite, and the last neurons, by share, inhibit."""
    if not 0.0 <= inhibitory <= 1.0:
        raise ValueError(f"`inhibitory` must be a share from 0 to 1, got {inhibitory!r}.")
    n_inhibitory = round(inhibitory * n_rec)
    return Dale([1] * (n_in + n_rec - n_inhibitory) + [-1] * n_inhibitory)
