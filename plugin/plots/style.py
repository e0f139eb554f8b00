"""What all figures share: style, colours, panels and bands over seeds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import brainunit as u
import numpy as np
from matplotlib.figure import Figure

from etrax.files import atomic

__all__ = [
    "COLOURS",
    "LINES",
    "STYLE",
    "band",
    "chosen",
    "legend_above",
    "look",
    "padded",
    "panels",
    "save",
    "two_axes",
]

STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.2,
}
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)  # Okabe and Ito: told apart by all readers
LINES = ("-", "--", ":", "-.")  # for those who print in grey
_WIDTH = 6.5  # inches: the text width of a page


def panels(height: float, *args, **kwargs) -> tuple[Figure, Any]:
    """A figure as wide as the text of a page, ``height`` inches high, and its axes, as `Figure.subplots` makes them."""
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots(*args, **kwargs)


def look(number: int) -> dict[str, Any]:
    """Colour and line of a curve: other lines where the colours come again."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number // len(COLOURS) % len(LINES)]}


def chosen(neurons: Iterable[int] | None, default: Iterable[int], n: int) -> list[int]:
    """Numbers of neurons; a ValueError names ``neurons`` if there are none, or one beyond the ``n`` that there are."""
    numbers = list(default if neurons is None else neurons)
    if not numbers:
        raise ValueError("`neurons` is empty: give the number of at least one.")
    for number in numbers:
        if number not in range(n):
            raise ValueError(f"`neurons` has {number!r}, but there are {n} of them: give numbers from 0 to {n - 1}.")
    return numbers


def band(axis, x, values: np.ndarray, number: int, label: str) -> None:
    """Draw the mean over seeds as a line, all seeds within the band around it.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        Where to draw.
    x : sequence (n,)
        Positions along the axis.
    values : array (seeds, n)
        One curve per seed; NaN where one has stopped, which the others go on without.
    number : int
        Of the curve: its colour and line.
    label : str
        For the legend.
    """
    colour = COLOURS[number % len(COLOURS)]
    there = ~np.isnan(values).all(axis=0)
    x, values = np.asarray(x)[there], values[:, there]
    axis.fill_between(x, np.nanmin(values, axis=0), np.nanmax(values, axis=0), color=colour, alpha=0.2, linewidth=0)
    axis.plot(x, np.nanmean(values, axis=0), LINES[number % len(LINES)], color=colour, label=label)


def padded(rows: Any) -> Any:
    """Rows of different lengths with NaN behind their ends; anything else as it is."""
    if not isinstance(rows, list | tuple) or {np.ndim(row) for row in rows} != {1}:
        return rows
    table = np.full((len(rows), max(map(len, rows))), np.nan)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = u.get_mantissa(row)
    return table


def two_axes(name: str, values: Any) -> np.ndarray:
    """The mantissa as an array of two axes, with something in it; a ValueError otherwise."""
    values = np.asarray(u.get_mantissa(values), float)
    if values.ndim != 2:
        raise ValueError(f"`{name}` must have two axes, got shape {values.shape}: pick one trial, e.g. `values[:, 0]`.")
    if not values.size:
        raise ValueError(f"`{name}` has shape {values.shape}: give at least one step and one neuron.")
    return values


def legend_above(axis) -> None:
    """A legend in one row above the axis, at the right."""
    entries = len(axis.get_legend_handles_labels()[0])
    axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.0, ncols=entries)


def save(figure: Figure, path: str | os.PathLike) -> Path:
    """Write a figure at 200 dots per inch, as PNG or what the suffix says; the file is there in full or not at all."""
    with atomic(path) as draft:
        figure.savefig(draft, dpi=200, format=Path(path).suffix[1:] or "png")  # the draft has a name of its own
    return Path(path)
