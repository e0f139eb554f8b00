"""The command ``etrax``."""

from .front import main

__all__ = ["main"]
