"""What the commands that train are told: the options they share, and what these mean."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import brainstate
import brainunit as u

from etrax import tasks
from etrax.experiment.settings import OPTIMIZERS, SCHEDULES, WEIGHTS, dale, training_options
from etrax.training.constraints import Clamp

__all__ = ["add_network", "add_training", "settings_of"]

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


def add_network(command: argparse.ArgumentParser) -> None:
    """Options of the network and of the task."""
    net = command.add_argument_group("network and task")
    net.add_argument("--neurons", type=int, metavar="N", help="recurrent neurons")
    net.add_argument("--delay", type=float, metavar="MS", help="tasks dms and evidence: delay that is bridged, in ms")
    net.add_argument(
        "--clamp", type=float, nargs=2, metavar=("LOW", "HIGH"), help="bounds of the weights onto the neurons, in mS"
    )
    net.add_argument(
        "--dale",
        type=float,
        metavar="SHARE",
        help="keep the sign of what leaves a neuron; this share of the neurons inhibits, the others and the inputs excite",
    )


def add_training(how: argparse._ArgumentGroup) -> None:
    """Options of a training, to a group of them."""
    how.add_argument("--epochs", type=int, metavar="N", help="passes over the training trials")
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


def settings_of(args: argparse.Namespace) -> tuple[tasks.Task, tasks.Recipe, dict[str, Any]]:
    """Task, recipe and the other options of `etrax.experiment.fit`; a ValueError if one of them is bad.

    A command that lacks some of the options leaves them at what the task or `etrax.TrainOptions` have.
    """
    for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        if getattr(args, name) is not None and getattr(args, name) not in known:
            raise ValueError(f"`{name}` must be one of {', '.join(known)}; got {getattr(args, name)!r}.")
    given = {field: getattr(args, name) for name, field in _RECIPE.items() if getattr(args, name) is not None}
    if args.rate_limit is not None:
        given["rate_limit"] = args.rate_limit * u.Hz
    recipe = dataclasses.replace(tasks.Recipe(), **given)  # checks the numbers
    changes = _changes(args)
    training_options(recipe, **changes)
    task = tasks.get(args.task, **({} if args.delay is None else {"delay": args.delay * u.ms}))
    recipe = dataclasses.replace(task.recipe, **given)
    task.updates(recipe.batch_size)
    if args.dale is not None:
        changes["constraints"] = {
            f"{WEIGHTS}.weight": dale(task.n_in, recipe.n_rec, args.dale),
            **changes["constraints"],
        }
    training_options(recipe, **changes).window(task.n_steps, brainstate.environ.get_dt())
    names = {name: getattr(args, name) for name in ("optimizer", "schedule") if getattr(args, name) is not None}
    return task, recipe, {**changes, **names}


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """The options of training that were given and are no part of a recipe."""
    changes = {name: getattr(args, name) for name in _TRAINING if getattr(args, name, None) is not None}
    changes["constraints"] = {}
    if args.update is not None:
        changes["update"] = int(args.update) if args.update.lstrip("-").isdigit() else args.update
    if args.window is not None:
        changes["loss_window"] = tuple(t * u.ms for t in args.window)
    if args.clamp is not None:
        changes["constraints"][WEIGHTS] = Clamp(*(w * u.mS for w in args.clamp))
    return changes
