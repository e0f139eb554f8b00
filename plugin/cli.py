"""The command ``etrax``: a thin layer over `etrax.training` and `etrax.plots`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import brainstate
import brainunit as u

from . import plots, suites, tasks
from .data import RecordError
from .files import writable_folder
from .network import record_trace, record_trial, save_weights
from .training import (
    METHODS,
    Evaluation,
    Run,
    check_method,
    check_numbers,
    evaluate,
    progress_bar,
    train,
    write_metrics,
)

__all__ = ["main"]

_CONTROLS = ("no_trace", "readout")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, exit status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="etrax", description="Online learning of spiking networks with eligibility traces.")
    parser.add_argument("--version", action="version", version=f"etrax {version('etrax')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    command = commands.add_parser(
        "train",
        help="train a recurrent network of adaptive neurons on a task",
        description="Train a recurrent network of adaptive (ALIF) neurons on a task, then the same network by two controls: "
        "with D = 0 (no eligibility trace) and with only its readout trained. Writes metrics.csv, weights.msgpack and "
        "figures to a folder.",
        epilog="Sizes and training not given here are those that suit the task.",
    )
    command.add_argument("task", metavar="TASK", help=f"one of: {tasks.NAMES}")
    command.add_argument(
        "--method",
        default="d_rtrl",
        metavar="NAME",
        help=f"where gradients come from: {', '.join(METHODS)} (default: d_rtrl)",
    )
    command.add_argument("--out", metavar="DIR", help="folder to write to, made if need be (default: etrax-TASK)")
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of weights, order of trials and spikes (default: 0)"
    )
    command.add_argument("--epochs", type=int, metavar="N", help="passes over the training trials")
    command.add_argument("--batch-size", type=int, metavar="B", help="trials per update")
    command.add_argument("--neurons", type=int, metavar="N", help="recurrent neurons")
    command.add_argument(
        "--learning-rate", type=float, metavar="X", help="of Adam at the start; falls along half a cosine"
    )
    command.add_argument(
        "--chunk-size",
        type=int,
        metavar="K",
        help="time steps evaluated in parallel; changes speed and memory, not the gradient (default: chosen by size)",
    )
    command.add_argument("--delay", type=float, metavar="MS", help="task dms: delay before the second stimulus, in ms")
    suites.add_command(commands)
    command.add_argument("--no-controls", action="store_true", help="leave the two controls out")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    Bad input is one line on the standard error and exit status 2.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    with brainstate.environ.context(dt=1.0 * u.ms):
        if args.command == "figures":
            return suites.run(args, parser)
        try:
            task, recipe, folder = _prepare(args)
        except (ValueError, ModuleNotFoundError) as error:
            parser.exit(2, f"etrax {args.command}: error: {error}\n")
        try:
            _train(args, task, recipe, folder)
        except RecordError as error:  # found when the record is read
            parser.exit(2, f"etrax {args.command}: error: {error}\n")
        except KeyboardInterrupt:
            print(f"\nstopped; what was finished is in {folder}", file=sys.stderr)
            return 130
    return 0


def _prepare(args: argparse.Namespace) -> tuple[tasks.Task, tasks.Recipe, Path]:
    """Everything that bad input can break, before any long work."""
    check_method(args.method)
    check_numbers(seed=args.seed, chunk_size=args.chunk_size)
    given = {
        "epochs": args.epochs,
        "batch_size": args.batch_size,
        "n_rec": args.neurons,
        "learning_rate": args.learning_rate,
    }
    given = {name: value for name, value in given.items() if value is not None}
    dataclasses.replace(tasks.Recipe(), **given)  # checks the numbers
    task = tasks.get(args.task, **({} if args.delay is None else {"delay": args.delay * u.ms}))
    recipe = dataclasses.replace(task.recipe, **given)
    task.updates(recipe.batch_size)
    return task, recipe, writable_folder(args.out or f"etrax-{task.name}")


def _train(args: argparse.Namespace, task: tasks.Task, recipe: tasks.Recipe, folder: Path) -> None:
    start = time.perf_counter()
    methods = [args.method, *([] if args.no_controls else [m for m in _CONTROLS if m != args.method])]
    rows: list[dict] = []
    runs: list[Run] = []
    with progress_bar(task, recipe, methods) as bar:
        for method in methods:
            run = train(
                task,
                recipe,
                method=method,
                seed=args.seed,
                chunk_size=args.chunk_size,
                progress=bar,
                on_epoch=partial(_write_all, folder / "metrics.csv", tuple(rows)),
            )
            rows += run.history
            runs.append(run)
            if method == args.method:
                save_weights(folder / "weights.msgpack", run.network)
    results = [evaluate(run.network, task.test(recipe.batch_size)) for run in runs]
    figures = _draw(runs[0], results[0], rows, folder)
    print(_summary(runs, results))
    print(f"everything together took {time.perf_counter() - start:.0f} s; written to {folder}:")
    for path in [folder / "metrics.csv", folder / "weights.msgpack", *figures]:
        print(f"  {path}")


def _write_all(path: Path, done: tuple[dict, ...], history: list[dict]) -> None:
    """The metrics of the trainings that are done and of the one that runs."""
    write_metrics(path, [*done, *history])


def _draw(run: Run, result: Evaluation, rows: list[dict], folder: Path) -> list[Path]:
    trial = record_trial(run.network, run.task, run.recipe)
    trace = record_trace(run.network, run.task, run.recipe, trial)
    figures = {
        "rasters": plots.plot_rasters(trial, run.task.classes),
        "states": plots.plot_states(trial),
        "eligibility_trace": plots.plot_trace(trace),
        "learning_curves": plots.plot_learning(rows),
        "confusion_matrix": plots.plot_confusion(result, run.task.classes),
    }
    return [plots.save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def _summary(runs: list[Run], results: list[Evaluation]) -> str:
    """The line that says how it went."""
    run, result = runs[0], results[0]
    traces = f"{run.trace_bytes / 2**20:.1f} MiB of traces at the peak" if run.trace_bytes else "no traces"
    line = (
        f"{run.task.name}, {METHODS[run.method].title}: test accuracy {result.accuracy:.1%}, trained in {run.seconds:.0f} s "
        f"(compilation included), {traces}, {result.rate:.1f} spikes per neuron and second"
    )
    others = [f"{METHODS[r.method].title} {e.accuracy:.1%}" for r, e in zip(runs[1:], results[1:], strict=True)]
    return line + (f"; controls: {', '.join(others)}" if others else "")
