"""The command ``etrax``: a thin layer over `etrax.experiment` and `etrax.plots`."""

from __future__ import annotations

import argparse
import dataclasses
import json
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

from . import plots, suites, tasks
from .constraints import Clamp
from .data import RecordError
from .experiment import METHODS, OPTIMIZERS, SCHEDULES, WEIGHTS, Run, check_method, dale, fit, options_of
from .files import atomic, writable_folder
from .logs import bar_of, write_metrics
from .network import record_trace, record_trial, save_weights
from .training import Evaluation, evaluate, unfinished

__all__ = ["main"]

_CONTROLS = ("no_trace", "readout")
_ARGUMENTS = "arguments.json"
_FREE = ("out", "resume", "restart", "command")  # not kept for resuming
_RECIPE = {
    "epochs": "epochs",
    "batch_size": "batch_size",
    "neurons": "n_rec",
    "learning_rate": "learning_rate",
    "rate_cost": "rate_cost",
}
_TRAINING = (
    "chunk_size",
    "clip_norm",
    "validate_every",
    "patience",
    "max_batches",
    "log_every",
    "checkpoint_every",
    "keep",
)


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
    net = command.add_argument_group("network and task")
    net.add_argument("--neurons", type=int, metavar="N", help="recurrent neurons")
    net.add_argument("--delay", type=float, metavar="MS", help="task dms: delay before the second stimulus, in ms")
    net.add_argument(
        "--clamp", type=float, nargs=2, metavar=("LOW", "HIGH"), help="bounds of the weights onto the neurons, in mS"
    )
    net.add_argument(
        "--dale",
        type=float,
        metavar="SHARE",
        help="keep the sign of what leaves a neuron; this share of the neurons inhibits, the others and the inputs excite",
    )
    how = command.add_argument_group("training")
    how.add_argument(
        "--method", metavar="NAME", help=f"where gradients come from: {', '.join(METHODS)} (default: d_rtrl)"
    )
    how.add_argument("--no-controls", action="store_true", help="leave the two controls out")
    how.add_argument("--seed", type=int, metavar="N", help="of weights, order of trials and spikes (default: 0)")
    how.add_argument("--epochs", type=int, metavar="N", help="passes over the training trials")
    how.add_argument("--max-batches", type=int, metavar="N", help="stop after so many batches")
    how.add_argument("--batch-size", type=int, metavar="B", help="trials in a batch")
    how.add_argument(
        "--update",
        metavar="WHEN",
        help="when weights change: trial, chunk, step, or a number of steps between updates (default: trial)",
    )
    how.add_argument(
        "--chunk-size",
        type=int,
        metavar="K",
        help="time steps evaluated in parallel; changes speed and memory, not the gradient (default: chosen by size)",
    )
    how.add_argument("--optimizer", metavar="NAME", help=f"one of: {', '.join(OPTIMIZERS)} (default: adam)")
    how.add_argument("--learning-rate", type=float, metavar="X", help="at the start")
    how.add_argument(
        "--schedule",
        metavar="NAME",
        help=f"how the learning rate goes on, to a twentieth at the end unless constant: {', '.join(SCHEDULES)} (default: cosine)",
    )
    how.add_argument(
        "--clip-norm", type=float, metavar="X", help="largest norm of the gradient of all weights (per mS)"
    )
    how.add_argument("--rate-limit", type=float, metavar="HZ", help="firing rate up to which there is no cost, in Hz")
    how.add_argument("--rate-cost", type=float, metavar="X", help="weight of the cost of higher rates; 0 leaves it out")
    how.add_argument(
        "--window",
        type=float,
        nargs=2,
        metavar=("START", "STOP"),
        help="time in a trial that the loss counts in, in ms",
    )
    how.add_argument(
        "--validate-every", type=int, metavar="N", help="batches between validations (default: each epoch)"
    )
    how.add_argument(
        "--patience", type=int, metavar="N", help="stop after N validations without a lower loss; keep the best weights"
    )
    suites.add_command(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    Bad input is one line on the standard error and exit status 2; a training that fails, one line and 1.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    with brainstate.environ.context(dt=1.0 * u.ms):
        if args.command == "figures":
            return suites.run(args, parser)
        try:
            plan = _prepare(args)
        except (ValueError, ModuleNotFoundError) as error:
            parser.exit(2, f"etrax {args.command}: error: {error}\n")
        try:
            _train(args, *plan)
        except RecordError as error:  # found when the record is read
            parser.exit(2, f"etrax {args.command}: error: {error}\n")
        except KeyboardInterrupt:
            again = f"etrax train {args.task} --resume {plan[-1]}"
            print(f"\nstopped; what was finished is in {plan[-1]}; to go on: {again}", file=sys.stderr)
            return 130
        except (FloatingPointError, ValueError, ModuleNotFoundError) as error:
            parser.exit(1, f"etrax {args.command}: error: {error}\n")
    return 0


def _prepare(args: argparse.Namespace) -> tuple[tasks.Task, tasks.Recipe, dict[str, Any], Path]:
    """Everything that bad input can break, before any long work."""
    if args.resume is not None:
        _recall(args, Path(args.resume))
    check_method(_method(args))
    for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        if getattr(args, name) is not None and getattr(args, name) not in known:
            raise ValueError(f"`{name}` must be one of {', '.join(known)}; got {getattr(args, name)!r}.")
    given = {field: getattr(args, name) for name, field in _RECIPE.items() if getattr(args, name) is not None}
    if args.rate_limit is not None:
        given["rate_limit"] = args.rate_limit * u.Hz
    recipe = dataclasses.replace(tasks.Recipe(), **given)  # checks the numbers
    changes = _changes(args)
    options_of(recipe, **changes)
    task = tasks.get(args.task, **({} if args.delay is None else {"delay": args.delay * u.ms}))
    recipe = dataclasses.replace(task.recipe, **given)
    task.updates(recipe.batch_size)
    if args.dale is not None:
        changes["constraints"] = {
            f"{WEIGHTS}.weight": dale(task.n_in, recipe.n_rec, args.dale),
            **changes["constraints"],
        }
    options_of(recipe, **changes).window(task.n_steps, brainstate.environ.get_dt())
    folder = writable_folder(args.resume or args.out or f"etrax-{task.name}")
    if args.resume is None:
        _begin(args, folder)
    return task, recipe, changes, folder


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """The options of training that were given and are no part of a recipe."""
    changes = {name: getattr(args, name) for name in _TRAINING if getattr(args, name) is not None}
    changes["seed"] = 0 if args.seed is None else args.seed
    changes["tensorboard"] = args.tensorboard
    changes["constraints"] = {}
    if args.update is not None:
        changes["update"] = int(args.update) if args.update.lstrip("-").isdigit() else args.update
    if args.window is not None:
        changes["loss_window"] = tuple(t * u.ms for t in args.window)
    if args.clamp is not None:
        changes["constraints"][WEIGHTS] = Clamp(*(w * u.mS for w in args.clamp))
    return changes


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
    args.method, args.seed = _method(args), 0 if args.seed is None else args.seed
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
                optimizer=args.optimizer or "adam",
                schedule=args.schedule or "cosine",
                folder=folder / "runs" / name,
                resume=args.resume is not None,
                progress=bar,
                on_epoch=partial(_write_all, folder / "metrics.csv", tuple(rows)),
                **changes,
            )
            rows += run.history
            runs.append(run)
            if name == method:
                save_weights(folder / "weights.msgpack", run.network)
    write_metrics(folder / "metrics.csv", rows)
    results = [evaluate(run.network, task.test(recipe.batch_size), task.loss) for run in runs]
    figures = _draw(runs[0], results[0], rows, folder)
    print(_summary(runs, results))
    print(f"everything together took {time.perf_counter() - start:.0f} s; written to {folder}:")
    for path in [folder / "metrics.csv", folder / "weights.msgpack", *figures, folder / "runs"]:
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
        "learning_curves": plots.plot_learning(rows),
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
