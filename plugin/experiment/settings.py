"""Optimizers, schedules and options of training that an experiment may choose from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import braintools
import brainunit as u

from etrax.checks import check_array, check_kind, whole_number
from etrax.tasks import Recipe
from etrax.training.constraints import Dale
from etrax.training.options import TrainOptions

__all__ = ["OPTIMIZERS", "SCHEDULES", "WEIGHTS", "check_choices", "dale", "training_options"]

WEIGHTS = "projection.comm.weight"  # of inputs and neurons onto the neurons, in the network of `etrax.network`
OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "adabelief": "AdaBelief", "rmsprop": "RMSprop", "sgd": "SGD"}
SCHEDULES: dict[str, Callable[[float, int], Any]] = {
    "cosine": lambda rate, epochs: braintools.optim.CosineAnnealingLR(base_lr=rate, T_max=epochs, eta_min=rate / 20),
    "exponential": lambda rate, epochs: braintools.optim.ExponentialLR(base_lr=rate, gamma=0.05 ** (1 / epochs)),
    "constant": lambda rate, epochs: rate,
}


def check_choices(**chosen: str) -> None:
    """A ValueError that lists the known ones unless ``optimizer`` and ``schedule``, if given, are keys of the tables above."""
    tables: dict[str, dict[str, Any]] = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}
    for name in chosen:
        if name not in tables:
            raise TypeError(f"`{name}` is no choice to check: {' and '.join(f'`{table}`' for table in tables)} are.")
    for name, known in tables.items():
        if name in chosen and chosen[name] not in known:
            raise ValueError(f"`{name}` must be one of {', '.join(known)}; got {chosen[name]!r}.")


def training_options(recipe: Recipe, seed: int = 0, **changes: Any) -> TrainOptions:
    """The options of training that a recipe asks for, with some of them changed."""
    check_kind("recipe", recipe, Recipe, "an etrax.tasks.Recipe", "write e.g. `etrax.tasks.Recipe(n_rec=100)`")
    given = {
        name: getattr(recipe, name) for name in ("epochs", "batch_size", "learning_rate", "rate_limit", "rate_cost")
    }
    return TrainOptions(**{**given, "seed": seed, **changes})


def dale(n_in: int, n_rec: int, inhibitory: float) -> Dale:
    """Signs for the network of a recipe: inputs excite, and the last neurons, by share, inhibit."""
    n_in, n_rec = whole_number("n_in", n_in), whole_number("n_rec", n_rec)
    check_array("inhibitory", inhibitory, u.UNITLESS, example="0.2")
    if not 0.0 <= inhibitory <= 1.0:
        raise ValueError(f"`inhibitory` must be a share from 0 to 1, got {inhibitory!r}.")
    n_inhibitory = round(inhibitory * n_rec)
    return Dale([1] * (n_in + n_rec - n_inhibitory) + [-1] * n_inhibitory)
