"""The command ``etrax figures``: NeuroBench's complexity figures of a network on the test trials of a task."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import brainstate
import brainunit as u
import jax.numpy as jnp

from etrax import tasks
from etrax.analysis.footprint import benchmark_figures
from etrax.checks import check_seed, positive
from etrax.files import writable_folder
from etrax.network.model import build
from etrax.network.weights import load_weights
from etrax.training.logs import write_metrics

from .options import add_recipe, add_task, given, task_of
from .parser import Parser
from .running import BAD_INPUT

__all__ = ["make_parser", "run"]


def make_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="etrax figures",
        description="Footprint, connection sparsity, activation sparsity and effective synaptic operations of the network "
        "of `etrax train`, on test trials (Yik et al. 2025, Nature Communications 16, 1545).",
    )
    parser.add_argument("task", metavar="TASK", help=f"one of: {tasks.NAMES}")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="weights.npz of a training, or one of its checkpoints (default: initial weights)",
    )
    parser.add_argument("--trials", type=int, default=64, metavar="N", help="test trials to run (default: 64)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of initial weights (default: 0)")
    parser.add_argument("--out", metavar="FILE", help="CSV to write the figures to")
    group = parser.add_argument_group("network and task", "as it was trained; what is not given is as suits the task")
    add_recipe(group)
    add_task(group)
    return parser


def run(words: Sequence[str]) -> int:
    """Run the command; bad input is one line on the standard error and exit status 2."""
    parser = make_parser()
    args = parser.parse_args(words)
    with brainstate.environ.context(dt=1.0 * u.ms), contextlib.ExitStack() as opened:
        with parser.reporting(2, *BAD_INPUT):
            positive("trials", args.trials, whole=True)
            check_seed(args.seed)
            task = task_of(args, opened)
            network = build(task, dataclasses.replace(task.recipe, **given(tasks.Recipe, args)), seed=args.seed)
            if args.weights is not None:
                load_weights(args.weights, network)
            if args.out is not None and not Path(args.out).parent.is_dir():
                raise ValueError(f"`out` {args.out!r} is in no folder that exists: make the folder first.")
            if args.out is not None and Path(args.out).is_dir():
                raise ValueError(
                    f"`out` {args.out!r} is a folder: name a file in it, e.g. {args.out.rstrip('/')}/figures.csv."
                )
            if args.out is not None:
                writable_folder(Path(args.out).parent)
            batch = next(iter(task.test(args.trials)))
        figures = benchmark_figures(network, jnp.asarray(batch.xs))
    print(figures)
    if args.out is not None:
        with parser.reporting(1, *BAD_INPUT):
            write_metrics(args.out, [{"task": task.name, **figures.row()}])
        print(f"written to {args.out}")
    return 0
