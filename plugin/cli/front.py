"""The command ``etrax``: it knows the names of the commands, and imports one when it is asked for.

So what has no need of JAX, such as ``etrax --help``, answers at once. The commands are a thin layer over
`etrax.experiment`, `etrax.comparison`, `etrax.analysis` and `etrax.plots`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from .parser import Parser

__all__ = ["COMMANDS", "main"]

COMMANDS = {  # each is a module beside this one, with a function `run` of the words that follow the name
    "train": "train a recurrent network of adaptive neurons on a task",
    "experiment": "compare methods on a task over several seeds",
    "figures": "complexity figures of a network as NeuroBench defines them",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    Bad input is one line on the standard error and exit status 2; a training that fails, one line and 1. Without a
    command, those that there are are listed.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    listed = "\n".join(f"  {name:<{max(map(len, COMMANDS))}}  {line}" for name, line in COMMANDS.items())
    parser = Parser(
        prog="etrax",
        usage="%(prog)s COMMAND ...",
        description=f"Online learning of spiking networks with eligibility traces.\n\ncommands:\n{listed}",
        epilog="`etrax COMMAND --help` lists the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"etrax {version('etrax')}")
    name = parser.parse_args(words[:1]).command  # the command reads the others
    if name is None:
        parser.print_help()
        return 0
    if name not in COMMANDS:
        parser.error(f"`command` must be one of {', '.join(COMMANDS)}; got {name!r}.")
    return import_module(f".{name}", __package__).run(words[1:])
