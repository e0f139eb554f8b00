"""The command ``etrax figures``: NeuroBench's complexity figures of a network on the test trials of a task."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import jax.numpy as jnp

from etrax import tasks
from etrax.analysis.footprint import benchmark_figures
from etrax.checks import check_seed, positive
from etrax.network.model import build
from etrax.network.weights import load_weights
from etrax.training.logs import write_metrics

__all__ = ["add_command", "run"]


def add_command(commands) -> None:
    """Register the command with the subparsers of ``etrax``."""
    command = commands.add_parser(
        "figures",
        help="complexity figures of a network as NeuroBench defines them",
        description="Footprint, connection sparsity, activation sparsity and effective synaptic operations of the network "
        "of `etrax train`, on test trials (Yik et al. 2025, Nature Communications 16, 1545).",
    )
    command.add_argument("task", metavar="TASK", help=f"one of: {tasks.NAMES}")
    command.add_argument(
        "--weights",
        metavar="FILE",
        help="weights.npz of a training, or one of its checkpoints (default: initial weights)",
    )
    command.add_argument("--neurons", type=int, metavar="N", help="recurrent neurons")
    command.add_argument("--trials", type=int, default=64, metavar="N", help="test trials to run (default: 64)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of initial weights (default: 0)")
    command.add_argument("--out", metavar="FILE", help="CSV to write the figures to")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Run the command; bad input is one line on the standard error and exit status 2."""
    try:
        positive("trials", args.trials, whole=True)
        check_seed(args.seed)
        task = tasks.get(args.task)
        recipe = task.recipe if args.neurons is None else dataclasses.replace(task.recipe, n_rec=args.neurons)
        network = build(task, recipe, seed=args.seed)
        if args.weights is not None:
            load_weights(args.weights, network)
        if args.out is not None and not Path(args.out).parent.is_dir():
            raise ValueError(f"`out` {args.out!r} is in no folder that exists: make the folder first.")
        batch = next(iter(task.test(args.trials)))
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        parser.exit(2, f"etrax figures: error: {error}\n")
    figures = benchmark_figures(network, jnp.asarray(batch.xs))
    print(figures)
    if args.out is not None:
        write_metrics(args.out, [{"task": task.name, **figures.row()}])
        print(f"written to {args.out}")
    return 0
