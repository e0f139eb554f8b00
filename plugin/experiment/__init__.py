"""Train the recurrent ALIF network of a recipe on a task, by one of several methods."""

from .fitting import Run, fit
from .methods import METHODS, Method, check_method
from .settings import OPTIMIZERS, SCHEDULES, WEIGHTS, check_choices, dale, training_options

__all__ = [
    "METHODS",
    "OPTIMIZERS",
    "SCHEDULES",
    "WEIGHTS",
    "Method",
    "Run",
    "check_choices",
    "check_method",
    "dale",
    "fit",
    "training_options",
]
