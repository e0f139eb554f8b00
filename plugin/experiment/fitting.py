"""Train the recurrent ALIF network of a recipe on a task, by one of several methods."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import jax.numpy as jnp

from etrax import learners
from etrax.checks import check_kind
from etrax.network.model import RecurrentALIF, build
from etrax.tasks import Recipe, Task
from etrax.tasks.base import seed_of
from etrax.training.constraints import Dale
from etrax.training.folder import epochs_at_first
from etrax.training.logs import bar_of
from etrax.training.options import TrainOptions
from etrax.training.trainer import train

from .methods import check_method
from .settings import OPTIMIZERS, SCHEDULES, check_choices, training_options

__all__ = ["Run", "fit"]


@dataclasses.dataclass
class Run:
    """A finished training.

    Attributes
    ----------
    method : str
        Key of ``METHODS``.
    options : TrainOptions
        How it was trained; a test takes ``loss_window`` from them.
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
    options: TrainOptions
    network: RecurrentALIF
    learner: Any
    history: list[dict[str, Any]]
    seconds: float
    trace_bytes: int


def fit(  # noqa: PLR0913 - keyword arguments that the docstring explains one by one
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
        Keys of ``OPTIMIZERS`` and ``SCHEDULES``; a schedule takes a step at the end of each epoch. When a training is
        resumed with more epochs, it goes on as it was made for those at first: the cosine stays at its lowest rate.
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

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> task = etrax.tasks.get("patterns", duration=50.0 * u.ms)
    >>> recipe = etrax.tasks.Recipe(n_rec=6, batch_size=16, epochs=1)
    >>> run = etrax.experiment.fit(task, recipe, method="readout", seed=1, max_batches=2)
    >>> run.network.readout.weight.value.shape, run.trace_bytes > 0
    ((6, 3), True)
    """
    check_kind("task", task, Task, "an etrax.tasks.Task", "write e.g. `etrax.tasks.get('dms')`")
    recipe = task.recipe if recipe is None else recipe
    chosen = check_method(method)
    check_choices(optimizer=optimizer, schedule=schedule)
    options = training_options(recipe, seed, **changes)
    task.updates(recipe.batch_size)
    network = build(task, recipe, seed=seed)
    for constraint in options.constraints.values():
        if isinstance(constraint, Dale):
            weight = network.projection.comm.weight
            weight.value = {"weight": constraint.flipped(weight.value["weight"])}
    example = jnp.zeros((recipe.batch_size, task.n_in), brainstate.environ.dftype())
    settings = dict(chosen.options)
    if "feedback_seed" in learners.options_of(chosen.algorithm):
        settings["feedback_seed"] = seed_of(seed, 1)  # other numbers than those of the weights
    learner = learners.compile(network, chosen.algorithm, example, batch_size=recipe.batch_size, **settings)
    params = {path: s for path, s in learner.param_states.items() if chosen.part is None or path[0] == chosen.part}
    if chosen.part is not None:  # what is not trained needs no constraint
        options = dataclasses.replace(options, constraints={})

    def named(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
        kept = [{k: v for k, v in row.items() if not (task.regression and k.endswith("accuracy"))} for row in history]
        return [{"method": method, **row} for row in kept]

    epochs = epochs_at_first(folder, recipe.epochs) if resume and folder is not None else recipe.epochs
    rate = SCHEDULES[schedule](recipe.learning_rate, epochs)
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
    trace_bytes = learner.report().trace_bytes
    return Run(
        task, recipe, method, seed, options, network, learner, named(result.history), result.seconds, trace_bytes
    )
