"""Compare methods on a task: the same network, trials and number of updates for each, over several seeds."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.analysis.footprint import benchmark_figures
from etrax.checks import check_kind, positive
from etrax.experiment.fitting import Run, fit
from etrax.experiment.methods import check_method
from etrax.experiment.settings import OPTIMIZERS, SCHEDULES, check_choices, training_options
from etrax.files import atomic, remove_drafts, writable_folder
from etrax.plots.style import save
from etrax.tasks import Recipe, Task
from etrax.text import Table, as_html
from etrax.training.evaluation import evaluate
from etrax.training.folder import claimed
from etrax.training.logs import bar_of

from .report import draw, markdown, summary, table_of

__all__ = ["COMPARED", "THRESHOLDS", "Comparison"]

COMPARED = ("d_rtrl", "es_d_rtrl", "eprop_random", "bptt", "no_trace", "readout")  # the last two are controls
THRESHOLDS = {"digits": 0.95, "dms": 0.95, "evidence": 0.93}
_THRESHOLD = 0.9  # of other tasks
_TRIALS = 64  # test trials at a time, and those that NeuroBench's figures are counted on
_PACKAGES = ("etrax", "jax", "brainstate", "brainunit", "braintools")


class Comparison:
    """Methods on a task, and the folder of their runs.

    A run trains with one method and one seed, is validated after each epoch, and meets the test trials once, at its end.
    Seeds are 0, 1, ...: methods share the initial weights, the order of trials and the training spikes of a seed.

    Parameters
    ----------
    task : Task
        A classification.
    folder : path
        Where to write: ``runs/METHOD-SEED.json`` for each finished run, ``results.md``, ``results.json``, ``results.png`` and
        ``results.pdf``.
    recipe : Recipe, optional
        Network and training; the task's own if left out.
    methods : sequence of str
        Keys of `etrax.experiment.METHODS`.
    seeds : int
        How many.
    updates : int, optional
        Batches that each run trains on; those of the recipe's epochs if left out. The schedule comes to its end with them.
    threshold : float, optional
        Validation accuracy that the updates are counted to; that of ``THRESHOLDS``, or 0.9, if left out.
    command : str, optional
        What the results are headed by.
    **options
        Further arguments of `etrax.experiment.fit`, e.g. ``chunk_size=50`` or ``optimizer="sgd"``.

    Raises
    ------
    ValueError
        If something is unknown or not positive, the task is a regression, the folder cannot be written, or it holds runs
        of other settings.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import tempfile
    >>> task = etrax.tasks.get("dms", delay=20.0 * u.ms)
    >>> comparison = etrax.comparison.Comparison(task, tempfile.mkdtemp(), methods=("d_rtrl", "bptt"), seeds=2)
    >>> comparison.missing()  # what `comparison.run()` will do
    [('d_rtrl', 0), ('bptt', 0), ('d_rtrl', 1), ('bptt', 1)]
    """

    def __init__(  # noqa: PLR0913 - keyword arguments that the docstring explains one by one
        self,
        task: Task,
        folder: str | os.PathLike,
        recipe: Recipe | None = None,
        *,
        methods: Sequence[str] = COMPARED,
        seeds: int = 5,
        updates: int | None = None,
        threshold: float | None = None,
        command: str | None = None,
        **options: Any,
    ):
        check_kind("task", task, Task, "an etrax.tasks.Task", "write e.g. `etrax.tasks.get('dms')`")
        if isinstance(methods, str):
            raise TypeError(f"`methods` must be several names, got {methods!r}: write `methods=({methods!r},)`.")
        recipe = task.recipe if recipe is None else recipe
        if task.regression:
            raise ValueError(f"`task` {task.name!r} has no classes: methods are compared by their accuracy.")
        for method in methods:
            check_method(method)
        if not methods or len(set(methods)) < len(methods):
            raise ValueError(f"`methods` must name one or more, each once; got {', '.join(methods) or 'none'}.")
        positive("seeds", seeds, whole=True)
        per_epoch = task.updates(recipe.batch_size)
        if updates is not None:
            recipe = dataclasses.replace(recipe, epochs=-(-positive("updates", updates, whole=True) // per_epoch))
        threshold = THRESHOLDS.get(task.name, _THRESHOLD) if threshold is None else threshold
        if not 0 < threshold <= 1:
            raise ValueError(f"`threshold` must be an accuracy above 0 and up to 1, got {threshold!r}.")
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            options.setdefault(name, next(iter(known)))
        check_choices(optimizer=options["optimizer"], schedule=options["schedule"])
        self.task, self.recipe, self.methods, self.seeds = task, recipe, tuple(methods), seeds
        self.updates = per_epoch * recipe.epochs if updates is None else updates
        self.threshold, self.command, self.options = threshold, command, options
        self.settings = self._settings()
        self.folder = writable_folder(folder, "folder")
        self._check_settings()

    # -- what must be the same for all runs ----------------------------------------------

    def _settings(self) -> dict[str, str]:
        named = {name: self.options[name] for name in ("optimizer", "schedule")}
        training = training_options(self.recipe, **{k: v for k, v in self.options.items() if k not in named}).fixed()
        first = next(iter(self.task.train(self.recipe.batch_size)))
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(part, np.float32).tobytes() for part in first))
        return {
            "task": self.task.name,
            "dt": _text(brainstate.environ.get_dt()),
            "precision": str(jnp.dtype(brainstate.environ.dftype())),
            **{name: value for name, value in training.items() if name != "seed"},
            **{f.name: _text(getattr(self.recipe, f.name)) for f in dataclasses.fields(self.recipe)},
            **named,
            "updates": str(self.updates),
            "training trials": f"{digest.hexdigest()[:12]} (digest)",
        }

    def _check_settings(self) -> None:
        """Write the settings into a folder without runs; compare them with those of one that has some."""
        path = self.folder / "settings.json"
        if not path.exists() or not any((self.folder / "runs").glob("[!.]*")):
            _write(path, self.settings)
            return
        before = _read(path)
        for name in dict.fromkeys([*before, *self.settings]):
            if before.get(name, self.settings.get(name)) != self.settings.get(
                name
            ):  # one of a later version may be missing
                raise ValueError(
                    f"`{name}` is {self.settings.get(name)} but the runs in {str(self.folder)!r} have {before.get(name)}: give "
                    "that, or name another folder."
                )

    # -- runs ----------------------------------------------------------------------------

    def path(self, method: str, seed: int) -> Path:
        """The file of a run."""
        return self.folder / "runs" / f"{method}-{seed}.json"

    def missing(self) -> list[tuple[str, int]]:
        """Runs that are not finished, in their order: seed after seed."""
        return [(m, s) for s in range(self.seeds) for m in self.methods if not self.path(m, s).exists()]

    def run(self, progress: bool = False) -> dict[str, Any]:
        """Do the runs that are missing and write the results; what is finished is written also if it is stopped.

        Parameters
        ----------
        progress : bool
            Whether to show a bar over all of them.

        Returns
        -------
        dict
            The content of ``results.json``.

        Raises
        ------
        ValueError
            If another process runs in the folder, or a file of a run is damaged.
        OSError
            If the disk is full or the folder has gone; what is finished stays.
        """
        with claimed(self.folder):
            return self._run_all(progress)

    def _run_all(self, progress: bool) -> dict[str, Any]:
        missing, runs = self.missing(), self.folder / "runs"
        runs.mkdir(exist_ok=True)
        remove_drafts(runs, "*")
        try:
            with bar_of(self.updates * len(missing), disable=not progress) as bar:
                for method, seed in missing:
                    _write(self.path(method, seed), self._run(method, seed, bar))
                    shutil.rmtree(self.path(method, seed).with_suffix(""), ignore_errors=True)
                    self.results()
        finally:
            found = self.results()
            if found["finished"]:
                for suffix in ("png", "pdf"):
                    save(draw(found), self.folder / f"results.{suffix}")
        return found

    def results(self) -> dict[str, Any]:
        """Write and return the results of the runs that are finished."""
        found = self._found()
        _write(self.folder / "results.json", found)
        with atomic(self.folder / "results.md") as draft:
            draft.write_text(markdown(found))
        return found

    def _repr_html_(self) -> str:
        found = self._found()
        done = f"{self.task.name}: {found['finished']} of {self.seeds * len(self.methods)} runs are finished"
        return as_html([done, Table(table_of(found))])

    def _found(self) -> dict[str, Any]:
        done = {
            (m, s): _read(path) for m in self.methods for s in range(self.seeds) if (path := self.path(m, s)).exists()
        }
        about = {
            "task": self.task.name,
            "command": self.command,
            "made_with": sorted({run["made_with"] for run in done.values()}),
            "threshold": self.threshold,
            "updates": self.updates,
            "settings": self.settings,
        }
        return summary(about, list(self.methods), self.seeds, done)

    def _run(self, method: str, seed: int, bar: Any) -> dict[str, Any]:
        """One run, from where it was stopped."""
        folder = self.path(method, seed).with_suffix("")
        folder.mkdir(exist_ok=True)
        record = {"method": method, "seed": seed, "made_with": _made_with()}
        options = {**self.options, "max_batches": self.updates, "folder": folder, "resume": True}
        try:
            run = fit(self.task, self.recipe, method=method, seed=seed, progress=bar, **options)
        except FloatingPointError as error:  # this method does not learn with these settings: a result too
            return {**record, "failed": str(error).partition(";")[0]}
        return {**record, **self._measured(run)}

    def _measured(self, run: Run) -> dict[str, Any]:
        test = iter(self.task.test(_TRIALS))
        first = next(test)
        batches = itertools.chain([first], test)
        held_out = evaluate(run.network, batches, self.task.loss, loss_window=run.options.loss_window)
        per_epoch = self.task.updates(self.recipe.batch_size)
        return {
            "test_accuracy": held_out.accuracy,
            "test_loss": held_out.loss,
            "test_answers": len(held_out.labels),
            "rate_hz": held_out.rate,
            "seconds": run.seconds,
            "trace_bytes": run.trace_bytes,
            **benchmark_figures(run.network, jnp.asarray(first.xs)).row(),
            "history": [{"updates": min(per_epoch * row["epoch"], self.updates), **row} for row in run.history],
        }


def _made_with() -> str:
    """Versions and the kind of machine."""
    versions = [f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{', '.join(versions)}; {jax.devices()[0].device_kind} ({platform.machine()}, {cores} cores)"


def _text(value: Any) -> str:
    """A setting as text, the same for ``20 * u.ms`` and ``20.0 * u.ms``."""
    return f"{float(u.get_mantissa(value)):g} {value.unit}" if isinstance(value, u.Quantity) else str(value)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}): delete it, and what it held is made again.") from error
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    with atomic(path) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n")
