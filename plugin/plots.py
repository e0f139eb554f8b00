"""Figures of a training and of one trial. Every function returns a `matplotlib.figure.Figure` and shows nothing.

In a notebook, ``%matplotlib inline`` makes a figure at the end of a cell appear.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import braintools
import brainunit as u
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .drawing import COLOURS, STYLE, band, chosen, legend_above, look, padded, panels, two_axes, unit_text
from .experiment import METHODS
from .files import atomic
from .gradient_report import GradientReport
from .module import check_dt
from .network import TraceRecording, Trial
from .training import Evaluation

__all__ = [
    "plot_alignment",
    "plot_confusion",
    "plot_heat",
    "plot_learning",
    "plot_memory",
    "plot_quantities",
    "plot_raster",
    "plot_rasters",
    "plot_seeds",
    "plot_states",
    "plot_trace",
    "save",
]

_PARTS = {"train": (":", "-."), "validation": ("-", "--")}  # lines; the second ones where colours come again


def save(figure: Figure, path: str | os.PathLike) -> Path:
    """Write a figure at 200 dots per inch, as PNG or what the suffix says; the file is there in full or not at all."""
    with atomic(path) as draft:
        figure.savefig(draft, dpi=200, format=Path(path).suffix[1:] or "png")  # the draft has a name of its own
    return Path(path)


@rc_context(STYLE)
def plot_rasters(trial: Trial, classes: Sequence[str]) -> Figure:
    """Input spikes, population spikes and readout of one trial.

    Parameters
    ----------
    trial : Trial
        From `etrax.network.record_trial`.
    classes : sequence of str
        Names of the outputs, ``n_out`` of them.
    """
    figure, (top, middle, bottom) = panels(6.0, 3, 1, sharex=True, height_ratios=[2, 3, 2])
    time = _time(trial)
    for axis, spikes, title, label, inches in (
        (top, trial.inputs, "input", "channel", 1.3),
        (middle, trial.spikes, "population", "neuron", 2.0),
    ):
        step, unit = np.nonzero(spikes)
        size = np.clip(100.0 * inches / spikes.shape[1], 2.0, 8.0) ** 2  # a mark as tall as its row, and a little
        braintools.visualize.spike_raster(
            time[step], unit, ax=axis, xlabel="", ylabel=label, markersize=size, linewidths=0.8, color="black"
        )
        axis.grid(False)
        axis.set_ylim(-1, spikes.shape[1])
        axis.set_title(f"{title}, {_rate(spikes, trial.dt):.1f} spikes per {label} and second")
    for k, name in enumerate(classes):
        right = k == trial.label
        many = len(classes) > len(COLOURS)
        colour = COLOURS[k % len(COLOURS)] if not many else COLOURS[1] if right else "0.75"
        text = f"{name} (right answer)" if right else None if many else name
        bottom.plot(time, trial.output[:, k], color=colour, label=text, zorder=2 + right)
        if trial.target is not None:
            bottom.plot(time, trial.target[:, k], "--", color=colour, linewidth=0.8)
    if len(classes) > len(COLOURS):
        bottom.plot([], [], color="0.75", label="other classes")
    _shade_decision(trial, (top, middle, bottom))
    bottom.set_title("readout")
    bottom.set_ylabel("output (no unit)")
    bottom.set_xlabel("time (ms)")
    bottom.set_xlim(0.0, time[-1] + time[0])
    legend_above(bottom)
    return figure


@rc_context(STYLE)
def plot_states(trial: Trial, neurons: Iterable[int] | None = None) -> Figure:
    """Membrane potential with its moving threshold, and adaptation, of some neurons in one trial.

    Parameters
    ----------
    trial : Trial
        From `etrax.network.record_trial`.
    neurons : iterable of int, optional
        Which neurons; three, from the busiest to the median one, if left out.

    Raises
    ------
    ValueError
        If there is no such neuron.
    """
    neurons = chosen(neurons, (trial.ranked(share) for share in (0.0, 0.25, 0.5)), trial.spikes.shape[1])
    figure, axes = panels(1.4 * len(neurons) + 1.6, len(neurons) + 1, 1, sharex=True)
    time, adaptation = _time(trial), axes[-1]
    V, threshold = (np.asarray(q.to_decimal(u.mV)) for q in (trial.V, trial.threshold))
    for i, (axis, k) in enumerate(zip(axes[:-1], neurons, strict=True)):
        axis.plot(time, V[:, k], color=look(i)["color"], label="membrane potential V")
        axis.plot(time, threshold[:, k], color="black", linestyle="--", linewidth=0.9, label="threshold")
        at = trial.spikes[:, k] > 0
        axis.plot(time[at], V[at, k], "v", color="black", markersize=3, label="spike")
        axis.set_ylabel("mV")
        axis.set_title(f"neuron {k}")
        adaptation.plot(time, trial.a[:, k], label=f"neuron {k}", **look(i))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    adaptation.set_title("adaptation")
    adaptation.set_ylabel("a (spikes)")
    adaptation.set_xlabel("time (ms)")
    adaptation.set_xlim(0.0, time[-1] + time[0])
    if len(neurons) <= len(COLOURS):  # more do not fit
        legend_above(adaptation)
    else:
        figure.legend(*adaptation.get_legend_handles_labels(), loc="outside lower center", ncols=len(COLOURS))
    return figure


@rc_context(STYLE)
def plot_trace(recording: TraceRecording) -> Figure:
    """Eligibility traces of the synapses onto one neuron: all of them for V, one of them for V and a.

    Parameters
    ----------
    recording : TraceRecording
        From `etrax.network.record_trace`.
    """
    figure, (top, spikes, middle, bottom) = panels(6.6, 4, 1, sharex=True, height_ratios=[5, 1, 2.5, 2.5])
    time = _time(recording)
    units = {"V": u.mV / u.mS, "a": u.mS**-1}
    values = {name: np.asarray(recording.traces[name].to_decimal(unit)) for name, unit in units.items()}
    limit = float(np.abs(values["V"]).max()) or 1.0
    edges = (0.0, time[-1] + time[0], -0.5, values["V"].shape[1] - 0.5)
    kwargs = {"aspect": "auto", "origin": "lower", "interpolation": "nearest", "extent": edges}
    image = top.imshow(values["V"].T, cmap="RdBu_r", vmin=-limit, vmax=limit, **kwargs)
    figure.colorbar(image, ax=top, label=r"$\epsilon^V$ (mV per mS)")
    n_in, n_all = recording.n_in, values["V"].shape[1]
    top.axhline(n_in - 0.5, color="black", linewidth=0.6)
    top.set_yticks(
        [0.5 * (n_in - 1), 0.5 * (n_in + n_all - 1)],
        [f"{n_in} inputs", f"{n_all - n_in} neurons"],
        rotation=90,
        va="center",
    )
    top.tick_params(axis="y", length=0)
    top.set_ylabel("presynaptic")
    top.set_title(f"eligibility trace of the membrane potential, all synapses onto neuron {recording.neuron}")
    synapse = int(np.abs(values["a"]).max(axis=0).argmax())
    for row, (train, name) in enumerate(((recording.postsynaptic, "post"), (recording.presynaptic[:, synapse], "pre"))):
        at = time[np.asarray(train) > 0]
        spikes.vlines(at, row - 0.4, row + 0.4, color=("black", "0.5")[name == "pre"], linewidth=1.0)
    spikes.set_yticks([0, 1], ["post", "pre"])
    spikes.set_ylim(-0.6, 1.6)
    source = f"input {synapse}" if synapse < n_in else f"neuron {synapse - n_in}"
    spikes.set_title(f"spikes at the synapse from {source}")
    for axis, name, colour, text, unit in (
        (middle, "V", COLOURS[0], "membrane potential", "mV per mS"),
        (bottom, "a", COLOURS[1], "adaptation", "spikes per mS"),
    ):
        axis.axhline(0.0, color="0.8", linewidth=0.8)
        axis.plot(time, values[name][:, synapse], color=colour)
        axis.set_ylabel(rf"$\epsilon^{name}$ ({unit})", fontsize=8)
        axis.set_title(f"eligibility trace of the {text}, this synapse")
    bottom.set_xlabel("time (ms)")
    return figure


@rc_context(STYLE)
def plot_learning(history: list[dict[str, Any]]) -> Figure:
    """Loss, accuracy (of a classification) and firing rate over epochs, training and validation, one colour per method.

    Parameters
    ----------
    history : list of dict
        Rows as in ``metrics.csv``, of one or more methods, or the ``history`` of `etrax.train`. What a row lacks, or has
        as NaN, is left out.
    """
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
        name = METHODS[method].title if method in METHODS else method
        axes[0].plot([], [], style, color=COLOURS[i % len(COLOURS)], label=name)
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
    """
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


