"""One chunk of time: the parallel form of D-RTRL, equations (22) to (27) of docs/mathematics.md.

1. multiply what enters from outside for the whole chunk (`Engine._send_ahead`), then scan the dynamics alone and keep the
   states and what entered and left the projections (`Engine._simulate`);
2. look back at all steps, from the stored states: Jacobian, learning signals, adjoints and the products of ``D``
   (`look_back.LookBack`);
3. gradients and the new traces are one matrix product each (`traces`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from etrax.contract.dependence import dependent
from etrax.text import dotted

from .adjoint import Adjoint, Passed, Wanted, put
from .adjoint import Steps as Scanned
from .derivatives import first_order
from .graph import Graph
from .hops import Crossings, before_growth
from .layer import Layer
from .ledger import Ledger
from .look_back import Level, LookBack, Past, blocks_of
from .multi_step import backpropagate
from .paths import Paths
from .planning import Ends, Limits
from .pure import Values, like
from .signals import Signals, find_signals
from .sources import Source
from .step import NOTHING, Credit, Routes, Sent, Step
from .traces.base import Asked, Found, Steps, Trace

__all__ = ["ChunkResult", "Engine", "Factors", "Parts"]

Traces = dict[str, Any]  # what is held of each trace, by the name of its source


class Parts(NamedTuple):
    """What a learner is made of once it is compiled: what it knows of the model, its traces, the ways of its errors."""

    graph: Graph
    traces: dict[str, Trace]
    credit: Credit = Credit()
    routes: Routes = Routes()
    limits: Limits = Limits()


class Factors(NamedTuple):
    """What products are made of: inputs by connection, and by population what its adjoint noted and what its steps were."""

    x: dict[str, Any]
    passed: dict[int, Passed]
    steps: dict[int, Steps]


class ChunkResult(NamedTuple):
    """Values of the written states and traces after a chunk, its gradients, and over time losses and aux."""

    values: Values
    traces: Traces
    grads: dict[int, Any]
    loss: Any
    aux: Any


class Engine:
    """Gradients and traces over chunks, for one step function.

    Parameters
    ----------
    parts : Parts
        What the learner is made of.
    fn : callable
        ``(*slices) -> (loss or None, aux)``; runs the model once.
    weights : list of int
        Numbers of the parameters to differentiate.
    slices : tuple
        One step's arguments (shapes are enough).

    Attributes
    ----------
    moved : list of State
        What the step writes and the model reads, but was not known to change.

    Raises
    ------
    ValueError
        If the loss depends on no path from a parameter in ``weights``, or if populations
        feed each other within one step and credit is to go through depth.
    """

    def __init__(self, parts: Parts, fn: Callable, weights: list[int], slices: tuple):
        graph, credit = parts.graph, parts.credit
        self.graph = graph
        self.traces = parts.traces
        self.credit = credit
        self.weights = weights
        self.step = Step(graph, fn, credit, parts.routes, slices)
        self.written = self.step.written
        self.used = sorted({*self.step.used, *weights})
        self.moved = [graph.states.all[i] for i in self.written if i in graph.used and i not in graph.moving]
        for i in set(weights) & set(self.written):
            raise ValueError(
                f"the step writes the parameter {dotted(graph.paths.get(id(graph.states.all[i]), (f'state {i}',)))}, which is trained: keep what changes from step "
                "to step in a state of its own (`brainstate.ShortTermState`), or leave the parameter out with `weights=`."
            )
        self.layers: dict[str, Layer] = {name: t.layer for name, t in parts.traces.items() if t.layer is not None}
        self.adjoints = [
            Adjoint(p, s, graph.sources_of(i), self.step.zeros[p.hidden[0].name].dtype)
            for i, (p, s) in enumerate(zip(graph.populations, graph.structures, strict=True))
        ]
        signals = Signals(frozenset(), list(range(len(graph.populations))))
        crossings = None
        self.ledger: Ledger | None = None
        if weights:
            paths = Paths(graph, fn, parts.routes, slices)
            signals = find_signals(paths, parts.traces, credit)
            self.ledger = Ledger(paths, parts.traces, signals, credit)
            self.ledger.check(weights)
            if credit.through_depth:
                crossings = Crossings(self.step, self.layers, sorted(self.ledger.waiting), weights)
        self.order = signals.order
        adjoint_of = {s.name: parts.traces[s.name].needs_adjoint(credit.through_time) for s in graph.sources}
        self._with_adjoint = {s.population for s in graph.sources if adjoint_of[s.name]}
        stepwise = frozenset(s.population for s in graph.sources if not parts.traces[s.name].needs_adjoint(False))
        single = [] if credit.through_time else weights
        self.look_back = LookBack(self.step, self.adjoints, signals, single, stepwise, parts.limits, crossings)

    def guarded(self, values: Values, held: Traces, args: tuple, slices: tuple) -> tuple[Values, Traces, tuple]:
        """Values, traces and arguments, by which a gradient may be differentiated only if they act after the projections.

        Parameters
        ----------
        values, held : dict
            Values of the states, and what is held of the traces.
        args : tuple
            Arguments of one step or of many.
        slices : tuple
            Those of one step.
        """
        leaves, structure = jax.tree.flatten(args)
        # stand-ins: a derivative of this may be taken where the values are not known any more
        of = jax.eval_shape(lambda: (values, slices))

        def name(i):
            path = self.graph.paths.get(id(self.graph.states.all[i]), (f"state {i}",))
            return None if i in self._after(*of) else dotted(path)

        def argument(k):
            return None if ("slice", k) in self._after(*of) else "an input, or what acts on it"

        guarded = [first_order(leaf, partial(argument, k)) for k, leaf in enumerate(leaves)]
        values = {i: first_order(v, partial(name, i)) for i, v in values.items()}
        return values, first_order(held, "a trace"), jax.tree.unflatten(structure, guarded)

    def _after(self, values: Values, slices: tuple) -> set:
        """Numbers of states, and of leaves of the arguments, that act on nothing that a gradient is made of but its signals."""
        leaves, structure = jax.tree.flatten(slices)
        hidden = {self.graph.states.index(h.state) for h in self.graph.hidden}

        def acts(moved, values, leaves) -> dict:
            at = {**values, **{i: v for i, v in moved.items() if i in values}}
            leaves = [moved.get(("slice", k), leaf) for k, leaf in enumerate(leaves)]
            new, out = self.step.observe(at, self.step.zeros, NOTHING, *jax.tree.unflatten(structure, leaves))
            populations = {i: v for i, v in new.items() if i in hidden}
            return {"acts": (out.x, out.varying, out.constant, populations)}

        inputs = values | {("slice", k): leaf for k, leaf in enumerate(leaves)}
        return {key for key, value in inputs.items() if not dependent(acts, {key: value}, values, leaves)}

    def advance(self, values: Values, held: Traces, args: tuple) -> Traces:
        """The traces after one step, from values of the states before it."""
        out = self.step.observe(values, self.step.zeros, NOTHING, *args)[1]
        varying = jax.tree.map(lambda a: a[None], out.varying)
        x = {n: jax.tree.map(lambda a: a[:, None], self.layers[n].input(entered)) for n, entered in out.x.items()}
        new = dict(held)
        for i in self.order:
            passed = Passed()
            if i in self._with_adjoint:
                scanned = Scanned(jnp.arange(1), {}, varying)
                end = self.adjoints[i].end(1, Wanted(forms=True))
                passed = self.adjoints[i].back(scanned, partial(blocks_of, i, constant=out.constant), end)
            steps = Steps({}, blocks_of(i, varying, out.constant, steps=1))
            factors = Factors(x, {i: passed}, {i: steps})
            new |= self.learn(self.graph.sources_of(i), factors, values, held, {})[0]
        return new

    # -- one chunk -----------------------------------------------------------------------

    def chunk(self, values: Values, held: Traces, slices: tuple, mask: Any, ends: Ends = Ends()) -> ChunkResult:
        """Run ``K`` steps; all leaves of ``slices`` and ``mask`` have a leading time axis of length ``K``.

        Parameters
        ----------
        values, held : dict
            Values of the states, and what is held of the traces.
        slices, mask : pytree
            Arguments of the steps, and the weights of their losses.
        ends : Ends
            Whether it is the first or the last one of a trial.
        """
        K, through_time, learns = mask.shape[0], self.credit.through_time, bool(self.weights)
        after, states, sent, x = self._simulate(values, self._send_ahead(values, slices), slices, K)
        signals: dict[str, Any] = {}
        grads = {i: jax.tree.map(jnp.zeros_like, values[i]) for i in self.weights}
        done = None
        if through_time and learns:
            done = backpropagate(self.step, values, self.weights, slices, mask)
            signals, grads = done.signals, done.grads
        wanted = Wanted(back=learns, credit=learns and not through_time, forms=not ends.last)
        begun = [self._end(K, wanted, grads)]
        if learns:
            begun += [self._end(K, wanted._replace(forms=False), grads)] * min(self.credit.hops, K - 1)
        found = self.look_back.run(values, Past(states, mask, sent, signals, slices), begun)
        passed, grads = self._chosen(found.levels, whole=self.credit.hops >= K - 1)
        factors = Factors(x, passed, found.steps)
        new = dict(held)
        for i in self.order:
            learnt, grads = self.learn(self.graph.sources_of(i), factors, values, held, grads, ends)
            new |= learnt
        new = {name: self.traces[name].keep(value) for name, value in new.items()}
        loss, aux = (found.loss, found.aux) if done is None else (done.loss, done.aux)
        return ChunkResult(after, new, grads, loss, aux)

    def _end(self, K: int, wanted: Wanted, grads: dict[int, Any]) -> Level:
        return Level({i: self.adjoints[i].end(K, wanted) for i in self.order if i in self._with_adjoint}, grads)

    def _chosen(self, levels: list[Level], *, whole: bool) -> Level:
        """The last level; or, where they overshoot and are not ``whole``, the one before they grow."""
        first, last = levels[0], levels[-1]
        if len(levels) > 2 and not whole:
            credits = [
                [level.passed[c.population].credit[c.drive] for c in self.graph.connections.values()]
                for level in levels
            ]
            number = before_growth(credits)
            last = jax.tree.map(lambda *leaves: jax.lax.select_n(number, *leaves), *[_sums(level) for level in levels])
        forms = {i: last.passed[i]._replace(F=p.F, M=p.M) for i, p in first.passed.items()}
        return Level(forms, last.grads)

    def _send_ahead(self, values: Values, slices: tuple) -> dict[str, Sent]:
        """What enters and leaves the connections from outside in all steps of a chunk; their matrix product is one."""
        if not self.step.ahead:
            return {}
        sent = self.step.simulate.vmap(set(), in_axes=(None, *[0] * len(slices)))(values, {}, *slices)
        return {name: sent[name] for name in self.step.ahead}

    def _simulate(self, values: Values, ahead: dict[str, Sent], slices: tuple, K: int):
        """Run the dynamics alone.

        Returns values after the chunk, values of the written states at all its steps, what left each connection, and
        what entered it.
        """
        layers, step = self.layers, self.step
        fixed = {i: v for i, v in values.items() if i not in self.written}
        start = {i: values[i] for i in self.written}
        known = {name: sent.left for name, sent in ahead.items()}

        def forward(carry, at):
            now, x, states = carry
            t, known, slices = at
            new, sent = step.simulate({**fixed, **now}, known, *slices)
            new = like(now, {**now, **new})
            x = {n: jax.tree.map(partial(put, t=t), x[n], layers[n].input(sent[n].entered)) for n in x}
            states = jax.tree.map(lambda a, v: jax.lax.dynamic_update_index_in_dim(a, v, t + 1, 0), states, new)
            return (new, x, states), {name: sent[name].left for name in x}

        x = {n: a.no_inputs(K) for n, a in layers.items() if n not in ahead}
        states = jax.tree.map(lambda v: jnp.zeros((K + 1, *v.shape), v.dtype).at[0].set(v), start)
        (after, x, states), sent = jax.lax.scan(forward, (start, x, states), (jnp.arange(K), known, slices))
        x |= {n: jnp.swapaxes(jax.vmap(layers[n].input)(a.entered), 0, 1) for n, a in ahead.items()}
        return after, states, {**sent, **known}, x

    def learn(
        self,
        sources: Iterable[Source],
        factors: Factors,
        values: Values,
        held: Traces,
        grads: dict,
        ends: Ends = Ends(),
    ) -> tuple[Traces, dict]:
        """The traces of some sources after a chunk, and ``grads`` with what they give."""
        new = {}
        for source in sources:
            trace, i = self.traces[source.name], source.population
            trained = any(number in grads for number in trace.indices)
            asked = Asked(
                own=trained and not self.credit.through_time, earlier=trained and not ends.first, after=not ends.last
            )
            found = Found(factors.x.get(source.name), factors.passed.get(i, Passed()), factors.steps.get(i))
            new[source.name], grads = trace.learn(held[source.name], grads, found, values, asked)
        return new, grads


def _sums(level: Level) -> Level:
    """What of a level grows with hops."""
    return level._replace(passed={i: p._replace(F=None, M=None) for i, p in level.passed.items()})
