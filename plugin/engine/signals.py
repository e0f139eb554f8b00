"""Which states a loss gives a learning signal to, found by the paths of one step before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .graph import Graph
from .paths import LOSS, Paths, new, sent, state
from .sources import Source
from .step import Credit

if TYPE_CHECKING:
    from .traces.base import Trace

__all__ = ["Signals", "find_signals", "is_signalled"]


class Signals(NamedTuple):
    """The states with a learning signal; the populations, from the top down if credit goes through depth."""

    states: frozenset[str]
    order: list[int]


def find_signals(paths: Paths, traces: dict[str, Trace], credit: Credit) -> Signals:
    """Learning signals of one step function.

    Parameters
    ----------
    paths : Paths
        Of the step function.
    traces : dict
        ``name of a source -> Trace``.
    credit : Credit
        Whether credit goes down through the memory of upper populations, and how many hops back.

    Raises
    ------
    ValueError
        If populations feed each other within one step and credit is to go through depth.
    """
    graph, names = paths.graph, [h.name for h in paths.graph.hidden]
    order = list(range(len(graph.populations)))
    if not credit.through_depth or not paths.reached:
        return Signals(frozenset(name for name in names if new(name) in paths.reached), order)
    states = {name for name in names if new(name) in paths.seen[LOSS]}
    found = _from_the_top(graph, traces, paths, states)
    for _ in range(credit.hops):
        fed = [c for c in graph.connections.values() if is_signalled(graph, traces, c, found.states)]
        more = found.states | {s for c in fed for s in _sent_before(paths, c.name)}
        if more == found.states:
            break
        found = _from_the_top(graph, traces, paths, more)
    return found


def _sent_before(paths: Paths, name: str) -> set[str]:
    """States that what enters a connection depends on as they were at earlier steps."""
    graph, seen = paths.graph, paths.seen
    waiting = {key for key in seen[sent(name)] if key[0] == "state" and key[1] in paths.memories}
    while (
        not (more := {m for key in waiting for m in seen[key] if m[0] == "state" and m[1] in paths.memories}) <= waiting
    ):
        waiting |= more
    late = set().union(*(seen[key] for key in waiting))
    numbers = {h.name: graph.states.index(h.state) for h in graph.hidden}
    return {s for s, i in numbers.items() if state(i) in seen[sent(name)] | late or new(s) in late}


def _from_the_top(graph: Graph, traces: dict, paths: Paths, states: set | frozenset) -> Signals:
    """Populations in order, those that feed no other first; states that feed one with a signal get a signal."""
    home = {h.name: i for i, p in enumerate(graph.populations) for h in p.hidden}
    connections = list(graph.connections.values())
    reached = {s: [c for c in connections if new(s) in paths.seen[sent(c.name)]] for s in home}
    below = {(home[s], c.population) for s, found in reached.items() for c in found}
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
        fed = {s for s in home if any(is_signalled(graph, traces, c, states) for c in reached[s])}
        states = states | {s for s in fed if home[s] in waiting}
    return Signals(frozenset(states), order)


def is_signalled(graph: Graph, traces: dict, source: Source, states: set | frozenset) -> bool:
    """Whether a trace of a source meets a learning signal of one of the states."""
    suffix = graph.structures[source.population].suffix
    return any((s, k) in suffix for s in states for k in traces[source.name].kinds)
