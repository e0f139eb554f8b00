"""What a comparison of methods comes to: statistics over seeds, a table, a figure.

All three are made from the files of the finished runs, and the last two from the first.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from etrax.experiment.methods import METHODS
from etrax.plots.style import COLOURS, STYLE, band, panels

__all__ = ["draw", "markdown", "summary", "table_of"]

_MEASURED: dict[str, str | tuple[str, ...]] = {
    "test_accuracy": "test_accuracy",
    "test_loss": "test_loss",
    "rate_hz": "rate_hz",
    "seconds": "seconds",
    "trace_bytes": "trace_bytes",
    "activation_sparsity": "activation_sparsity",
    "effective_operations": ("effective_macs", "effective_acs"),
    "dense_operations": "dense",
    "footprint_bytes": "footprint_bytes",
}


def summary(
    about: Mapping[str, Any], methods: Sequence[str], seeds: int, runs: Mapping[tuple[str, int], dict[str, Any]]
) -> dict[str, Any]:
    """The content of ``results.json``.

    Parameters
    ----------
    about : dict
        What it says beside the results; ``threshold`` is a validation accuracy.
    methods, seeds
        Runs that belong to the comparison.
    runs : dict
        ``(method, seed) -> run`` of the finished ones.

    Returns
    -------
    dict
        ``about``, how many runs are ``finished``, those that are ``missing`` or have ``failed``, and for each of the
        ``methods`` the figures over its seeds: ``mean``, ``std`` (of a sample; none for one seed) and ``each``, a value per
        seed, which is None where there is none.
    """
    found: dict[str, Any] = {**about, "seeds": seeds, "finished": len(runs)}
    found["missing"] = [f"{m}, seed {s}" for m in methods for s in range(seeds) if (m, s) not in runs]
    found["failed"] = {f"{m}, seed {s}": run["failed"] for (m, s), run in runs.items() if "failed" in run}
    found["methods"] = {}
    for method in methods:
        of = [run if "history" in run else None for run in (runs.get((method, seed), {}) for seed in range(seeds))]
        trained = [run for run in of if run is not None]
        measured = {
            name: _statistics([None if run is None else _value(run, source) for run in of])
            for name, source in _MEASURED.items()
        }
        reached = [None if run is None else _reached(run["history"], about["threshold"]) for run in of]
        found["methods"][method] = {
            "title": METHODS[method].title,
            **measured,
            "updates_to_threshold": _statistics(reached),
            "validated_at": [row["updates"] for row in trained[0]["history"]] if trained else [],
            "validation_accuracy": [
                None if run is None else [row["validation_accuracy"] for row in run["history"]] for run in of
            ],
        }
    found["test_answers"] = next((run["test_answers"] for run in runs.values() if "history" in run), None)
    return found


def _value(run: dict[str, Any], source: str | tuple[str, ...]) -> float:
    return run[source] if isinstance(source, str) else sum(run[name] for name in source)


def _reached(history: list[dict[str, Any]], threshold: float) -> int | None:
    """Updates before the first validation at or above the threshold."""
    return next((row["updates"] for row in history if row["validation_accuracy"] >= threshold), None)


def _statistics(each: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in each if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
        "each": list(each),
    }


# -- the table -----------------------------------------------------------------------------
def table_of(found: Mapping[str, Any]) -> list[list[str]]:
    """The table of methods from the content of ``results.json``: its header, and a row for each."""
    header = [
        "method",
        "seeds",
        "test accuracy (%)",
        "each seed (%)",
        f"updates to {100 * found['threshold']:g} %",
        "seconds",
        "traces (KiB)",
        "rate (Hz)",
        "activation sparsity",
        "synaptic operations per trial",
        "footprint (KiB)",
    ]
    return [header, *(_row(method, found) for method in found["methods"].values())]


def markdown(found: Mapping[str, Any]) -> str:
    """The content of ``results.md``, from that of ``results.json``."""
    settings, threshold = found["settings"], f"{100 * found['threshold']:g} %"
    header, *rows = table_of(found)
    lines = [
        f"# {found['task']}: methods compared",
        "",
        *([f"    {found['command']}", ""] if found["command"] else []),
        *[f"Made with {versions}." for versions in found["made_with"]],
        "",
        f"All methods train the same network ({settings['n_rec']} neurons) from the same initial weights, in {found['updates']:,} "
        f"updates of {settings['batch_size']} trials (precision {settings['precision']}).",
        "",
    ]
    if found["missing"]:
        total = found["seeds"] * len(found["methods"])
        lines += [
            f"**Not all is done: {len(found['missing'])} of {total} runs are missing** ({'; '.join(found['missing'])}).",
            "",
        ]
    lines += [f"**Failed** ({run}): {reason}." for run, reason in found["failed"].items()]
    lines += [""] * bool(found["failed"])
    lines += [_line(header), _line(["---"] * len(header)), *map(_line, rows), ""]
    tested = f"of {found['test_answers']} answers on held-out trials, " if found["test_answers"] else ""
    return "\n".join(
        [
            *lines,
            f"Test accuracy: {tested}seen once, after the training; mean ± standard deviation over seeds. "
            f"Updates to {threshold}: to the first validation (one after each epoch) at or above it, mean over the seeds that "
            "came to it, which are counted behind. Seconds: of a training, compilation and validation included. Traces: "
            "eligibility traces that are carried; none for BPTT, which keeps the activations of a whole trial instead. Rate: "
            "spikes per neuron and second on test trials. The last three are NeuroBench's figures of the trained network: share "
            "of zeros in the neurons' output, effective operations (all of them accumulates where inputs are spikes), and bytes "
            "of weights, states and constants.",
            "",
        ]
    )


def _row(method: dict[str, Any], found: Mapping[str, Any]) -> list[str]:
    accuracy, reached = method["test_accuracy"], method["updates_to_threshold"]["each"]
    done = [value for value in accuracy["each"] if value is not None]
    arrived = [value for value in reached if value is not None]
    counted = str(len(done)) if len(done) == found["seeds"] else f"{len(done)} of {found['seeds']}"
    if not done:
        return [method["title"], counted, *["–"] * 9]
    each = ", ".join("–" if value is None else f"{100 * value:.1f}" for value in accuracy["each"])
    return [
        method["title"],
        counted,
        _spread(accuracy, 100.0, ".1f"),
        each,
        f"{statistics.fmean(arrived):,.0f} ({len(arrived)} of {len(done)})" if arrived else f"– (0 of {len(done)})",
        _spread(method["seconds"], 1.0, ".1f"),
        f"{method['trace_bytes']['mean'] / 1024:,.0f}" if method["trace_bytes"]["mean"] else "none",
        _spread(method["rate_hz"], 1.0, ".1f"),
        f"{method['activation_sparsity']['mean']:.4f}",
        f"{method['effective_operations']['mean']:,.0f}",
        f"{method['footprint_bytes']['mean'] / 1024:,.1f}",
    ]


def _spread(over: dict[str, Any], factor: float, form: str) -> str:
    mean = format(factor * over["mean"], form)
    return mean if over["std"] is None else f"{mean} ± {format(factor * over['std'], form)}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


# -- the figure ----------------------------------------------------------------------------
@rc_context(STYLE)
def draw(found: Mapping[str, Any]) -> Figure:
    """Validation accuracy over updates, all seeds within the band, and the test accuracy of each seed.

    Parameters
    ----------
    found : dict
        The content of ``results.json``.
    """
    figure, (left, right) = panels(3.2, 1, 2, width_ratios=[3, 2])
    titles = []
    for number, method in enumerate(found["methods"].values()):
        curves = np.array([curve for curve in method["validation_accuracy"] if curve is not None])
        accuracy, colour = method["test_accuracy"], COLOURS[number % len(COLOURS)]
        done = [value for value in accuracy["each"] if value is not None]
        titles.append(method["title"] + (f" (n = {len(done)})" if len(done) < found["seeds"] else ""))
        if not done:
            continue
        band(left, method["validated_at"], 100.0 * curves, number, method["title"])
        right.plot([100.0 * value for value in done], [number] * len(done), "o", color=colour, alpha=0.5, markersize=4)
        if accuracy["std"] is not None:
            mean, spread = 100.0 * accuracy["mean"], 100.0 * accuracy["std"]
            right.errorbar(mean, number + 0.3, xerr=spread, fmt="|", color="black", markersize=6, capsize=2)
    left.axhline(100.0 * found["threshold"], color="0.7", linewidth=0.8, linestyle="--", zorder=0)
    left.set_xlabel("updates")
    left.set_ylabel("validation accuracy (%)")
    left.set_xlim(left=0)
    left.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    right.set_yticks(range(len(titles)), titles)
    right.set_ylim(len(titles) - 0.4, -0.6)
    right.set_xlabel("test accuracy (%)")
    right.set_xlim(right=min(right.get_xlim()[1], 100.5))
    title = "one seed" if found["seeds"] == 1 else f"{found['seeds']} seeds, mean ± standard deviation"
    right.set_title(title, loc="right", fontsize=8)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure
