"""The eligibility trace of one projection, handed from one chunk of time to the next.

The trace of the weights behind a drive obeys ``eps_K = M_0 eps_0 + sum_t (M_t f_t) (x) x_t`` for each
state, with ``M_t = D_K ... D_{t+1}``. What is kept of it between chunks is a choice:

========  =======================  ==========================================================
carry     memory per sample        exactness
========  =======================  ==========================================================
dense     W per state, or I        exact
window    M (I + N S)              exact up to the product of ``D`` over ``M`` steps
rank1     I + N S                  an approximation at every step (ES-D-RTRL)
none      0                        truncated at the chunk
========  =======================  ==========================================================

``W`` is the number of weights: ``I N``, or the non-zeros of a sparse layer, or ``N`` of an element-wise one.
A layer of no known `Pattern` is carried densely by its effective weights if it is affine in its input and has at
least a quarter as many parameters; any other is carried by a window in place of 'dense', and the report says so.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from .graph import Connection, Graph
from .jacobian import Kind, matmul
from .layer import Layer, per_row

__all__ = ["CARRIES", "Carry", "Dense", "Nothing", "RankOne", "Window", "collect", "make_carry", "steps_to"]

CARRIES = ("dense", "window", "rank1", "none")
MOST_WEIGHTS = 4  # effective weights per parameter that a dense trace may have

Trace = dict[str, Any]


class Carry:
    """What is kept of the trace of one source: of the parameters of a connection, or of a trained constant.

    Attributes
    ----------
    kinds : dict
        ``state -> kind`` of the trace.
    indices : list of int
        Numbers of the parameters.
    """

    kinds: dict[str, Kind]
    indices: list[int]

    def zeros(self) -> Trace:
        """The trace at the start of time."""
        return {}

    def advance(self, eps: Trace, M0, F, x) -> Trace:
        """The trace after a chunk.

        Parameters
        ----------
        eps : dict
            The trace before it.
        M0 : dict
            ``(state, state) -> `` product of all ``D`` of the chunk.
        F : dict
            ``state -> M_t f_t`` over time: ``(time,)``, ``(time, size)`` or ``(pop rows, time, size)``.
        x : array
            Inputs ``(rows, time, I)``.
        """
        return eps

    def gradient(self, values, x, ct):
        """Gradient of the parameters from the steps of a chunk themselves, see `Layer.gradient`."""
        raise NotImplementedError  # abstract: of a layer, or of a constant

    def keep(self, eps: Trace) -> Trace:
        """What of a trace is handed to the next chunk."""
        return eps

    def carried(self, values, eps: Trace, back):
        """Gradient of the parameters from the trace: ``sum back . eps``.

        Parameters
        ----------
        values : dict
            Values of the states that the source reads.
        eps : dict
            The trace.
        back : dict
            ``state -> `` its cotangent, ``(pop rows, size)``; absent means zero.
        """
        return jax.tree.map(jnp.zeros_like, {i: values[i] for i in self.indices})

    def dense(self, eps: Trace) -> dict[str, dict[str, jax.Array]]:
        """The trace in full: ``x`` of shape ``(rows, I, N)`` and ``one`` of shape ``(rows, N)``."""
        return {}

    def nbytes(self) -> int:
        """Bytes of the trace."""
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(self.zeros)))

    def products(self) -> int:
        """Matrix products of the size of the forward one that it costs per step, beside forward and gradient."""
        return 0


class Dense(Layer, Carry):
    """The whole trace: ``{state: {"x": array, "one": array}}``, ``x`` for the weights and ``one`` for a bias.

    ``x`` has shape ``(rows, I, N)``, or ``(rows, non-zeros)`` for a sparse layer. Where ``M_t f_t`` is the same
    for all neurons (kind *uniform*), it is the filtered input itself, of shape ``(rows, I)``. The trace of a bias is that of an input that is always 1.
    """

    def __init__(self, graph: Graph, connection: Connection, dtype=None):
        super().__init__(graph, connection)
        self.check_affine()
        self.stored = self.dtype if dtype is None else jnp.dtype(dtype)

    def zeros(self) -> Trace:
        """The trace at the start of time."""
        out = {}
        for state, kind in self.kinds.items():
            uniform = kind is Kind.UNIFORM
            shape = (self.rows, self.in_size) if uniform else (self.rows, *self.weight_shape)
            out[state] = {"x": jnp.zeros(shape, self.stored)}
            if self.bias:
                out[state]["one"] = jnp.zeros(() if uniform else (self.rows, self.out_size), self.stored)
        return out

    def advance(self, eps, M0, F, x):
        """See `Carry.advance`."""
        new = jax.tree.map(jnp.add, self.formed({state: F[state] for state in self.kinds}, x), self.aged(eps, M0))
        return jax.tree.map(lambda leaf: leaf.astype(self.stored), new)

    def formed(self, F, x) -> Trace:
        """What steps add to the trace of the states in ``F``."""
        new = {}
        for state, value in F.items():
            if self.kinds[state] is Kind.UNIFORM:
                every = jnp.broadcast_to(value, x.shape[:2])  # row by row: the input need not be transposed
                new[state] = {"x": jnp.einsum("rt,rti->ri", every, x)} | ({"one": jnp.sum(value)} if self.bias else {})
                continue
            factor = self.over_time(value)
            new[state] = {"x": self.outer(x, factor)} | ({"one": jnp.sum(factor, 1)} if self.bias else {})
        return new

    def aged(self, eps, M0) -> Trace:
        """What is left of the trace of the states in ``eps`` after a time whose product of all ``D`` is ``M0``."""
        eps = jax.tree.map(lambda leaf: leaf.astype(self.dtype), eps)
        new: Trace = {}
        for state in eps:
            terms = []
            for k, old in eps.items():
                if (state, k) not in M0:
                    continue
                m = M0[state, k]
                if self.kinds[state] is Kind.UNIFORM:
                    terms.append(jax.tree.map(lambda leaf, m=m: m * leaf, old))
                    continue
                m = self.full(m)
                x = self.at_pre(old["x"]) if self.kinds[k] is Kind.UNIFORM else old["x"]
                terms.append({"x": x * self.at_post(m)} | ({"one": old["one"] * m} if self.bias else {}))
            new[state] = jax.tree.map(lambda *parts: sum(parts[1:], parts[0]), *terms)
        return new

    def carried(self, values, eps, back):
        """See `Carry.carried`."""
        eps = jax.tree.map(lambda leaf: leaf.astype(self.dtype), eps)
        rows: list[tuple] = []
        weights, bias = [], []
        for state, kind in self.kinds.items():
            if state not in back:
                continue
            a, item = back[state].reshape(self.rows, self.out_size), eps[state]
            if kind is Kind.UNIFORM and self.pattern is None:
                rows.append((item["x"], a))
                rows.append((jnp.zeros_like(item["x"]), (item["one"] - 1.0) * a))
                continue
            if kind is Kind.UNIFORM:
                weights.append(self.correlate(item["x"], a))
            else:  # sample by sample: as a matrix product the trace would be transposed, as one sum it is read badly
                sweep = (item["x"], self.at_post(a))
                zero = jnp.zeros(jnp.broadcast_shapes(*(leaf.shape[1:] for leaf in sweep)), self.dtype)
                weights.append(jax.lax.scan(lambda G, at: (G + at[0] * at[1], None), zero, sweep)[0])
            if self.bias:
                bias.append(jnp.sum(item["one"] * a, 0))
        grads = jax.tree.map(jnp.zeros_like, {i: values[i] for i in self.indices})
        if rows:
            x = jnp.stack([x for x, _ in rows], 1)
            grads = jax.tree.map(jnp.add, grads, self.gradient(values, x, jnp.stack([a for _, a in rows], 1)))
        if weights:
            G, b = sum(weights), sum(bias) if bias else jnp.zeros(self.out_size, self.dtype)
            grads = jax.tree.map(jnp.add, grads, self.effective(values, G, b))
        return grads

    def dense(self, eps) -> dict[str, dict[str, jax.Array]]:
        """See `Carry.dense`."""
        out = {}
        for state, item in eps.items():
            x = item["x"]
            if self.kinds[state] is Kind.UNIFORM:
                x = jnp.broadcast_to(self.at_pre(x), (self.rows, *self.weight_shape))
            full = {"x": x}
            if self.bias:
                full["one"] = jnp.broadcast_to(item["one"], (self.rows, self.out_size))
            out[state] = full
        return out

    def products(self) -> int:
        """See `Carry.products`."""
        return sum(kind > Kind.UNIFORM for kind in self.kinds.values())

    def __str__(self) -> str:
        size = "dense" if self.pre is None else "per synapse"
        if self.shared or (self.pre is not None and self.synapses == self.in_size == self.out_size):
            size = "per neuron"
        return ", ".join(f"{s} {'input only' if k is Kind.UNIFORM else size}" for s, k in self.kinds.items())


class Window(Layer, Carry):
    """The factors of the last ``M`` steps: inputs ``x_s`` and ``M_s f_s``, propagated to the present.

    Serves every layer with a VJP, since no trace of its parameters is formed. ``reason`` says why it was chosen
    in place of a dense trace.
    """

    def __init__(self, graph: Graph, connection: Connection, length: int, reason: str = ""):
        super().__init__(graph, connection)
        self.length = length
        self.reason = reason

    def zeros(self) -> Trace:
        """See `Carry.zeros`."""
        M, rows, size = self.length, self.population.rows, self.population.size
        shapes = {Kind.UNIFORM: (M,), Kind.PER_NEURON: (M, size), Kind.VARYING: (rows, M, size)}
        factors = {state: jnp.zeros(shapes[kind], self.dtype) for state, kind in self.kinds.items()}
        return {"x": jnp.zeros((self.rows, M, self.in_size), self.dtype), "F": factors}

    def advance(self, eps: Trace, M0, F, x) -> Trace:
        """See `Carry.advance`."""

        def newest(old, new):
            time = max(0, old.ndim - 2)
            both = jnp.concatenate([old, new], time)
            return jax.lax.slice_in_dim(both, both.shape[time] - self.length, None, axis=time)

        M0 = {key: value if jnp.ndim(value) < 2 else value[:, None] for key, value in M0.items()}
        spread = {state: per_row(value) for state, value in eps["F"].items()}
        aged = matmul(M0, {(state, "F"): value for state, value in spread.items()})
        factors = {
            s: newest(jnp.broadcast_to(aged[s, "F"], spread[s].shape).reshape(old.shape), F[s])
            for s, old in eps["F"].items()
        }
        return {"x": newest(eps["x"], x), "F": factors}

    def carried(self, values, eps: Trace, back):
        """See `Carry.carried`."""
        terms = [back[s][:, None] * per_row(value) for s, value in eps["F"].items() if s in back]
        if not terms:
            return super().carried(values, eps, back)
        return self.gradient(values, eps["x"], sum(terms[1:], terms[0]))

    def dense(self, eps: Trace) -> dict[str, dict[str, jax.Array]]:
        """See `Carry.dense`."""
        if not self.is_affine:
            raise ValueError(
                f"`comm` of {self.connection.name} is not affine in its input, so a window keeps its inputs and no trace of "
                "its parameters: only their gradient can be had."
            )
        out = {}
        for state, value in eps["F"].items():
            factor = self.over_time(value)
            out[state] = {"x": self.outer(eps["x"], factor), "one": jnp.sum(factor, 1)}
        return out

    def products(self) -> int:
        """See `Carry.products`; the product of a window is longer than the chunk's by ``M / K``."""
        return 1

    def __str__(self) -> str:
        return f"window of {self.length} steps" + (f" ({self.reason})" if self.reason else "")


