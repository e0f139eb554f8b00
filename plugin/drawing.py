"""What all figures share: style, colours, panels and bands over seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

__all__ = ["COLOURS", "LINES", "STYLE", "band", "panels"]

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


def band(axis, x, values: np.ndarray, number: int, label: str) -> None:
    """Draw the mean over seeds as a line, all seeds within the band around it.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        Where to draw.
    x : sequence (n,)
        Positions along the axis.
    values : array (seeds, n)
        One curve per seed.
    number : int
        Of the curve: its colour and line.
    label : str
        For the legend.
    """
    colour = COLOURS[number % len(COLOURS)]
    axis.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0)
    axis.plot(x, values.mean(axis=0), LINES[number % len(LINES)], color=colour, label=label)