# -- any network ---------------------------------------------------------------------------


@rc_context(STYLE)
def plot_raster(spikes: Any, title: str = "") -> Figure:
    """Spikes of a population, a dot each, with the rate of the population below.

    Parameters
    ----------
    spikes : array (T, n)
        Of one trial; ``dt`` is that of the environment.
    title : str
        What is shown.
    """
    spikes = two_axes("spikes", spikes)
    time, dt = _steps(len(spikes)), check_dt()
    figure, (top, bottom) = panels(3.6, 2, 1, sharex=True, height_ratios=[3, 1])
    step, neuron = np.nonzero(spikes)
    size = np.clip(230.0 / spikes.shape[1], 2.5, 8.0) ** 2  # a mark as tall as its row, and a little
    if len(step):
        braintools.visualize.spike_raster(
            time[step], neuron, ax=top, xlabel="", ylabel="neuron", markersize=size, linewidths=0.8, color="black"
        )
    top.grid(False)
    top.set_ylabel("neuron")
    top.set_ylim(-1, spikes.shape[1])
    rate = spikes.mean(axis=1) / float(dt.to_decimal(u.second))
    top.set_title(f"{title}{', ' if title else ''}{rate.mean():.1f} spikes per neuron and second")
    bottom.fill_between(time, rate, step="mid", color="0.6", linewidth=0)
    bottom.set_ylim(bottom=0.0)
    bottom.set_ylabel("rate (Hz)")
    bottom.set_xlabel("time (ms)")
    bottom.set_xlim(0.0, time[-1] + time[0])
    return figure


