"""What all figures share: style, colours, panels and bands over seeds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import brainunit as u
import numpy as np
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from etrax.checks import check_array, check_kind, check_made_by
from etrax.files import as_path, atomic

__all__ = [
    "COLOURS",
    "LINES",
    "STYLE",
    "band",
    "chosen",
    "classes_of",
    "legend_above",
    "look",
    "named_values",
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
    if neurons is not None and not isinstance(neurons, Iterable):
        raise TypeError(f"`neurons` must be several numbers, got {neurons!r}: write e.g. `neurons=[{neurons}]`.")
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


def two_axes(name: str, values: Any, unit: u.Unit | None = None, *, finite: bool = False) -> np.ndarray:
    """The mantissa as an array of two axes, neither of them empty; an error if it is none, or has not the dimension of ``unit``."""
    check_array(name, values if isinstance(values, u.Quantity) else np.asarray(values), unit)
    values = np.asarray(u.get_mantissa(values), float)
    if values.ndim != 2:
        raise ValueError(f"`{name}` must have two axes, got shape {values.shape}: pick one trial, e.g. `values[:, 0]`.")
    if not values.size:
        raise ValueError(f"`{name}` has shape {values.shape}: give at least one step and one neuron.")
    if finite and not np.isfinite(values).all():
        raise ValueError(f"`{name}` holds NaN or infinity: look for its cause, or cut it out.")
    return values


def classes_of(classes: Any, n: int, *, more: bool = False) -> list[str]:
    """Names of ``n`` classes, or of ``more``; an error names what was given otherwise."""
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise TypeError(f"`classes` must be the names of the classes, got {classes!r}: write e.g. `('left', 'right')`.")
    names = list(classes)
    if len(names) < n or (len(names) > n and not more):
        raise ValueError(
            f"`classes` has {len(names)} names, but there are {n} classes: give one for each, e.g. `task.classes`."
        )
    return names


def named_values(name: str, values: Any, key: str, example: str) -> None:
    """An error unless it is a dict that holds something."""
    check_kind(name, values, Mapping, "a dict", f"write e.g. `{{{key!r}: {example}}}`")
    if not values:
        raise ValueError(f"`{name}` is empty: there is nothing to draw.")


def legend_above(axis) -> None:
    """A legend in one row above the axis, at the right."""
    entries = len(axis.get_legend_handles_labels()[0])
    axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.0, ncols=entries)


def save(figure: Figure, path: str | os.PathLike) -> Path:
    """Write a figure at 200 dots per inch, as PNG or what the suffix says; the file is there in full or not at all."""
    check_made_by("figure", figure, "savefig", "a function of `etrax.plots`")
    form, known = as_path(path).suffix[1:] or "png", FigureCanvasBase.get_supported_filetypes()
    if form.lower() not in known:
        raise ValueError(
            f"`path` {str(path)!r} ends in {form!r}, which is no kind of picture: one of {', '.join(known)} is."
        )
    with atomic(path) as draft:
        figure.savefig(draft, dpi=200, format=form)  # the draft has a name of its own
    return Path(path)
