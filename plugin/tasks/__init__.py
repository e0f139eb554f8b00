"""Tasks to train on: spike trains, labels, and the steps that count.

A task is made by one function in a file of its own, listed in ``TASKS``; keyword arguments of the
function are the options of the task.

Examples
--------
>>> import brainstate, brainunit as u, etrax.tasks
>>> with brainstate.environ.context(dt=1.0 * u.ms):
...     task = etrax.tasks.get("dms", delay=200 * u.ms)
>>> task.n_in, task.n_out
(36, 2)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from . import digits, dms
from .base import Batch, Recipe, Task

__all__ = ["TASKS", "Batch", "Recipe", "Task", "get"]

TASKS: dict[str, Callable[..., Task]] = {"digits": digits.digits, "dms": dms.dms}


def get(name: str, **options) -> Task:
    """Make a task by name.

    Parameters
    ----------
    name : str
        A key of ``TASKS``.
    **options
        Keyword arguments of the task's function, e.g. ``delay=500 * u.ms`` for ``dms``.

    Returns
    -------
    Task
        The task, for the ``dt`` of the environment.

    Raises
    ------
    ValueError
        If the task or an option is unknown, if an option has a bad value, or if ``dt`` is not set.
    ModuleNotFoundError
        If a package is missing that the task takes its data from.
    """
    if name not in TASKS:
        raise ValueError(f"`task` must be one of {', '.join(TASKS)}; got {name!r}.")
    known = list(inspect.signature(TASKS[name]).parameters)
    for option in options:
        if option not in known:
            raise ValueError(f"task {name!r} has no option `{option}`; its options are {', '.join(known)}.")
    return TASKS[name](**options)
