"""What a learner traces, and at what cost, as a table."""

from __future__ import annotations

import brainunit as u
import jax

from etrax.engine.graph import Graph
from etrax.engine.layer import Layer
from etrax.engine.traces.base import Carry
from etrax.text import bytes_text, dotted, table

__all__ = ["Report"]


class Report:
    """Populations, states, kinds of Jacobian entries, parameters and cost of a compiled learner.

    Attributes
    ----------
    trace_bytes : int
        Bytes of all traces together.
    flops_per_step : int
        Multiplications and additions in matrix products, per step and batch: forward, gradient, and the trace as if it were
        formed with every chunk, most of which is spared where chunks wait, see :meth:`D_RTRL.etrace_grad`.
    """

    def __init__(self, graph: Graph, layouts: dict[str, Carry]):
        self._graph = graph
        self._layouts = layouts
        self.trace_bytes = sum(layout.nbytes() for layout in layouts.values())
        self.flops_per_step = sum(self._flops(layout) for layout in layouts.values())

    @staticmethod
    def _flops(layout: Carry) -> int:
        if not isinstance(layout, Layer):
            return 0
        product = 2 * layout.rows * layout.synapses
        return product * (2 + layout.products())

    def __str__(self) -> str:
        graph = self._graph
        lines = []
        for population, structure in zip(graph.populations, graph.structures, strict=True):
            neuron = population.neuron
            owner = population.first(neuron)[0].rpartition(".")[0]
            lines.append(
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
            lines += [*table(rows), ""]
        rows = [("parameter", "shape", "trained by", "trace")]
        covered = set()
        for traced in graph.sources:
            layout = self._layouts[traced.name]
            for path, state in traced.params.items():
                covered.add(id(state))
                rows.append(
                    (
                        dotted(path),
                        _shape(state),
                        f"trace through {traced.name}",
                        f"{layout}; {bytes_text(layout.nbytes())}",
                    )
                )
        for path, state in graph.params.items():
            if id(state) not in covered:
                rows.append((dotted(path), _shape(state), "same-step gradient", "none"))
        lines += [*table(rows), ""]
        lines.append(
            f"traces {bytes_text(self.trace_bytes)}; matrix products {self.flops_per_step / 1e6:.2f} Mflop per step"
        )
        return "\n".join(lines)

    __repr__ = __str__


def _shape(state) -> str:
    return " + ".join(str(u.math.shape(leaf)) for leaf in jax.tree.leaves(state.value))
