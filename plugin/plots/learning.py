"""Figures of how a training went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from etrax.checks import check_kind, check_made_by
from etrax.text import shown as said

from .style import COLOURS, STYLE, band, classes_of, named_values, padded, panels, two_axes

if TYPE_CHECKING:
    from etrax.training import Evaluation

__all__ = ["plot_confusion", "plot_learning", "plot_seeds"]

_PARTS = {"train": (":", "-."), "validation": ("-", "--")}  # lines; the second ones where colours come again


@rc_context(STYLE)
def plot_learning(history: list[dict[str, Any]], titles: Mapping[str, str] | None = None) -> Figure:
    """Loss, accuracy (of a classification) and firing rate over epochs, training and validation, one colour per method.

    Parameters
    ----------
    history : list of dict
        Rows as in ``metrics.csv``, of one or more methods, or the ``history`` of `etrax.train`. What a row lacks, or has
        as NaN, is left out.
    titles : dict, optional
        ``method -> `` what the legend calls it; the method itself where it is left out.

    Examples
    --------
    >>> import etrax.plots
    >>> history = [{"epoch": epoch, "train_loss": 1.0 / epoch} for epoch in (1, 2, 3)]
    >>> figure = etrax.plots.plot_learning(history)
    >>> figure.axes[0].lines[0].get_ydata().round(2).tolist(), figure.axes[0].get_ylabel()
    ([1.0, 0.5, 0.33], 'loss')
    """
    titles = {} if titles is None else titles
    if not isinstance(history, list | tuple) or not all(isinstance(row, Mapping) for row in history):
        raise TypeError(
            f"`history` must be a list of dicts, got {said(history)}: give e.g. `etrax.train(...).history`."
        )
    check_kind("titles", titles, Mapping, "a dict", "write e.g. `{'d_rtrl': 'D-RTRL'}`")
    if not any(_number(row, f"{part}_{name}") for row in history for part in _PARTS for name in ("loss", "rate_hz")):
        raise ValueError(
            "`history` holds nothing to draw: its rows must have e.g. `epoch` and `train_loss`, as those of `etrax.train` have."
        )
    methods = list(dict.fromkeys(row.get("method", "") for row in history))
    classifies = any(_number(row, "train_accuracy") for row in history)
    loss = "cross-entropy (nats)" if classifies else "squared error"
    columns = (
        ("loss", loss if any(methods) else "loss", 1.0),  # without a method, the loss is one of the user's own
        *([("accuracy", "accuracy (%)", 100.0)] if classifies else []),
        ("rate_hz", "firing rate (Hz)", 1.0),
    )
    figure, axes = panels(3.0 + 0.2 * (len(methods) // 4), 1, len(columns))
    shown = set()
    for axis, (column, label, factor) in zip(axes, columns, strict=True):
        for i, method in enumerate(methods):
            for part, styles in _PARTS.items():
                key = f"{part}_{column}"
                rows = [row for row in history if row.get("method", "") == method and _number(row, key)]
                if rows:
                    shown.add(part)
                    epochs, curve = [row["epoch"] for row in rows], [factor * row[key] for row in rows]
                    look = {"color": COLOURS[i % len(COLOURS)], "linestyle": styles[i // len(COLOURS) % len(styles)]}
                    axis.plot(epochs, curve, marker="." if len(rows) == 1 else None, **look)
        axis.set_ylabel(label)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    for i, method in enumerate(methods if any(methods) else ()):
        style = _PARTS["validation"][i // len(COLOURS) % 2]
        axes[0].plot([], [], style, color=COLOURS[i % len(COLOURS)], label=titles.get(method, method))
    for part in (part for part in _PARTS if part in shown):
        axes[0].plot([], [], _PARTS[part][0], color="0.3", label="training" if part == "train" else part)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


@rc_context(STYLE)
def plot_confusion(evaluation: Evaluation, classes: Sequence[str]) -> Figure:
    """Given against right answers, in trials, or in steps where each is an answer.

    Parameters
    ----------
    evaluation : Evaluation
        From `etrax.training.evaluate`.
    classes : sequence of str
        Names of the labels.

    Examples
    --------
    >>> import numpy as np, etrax.plots
    >>> from etrax.training import Evaluation
    >>> right, given = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    >>> figure = etrax.plots.plot_confusion(Evaluation(0.5, 0.75, 10.0, right, given), ("left", "right"))
    >>> [text.get_text() for text in figure.axes[0].texts], figure.axes[0].get_xlabel()
    (['1', '1', '2'], 'answer')
    """
    check_made_by("evaluation", evaluation, "predictions", "`etrax.training.evaluate`")
    if not len(evaluation.labels):
        raise ValueError("`evaluation` has no answers to count: it is that of a regression.")
    classes = classes_of(classes, 1 + int(max(np.max(evaluation.labels), np.max(evaluation.predictions))), more=True)
    n = len(classes)
    counts = np.zeros((n, n), int)
    np.add.at(counts, (evaluation.labels, evaluation.predictions), 1)
    longest = max(len(str(name)) for name in classes)
    upright = n > 12 or n * longest > 50
    width = float(np.clip(4.5 + 0.08 * (n - 10) + 0.08 * longest, 4.9, 6.5))  # at most that of a page
    figure = Figure(figsize=(width, 0.9 * width - 0.4), layout="constrained")
    axis = figure.subplots()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axis.imshow(100.0 * share, cmap="Blues", vmin=0.0, vmax=100.0, aspect="auto")
    for i, j in np.argwhere(counts) if n <= 15 else ():  # more leave no room for numbers
        colour, small = "white" if share[i, j] > 0.5 else "black", 60.0 * width / n / len(str(counts.max()))
        axis.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour, fontsize=min(9.0, small))
    shown = range(0, n, -(-n // 45))  # names that fit
    size = float(np.clip(230.0 / len(shown), 4.5, 9.0))
    axis.set_xticks(shown, [classes[k] for k in shown], rotation=90 if upright else 0, fontsize=size)
    axis.set_yticks(shown, [classes[k] for k in shown], fontsize=size)
    axis.set_xlabel("answer")
    axis.set_ylabel("right answer")
    axis.set_title(
        f"{evaluation.accuracy:.1%} of {len(evaluation.labels)} {'steps' if evaluation.stepwise else 'trials'}"
    )
    figure.colorbar(image, ax=axis, label="share of the row (%)")
    return figure


@rc_context(STYLE)
def plot_seeds(
    curves: dict[str, Any], ylabel: str = "accuracy (%)", xlabel: str = "epoch", x: Sequence[float] | None = None
) -> Figure:
    """Learning curves: the mean over seeds as a line, all seeds within the band around it.

    Parameters
    ----------
    curves : dict
        Name -> array (seeds, epochs), or a list with a row for each seed, shorter where it stopped early.
    ylabel, xlabel : str
        Quantity and unit on the axes.
    x : sequence of float, optional
        Positions along the axis, one per column; 1, 2, ... if left out.
    """
    named_values("curves", curves, "accuracy", "[[0.5, 0.7], [0.4, 0.8]]")
    figure, axis = panels(3.2)
    for i, (name, values) in enumerate(curves.items()):
        values = two_axes(name, padded(values))
        if x is not None and len(x) < values.shape[1]:
            raise ValueError(
                f"`x` has {len(x)} positions, but `{name}` has {values.shape[1]} columns: give one for each."
            )
        at = np.arange(1, values.shape[1] + 1) if x is None else np.asarray(x)[: values.shape[1]]
        band(axis, at, values, i, f"{name} (n = {len(values)})")
    axis.set_ylabel(ylabel)
    axis.set_xlabel(xlabel)
    if x is None:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _number(row: dict[str, Any], key: str) -> bool:
    """Whether a row of a history has that number."""
    return key in row and row[key] == row[key]