@rc_context(STYLE)
def plot_quantities(traces: dict[str, Any], neurons: Iterable[int] | None = None) -> Figure:
    """States over time, one panel each with its unit, one colour per neuron.

    Parameters
    ----------
    traces : dict
        Name of a state -> array or Quantity (T, n).
    neurons : iterable of int, optional
        Which neurons, as far as a state has them; the first three if left out.

    Raises
    ------
    ValueError
        If no state has such a neuron.
    """
    most = max(two_axes(name, values).shape[1] for name, values in traces.items())
    numbers = chosen(neurons, range(min(3, most)), most)
    figure, axes = panels(1.5 * len(traces) + 0.7, len(traces), 1, sharex=True, squeeze=False)
    for axis, (name, values) in zip(axes[:, 0], traces.items(), strict=True):
        unit, values = u.get_unit(values), two_axes(name, values)
        time = _steps(len(values))
        for i, k in enumerate(numbers):
            if k < values.shape[1]:
                axis.plot(time, values[:, k], label=f"neuron {k}", **look(i))
        axis.set_ylabel(f"{name} ({unit_text(unit)})")
        axis.set_xlim(0.0, time[-1] + time[0])
    fullest = max(axes[:, 0], key=lambda axis: len(axis.lines))
    figure.legend(*fullest.get_legend_handles_labels(), loc="outside upper center", ncols=len(COLOURS))
    figure.align_ylabels(axes)
    axes[-1, 0].set_xlabel("time (ms)")
    return figure


@rc_context(STYLE)
def plot_heat(trace: Any, title: str = "eligibility trace", label: str = "presynaptic") -> Figure:
    """A trace over time as a heat map; zero is white.

    Parameters
    ----------
    trace : array or Quantity (T, n)
        E.g. ``d V / d weight`` of the n synapses onto one neuron, from `D_RTRL.get_etrace_of` after each step.
    title, label : str
        What is shown, and what the rows are.
    """
    unit, values = u.get_unit(trace), two_axes("trace", trace)
    time = _steps(len(values))
    figure, axis = panels(3.0)
    limit = float(np.abs(values).max()) or 1.0
    edges = (0.0, time[-1], -0.5, values.shape[1] - 0.5)
    image = axis.imshow(
        values.T,
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=edges,
    )
    figure.colorbar(image, ax=axis, label=f"trace ({unit_text(unit)})")
    axis.set_ylabel(label)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("time (ms)")
    axis.set_title(title)
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
    figure, axis = panels(3.2)
    for i, (name, values) in enumerate(curves.items()):
        values = two_axes(name, padded(values))
        at = np.arange(1, values.shape[1] + 1) if x is None else np.asarray(x)[: values.shape[1]]
        band(axis, at, values, i, f"{name} (n = {len(values)})")
    axis.set_ylabel(ylabel)
    axis.set_xlabel(xlabel)
    if x is None:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


