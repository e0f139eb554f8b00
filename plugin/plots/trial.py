"""Figures of one trial of a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import braintools
import brainunit as u
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from etrax.checks import check_made_by

from .style import COLOURS, STYLE, chosen, classes_of, legend_above, look, panels

if TYPE_CHECKING:
    from etrax.network.recording import TraceRecording, Trial

__all__ = ["plot_rasters", "plot_states", "plot_trace"]


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
    _check_trial(trial)
    names = classes_of(classes, trial.output.shape[1])
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
    for k, name in enumerate(names):
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
    _check_trial(trial)
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
    check_made_by("recording", recording, "traces", "`etrax.network.record_trace`")
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


def _check_trial(trial: Trial) -> None:
    check_made_by("trial", trial, "spikes", "`etrax.network.record_trial`")


def _time(recording: Trial | TraceRecording) -> np.ndarray:
    """The time of each step in ms: the first ends at dt."""
    return float(recording.dt.to_decimal(u.ms)) * np.arange(1, recording.n_steps + 1)


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
