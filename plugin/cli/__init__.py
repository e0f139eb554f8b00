"""The command ``etrax``."""

from .command_line import main

__all__ = ["main"]
