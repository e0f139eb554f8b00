"""Options of the command line that are made from the fields of `Recipe` and `TrainOptions`, and what they mean.

A field whose metadata have ``help`` is an option. Its type says how it is read, and these say the rest:

help
    Its line, without unit and default.
name
    What it is called, if not as the field.
metavar
    What its value is called there; by type and unit if left out.
unit
    In which a quantity is given, as a number.
unset
    What holds if it is left out and the field is None by default.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import types
import typing
from collections.abc import Collection
from typing import Any

import brainstate
import brainunit as u

from etrax import tasks
from etrax.experiment.settings import OPTIMIZERS, SCHEDULES, WEIGHTS, check_choices, dale, training_options
from etrax.tasks import Recipe
from etrax.training import TrainOptions
from etrax.training.constraints import Clamp

__all__ = ["add_files", "add_network", "add_recipe", "add_task", "add_training", "given", "settings_of", "task_of"]

FILES = ("checkpoint_every", "keep", "log_every", "tensorboard")  # fields that decide on nothing but what is written
# these are the recipe's, and each task has its own
SHARED = {f.name for f in dataclasses.fields(Recipe)} & {f.name for f in dataclasses.fields(TrainOptions)}


@dataclasses.dataclass(frozen=True)
class _Option:
    """An option that stands for a field; ``kind`` is the type that its words are read as."""

    field: str
    kind: type
    default: Any
    help: str
    name: str | None = None
    metavar: str | tuple[str, ...] | None = None
    unit: u.Unit | None = None
    unset: str | None = None

    @property
    def dest(self) -> str:
        """Its name among the arguments."""
        return self.name or self.field

    def add(self, group: argparse._ActionsContainer) -> None:
        """Register it; one that is not given is None or False, whatever stands for it."""
        flag = f"--{self.dest.replace('_', '-')}"
        if self.kind is bool:
            group.add_argument(flag, action="store_true", help=self.help)
            return
        metavar = self.metavar or (str(self.unit) if self.unit else {int: "N", float: "X"}[self.kind])
        nargs = len(metavar) if isinstance(metavar, tuple) else None
        default = self.unset if self.default is None else str(self.default).removesuffix(".0")
        text = self.help + (f", in {self.unit}" if self.unit else "") + (f" (default: {default})" if default else "")
        group.add_argument(flag, type=self.kind, nargs=nargs, metavar=metavar, help=text)

    def read(self, args: argparse.Namespace) -> Any:
        """The value of the field; None if the option is not given, or not one of the command."""
        value = getattr(args, self.dest, None)
        if value is None or value is False:
            return None
        if self.unit is not None:
            return tuple(v * self.unit for v in value) if isinstance(value, list) else value * self.unit
        return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value


def _options(cls: type) -> list[_Option]:
    """The options that stand for fields of a dataclass."""
    hints, found = typing.get_type_hints(cls), []
    for field in dataclasses.fields(cls):
        if "help" not in field.metadata:
            continue
        hint = hints[field.name]
        members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        kind = next((known for known in (bool, str, int) if known in members), float)
        of_task = cls is Recipe or field.name in SHARED
        default = None if of_task or field.default is dataclasses.MISSING else field.default
        found.append(_Option(field.name, kind, default, **field.metadata))
    return found


def given(cls: type, args: argparse.Namespace) -> dict[str, Any]:
    """The fields of a dataclass that the command line gives a value."""
    values = {option.field: option.read(args) for option in _options(cls)}
    return {name: value for name, value in values.items() if value is not None}


# -- groups of options ---------------------------------------------------------------------
def add_recipe(group: argparse._ActionsContainer) -> None:
    """Options of the network."""
    for option in _options(Recipe):
        option.add(group)


def add_task(group: argparse._ActionsContainer) -> None:
    """Options of the task."""
    group.add_argument("--delay", type=float, metavar="ms", help="tasks dms and evidence: delay that is bridged, in ms")
    group.add_argument(
        "--n-units",
        type=int,
        metavar="N",
        help="task data: input units of files that do not state it (default: one above the highest that fires)",
    )


def add_network(command: argparse.ArgumentParser) -> None:
    """Options of the network and of the task."""
    group = command.add_argument_group("network and task")
    add_recipe(group)
    add_task(group)
    group.add_argument(
        "--clamp", type=float, nargs=2, metavar=("LOW", "HIGH"), help="bounds of the weights onto the neurons, in mS"
    )
    group.add_argument(
        "--dale",
        type=float,
        metavar="SHARE",
        help="keep the sign of what leaves a neuron; this share of the neurons inhibits, the others and the inputs excite",
    )


def add_training(group: argparse._ActionsContainer, *, without: Collection[str] = ()) -> None:
    """Options of a training, but for some fields of `TrainOptions`."""
    for option in _options(TrainOptions):
        if option.field not in (*FILES, *without):
            option.add(group)
    group.add_argument("--optimizer", metavar="NAME", help=f"one of: {', '.join(OPTIMIZERS)} (default: adam)")
    group.add_argument(
        "--schedule",
        metavar="NAME",
        help=f"how the learning rate goes on, to a twentieth at the end unless constant: {', '.join(SCHEDULES)} (default: cosine)",
    )


def add_files(group: argparse._ActionsContainer, *, names: Collection[str] = FILES) -> None:
    """Options of what a training writes, or some of them."""
    for option in _options(TrainOptions):
        if option.field in names:
            option.add(group)


# -- what they mean ------------------------------------------------------------------------
def task_of(args: argparse.Namespace, opened: contextlib.ExitStack) -> tasks.Task:
    """The task, which is closed with ``opened``."""
    options = {"delay": None if args.delay is None else args.delay * u.ms, "n_units": args.n_units}
    chosen = {name: value for name, value in options.items() if value is not None}
    return opened.enter_context(tasks.get(args.task, **chosen))


def settings_of(args: argparse.Namespace, opened: contextlib.ExitStack) -> tuple[tasks.Task, Recipe, dict[str, Any]]:
    """Task, recipe and the other options of `etrax.experiment.fit`; a ValueError if one of them is bad.

    The task is closed with ``opened``.

    A command that lacks some of the options leaves them at what the task or `etrax.TrainOptions` have.
    """
    chosen = {name: getattr(args, name) for name in ("optimizer", "schedule") if getattr(args, name) is not None}
    check_choices(**chosen)
    changes = given(TrainOptions, args)
    own = {**given(Recipe, args), **{name: changes.pop(name) for name in SHARED if name in changes}}
    constraints: dict[str, Any] = {} if args.clamp is None else {WEIGHTS: Clamp(*(w * u.mS for w in args.clamp))}
    training_options(dataclasses.replace(Recipe(), **own), **changes)  # checks the numbers
    task = task_of(args, opened)
    recipe = dataclasses.replace(task.recipe, **own)
    task.updates(recipe.batch_size)
    if args.dale is not None:
        constraints = {f"{WEIGHTS}.weight": dale(task.n_in, recipe.n_rec, args.dale), **constraints}
    changes["constraints"] = constraints
    training_options(recipe, **changes).window(task.n_steps, brainstate.environ.get_dt())
    return task, recipe, {**changes, **chosen}
