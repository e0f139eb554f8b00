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
