"""What people read: units, sizes, dotted paths, tables. One function for each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import brainunit as u

__all__ = ["bytes_text", "dotted", "table", "unit_text"]


def unit_text(unit: u.Unit) -> str:
    """A unit as an error message or an axis names it."""
    return "no unit" if unit.is_unitless else str(unit)


def dotted(path: Iterable[Any]) -> str:
    """A path of keys as users write it, ``("syn", "comm", "weight")`` as ``syn.comm.weight``.

    The keys may be those that `jax.tree_util` gives for dicts and sequences.
    """
    return ".".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)


def bytes_text(n: int) -> str:
    """A number of bytes in a unit that suits it."""
    if n < 1024:
        return f"{n} B"
    power = min(3, int(math.log(n, 1024)))
    return f"{n / 1024**power:.1f} {('B', 'KiB', 'MiB', 'GiB')[power]}"


def table(rows: Sequence[Sequence[str]], *, ruled: bool = True) -> list[str]:
    """Lines of a table, its columns aligned; the first row is a header, with a rule below it if asked for."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  " + "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))

    lines = [line(row).rstrip() for row in rows]
    return [lines[0], line(["-" * width for width in widths]), *lines[1:]] if ruled else lines
