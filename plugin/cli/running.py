"""How a command that takes long is run: everything that bad input can break comes first."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import brainstate
import brainunit as u

from etrax.data import RecordError

from .parser import Parser

__all__ = ["BAD_INPUT", "Plan", "carry_out"]

BAD_INPUT = (ValueError, OSError, ModuleNotFoundError)  # OSError: a file that cannot be read or written


class Plan(Protocol):
    """What is to be done, and the folder that it is written to."""

    @property
    def folder(self) -> Path:
        """Where what is finished stays."""


P = TypeVar("P", bound=Plan)


def carry_out(
    parser: Parser, prepare: Callable[[contextlib.ExitStack], P], work: Callable[[P], None], go_on: Callable[[P], str]
) -> int:
    """Prepare and work with steps of 1 ms; returns the exit status.

    Parameters
    ----------
    parser : Parser
        Says what is wrong: exit status 2 for bad input, 1 for work that fails.
    prepare : callable
        Gives the plan, before any long work; what it opens or holds, it enters into the stack that it is given.
    work : callable
        Takes the plan.
    go_on : callable
        What to type to go on with a plan that Ctrl-C stopped.
    """
    with brainstate.environ.context(dt=1.0 * u.ms), contextlib.ExitStack() as held:
        with parser.reporting(2, *BAD_INPUT):
            plan = prepare(held)
        try:
            # a bad record is found when it is read, by then there is work
            with (
                parser.reporting(1, FloatingPointError, ValueError, ModuleNotFoundError),
                parser.reporting(2, RecordError),
            ):
                work(plan)
        except KeyboardInterrupt:
            print(f"\nstopped; what was finished is in {plan.folder}; to go on: {go_on(plan)}", file=sys.stderr)
            return 130
        except OSError as error:  # a full disk, say: what is written stays whole
            told = f"{str(error).rstrip('.')}; what was finished is in {plan.folder}; to go on: {go_on(plan)}"
            parser.exit(1, f"{parser.prog}: error: {told}\n")
    return 0
