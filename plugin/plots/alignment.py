"""A figure of a learner's gradient against that of backpropagation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import brainunit as u
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from etrax.checks import check_made_by

from .style import COLOURS, STYLE, panels

if TYPE_CHECKING:
    from etrax.analysis.gradient import GradientReport

__all__ = ["plot_alignment"]


@rc_context(STYLE)
def plot_alignment(report: GradientReport) -> Figure:
    """Cosine and norm ratio of a learner's gradient against backpropagation through time, by window of time.

    Parameters
    ----------
    report : GradientReport
        From `etrax.gradient_report`.
    """
    check_made_by("report", report, "cosine_over_time", "`etrax.gradient_report`")
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


def _dead(report: GradientReport) -> bool:
    return any("silent" in remark or "is saturated" in remark for remark in report.remarks)
