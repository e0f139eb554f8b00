"""What a learner trains and by what, and at what cost, as a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import brainstate
import brainunit as u
import jax

from etrax.engine.graph import Graph
from etrax.engine.names import Path
from etrax.engine.traces.base import Trace
from etrax.text import Printed, Table, bytes_text, dotted

__all__ = ["Report", "report_of_parameters", "report_of_traces"]


@dataclasses.dataclass(frozen=True, repr=False)
class Report(Printed):
    """What a compiled learner trains, and at what cost; prints as tables.

    Attributes
    ----------
    parts : sequence of str and Table
        Lines and tables, in their order.
    trace_bytes : int
        Bytes that are carried on through time.
    flops_per_step : int
        Multiplications and additions in matrix products, per step and batch: forward, gradient, and trace, which a
        sequence given as ``trial=True`` in one chunk spares. 0 where the learner does not count them.
    """

    parts: Sequence[str | Table]
    trace_bytes: int
    flops_per_step: int = 0

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of text."""
        return tuple(str(self).split("\n"))

    def _parts(self):
        return self.parts


def report_of_parameters(
    params: Mapping[Path, brainstate.State], by: str, carried: str, trace_bytes: int = 0
) -> Report:
    """The report of a learner that trains all parameters in one way, ``by``, and carries something on."""
    rows = [("parameter", "shape", "trained by"), *((dotted(path), _shape(s), by) for path, s in params.items())]
    return Report((Table(rows), "", carried), trace_bytes)


def report_of_traces(
    graph: Graph, traces: Mapping[str, Trace], chunks: str, ledger: Sequence[str | Table] = ()
) -> Report:
    """The report of an online learner: populations, states, kinds of Jacobian entries, parameters, traces, credit and chunks."""
    trace_bytes = sum(trace.nbytes() for trace in traces.values())
    flops = sum(_flops(trace) for trace in traces.values())
    parts: list[str | Table] = []
    for population, structure in zip(graph.populations, graph.structures, strict=True):
        neuron = population.neuron
        owner = population.first(neuron)[0].rpartition(".")[0]
        parts.append(
            f"population {owner}: {type(neuron).__name__} {population.varshape}, batch {population.batch or None}"
        )
        rows = [("state", "unit", "from", "depends on (kind of entry)")]
        for part in population.parts:
            bends = part is neuron and not all(out.is_affine for out, _ in population.terms)
            source = "registered" if part.closed_form and not bends else "derived automatically"
            for state in population.names[id(part)].values():
                entries = [f"{j} ({k})" for (i, j), k in structure.D.items() if i == state]
                entries += [f"drive {d} ({k})" for (i, d), k in structure.f.items() if i == state]
                unit = population.units[state]
                rows.append(
                    (
                        state,
                        "-" if unit.is_unitless else str(unit),
                        f"{type(part).__name__}, {source}",
                        ", ".join(entries) or "nothing",
                    )
                )
        parts += [Table(rows), ""]
    rows = [("parameter", "shape", "trained by", "trace")]
    covered = set()
    for traced in graph.sources:
        trace = traces[traced.name]
        for path, state in traced.params.items():
            covered.add(id(state))
            rows.append(
                (
                    dotted(path),
                    _shape(state),
                    f"trace through {traced.name}",
                    f"{trace}; {bytes_text(trace.nbytes())}",
                )
            )
    for path, state in graph.params.items():
        if id(state) not in covered:
            rows.append((dotted(path), _shape(state), "same-step gradient", "none"))
    parts += [Table(rows), "", *ledger, ""]
    parts.append(f"traces {bytes_text(trace_bytes)}; matrix products {flops / 1e6:.2f} Mflop per step")
    parts.append(chunks)
    return Report(tuple(parts), trace_bytes, flops)


def _flops(trace: Trace) -> int:
    if trace.layer is None:
        return 0
    return 2 * trace.layer.rows * trace.layer.synapses * (2 + trace.products())


def _shape(state: brainstate.State) -> str:
    return " + ".join(str(u.math.shape(leaf)) for leaf in jax.tree.leaves(state.value))
