"""Optimizers, schedules and options of training that an experiment may choose from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import braintools

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
    for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        if name in chosen and chosen[name] not in known:
            raise ValueError(f"`{name}` must be one of {', '.join(known)}; got {chosen[name]!r}.")


def training_options(recipe: Recipe, seed: int = 0, **changes: Any) -> TrainOptions:
    """The options of training that a recipe asks for, with some of them changed."""
    given = {
        name: getattr(recipe, name) for name in ("epochs", "batch_size", "learning_rate", "rate_limit", "rate_cost")
    }
    return TrainOptions(**{**given, "seed": seed, **changes})


def dale(n_in: int, n_rec: int, inhibitory: float) -> Dale:
    """Signs for the network of a recipe: inputs excite, and the last neurons, by share, inhibit."""
    if not 0.0 <= inhibitory <= 1.0:
        raise ValueError(f"`inhibitory` must be a share from 0 to 1, got {inhibitory!r}.")
    n_inhibitory = round(inhibitory * n_rec)
    return Dale([1] * (n_in + n_rec - n_inhibitory) + [-1] * n_inhibitory)
