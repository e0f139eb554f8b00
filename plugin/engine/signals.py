"""Which states a loss gives a learning signal to, found by dependency in one step before anything runs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from etrax.contract.dependence import marked
from etrax.contract.recorder import NOTHING

from .graph import Graph
from .pure import Pure

__all__ = ["Signals"]


class Signals:
    """Learning signals of one step function.

    Parameters
    ----------
    graph : Graph
        What is known of the model.
    traces : dict
        ``connection name -> Carry``.
    observed : Pure
        One step with zeros added to its new states, see `Engine`.
    zeros : dict
        ``state -> zeros``.
    weights : list of int
        Numbers of the parameters to differentiate; each must get a signal through its trace, or have a path of its own.
    within : {'single-step', 'multi-step'}
        In the latter case a path may lead through later steps.
    values : dict
        Values of the states.
    slices : tuple
        One step's arguments.

    Attributes
    ----------
    states : set
        The states with a signal.
    order : list of int
        The populations, from the top down if credit goes through depth.

    Raises
    ------
    ValueError
        If the loss depends on no path from a parameter in ``weights``, or if populations feed each other within one
        step and credit is to go through depth.
    """

    def __init__(
        self,
        graph: Graph,
        traces: dict,
        observed: Pure,
        zeros: dict,
        weights: list[int],
        within: str,
        values: dict[int, Any],
        slices: tuple,
    ):
        self.graph = graph
        self.traces = traces
        self.states: set = set()
        self.order = list(range(len(graph.populations)))
        seen: set = set()
        feeds: set = set()  # (what, connection that it feeds in the same step), empty unless credit goes through depth

        def probe(key, zeros, own):
            # nothing is handed over, so that what projections send depends on the zeros too
            _, out = observed({**values, **own}, zeros, NOTHING, *slices)
            sent = [marked(leaf, (key, name), feeds) for name, y in out["y"].items() for leaf in jax.tree.leaves(y)]
            return marked(out["loss"], key, seen), sent

        def lift(tree):
            return jax.tree.map(lambda a: jnp.asarray(a)[None], tree)

        if jax.eval_shape(lambda: observed(values, zeros, NOTHING, *slices)[1]["loss"]) is None:
            return
        for name, zero in zeros.items():
            jax.eval_shape(jax.vmap(lambda z, name=name: probe(name, {**zeros, name: z}, {})), lift(zero))
        self.states = set(seen)
        self._order_by(feeds)
        if within == "multi-step":
            return
        for i in weights:
            state = graph.states.all[i]
            if any(self._is_signalled(c) for c in graph.sources if state in c.params.values()):
                continue
            jax.eval_shape(jax.vmap(lambda v, i=i: probe(i, zeros, {i: v})), lift(values[i]))
            if i not in seen and not self._reaches(i, feeds):
                name = ".".join(map(str, graph.paths.get(id(state), (f"state {i}",))))
                raise ValueError(
                    f"no path leads from the parameter {name} to the loss within one step, so its online gradient is always "
                    "zero: let the loss (or a layer above, in the same step) read what it feeds, or leave it out with "
                    "`weights=`."
                )

    def _order_by(self, feeds: set) -> None:
        """Put populations in order, those that feed no other first; states that feed one with a signal get a signal."""
        home = {h.name: i for i, p in enumerate(self.graph.populations) for h in p.hidden}
        target = {c.name: c.population for c in self.graph.connections.values()}
        below = {(home[s], target[name]) for s, name in feeds if home[s] != target[name]}
        waiting, order = list(self.order), []
        while waiting:
            free = [i for i in waiting if not any((i, j) in below for j in waiting)]
            if not free:
                raise ValueError(
                    "`through_depth` needs an order of the populations, but some feed each other within one step: let one of them "
                    "read the spikes of the step before (`get_spike()` ahead of its call)."
                )
            order += free
            waiting = [i for i in waiting if i not in free]
            self.states |= {s for s in home if home[s] in waiting and self._reaches(s, feeds)}
        if feeds:
            self.order = order

    def _reaches(self, key, feeds: set) -> bool:
        """Whether a state or parameter feeds a connection whose population has a learning signal."""
        return any((key, c.name) in feeds and self._is_signalled(c) for c in self.graph.connections.values())

    def _is_signalled(self, source) -> bool:
        trace = self.traces[source.name]
        structure = self.graph.structures[source.population]
        return any((s, k) in structure.suffix for s in self.states for k in trace.kinds)