class Nothing(Window):
    """Truncation at the border of the chunk: of the trace only the newest step is formed, and not kept."""

    def __init__(self, graph: Graph, connection: Connection):
        super().__init__(graph, connection, length=1)

    def zeros(self) -> Trace:
        """See `Carry.zeros`."""
        return {}

    def advance(self, eps: Trace, M0, F, x) -> Trace:
        """See `Carry.advance`."""
        newest = {s: value[:, -1:] if value.ndim == 3 else value[-1:] for s, value in F.items()}
        return {"x": x[:, -1:], "F": newest}

    def keep(self, eps: Trace) -> Trace:
        """See `Carry.keep`."""
        return {}

    def carried(self, values, eps: Trace, back):
        """See `Carry.carried`."""
        return super().carried(values, eps, back) if eps else Carry.carried(self, values, eps, back)

    def dense(self, eps: Trace) -> dict[str, dict[str, jax.Array]]:
        """See `Carry.dense`."""
        return {}

    def products(self) -> int:
        """See `Carry.products`."""
        return 0

    def __str__(self) -> str:
        return "none"


class RankOne(Layer, Carry):
    r"""The trace as one outer product of low-passed factors, ES-D-RTRL.

    .. math::
        \bar x_t = \alpha \bar x_{t-1} + x_t, \qquad
        \bar f_t = \alpha D_t \bar f_{t-1} + (1 - \alpha) f_t, \qquad
        \epsilon_t \approx \bar f_t \otimes \bar x_t / (1 - \alpha^t)

    with ``t`` counted in steps. Wang et al. 2026, Nature Communications, doi 10.1038/s41467-026-68453-w.
    """

    def __init__(self, graph: Graph, connection: Connection, decay: float):
        super().__init__(graph, connection)
        self.check_affine()
        self.decay = decay

    def zeros(self) -> Trace:
        """See `Carry.zeros`."""
        full = (self.population.rows, self.population.size)
        return {
            "x": jnp.zeros((self.rows, self.in_size), self.dtype),
            "F": {state: jnp.zeros(full, self.dtype) for state in self.kinds},
            "steps": jnp.zeros((), self.dtype),
        }

    def run(self, eps: Trace, x, L, D, f):
        """Advance over a chunk; returns the trace, filtered inputs and cotangents of the drive, ``(rows, time, ...)``.

        The learning signals ``L`` and the blocks ``D`` and ``f`` are over time too.
        """
        alpha = self.decay

        def step(eps, at):
            x, L, D, f = at
            drive = {s: value for (s, d), value in f.items() if d == self.connection.drive}
            aged = matmul(D, {(s, "F"): value for s, value in eps["F"].items()})
            factors = {
                s: jnp.broadcast_to(alpha * aged.get((s, "F"), 0.0) + (1 - alpha) * drive.get(s, 0.0), old.shape)
                for s, old in eps["F"].items()
            }
            eps = {"x": alpha * eps["x"] + x, "F": factors, "steps": eps["steps"] + 1}
            return eps, (eps["x"], self._cotangent(eps, L))

        eps, out = jax.lax.scan(step, eps, (jnp.swapaxes(x, 0, 1), L, D, f))
        return eps, jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), out)

    def _cotangent(self, eps: Trace, back):
        zero = jnp.zeros((self.population.rows, self.population.size), self.dtype)
        return sum((back[s] * value for s, value in eps["F"].items() if s in back), zero) / self._correction(eps)

    def _correction(self, eps: Trace):
        return jnp.maximum(1.0 - self.decay ** eps["steps"], 1e-8)

    def carried(self, values, eps: Trace, back):
        """See `Carry.carried`."""
        return self.gradient(values, eps["x"][:, None], self._cotangent(eps, back)[:, None])

    def dense(self, eps: Trace) -> dict[str, dict[str, jax.Array]]:
        """See `Carry.dense`."""
        out = {}
        for state, value in eps["F"].items():
            factor = value.reshape(self.rows, self.out_size) / self._correction(eps)
            out[state] = {"x": self.at_pre(eps["x"]) * self.at_post(factor), "one": factor}
        return out

    def __str__(self) -> str:
        return f"rank 1, decay {self.decay}"


def collect(grads: dict, more: dict) -> dict:
    """Gradients ``{number: value}`` with ``more`` added, as far as they are asked for."""
    return {**grads, **{i: jax.tree.map(jnp.add, grads[i], g) for i, g in more.items() if i in grads}}


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
