"""Figures of spikes and states of any network, and of what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import braintools
import brainunit as u
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from etrax.checks import check_array, check_dt
from etrax.text import unit_text

from .style import COLOURS, STYLE, chosen, look, named_values, panels, two_axes

__all__ = ["plot_heat", "plot_memory", "plot_quantities", "plot_raster"]


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

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import numpy as np, etrax.plots
    >>> spikes = np.eye(20)  # every neuron once, one after the other
    >>> figure = etrax.plots.plot_raster(spikes, "a wave")
    >>> figure.axes[0].get_title(loc="left"), len(figure.axes[0].collections[0].get_offsets())
    ('a wave, 50.0 spikes per neuron and second', 20)
    """
    spikes = two_axes("spikes", spikes, u.UNITLESS, finite=True)
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
        If no state has such a neuron, or there is no state.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import numpy as np, etrax.plots
    >>> figure = etrax.plots.plot_quantities({"V": np.zeros((30, 5)) * u.mV, "a": np.ones((30, 5))}, neurons=[0, 4])
    >>> [axis.get_ylabel() for axis in figure.axes], [line.get_label() for line in figure.axes[0].lines]
    (['V (mV)', 'a (no unit)'], ['neuron 0', 'neuron 4'])
    """
    named_values("traces", traces, "V", "V")
    lengths = {name: len(two_axes(name, values)) for name, values in traces.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"`traces` must have one length, got {lengths}: take the steps of one trial.")
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
    unit, values = u.get_unit(trace), two_axes("trace", trace, finite=True)
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
def plot_memory(lengths: Sequence[int], memory: dict[str, Any]) -> Figure:
    """Memory of one gradient against the length of the sequence, on logarithmic axes.

    Parameters
    ----------
    lengths : sequence of int
        Steps T.
    memory : dict
        Name -> bytes for each length, numbers (NaN where not measured) or a Quantity.
    """
    named_values("memory", memory, "D-RTRL", "[2**20, 2**21]")
    figure, axis = panels(3.4)
    markers = ("o", "s", "^", "D", "v", "P", "X")
    for i, (name, values) in enumerate(memory.items()):
        values = np.asarray(_bytes(name, values), float) / 2**20
        if np.shape(values) != np.shape(lengths):
            raise ValueError(
                f"`{name}` of `memory` has shape {np.shape(values)}, but `lengths` {np.shape(lengths)}: give one for each."
            )
        axis.loglog(lengths, values, color=COLOURS[i % 6], marker=markers[i % 7], markersize=4, label=name)
    axis.grid(True, which="major", color="0.9", linewidth=0.6)
    axis.set_xlabel("length of the sequence T (steps)")
    axis.set_ylabel("memory (MiB)")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _bytes(name: str, values: Any) -> Any:
    """Numbers of bytes."""
    check_array(
        name, values if isinstance(values, u.Quantity) else np.asarray(values), u.UNITLESS, where=" of `memory`"
    )
    return u.get_mantissa(values)


def _steps(T: int) -> np.ndarray:
    """The end of each step in ms."""
    return float(check_dt().to_decimal(u.ms)) * np.arange(1, T + 1)
