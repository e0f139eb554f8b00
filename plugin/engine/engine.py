"""One chunk of time: the parallel form of D-RTRL.

1. multiply what enters from outside for the whole chunk (`_send_ahead`), then scan the dynamics alone and keep the
   states and what entered and left the projections (`_simulate`);
2. look at all steps of a block (all of a chunk, or a part of a long one) at once, from the stored states: Jacobian
   entries and the learning signals, one derivative of the summed loss (`_observe`), or, through depth, one for each
   population from the top down, with what the populations above it send back;
3. scan back through the steps of the block, element-wise, for the adjoint and the products of ``D`` (`Adjoint`), which
   looks at each step again if its entries are many, and go on with the block before (`_look_back`);
4. gradients and the new trace are one matrix product each (`carry.Dense`, or another carry).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.contract.dependence import marked
from etrax.contract.jacobian import Kind
from etrax.contract.recorder import NOTHING, Recorder, like, recording

from .adjoint import Adjoint, put
from .graph import Graph
from .layer import Layer
from .pure import Pure
from .signals import Signals
from .traces.base import Carry, collect
from .traces.rank_one import RankOne

__all__ = ["Engine"]

MOST_STEPS = 128  # looked at together: what is seen of them stays in the cache
FEW = 4  # entries that vary: fewer are kept for these steps, more are computed where they are used
_AXES = {"loss": 0, "aux": 0, "varying": 0, "constant": None, "x": 0, "y": 0}  # where `Engine._observe` depends on time


class Engine:
    """Gradients and traces over chunks, for one step function.

    Parameters
    ----------
    graph : Graph
        What is known of the model.
    traces : dict
        ``connection name -> Carry``.
    step : callable
        ``(*slices) -> (loss or None, aux)``; runs the model once.
    weights : list of int
        Numbers of the parameters to differentiate.
    slices : tuple
        One step's arguments (shapes are enough).
    within : {'single-step', 'multi-step'}
        Inside a chunk, learning signals of each step alone or backpropagation through its steps.
    through_depth : bool
        Whether what a population sends down within a step is its adjoint, instead of its learning signal.

    Raises
    ------
    ValueError
        If the loss is not a scalar, if it depends on no path from a parameter in ``weights``, or if populations
        feed each other within one step and credit is to go through depth.
    """

    def __init__(
        self,
        graph: Graph,
        traces: dict[str, Carry],
        step: Callable,
        weights: list[int],
        slices: tuple,
        within: str = "single-step",
        through_depth: bool = False,
    ):
        self.graph = graph
        self.traces = traces
        self.step = step
        self.weights = weights
        self.within = within
        self.through_depth = through_depth
        self._simulated = Pure(self._simulate, graph.states)
        self._observed = Pure(self._observe, graph.states)
        self._plain = Pure(self._step_with_zeros, graph.states)
        self.settled: set[int] = set()  # states that nobody writes after their module's step
        used, self.written = self._simulated.trace({}, *slices)
        self.zeros = {  # of numpy: an engine made inside one compiled function serves in others
            h.name: np.zeros((p.rows, p.size), jnp.result_type(u.get_mantissa(h.state.value)))
            for p in graph.populations
            for h in p.hidden
        }
        self.adjoints = [
            Adjoint(p, s, [c for c in graph.sources if c.population == i], self.zeros[p.hidden[0].name].dtype)
            for i, (p, s) in enumerate(zip(graph.populations, graph.structures, strict=True))
        ]
        _, sent = jax.eval_shape(self._simulated, graph.states.read(used), {}, *slices)
        blank = {name: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), y) for name, (_, y) in sent.items()}
        more, _ = self._observed.trace(self.zeros, {"sent": blank, "new": {}}, *slices)
        self.used = sorted({*used, *more, *weights})
        self.ahead = self._find_inputs(used, slices)
        values = graph.states.read(self.used)
        found = Signals(graph, traces, self._observed, self.zeros, weights, within, values, slices)
        self.signals, self.order = found.states, found.order

    # -- one step ------------------------------------------------------------------------

    def _simulate(self, handed, *slices):
        own = handed or any(c.pattern and c.pattern.sparse_product for c in self.graph.connections.values())
        recorder = Recorder(send=self.graph.send(handed) if own else None)
        with recording(recorder):
            self.step(*slices)
        self.settled = {self.graph.states.index(state) for state, value in recorder.written() if state.value is value}
        names = {key: connection.name for key, connection in self.graph.connections.items()}
        return {name: (recorder.x[key], recorder.y[key]) for key, name in names.items() if key in recorder.y}

    def _observe(self, zeros, handed, *slices):
        shifts = {id(h.state): zeros[h.name] for h in self.graph.hidden if h.name in zeros}
        recorder = Recorder(
            jacobian=True,
            zeros=shifts,
            known={id(self.graph.states.all[i]): value for i, value in handed["new"].items()},
            send=self.graph.send(handed["sent"]),
            parts=self.graph.parts,
            cut=self.through_depth,
        )
        with recording(recorder):
            loss, aux = self.step(*slices)
        if loss is not None:
            loss = u.get_mantissa(loss)
            if jnp.ndim(loss) != 0:
                raise ValueError(
                    f"`step_fn` must return a scalar loss for one step, got shape {jnp.shape(loss)}: reduce over batch and "
                    "outputs inside it, e.g. with `.mean()`."
                )
        D, f = self.graph.compose(recorder)
        constant: dict[str, dict] = {"D": {}, "f": {}}
        varying: dict[str, dict] = {"D": {}, "f": {}}
        for what, block in (("D", D), ("f", f)):
            for key, value in block.items():
                kind = getattr(self.graph.structures[key[0]], what).get(key[1:])
                if kind is None:
                    continue
                population = self.graph.populations[key[0]]
                (varying if kind is Kind.VARYING else constant)[what][key] = population.canonical(value, kind)
        x = {self.graph.connections[key].name: value for key, value in recorder.x.items()}
        sent = (
            {self.graph.connections[key].name: value for key, value in recorder.y.items()} if self.through_depth else {}
        )
        return {"loss": loss, "aux": aux, "varying": varying, "constant": constant, "x": x, "y": sent}

    def _find_inputs(self, used, slices) -> list[str]:
        """Connections whose input comes from outside: it, and the layer, depend on no state of the step."""
        seen: set = set()

        def probe(values):
            _, sent = self._simulated({**fixed, **values}, {}, *slices)
            return [
                marked(jnp.asarray(leaf), name, seen) for name, (x, _) in sent.items() for leaf in jax.tree.leaves(x)
            ]

        values = self.graph.states.read(used)
        fixed = {i: v for i, v in values.items() if i not in self.written}
        moving = {i: jax.tree.map(lambda a: jnp.asarray(a)[None], values[i]) for i in self.written}
        jax.eval_shape(jax.vmap(probe), moving)
        found = []
        for connection in self.graph.connections.values():
            read, written = connection.comm.trace(connection.x)
            if connection.name not in seen and not written and not set(read) & set(self.written):
                found.append(connection.name)
        return found

    def _send_ahead(self, values, slices):
        """What enters and leaves these connections in all steps of a chunk; their matrix product is one."""
        if not self.ahead:
            return {}
        sent = self._simulated.vmap(set(), in_axes=(None, *[0] * len(slices)))(values, {}, *slices)
        return {name: sent[name] for name in self.ahead}

    def advance(self, values, eps, args) -> dict:
        """The trace after one step, from values of the states before it."""
        out = self._observed(values, self.zeros, NOTHING, *args)[1]
        out["varying"] = jax.tree.map(lambda a: a[None], out["varying"])
        layers = self._layers()
        x = {name: layers[name].input(value)[:, None] for name, value in out["x"].items()}
        new = dict(eps)
        for i in self.order:
            passed: dict = {}
            kept: tuple[dict, ...] = ({}, *self._blocks(i, out, steps=1))
            if self._has_adjoint(i):
                end = self.adjoints[i].end(1, False, False, True)
                passed = self.adjoints[i].back({}, self._later(i, out), out["varying"], jnp.arange(1), end)
            seen = {"x": x, "passed": {i: passed}, "kept": {i: kept}}
            self.train(self.sources(i), seen, values, eps, new, {})
        return new

    # -- one chunk -----------------------------------------------------------------------

    def chunk(self, values, eps, slices, mask, first=False, last=False) -> tuple[dict, dict, dict, Any, Any]:
        """Run ``K`` steps; all leaves of ``slices`` and ``mask`` have a leading time axis of length ``K``.

        Parameters
        ----------
        values, eps : dict
            Values of the states, and the trace.
        slices, mask : pytree
            Arguments of the steps, and the weights of their losses.
        first, last : bool
            Whether the trace before this chunk is zero, and whether nobody reads the one after it.

        Returns
        -------
        tuple
            Values of the written states, the trace, gradients ``{number: value}``, losses ``(K,)``, aux.
        """
        after, seen, grads, loss, aux = self.look(values, slices, mask, last)
        new_eps = dict(eps)
        for i in self.order:
            self.train(self.sources(i), seen, values, eps, new_eps, grads, first, last)
        return after, {name: self.traces[name].keep(value) for name, value in new_eps.items()}, grads, loss, aux

    def look(self, values, slices, mask, last=False, room=None, at=0) -> tuple[dict, dict, dict, Any, Any]:
        """Run ``K`` steps and collect the factors of gradients and traces, without their products.

        Parameters
        ----------
        values, slices, mask, last
            As for `chunk`.
        room : dict, optional
            Longer arrays that take the factors of some populations, as in what is returned, and under ``"sums"`` which sums
            of ``|M_t f_t|`` over time are asked for, ``{(connection, what): (population, drive)}``, weighted with the
            largest input of each row for ``"x"`` and alike for ``"one"``.
        at : int
            Where in these arrays time begins.

        Returns
        -------
        tuple
            Values of the written states; ``{"x", "passed", "kept"}``, which are the inputs by connection, and by
            population what the adjoint passed on and what a trace of rank 1 needs; gradients of parameters
            outside every projection; losses ``(K,)``; aux.
        """
        fixed = {i: v for i, v in values.items() if i not in self.written}
        start = {i: values[i] for i in self.written}
        room = {"x": {}, "passed": {}, "sums": {}} if room is None else room

        K = mask.shape[0]
        layers = self._layers()

        ahead = self._send_ahead(values, slices)
        known = {name: y for name, (_, y) in ahead.items()}
        begin = {name: at if name in room["x"] else 0 for name in layers}

        def forward(carry, at):
            now, x, states = carry
            t, known, slices = at
            new, sent = self._simulated({**fixed, **now}, known, *slices)
            new = like(now, {**now, **new})
            x = {name: put(x[name], layers[name].input(sent[name][0]), begin[name] + t) for name in x}
            states = jax.tree.map(lambda a, v: jax.lax.dynamic_update_index_in_dim(a, v, t + 1, 0), states, new)
            most = {name: jnp.max(jnp.abs(layers[name].input(sent[name][0])), -1) for name in room["x"] if name in x}
            return (new, x, states), ({name: sent[name][1] for name in x}, most)

        x = {n: jnp.zeros((a.rows, K, a.in_size), a.dtype) for n, a in layers.items()} | room["x"]
        of_ahead = {n: x.pop(n) for n in ahead}
        states = jax.tree.map(lambda v: jnp.zeros((K + 1, *v.shape), v.dtype).at[0].set(v), start)
        (after, x, states), (sent, most) = jax.lax.scan(forward, (start, x, states), (jnp.arange(K), known, slices))
        for n, (entered, _) in ahead.items():
            block = jnp.swapaxes(jax.vmap(layers[n].input)(entered), 0, 1)
            x[n] = jax.lax.dynamic_update_slice_in_dim(of_ahead[n], block, begin[n], 1)
            most[n] = jnp.max(jnp.abs(block), -1).T if n in room["x"] else None
        signals, grads, done = {}, {i: jax.tree.map(jnp.zeros_like, values[i]) for i in self.weights}, None
        if self.within == "multi-step" and self.weights:
            signals, grads, done = self._backpropagate(values, slices, mask)
        most = {n: layers[n].by_neuron(most[n]) for n in room["x"]}
        sums = {key: jnp.ones_like(most[key[0]]) if key[1] == "one" else most[key[0]] for key in room["sums"]}
        past = {"sent": {**sent, **known}, "slices": slices, "mask": mask, "signals": signals, "sums": sums}
        passed = {
            i: self.adjoints[i].end(K, *self._asked(last), self._room(room, i))
            for i in self.order
            if self._has_adjoint(i)
        }
        begins = {i: at if i in room["passed"] else 0 for i in passed}
        passed, grads, (loss, aux, kept) = self._look_back(
            fixed, values, states, past, grads, passed, begins, room["sums"]
        )
        loss, aux = (loss, aux) if done is None else done
        return after, {"x": x, "passed": passed, "kept": kept}, grads, loss, aux

    def _asked(self, last: bool) -> tuple[bool, bool, bool]:
        """What is asked of the adjoint, see `Adjoint.end`."""
        learns = bool(self.weights)
        return learns, learns and self.within == "single-step", not last

    def _room(self, room, index) -> dict:
        """What of the longer arrays belongs to one population, with the drives of its sums."""
        if index not in room["passed"]:
            return {}
        return {**room["passed"][index], "sizes": {key: d for key, (i, d) in room["sums"].items() if i == index}}

    def _look_back(self, fixed, values, states, past, grads, passed, begin, sums):
        """Observe the chunk and scan the adjoint back through it, block by block, so that what is seen stays in the cache.

        Returns what the adjoint passed on and noted by population, the gradients of parameters outside every projection
        added to ``grads``, and over time the losses, aux and what a trace of rank 1 needs.
        """
        K = past["mask"].shape[0]
        size = block_size(K)
        weights = {i: values[i] for i in self.weights} if self.within == "single-step" else {}
        look = self._observed.vmap(set(self.written), in_axes=0, out_axes=_AXES)
        descend = self.through_depth and bool(weights)

        def part(tree, start, length):
            return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, length), tree)

        def body(carry, start, size=size):
            passed, grads = carry
            at, around = part(past, start, size), part(states, start, size + 1)
            before, new = (jax.tree.map(lambda a, cut=cut: a[cut], around) for cut in (slice(-1), slice(1, None)))
            handed = {"sent": at["sent"], "new": {i: new[i] for i in self.settled}}

            def total(zeros, weights):
                out = look({**fixed, **before, **weights}, zeros, handed, *at["slices"])
                loss, sent = out.pop("loss"), out.pop("y")
                value = jnp.zeros(()) if loss is None else jnp.sum(at["mask"] * loss)
                return (value, sent), (loss, out)

            signals = at["signals"]
            if weights:
                zeros = {s: jnp.zeros((size, *self.zeros[s].shape), self.zeros[s].dtype) for s in self.signals}
                (value, sent), pullback, (loss, out) = jax.vjp(total, zeros, weights, has_aux=True)
                one, above = jnp.ones_like(value), jax.tree.map(jnp.zeros_like, sent)
                signals, more = pullback((one, above))
            else:
                _, (loss, out) = total({}, {})
            passed, kept = dict(passed), {}
            for i in self.order:
                if descend:
                    signals = pullback((one, above))[0]
                L = self._own(i, signals)
                if self._is_rank_one(i):
                    kept[i] = (L, *self._blocks(i, out, size))
                if i in passed:
                    blocks, seen = self._later(i, out), out["varying"]
                    if self._varies_much(i):
                        blocks, seen = self._again(i, fixed), (before, handed, at["slices"])
                    times = begin[i] + start + jnp.arange(size)
                    summed = {key: (d, at["sums"][key]) for key, (j, d) in sums.items() if j == i}
                    passed[i] = self.adjoints[i].back(L, blocks, seen, times, passed[i], summed)
                    if descend:
                        above = {**above, **self._sent_back(i, passed[i], begin[i] + start, sent)}
            if descend:  # with parameters between two populations, outside a projection
                more = pullback((one, above))[1]
            if weights:
                grads = jax.tree.map(jnp.add, grads, more)
            return (passed, grads), (loss, out["aux"], kept)

        if size == K:
            (passed, grads), out = body((passed, grads), 0)
            return passed, grads, out
        rest = K % size
        (passed, grads), out = jax.lax.scan(body, (passed, grads), jnp.arange(rest, K, size), reverse=True)
        out = jax.tree.map(lambda a: a.reshape(K - rest, *a.shape[2:]), out)
        if rest:
            (passed, grads), first = body((passed, grads), 0, rest)
            out = jax.tree.map(lambda *parts: jnp.concatenate(parts), first, out)
        return passed, grads, out

    def _backpropagate(self, values, slices, mask):
        """The chunk's own gradient by backpropagation, and its adjoint as signals of the first step, for the trace before it."""
        fixed = {i: v for i, v in values.items() if i not in self.written}
        K = mask.shape[0]

        def total(first, weights):
            def body(state, at):
                slices, zeros = at
                new, (loss, aux) = self._plain({**fixed, **weights, **state}, zeros, *slices)
                return like(state, {**state, **new}), (loss, aux)

            zeros = jax.tree.map(lambda z: jnp.concatenate([z[None], jnp.zeros((K - 1, *z.shape), z.dtype)]), first)
            start = {i: values[i] for i in self.written}
            _, (loss, aux) = jax.lax.scan(body, start, (slices, zeros))
            return jnp.sum(loss * mask), (loss, aux)

        weights = {i: values[i] for i in self.weights}
        (first, grads), (loss, aux) = jax.grad(total, argnums=(0, 1), has_aux=True)(self.zeros, weights)
        return {s: jnp.zeros((K, *v.shape), v.dtype).at[0].set(v) for s, v in first.items()}, grads, (loss, aux)

    def _step_with_zeros(self, zeros, *slices):
        shifts = {id(h.state): zeros[h.name] for h in self.graph.hidden}
        with recording(Recorder(zeros=shifts)):
            loss, aux = self.step(*slices)
        return u.get_mantissa(loss), aux

    def _sent_back(self, index, passed, start, sent):
        """Cotangents of what enters one population in a block, in the shape and unit in which projections send it."""

        def shaped(connection):
            def fit(leaf):
                part = jax.lax.dynamic_slice_in_dim(passed["ct"][connection.drive], start, leaf.shape[0], axis=1)
                return (jnp.swapaxes(part, 0, 1) * connection.scale).reshape(leaf.shape).astype(leaf.dtype)

            return jax.tree.map(fit, sent[connection.name])

        return {c.name: shaped(c) for c in self.graph.connections.values() if c.population == index}

    def train(self, sources, seen, values, eps, new_eps, grads, first=False, last=False) -> None:
        """Add what the traces of some sources give to ``grads``, and advance them."""
        for source in sources:
            passed, kept = (seen[what].get(source.population) for what in ("passed", "kept"))
            trace, old, entered = self.traces[source.name], eps[source.name], seen["x"].get(source.name)
            trained = any(i in grads for i in trace.indices)
            if isinstance(trace, RankOne):
                new, (filtered, cotangent) = trace.run(old, entered, *kept)
                if trained and self.within == "single-step":
                    grads |= collect(grads, trace.gradient(values, filtered, cotangent))
            else:
                new = old if last else trace.advance(old, passed["M"], passed["F"][source.drive], entered)
                if trained and self.within == "single-step":
                    grads |= collect(grads, trace.gradient(values, entered, passed["ct"][source.drive]))
            if trained and not first and (self.within == "multi-step" or not isinstance(trace, RankOne)):
                grads |= collect(grads, trace.carried(values, old, passed["back"]))
            new_eps[source.name] = new

    def _layers(self) -> dict[str, Layer]:
        """The traces that stand behind a layer; the others belong to constants."""
        return {name: trace for name, trace in self.traces.items() if isinstance(trace, Layer)}

    def _own(self, index, signals):
        """The learning signals of one population's states."""
        return {h.name: signals[h.name] for h in self.graph.populations[index].hidden if h.name in signals}

    def _blocks(self, index, out, steps=0) -> tuple[dict, dict]:
        """``D`` and ``f`` of one population: of one step, or spread over ``steps`` that were observed together."""

        def own(kind, what):
            block = {key[1:]: v for key, v in out[kind][what].items() if key[0] == index}
            spread = steps and kind == "constant"
            return {key: jnp.broadcast_to(v, (steps, *jnp.shape(v))) for key, v in block.items()} if spread else block

        D, f = (own("constant", what) | own("varying", what) for what in ("D", "f"))
        return D, f

    def _later(self, index, out) -> Callable:
        """A function of what varies among steps observed together, to give the blocks of one."""
        return lambda varying: self._blocks(index, {**out, "varying": varying})

    def _again(self, index, fixed) -> Callable:
        """A function of what a step begins with, to give its blocks."""

        def blocks(begin):
            before, handed, slices = begin
            return self._blocks(index, self._observed({**fixed, **before}, self.zeros, handed, *slices)[1])

        return blocks

    def _varies_much(self, index) -> bool:
        """Whether entries are so many that to store them costs more than to look at each step again."""
        structure, drives = self.graph.structures[index], self.adjoints[index].drives
        kinds = [*structure.D.values(), *(kind for (_, d), kind in structure.f.items() if d in drives)]
        return sum(kind is Kind.VARYING for kind in kinds) > FEW

    def sources(self, index) -> list:
        """What drives one population with trained parameters."""
        return [source for source in self.graph.sources if source.population == index]

    def _is_rank_one(self, index) -> bool:
        return any(isinstance(self.traces[s.name], RankOne) for s in self.sources(index))

    def _has_adjoint(self, index) -> bool:
        """Whether anything asks for the adjoint of a population."""
        kinds = [type(self.traces[s.name]) for s in self.sources(index)]
        return bool(kinds) and (self.within == "multi-step" or any(k is not RankOne for k in kinds))


def block_size(K: int) -> int:
    """Steps that are looked at together: a divisor of the chunk if there is a fair one, for one program for all blocks."""
    most = min(K, MOST_STEPS)
    return max((n for n in range(max(1, MOST_STEPS // 8), most + 1) if K % n == 0), default=most)
