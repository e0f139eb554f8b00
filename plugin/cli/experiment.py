"""The command ``etrax experiment``: methods compared on a task over several seeds."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Sequence
from functools import partial

from etrax.comparison.plan import COMPARED, THRESHOLDS, Comparison
from etrax.experiment.methods import METHODS

from .options import add_files, add_network, add_training, settings_of
from .parser import Parser
from .running import carry_out

__all__ = ["make_parser", "run"]

# a comparison has seeds of its own, one number of batches for all runs, and validates after each epoch
_OWN = ("seed", "max_batches", "validate_every", "patience", "min_delta")


def make_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="etrax experiment",
        description="Train the same network with several methods and seeds, and write a table (results.md, results.json) and a "
        "figure (results.png, results.pdf) to a folder. Every run that is finished is kept: the same command again goes on.",
        epilog="Sizes and training not given here are those that suit the task.",
    )
    parser.add_argument(
        "task", metavar="NAME", help=f"{', '.join(THRESHOLDS)}, or another task that is a classification"
    )
    files = parser.add_argument_group("files")
    files.add_argument("--out", metavar="DIR", help="folder to write to (default: etrax-experiment-NAME)")
    add_files(files, names=["checkpoint_every"])
    what = parser.add_argument_group("what is compared")
    what.add_argument(
        "--methods", metavar="A,B", default=",".join(COMPARED), help=f"of {', '.join(METHODS)} (default: %(default)s)"
    )
    what.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds of each method (default: 5)")
    what.add_argument(
        "--threshold", type=float, metavar="X", help="validation accuracy that updates are counted to, from 0 to 1"
    )
    add_network(parser)
    how = parser.add_argument_group("training")
    how.add_argument("--updates", type=int, metavar="N", help="batches that each run trains on, instead of --epochs")
    add_training(how, without=_OWN)
    return parser


def run(words: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    parser = make_parser()
    args = parser.parse_args(words)
    return carry_out(parser, partial(_prepare, args), _compare, lambda plan: "the same command")


def _prepare(args: argparse.Namespace, held: contextlib.ExitStack) -> Comparison:
    """Everything that bad input can break, before any long work."""
    if args.updates is not None and args.epochs is not None:
        raise ValueError("`--updates` takes the place of `--epochs`: give one of them.")
    task, recipe, changes = settings_of(args, held)
    return Comparison(
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


def _compare(plan: Comparison) -> None:
    plan.run(progress=True)
    print((plan.folder / "results.md").read_text())
    print(f"written to {plan.folder}: results.md, results.json, results.png, results.pdf, runs")


def _command(args: argparse.Namespace) -> str:
    """The command without the folder, which has no part in the results."""
    words = ["etrax", "experiment", args.task]
    for name, value in vars(args).items():
        if name not in ("task", "out") and value is not None:
            words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)
