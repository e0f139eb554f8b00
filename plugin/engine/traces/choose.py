"""Which trace a source gets: what `carry` a learner is given decides, and what the layer allows."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from etrax.checks import is_whole
from etrax.engine.graph import Graph
from etrax.engine.layer import Layer
from etrax.engine.sources import Connection, Source, TrainedConstant

from .base import Trace
from .constant import ConstantTrace, UnkeptConstantTrace
from .dense import DenseTrace
from .rank_one import RankOneTrace
from .window import UnkeptTrace, WindowTrace

__all__ = ["CARRIES", "Carry", "DenseCarry", "NoCarry", "RankOneCarry", "WindowCarry", "make_trace"]

MOST_WEIGHTS = 4  # effective weights per parameter that a dense trace may have


@dataclass(frozen=True)
class Carry:
    """What is kept of the traces of weights between chunks; the fields of a subclass are the options that it reads.

    Raises
    ------
    ValueError
        If an option has a value that is not allowed.
    """

    name: ClassVar[str]
    exact: ClassVar[bool] = True  # whether it makes no difference where chunks end, or none beyond a stated tolerance

    def trace(self, graph: Graph, connection: Connection) -> Trace:
        """The trace of the parameters of a connection."""
        raise NotImplementedError  # abstract


@dataclass(frozen=True)
class WindowCarry(Carry):
    """The factors of the last steps: as many as ``window``, or until the slowest state has decayed to ``tolerance``."""

    name = "window"
    window: int | None = None
    tolerance: float = 1e-3

    def __post_init__(self):
        if self.window is not None and not (is_whole(self.window) and self.window >= 1):
            raise ValueError(f"`window` must be a number of steps, at least 1, got {self.window!r}.")
        if not 0.0 < self.tolerance < 1.0:
            raise ValueError(f"`tolerance` must be between 0 and 1, got {self.tolerance!r}.")

    def trace(self, graph, connection):
        """See `Carry.trace`."""
        return self.windowed(graph, connection)

    def windowed(self, graph: Graph, connection: Connection, reason: str = "") -> Trace:
        """A window for a connection; ``reason`` says why it has no other trace."""
        length = natural_window(graph, connection, self.tolerance) if self.window is None else int(self.window)
        return WindowTrace(graph, connection, length, reason)


@dataclass(frozen=True)
class DenseCarry(WindowCarry):
    """The whole trace, kept in ``trace_dtype``; a window for a layer that has none."""

    name = "dense"
    trace_dtype: Any = None

    def __post_init__(self):
        super().__post_init__()
        if self.trace_dtype is not None and not _is_floating(self.trace_dtype):
            raise ValueError(
                f"`trace_dtype` must be a floating-point type, e.g. jnp.bfloat16, got {self.trace_dtype!r}."
            )

    def trace(self, graph, connection):
        """See `Carry.trace`."""
        reason = why_not_dense(Layer(graph, connection))
        if reason:
            return self.windowed(graph, connection, reason)
        if self.trace_dtype is not None:
            warn_of_rounding(graph, connection, self.trace_dtype)
        return DenseTrace(graph, connection, self.trace_dtype)


@dataclass(frozen=True)
class RankOneCarry(Carry):
    """One outer product of factors that are low-passed with ``decay`` per step (ES-D-RTRL)."""

    name = "rank1"
    exact = False
    decay: float = 0.95

    def __post_init__(self):
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"`decay` must be at least 0 and below 1, got {self.decay!r}.")

    def trace(self, graph, connection):
        """See `Carry.trace`."""
        return RankOneTrace(graph, connection, self.decay)


@dataclass(frozen=True)
class NoCarry(Carry):
    """Nothing."""

    name = "none"
    exact = False

    def trace(self, graph, connection):
        """See `Carry.trace`."""
        return UnkeptTrace(graph, connection)


CARRIES: dict[str, type[Carry]] = {carry.name: carry for carry in (DenseCarry, WindowCarry, RankOneCarry, NoCarry)}


def make_trace(graph: Graph, source: Source, carry: Carry) -> Trace:
    """The trace of a source: of a connection what `carry` says, of a constant all of it or nothing."""
    if isinstance(source, TrainedConstant):
        return (UnkeptConstantTrace if isinstance(carry, NoCarry) else ConstantTrace)(graph, source)
    return carry.trace(graph, source) if source.params else UnkeptTrace(graph, source)


def why_not_dense(layer: Layer) -> str:
    """Why a layer has no dense trace, or one of a size out of proportion; empty if it has."""
    if layer.why_no_weights:
        return layer.why_no_weights
    if layer.pattern is None and layer.synapses > MOST_WEIGHTS * layer.n_params():
        return f"{layer.synapses} effective weights of {layer.n_params()} parameters"
    return ""


def warn_of_rounding(graph: Graph, connection: Connection, dtype: Any) -> None:
    """Warn if a trace decays by so little in a step, at rest, that rounding it to ``dtype`` in each would stop or bias it.

    Three spacings of the type and more leave an error below 1 %; below half a spacing nothing decays (measured: bfloat16,
    0.7 % at a time constant of 32 steps, 1 to 2 % at 50, 10 to 15 % at 128, over 100 % at 1,000).
    """
    eps, rest = float(jnp.finfo(dtype).eps), graph.diagonal_at_start
    behind = graph.structures[connection.population].trace.get(connection.drive, {})
    keys = [(connection.population, s, s) for s in behind]
    slow = {key[1]: rest[key] for key in keys if key in rest and 1 - 3 * eps < rest[key] < 1}
    if slow:
        state, decay = max(slow.items(), key=lambda item: item[1])
        least = math.ceil(math.log(1 - 3 * eps) / math.log(decay))
        warnings.warn(
            f"`trace_dtype` {jnp.dtype(dtype).name} is too coarse for the trace of {connection.name}: {state} decays by {1 - decay:.2g} of "
            f"itself in a step, and a trace that is rounded at each can be off by more than 1 %. Leave out `trace_dtype`, or pass "
            f"`chunk_size` of {least} or more, so that it is rounded less often.",
            stacklevel=2,
        )


def natural_window(graph: Graph, connection: Connection, tolerance: float) -> int:
    """Steps after which the slowest state behind a connection has decayed to ``tolerance``, at rest.

    See equation (31) of docs/mathematics.md.

    Raises
    ------
    ValueError
        If a state does not decay.
    """
    behind = graph.structures[connection.population].trace.get(connection.drive, {})
    rest = graph.diagonal_at_start
    keys = [(connection.population, s, s) for s in behind]
    steps = steps_to(tolerance, max((rest[key] for key in keys if key in rest), default=0.0))
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


def _is_floating(dtype: Any) -> bool:
    """Whether it is a floating-point type, or the name of one."""
    try:
        return jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        return False
