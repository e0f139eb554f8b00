"""The command ``etrax train``: a network trained on a task, and two controls beside it."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from etrax import plots, tasks
from etrax.checks import check_seed
from etrax.experiment.fitting import Run, fit
from etrax.experiment.methods import METHODS, check_method
from etrax.files import atomic, writable_folder
from etrax.network.recording import record_trace, record_trial
from etrax.network.weights import save_weights
from etrax.training import Evaluation
from etrax.training.evaluation import evaluate
from etrax.training.folder import begun, claimed
from etrax.training.logs import bar_of, write_metrics
from etrax.training.options import FREE

from .options import add_files, add_network, add_training, settings_of
from .parser import Parser
from .running import carry_out

__all__ = ["make_parser", "run"]

_CONTROLS = ("no_trace", "readout")
_ARGUMENTS = "arguments.json"
_NOT_KEPT = ("out", "resume", "restart")


def make_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="etrax train",
        description="Train a recurrent network of adaptive (ALIF) neurons on a task, then the same network by two controls: "
        "with D = 0 (no eligibility trace) and with only its readout trained. Writes metrics.csv, weights.npz and "
        "figures to a folder, and logs and checkpoints to its subfolder runs/.",
        epilog="Sizes and training not given here are those that suit the task. Ctrl-C saves; --resume goes on, after a crash too.",
    )
    # an option that is not given is None or False, whatever stands for it: only so can --resume tell what was given
    parser.add_argument("task", metavar="TASK", help=f"one of: {tasks.NAMES}")
    files = parser.add_argument_group("files")
    files.add_argument("--out", metavar="DIR", help="folder to write to, made if need be (default: etrax-TASK)")
    files.add_argument(
        "--resume",
        metavar="DIR",
        help="go on with the training in DIR, with the options it was begun with; a finished one with more --epochs",
    )
    files.add_argument(
        "--restart", action="store_true", help="begin anew where a training lies in --out, finished or not"
    )
    add_files(files)
    add_network(parser)
    how = parser.add_argument_group("training")
    how.add_argument(
        "--method", metavar="NAME", help=f"where gradients come from: {', '.join(METHODS)} (default: d_rtrl)"
    )
    how.add_argument("--no-controls", action="store_true", help="leave the two controls out")
    add_training(how)
    return parser


def run(words: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    parser = make_parser()
    args = parser.parse_args(words)
    return carry_out(
        parser, partial(_prepare, args), _train, lambda plan: f"etrax train {args.task} --resume {plan.folder}"
    )


@dataclasses.dataclass(frozen=True)
class _Plan:
    """A training and its controls: the methods in their order, the one that was asked for first."""

    task: tasks.Task
    recipe: tasks.Recipe
    methods: tuple[str, ...]
    changes: dict[str, Any]
    folder: Path
    resume: bool


# -- before it begins ----------------------------------------------------------------------
def _prepare(args: argparse.Namespace, held: contextlib.ExitStack) -> _Plan:
    """Everything that bad input can break, before any long work."""
    if args.resume is not None:
        _recall(args, Path(args.resume))
    args.method = "d_rtrl" if args.method is None else args.method
    check_method(args.method)
    args.seed = 0 if args.seed is None else args.seed
    check_seed(args.seed)
    task, recipe, changes = settings_of(args, held)
    folder = writable_folder(args.resume or args.out or f"etrax-{task.name}")
    held.enter_context(claimed(folder, "out" if args.resume is None else "resume"))
    if args.resume is None:
        _make_room(folder, args.restart)
    _keep(args, folder)
    methods = (args.method, *(() if args.no_controls else (m for m in _CONTROLS if m != args.method)))
    return _Plan(task, recipe, methods, changes, folder, args.resume is not None)


def _make_room(folder: Path, restart: bool) -> None:
    """Refuse to write over a training, or delete it if that is asked for."""
    runs, weights = folder / "runs", folder / "weights.npz"
    if restart:
        if runs.is_dir():
            shutil.rmtree(runs)
        for path in (weights, folder / "metrics.csv"):  # its figures are drawn anew
            path.unlink(missing_ok=True)
    there = next(filter(None, (begun(runs / method) for method in METHODS)), "")
    if there or weights.exists():
        raise ValueError(
            f"{str(folder)!r} holds {there or 'the weights of a training'}: go on with `--resume {folder}`, and more `--epochs` if it "
            "is finished, begin anew with `--restart`, or name another folder with `--out`."
        )


def _keep(args: argparse.Namespace, folder: Path) -> None:
    """Note the options, for resuming."""
    kept = {name: value for name, value in vars(args).items() if name not in _NOT_KEPT}
    with atomic(folder / _ARGUMENTS) as draft:
        draft.write_text(json.dumps(kept, indent=2) + "\n")


def _recall(args: argparse.Namespace, folder: Path) -> None:
    """Set the options to those that the training in the folder was begun with, but for those that may change."""
    if args.out is not None or args.restart:
        raise ValueError("`--resume` goes on in its own folder: leave `--out` and `--restart` out.")
    path = folder / _ARGUMENTS
    try:
        kept = json.loads(path.read_text())
        if not isinstance(kept, dict):
            raise ValueError("no options in it")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`resume` {str(folder)!r} holds no training ({path.name}: {error}): name the folder it was begun in."
        ) from error
    for name, value in vars(args).items():
        given = value is not None and value is not False
        if name in _NOT_KEPT or (given and name in FREE):
            continue
        if given and value != kept.get(name):
            option = name if name == "task" else "--" + name.replace("_", "-")
            raise ValueError(
                f"`{option}` is {value} but the training in {str(folder)!r} was begun with {kept.get(name)}: leave it out."
            )
        setattr(args, name, kept.get(name, value))


# -- the training --------------------------------------------------------------------------
def _train(plan: _Plan) -> None:
    start = time.perf_counter()
    task, recipe, folder = plan.task, plan.recipe, plan.folder
    rows: list[dict] = []
    runs: list[Run] = []
    with bar_of(task.updates(recipe.batch_size) * recipe.epochs * len(plan.methods)) as bar:
        for method in plan.methods:
            run = fit(
                task,
                recipe,
                method=method,
                folder=folder / "runs" / method,
                resume=plan.resume and (folder / "runs" / method).is_dir(),
                progress=bar,
                on_epoch=partial(_write_all, folder / "metrics.csv", tuple(rows)),
                **plan.changes,
            )
            rows += run.history
            runs.append(run)
            if len(runs) == 1:
                save_weights(folder / "weights.npz", run.network)
    write_metrics(folder / "metrics.csv", rows)
    results = [
        evaluate(run.network, task.test(recipe.batch_size), task.loss, loss_window=run.options.loss_window)
        for run in runs
    ]
    figures = _draw(runs[0], results[0], rows, folder)
    print(_summary(runs, results))
    print(f"everything together took {time.perf_counter() - start:.0f} s; written to {folder}:")
    for path in [folder / "metrics.csv", folder / "weights.npz", *figures, folder / "runs"]:
        print(f"  {path}")


def _write_all(path: Path, done: tuple[dict, ...], history: list[dict]) -> None:
    """The metrics of the trainings that are done and of the one that runs."""
    write_metrics(path, [*done, *history])


def _draw(run: Run, result: Evaluation, rows: list[dict], folder: Path) -> list[Path]:
    trial = record_trial(run.network, run.task, run.recipe)
    trace = record_trace(run.network, run.task, run.recipe, trial)
    figures = {
        "rasters": plots.plot_rasters(trial, run.task.classes or run.task.outputs),
        "states": plots.plot_states(trial),
        "eligibility_trace": plots.plot_trace(trace),
        "learning_curves": plots.plot_learning(rows, {name: method.title for name, method in METHODS.items()}),
    }
    if not run.task.regression:
        figures["confusion_matrix"] = plots.plot_confusion(result, run.task.classes)
    return [plots.save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def _summary(runs: list[Run], results: list[Evaluation]) -> str:
    """The line that says how it went."""
    run, result = runs[0], results[0]
    traces = f"{run.trace_bytes / 2**20:.1f} MiB of traces at the peak" if run.trace_bytes else "no traces"
    kind = "error (mean square)" if run.task.regression else "accuracy"
    line = (
        f"{run.task.name}, {METHODS[run.method].title}: test {kind} {_score(run, result)}, trained in {run.seconds:.0f} s "
        f"(compilation included), {traces}, {result.rate:.1f} spikes per neuron and second"
    )
    others = [f"{METHODS[r.method].title} {_score(r, e)}" for r, e in zip(runs[1:], results[1:], strict=True)]
    return line + (f"; controls: {', '.join(others)}" if others else "")


def _score(run: Run, result: Evaluation) -> str:
    return f"{result.loss:.3g}" if run.task.regression else f"{result.accuracy:.1%}"
