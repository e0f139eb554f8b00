"""Which states a loss gives a learning signal to, found by the derivative of one step before anything runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from etrax.contract.dependence import sensitive
from etrax.text import dotted

from .graph import Graph
from .pure import Values, like
from .sources import Source
from .step import NOTHING, Step

if TYPE_CHECKING:
    from .traces.base import Trace

__all__ = ["Signals", "find_signals", "is_signalled", "no_path"]

_LOSS = None  # stands for the loss where names of connections do for what they send


class Signals(NamedTuple):
    """The states with a learning signal; the populations, from the top down if credit goes through depth."""

    states: frozenset[str]
    order: list[int]


def find_signals(
    step: Step, traces: dict[str, Trace], weights: list[int], values: Values, slices: tuple, *, through_time: bool
) -> Signals:
    """Learning signals of one step function.

    Parameters
    ----------
    step : Step
        The step function.
    traces : dict
        ``name of a source -> Trace``.
    weights : list of int
        Numbers of the parameters to differentiate; each must get a signal through its trace, or have a path of its own.
    values : dict
        Values of the states.
    slices : tuple
        One step's arguments.
    through_time : bool
        Whether a path may lead through later steps.

    Raises
    ------
    ValueError
        If the loss depends on no path from a parameter in ``weights``, or if populations feed each other within one
        step and credit is to go through depth.
    """
    graph = step.graph

    def seen(zeros, own) -> dict:
        # nothing is handed over, so that what projections send depends on the zeros too
        out = step.observe({**values, **own}, zeros, NOTHING, *slices)[1]
        return {_LOSS: out.loss, **out.y}

    def shifted(name, zero) -> dict:
        return seen({**step.zeros, name: zero}, {})

    def moved(number, value) -> dict:
        return seen(step.zeros, {number: value})

    def later(number, value) -> dict:
        def body(state, _):
            new, (loss, _) = step.shifted({**values, number: value, **state}, step.zeros, *slices)
            return like(state, {**state, **new}), loss

        return {_LOSS: jax.lax.scan(body, {i: values[i] for i in step.written}, length=2)[1]}

    order = list(range(len(graph.populations)))
    if jax.eval_shape(lambda: seen(step.zeros, {})[_LOSS]) is None:
        return Signals(frozenset(), order)
    reached: dict[Any, set] = {name: sensitive(partial(shifted, name), zero) for name, zero in step.zeros.items()}
    states = {name for name, keys in reached.items() if _LOSS in keys}
    if any(keys - {_LOSS} for keys in reached.values()):
        order, states = _from_the_top(graph, traces, reached, states)
    for i in weights:
        state = graph.states.all[i]
        if through_time:
            reaches, within, above = bool(sensitive(partial(later, i), values[i])), "", ""
        elif any(state in c.params.values() and is_signalled(graph, traces, c, states) for c in graph.sources):
            continue
        else:
            keys = sensitive(partial(moved, i), values[i])
            reaches = _LOSS in keys or _feeds(graph, traces, keys, states)
            within, above = " within one step", " (or a layer above, in the same step)"
        if not reaches:
            name = dotted(graph.paths.get(id(state), (f"state {i}",)))
            raise no_path(name, within, above)
    return Signals(frozenset(states), order)


def no_path(name: str, within: str = "", above: str = "") -> ValueError:
    """The error for a parameter whose gradient is zero by structure."""
    return ValueError(
        f"no path leads from the parameter {name} to the loss{within}, so its gradient is always zero: let the loss{above} "
        "read what it feeds, not through a comparison, a rounding, an argmax or a stopped gradient, or leave it out with "
        "`weights=` of `etrace_grad`."
    )


def _from_the_top(graph: Graph, traces: dict, reached: dict[str, set], states: set) -> tuple[list[int], set]:
    """Populations in order, those that feed no other first; states that feed one with a signal get a signal."""
    home = {h.name: i for i, p in enumerate(graph.populations) for h in p.hidden}
    target = {c.name: c.population for c in graph.connections.values()}
    below = {(home[s], target[name]) for s, keys in reached.items() for name in keys - {_LOSS}}
    waiting, order = list(range(len(graph.populations))), []
    while waiting:
        free = [i for i in waiting if not any((i, j) in below for j in waiting if j != i)]
        if not free:
            raise ValueError(
                "`through_depth` needs an order of the populations, but some feed each other within one step: let one of them "
                "read the spikes of the step before (`get_spike()` ahead of its call)."
            )
        order += free
        waiting = [i for i in waiting if i not in free]
        states = states | {s for s in home if home[s] in waiting and _feeds(graph, traces, reached[s], states)}
    return order, states


def _feeds(graph: Graph, traces: dict, keys: set, states: set) -> bool:
    """Whether one of the connections in ``keys`` leads to a population with a learning signal."""
    return any(c.name in keys and is_signalled(graph, traces, c, states) for c in graph.connections.values())


def is_signalled(graph: Graph, traces: dict, source: Source, states: set) -> bool:
    """Whether a trace of a source meets a learning signal of one of the states."""
    suffix = graph.structures[source.population].suffix
    return any((s, k) in suffix for s in states for k in traces[source.name].kinds)
