"""What people read: units, sizes, dotted paths, tables. One function for each, and one form for notebooks."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import brainunit as u

__all__ = [
    "Printed",
    "Table",
    "as_html",
    "bytes_text",
    "dotted",
    "quantity_text",
    "shown",
    "table",
    "unit_text",
    "written",
]

_LONGEST = 60  # characters of a value in a message


def unit_text(unit: u.Unit, none: str = "no unit") -> str:
    """A unit as an error message or an axis names it; ``none`` where there is none."""
    return none if unit.is_unitless else str(unit)


def written(number: str, unit: u.Unit | None) -> str:
    """A number in a unit as a program has it."""
    if unit is None or unit.is_unitless:
        return number
    text = re.sub(r"[A-Za-z]\w*", r"u.\g<0>", str(unit)).replace("^", " ** ")
    return f"{number} {text[2:]}" if text.startswith("1 /") else f"{number} * {text}"


def shown(value: Any) -> str:
    """A value as an error message names it: in one short line, whatever it is."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text = " ".join(repr(value).split())
    if len(text) <= _LONGEST:
        return text
    shape = f" and shape {tuple(value.shape)}" if hasattr(type(value), "shape") else ""
    return f"a value of type {type(value).__name__}{shape}"


def quantity_text(value: Any, form: str) -> str:
    """One number with its unit, if it has one; ``form`` as in `format`, e.g. ``".3g"``."""
    return f"{float(u.get_mantissa(value)):{form}} {unit_text(u.get_unit(value), '')}".rstrip()


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


def table(
    rows: Sequence[Sequence[str]], *, ruled: bool = True, indent: int = 2, right: Collection[int] = ()
) -> list[str]:
    """Lines of a table, its columns aligned.

    Parameters
    ----------
    rows : sequence of sequence of str
        The cells; the first row is the header, if there is one.
    ruled : bool
        Whether a rule stands below the first row.
    indent : int
        Spaces before each line.
    right : collection of int
        Columns whose text stands on the right, as numbers do.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return " " * indent + "  ".join(padded)

    lines = [line(row).rstrip() for row in rows]
    return [lines[0], line(["-" * width for width in widths]), *lines[1:]] if ruled else lines


class Table(NamedTuple):
    """A table within what is printed; see `table` for the fields. ``header`` says whether its first row is one."""

    rows: Sequence[Sequence[str]]
    ruled: bool = True
    indent: int = 2
    header: bool = True


def as_html(parts: Iterable[str | Table]) -> str:
    """Lines and tables for a notebook: cells wrap where lines of text would be broken anywhere. Everything is escaped."""
    written = []
    for part in parts:
        if isinstance(part, str):
            written.append(f'<div style="white-space: pre-wrap">{html.escape(part) or "&nbsp;"}</div>')
            continue
        written.append('<div style="overflow-x: auto"><table>')
        for i, row in enumerate(part.rows):
            cell = "th" if i == 0 and part.header else "td"
            style = 'style="text-align: left; vertical-align: top; overflow-wrap: break-word"'
            written.append(f"<tr>{''.join(f'<{cell} {style}>{html.escape(text)}</{cell}>' for text in row)}</tr>")
        written.append("</table></div>")
    return "\n".join(written)


class Printed:
    """Base class of what prints as lines and tables, and shows them as HTML in a notebook."""

    def _parts(self) -> Iterable[str | Table]:
        """What is printed, in its order."""
        raise NotImplementedError  # abstract

    def __str__(self) -> str:
        lines: list[str] = []
        for part in self._parts():
            lines += [part] if isinstance(part, str) else table(part.rows, ruled=part.ruled, indent=part.indent)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return as_html(self._parts())
