"""A row of the table, and how rows are read."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Slip", "read"]


class Slip(NamedTuple):
    """A mistake and what is said of it.

    Attributes
    ----------
    name : str
        The mistake, in words.
    error : str
        Name of the type of error.
    words : tuple of str
        What must be in its message.
    source : str
        The script; what it may use is in `lab.py`.
    kind : str
        Of a row that was generated, what it was made by; empty for one that was written.
    """

    name: str
    error: str
    words: tuple[str, ...]
    source: str
    kind: str = ""


def read(text: str) -> list[Slip]:
    """Rows as the files of this folder have them: ``# the mistake``, ``# Error: words | more words``, and the script."""
    rows = []
    for block in text.strip().split("\n\n"):
        name, said, *source = block.split("\n")
        error, _, words = said.removeprefix("# ").partition(": ")
        rows.append(Slip(name.removeprefix("# "), error, tuple(words.split(" | ")), "\n".join(source)))
    return rows
