"""How the command line says what is wrong: in one line."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import NoReturn

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """One line, exit status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")

    @contextlib.contextmanager
    def reporting(self, status: int, *errors: type[Exception]) -> Iterator[None]:
        """Turn these errors into one line and an exit status."""
        try:
            yield
        except errors as error:
            self.exit(status, f"{self.prog}: error: {error}\n")
