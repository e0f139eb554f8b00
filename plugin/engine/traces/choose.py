"""Which trace a source gets."""

from __future__ import annotations

import math
from typing import Any

from etrax.engine.graph import Graph
from etrax.engine.layer import Layer
from etrax.engine.sources import Connection, TrainedConstant

from .base import Carry
from .constant import ConstantTrace
from .dense import Dense
from .rank_one import RankOne
from .window import Nothing, Window

__all__ = ["CARRIES", "make_carry", "make_trace", "steps_to"]

CARRIES = ("dense", "window", "rank1", "none")
MOST_WEIGHTS = 4  # effective weights per parameter that a dense trace may have


def make_carry(graph: Graph, connection: Connection, options: dict[str, Any]) -> Carry:
    """The carry that a learner's options ask for."""
    kind = options["carry"]
    if not connection.params:
        return Nothing(graph, connection)
    reason = ""
    if kind == "dense":
        reason = why_not_dense(Layer(graph, connection))
        if not reason:
            return Dense(graph, connection, options["trace_dtype"])
    if kind == "window" or reason:
        length = options["window"] or natural_window(graph, connection, options["tolerance"])
        return Window(graph, connection, length, reason)
    if kind == "rank1":
        return RankOne(graph, connection, options["decay"])
    return Nothing(graph, connection)


def why_not_dense(layer: Layer) -> str:
    """Why a layer has no dense trace, or one of a size out of proportion; empty if it has."""
    if not layer.is_affine:
        return "not affine in its input"
    if layer.pattern is None and layer.synapses > MOST_WEIGHTS * layer.n_params():
        return f"{layer.synapses} effective weights of {layer.n_params()} parameters"
    return ""


def natural_window(graph: Graph, connection: Connection, tolerance: float) -> int:
    """Steps after which the slowest state behind a connection has decayed to ``tolerance``, at rest.

    Raises
    ------
    ValueError
        If a state does not decay.
    """
    behind = graph.structures[connection.population].trace.get(connection.drive, {})
    keys = [(connection.population, s, s) for s in behind]
    steps = steps_to(tolerance, max((graph.rest[key][1] for key in keys if key in graph.rest), default=0.0))
    if steps == math.inf:
        raise ValueError(
            f"a state behind {connection.name} does not decay by itself, so `tolerance` gives no "
            "window: pass `window=` as a number of steps, or a layer that has a trace (see `etrax.register_pattern`) with `carry='dense'`."
        )
    return int(steps)


def steps_to(tolerance: float, factor: float) -> float:
    """Steps after which what shrinks by ``factor`` in each has shrunk to ``tolerance``; infinite if it does not shrink."""
    if factor >= 1.0:
        return math.inf
    return max(1, math.ceil(math.log(tolerance) / math.log(factor))) if factor > 0 else 1


def make_trace(graph: Graph, source: Connection | TrainedConstant, options: dict[str, Any]) -> Carry:
    """The trace of a source that a learner's options ask for."""
    if isinstance(source, TrainedConstant):
        return ConstantTrace(graph, source)
    return make_carry(graph, source, options)
