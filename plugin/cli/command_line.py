"""The command ``etrax``: a thin layer over `etrax.experiment`, `etrax.comparison` and `etrax.plots`."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import brainstate
import brainunit as u

from etrax import plots, tasks
from etrax.checks import check_seed
from etrax.comparison.plan import COMPARED, THRESHOLDS, Comparison
from etrax.data import RecordError
from etrax.experiment.fitting import Run, fit
from etrax.experiment.methods import METHODS, check_method
from etrax.files import atomic, writable_folder
from etrax.network.recording import record_trace, record_trial
from etrax.network.weights import save_weights
from etrax.training import Evaluation
from etrax.training.evaluation import evaluate
from etrax.training.logs import bar_of, write_metrics
from etrax.training.trainer import unfinished

from . import figures
from .arguments import add_network, add_training, settings_of

__all__ = ["main"]

_CONTROLS = ("no_trace", "readout")
_ARGUMENTS = "arguments.json"
_FREE = ("out", "resume", "restart", "command")  # not kept for resuming


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
        "with D = 0 (no eligibility trace) and with only its readout trained. Writes metrics.csv, weights.npz and "
        "figures to a folder, and logs and checkpoints to its subfolder runs/.",
        epilog="Sizes and training not given here are those that suit the task. Ctrl-C saves; --resume goes on, after a crash too.",
    )
    # an option that is not given is None or False, whatever stands for it: only so can --resume tell what was given
    command.add_argument("task", metavar="TASK", help=f"one of: {tasks.NAMES}")
    files = command.add_argument_group("files")
    files.add_argument("--out", metavar="DIR", help="folder to write to, made if need be (default: etrax-TASK)")
    files.add_argument(
        "--resume", metavar="DIR", help="go on with the training in DIR, with the options it was begun with"
    )
    files.add_argument("--restart", action="store_true", help="begin anew where an unfinished training lies in --out")
    files.add_argument(
        "--checkpoint-every", type=int, metavar="N", help="batches between checkpoints (default: each epoch)"
    )
    files.add_argument("--keep", type=int, metavar="N", help="newest checkpoints to keep, beside the best (default: 3)")
    files.add_argument("--log-every", type=int, metavar="N", help="batches between rows of log.csv (default: 10)")
    files.add_argument("--tensorboard", action="store_true", help="write the log for TensorBoard too")
    add_network(command)
    how = command.add_argument_group("training")
    how.add_argument(
        "--method", metavar="NAME", help=f"where gradients come from: {', '.join(METHODS)} (default: d_rtrl)"
    )
    how.add_argument("--no-controls", action="store_true", help="leave the two controls out")
    how.add_argument("--seed", type=int, metavar="N", help="of weights, order of trials and spikes (default: 0)")
    add_training(how)
    how.add_argument("--max-batches", type=int, metavar="N", help="stop after so many batches")
    how.add_argument(
        "--validate-every", type=int, metavar="N", help="batches between validations (default: each epoch)"
    )
    how.add_argument(
        "--patience", type=int, metavar="N", help="stop after N validations without a lower loss; keep the best weights"
    )
    _add_experiment(commands)
    figures.add_command(commands)
    return parser


def _add_experiment(commands) -> None:
    command = commands.add_parser(
        "experiment",
        help="compare methods on a task over several seeds",
        description="Train the same network with several methods and seeds, and write a table (results.md, results.json) and a "
        "figure (results.png, results.pdf) to a folder. Every run that is finished is kept: the same command again goes on.",
        epilog="Sizes and training not given here are those that suit the task.",
    )
    command.add_argument(
        "task", metavar="NAME", help=f"{', '.join(THRESHOLDS)}, or another task that is a classification"
    )
    files = command.add_argument_group("files")
    files.add_argument("--out", metavar="DIR", help="folder to write to (default: etrax-experiment-NAME)")
    files.add_argument(
        "--checkpoint-every", type=int, metavar="N", help="batches between checkpoints of a run (default: each epoch)"
    )
    what = command.add_argument_group("what is compared")
    what.add_argument(
        "--methods", metavar="A,B", default=",".join(COMPARED), help=f"of {', '.join(METHODS)} (default: %(default)s)"
    )
    what.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds of each method (default: 5)")
    what.add_argument(
        "--threshold", type=float, metavar="X", help="validation accuracy that updates are counted to, from 0 to 1"
    )
    add_network(command)
    how = command.add_argument_group("training")
    how.add_argument("--updates", type=int, metavar="N", help="batches that each run trains on, instead of --epochs")
    add_training(how)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    Bad input is one line on the standard error and exit status 2; a training that fails, one line and 1.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    with brainstate.environ.context(dt=1.0 * u.ms):
        if args.command == "figures":
            return figures.run(args, parser)
        prepare, work = (_compared, _compare) if args.command == "experiment" else (_prepare, _train)
        try:
            plan = prepare(args)
        except (ValueError, ModuleNotFoundError) as error:
            parser.exit(2, f"etrax {args.command}: error: {error}\n")
        try:
            work(args, *plan)
        except RecordError as error:  # found when the record is read
            parser.exit(2, f"etrax {args.command}: error: {error}\n")
        except KeyboardInterrupt:
            again = f"etrax train {args.task} --resume {plan[-1]}" if work is _train else "the same command"
            print(f"\nstopped; what was finished is in {plan[-1]}; to go on: {again}", file=sys.stderr)
            return 130
        except (FloatingPointError, ValueError, ModuleNotFoundError) as error:
            parser.exit(1, f"etrax {args.command}: error: {error}\n")
    return 0


# -- experiment ----------------------------------------------------------------------------
def _compared(args: argparse.Namespace) -> tuple[Comparison, Path]:
    """Everything that bad input can break, before any long work."""
    if args.updates is not None and args.epochs is not None:
        raise ValueError("`--updates` takes the place of `--epochs`: give one of them.")
    task, recipe, changes = settings_of(args)
    plan = Comparison(
        task,
        args.out or f"etrax-experiment-{task.name}",
        recipe,
        methods=args.methods.split(","),
        seeds=args.seeds,
        updates=args.updates,
        threshold=args.threshold,
        command=_command(args),
        **changes,
    )
    return plan, plan.folder


def _compare(args: argparse.Namespace, plan: Comparison, folder: Path) -> None:
    plan.run(progress=True)
    print((folder / "results.md").read_text())
    print(f"written to {folder}: results.md, results.json, results.png, results.pdf, runs")


def _command(args: argparse.Namespace) -> str:
    """The command without the folder, which has no part in the results."""
    words = ["etrax", args.command, args.task]
    for name, value in vars(args).items():
        if name not in ("command", "task", "out") and value is not None:
            words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


# -- train ---------------------------------------------------------------------------------
def _prepare(args: argparse.Namespace) -> tuple[tasks.Task, tasks.Recipe, dict[str, Any], Path]:
    """Everything that bad input can break, before any long work."""
    if args.resume is not None:
        _recall(args, Path(args.resume))
    check_method(_method(args))
    args.seed = 0 if args.seed is None else args.seed
    check_seed(args.seed)
    task, recipe, changes = settings_of(args)
    changes |= {"seed": args.seed, "tensorboard": args.tensorboard}
    folder = writable_folder(args.resume or args.out or f"etrax-{task.name}")
    if args.resume is None:
        _begin(args, folder)
    return task, recipe, changes, folder


def _method(args: argparse.Namespace) -> str:
    return "d_rtrl" if args.method is None else args.method


def _begin(args: argparse.Namespace, folder: Path) -> None:
    """Make room for a new training, and note how it was begun."""
    runs = folder / "runs"
    if args.restart:
        shutil.rmtree(runs, ignore_errors=True)
    for method in METHODS:
        if unfinished(runs / method):
            raise ValueError(
                f"{str(folder)!r} holds a training that is not finished: go on with `--resume {folder}`, begin anew with "
                "`--restart`, or name another folder with `--out`."
            )
    args.method = _method(args)
    kept = {name: value for name, value in vars(args).items() if name not in _FREE}
    with atomic(folder / _ARGUMENTS) as draft:
        draft.write_text(json.dumps(kept, indent=2) + "\n")


def _recall(args: argparse.Namespace, folder: Path) -> None:
    """Set the options to those that the training in the folder was begun with."""
    if args.out is not None or args.restart:
        raise ValueError("`--resume` goes on in its own folder: leave `--out` and `--restart` out.")
    path = folder / _ARGUMENTS
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`resume` {str(folder)!r} holds no training ({path.name}: {error}): name the folder it was begun in."
        ) from error
    for name, value in vars(args).items():
        if name in _FREE:
            continue
        if value is not None and value is not False and value != kept.get(name):
            option = name if name == "task" else "--" + name.replace("_", "-")
            raise ValueError(
                f"`{option}` is {value} but the training in {str(folder)!r} was begun with {kept.get(name)}: leave it out."
            )
        setattr(args, name, kept.get(name, value))


def _train(
    args: argparse.Namespace, task: tasks.Task, recipe: tasks.Recipe, changes: dict[str, Any], folder: Path
) -> None:
    start = time.perf_counter()
    method = _method(args)
    methods = [method, *([] if args.no_controls else [m for m in _CONTROLS if m != method])]
    rows: list[dict] = []
    runs: list[Run] = []
    with bar_of(task.updates(recipe.batch_size) * recipe.epochs * len(methods)) as bar:
        for name in methods:
            run = fit(
                task,
                recipe,
                method=name,
                folder=folder / "runs" / name,
                resume=args.resume is not None,
                progress=bar,
                on_epoch=partial(_write_all, folder / "metrics.csv", tuple(rows)),
                **changes,
            )
            rows += run.history
            runs.append(run)
            if name == method:
                save_weights(folder / "weights.npz", run.network)
    write_metrics(folder / "metrics.csv", rows)
    results = [evaluate(run.network, task.test(recipe.batch_size), task.loss) for run in runs]
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