@rc_context(STYLE)
def plot_alignment(report: GradientReport) -> Figure:
    """Cosine and norm ratio of a learner's gradient against backpropagation through time, by window of time.

    Parameters
    ----------
    report : GradientReport
        From `etrax.gradient_report`.
    """
    rows = -(-len(report.parameters) // 2)
    figure, (top, bottom) = panels(4.2 + 0.2 * rows, 2, 1, sharex=True)
    edges = np.asarray(report.edges.to_decimal(u.ms))
    markers = ("o", "s", "^", "D", "v", "P", "X")
    for i, name in enumerate(report.parameters):
        style = {"color": COLOURS[i % len(COLOURS)], "marker": markers[i % len(markers)], "markersize": 6 - i % 3}
        style |= {"markerfacecolor": "none", "linestyle": ("-", "--", ":")[i % 3]}  # seen where curves coincide
        middle = 0.5 * (edges[1:] + edges[:-1])
        top.plot(middle, report.cosine_over_time[:, i], label=f"{name} (all: {report.cosine[i]:.2f})", **style)
        bottom.plot(middle, report.norm_ratio_over_time[:, i], **style)
    for axis in (top, bottom):
        axis.axhline(1.0, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
        axis.set_xlim(edges[0], edges[-1])
    shown = report.cosine_over_time[np.isfinite(report.cosine_over_time)]
    top.set_ylim(min(0.0, float(shown.min(initial=0.0))) - 0.05, 1.05)
    ratios = report.norm_ratio_over_time[np.isfinite(report.norm_ratio_over_time)]
    bottom.set_ylim(0.0, 1.1 * max(1.0, float(ratios.max(initial=1.0))))
    top.set_ylabel("cosine (no unit)")
    bottom.set_ylabel("norm ratio (no unit)")
    bottom.set_xlabel("time (ms) of the losses that are differentiated")
    top.set_title(f"{report.learner} against backpropagation through time")
    figure.legend(*top.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    if report.remarks:
        text = (
            "silent or saturated: the figures mean nothing" if _dead(report) else "some figures mean nothing: print it"
        )
        bottom.text(0.5, 0.5, text, transform=bottom.transAxes, ha="center", color=COLOURS[1], weight="bold")
    return figure


@rc_context(STYLE)
def plot_memory(lengths: Sequence[int], memory: dict[str, Any]) -> Figure:
    """Memory of one gradient against the length of the sequence, on logarithmic axes.

    Parameters
    ----------
    lengths : sequence of int
        Steps T.
    memory : dict
        Name -> bytes for each length, numbers (NaN where not measured) or a Quantity.
    """
    figure, axis = panels(3.4)
    markers = ("o", "s", "^", "D", "v", "P", "X")
    for i, (name, values) in enumerate(memory.items()):
        values = np.asarray(values.to_decimal(u.byte) if isinstance(values, u.Quantity) else values, float) / 2**20
        axis.loglog(lengths, values, color=COLOURS[i % 6], marker=markers[i % 7], markersize=4, label=name)
    axis.grid(True, which="major", color="0.9", linewidth=0.6)
    axis.set_xlabel("length of the sequence T (steps)")
    axis.set_ylabel("memory (MiB)")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _dead(report: GradientReport) -> bool:
    return any("silent" in remark or "is saturated" in remark for remark in report.remarks)


def _number(row: dict[str, Any], key: str) -> bool:
    """Whether a row of a history has that number."""
    return key in row and row[key] == row[key]


def _steps(T: int) -> np.ndarray:
    """The end of each step in ms."""
    return float(check_dt().to_decimal(u.ms)) * np.arange(1, T + 1)


def _time(recording: Trial | TraceRecording) -> np.ndarray:
    """The time of each step in ms: the first ends at dt."""
    spikes = recording.spikes if isinstance(recording, Trial) else recording.postsynaptic
    return float(recording.dt.to_decimal(u.ms)) * np.arange(1, len(spikes) + 1)


def _rate(spikes, dt) -> float:
    return float(np.mean(spikes) / dt.to_decimal(u.second))


def _shade_decision(trial: Trial, axes) -> None:
    """Grey where the answer counts."""
    counted = np.flatnonzero(trial.mask)
    if len(counted):
        dt = float(trial.dt.to_decimal(u.ms))
        for axis in axes:
            axis.axvspan(counted[0] * dt, (counted[-1] + 1) * dt, color="0.94", zorder=0, linewidth=0)
        axes[-1].axvspan(0, 0, color="0.94", label="answer counts")
