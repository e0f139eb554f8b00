"""Tasks to train on: spike trains, what is asked for, and the steps that count.

A task is made by the function ``make`` of a file of its own, listed in ``TASKS``; keyword arguments of the function are
the options of the task. ``FAMILIES`` make a task from what follows the colon of a name: ``cogtask:GoNoGo`` is a trial task
of ``braintools.cogtask``, ``data:FILE`` the recordings of a file.

Examples
--------
>>> import brainstate, brainunit as u, etrax.tasks
>>> with brainstate.environ.context(dt=1.0 * u.ms):
...     task = etrax.tasks.get("dms", delay=200 * u.ms)
>>> task.n_in, task.n_out
(36, 2)
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable

from etrax.checks import check_dt, check_kind
from etrax.data.batch import Batch

from .base import Task
from .recipe import Recipe

__all__ = ["FAMILIES", "NAMES", "TASKS", "Batch", "Recipe", "Task", "get"]

TASKS = ("digits", "dms", "evidence", "store_recall", "patterns")  # modules of this package with a function `make`
FAMILIES = {"cogtask": ("NAME", "cognitive"), "data": ("FILE", "recorded")}  # what they ask for, and their module
# what a name may be, for people
NAMES = ", ".join([*TASKS, *(f"{family}:{asks}" for family, (asks, _) in FAMILIES.items())])


def get(name: str, **options) -> Task:
    """Make a task by name.

    Parameters
    ----------
    name : str
        A key of ``TASKS``, or of ``FAMILIES`` followed by a colon and what the family asks for.
    **options
        Keyword arguments of the task's function, e.g. ``delay=500 * u.ms`` for ``dms``.

    Returns
    -------
    Task
        The task, for the ``dt`` of the environment.

    Raises
    ------
    ValueError
        If the task or an option is unknown, if an option has a bad value, if ``dt`` is not set, or if a file is
        malformed.
    ModuleNotFoundError
        If a package is missing that the task takes its data from.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> task = etrax.tasks.get("dms", delay=200.0 * u.ms)
    >>> batch = next(task.train(batch_size=4))
    >>> batch.xs.shape == (task.n_steps, 4, task.n_in), task.classes
    (True, ('match', 'non-match'))
    """
    check_kind("name", name, str, "the name of a task", f"one of {NAMES}")
    family, colon, member = name.partition(":")
    args: tuple[str, ...] = ()
    if name in TASKS:
        make = _function(name)
    elif family in FAMILIES and colon and member:
        make, args = _function(FAMILIES[family][1]), (member,)
    else:
        raise ValueError(f"`task` must be one of {NAMES}; got {name!r}.")
    parameters = inspect.signature(make).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):  # else the function checks
        known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        for option in options:
            if option not in known:
                raise ValueError(f"task {name!r} has no option `{option}`; its options are {', '.join(known)}.")
    return dataclasses.replace(make(*args, **options), dt=check_dt())


def _function(module: str) -> Callable[..., Task]:
    return importlib.import_module(f"{__name__}.{module}").make
