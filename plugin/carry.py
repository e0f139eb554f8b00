"""The eligibility trace of one projection, handed from one chunk of time to the next.

For a layer that is affine in its input, ``y = x W + b``, the trace of ``W`` with respect to
a state obeys ``eps_K = M_0 eps_0 + sum_t (M_t f_t) (x) x_t`` (design equation of the chunk).
Where ``M_t f_t`` is the same for all neurons (kind *uniform*), ``eps`` is the filtered input
itself, ``(rows, I)`` instead of ``(rows, I, N)``. The trace of ``b`` is that of an input that
is always 1.
"""

from __future__ import annotations

import math

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from .graph import Connection, Graph
from .jacobian import Kind, marked

__all__ = ["Trace"]


class Trace:
    """Layout and algebra of the trace of one connection.

    The state of the trace is ``{state: {"x": array, "one": array}}``: ``x`` belongs to the
    weights, ``one`` to a bias.

    Parameters
    ----------
    graph : Graph
        The model's populations and kinds.
    connection : Connection
        The projection.

    Raises
    ------
    ValueError
        If the layer's output is not affine in its input.
    """

    def __init__(self, graph: Graph, connection: Connection):
        self.connection = connection
        self.graph = graph
        self.population = graph.populations[connection.population]
        structure = graph.structures[connection.population]
        self.kinds: dict[str, Kind] = structure.trace.get(connection.drive, {})
        comm = connection.projection.comm
        x, y = connection.x, connection.y
        batch = len(self.population.batch)
        in_shape = u.math.shape(x)[batch:]
        self.linear = getattr(type(comm), "update", None) is brainstate.nn.Linear.update
        lead = math.prod(in_shape[:-1]) if self.linear else 1
        self.in_size = math.prod(in_shape) // lead
        self.out_size = self.population.size // lead
        self.rows = self.population.rows * lead
        self.x_shape = in_shape
        self.y_shape = u.math.shape(y)
        if math.prod(self.y_shape) != self.population.rows * self.population.size:
            raise ValueError(
                f"`comm` of {connection.name} gives shape {self.y_shape}, but `post` has shape {self.population.varshape} "
                f"with batch {self.population.batch}: input and model must have the same batch size, and the layer the "
                "size of `post`."
            )
        self.indices = [graph.states.index(s) for s in connection.params.values()]
        self.dtype = jnp.result_type(*jax.tree.leaves(y))
        if not self.linear:
            self._check_affine()
        self.bias = not self.linear or "bias" in comm.weight.value

    # -- what the layer is ---------------------------------------------------------------

    def _check_affine(self) -> None:
        comm, x = self.connection.comm, self.connection.x
        values = self.graph.states.read(comm.trace(x)[0])
        seen: set = set()

        def slope(x):
            _, tangent = jax.jvp(lambda x: comm(values, x)[1], (x,), (jax.tree.map(jnp.ones_like, x),))
            return [marked(leaf, "slope", seen) for leaf in jax.tree.leaves(tangent)]

        jax.eval_shape(jax.vmap(slope), jax.tree.map(lambda s: jax.ShapeDtypeStruct((1, *s.shape), s.dtype), x))
        if seen:
            raise ValueError(
                f"`comm` of {self.connection.name} is not affine in its input, so its parameters have no trace of the form "
                "weight x input: put the nonlinearity in a neuron, or apply it before the projection."
            )

    # -- the state of the trace ------------------------------------------------------------

    def zeros(self) -> dict[str, dict[str, jax.Array]]:
        """The trace at the start of time."""
        out = {}
        for state, kind in self.kinds.items():
            uniform = kind is Kind.UNIFORM
            shape = (self.rows, self.in_size) if uniform else (self.rows, self.in_size, self.out_size)
            out[state] = {"x": jnp.zeros(shape, self.dtype)}
            if self.bias:
                out[state]["one"] = jnp.zeros(() if uniform else (self.rows, self.out_size), self.dtype)
        return out

    def inputs(self, x) -> jax.Array:
        """Mantissas of a stack of inputs as ``(time, rows, I)``."""
        x = u.get_mantissa(x)
        return x.reshape(x.shape[0], self.rows, self.in_size).astype(self.dtype)

    def advance(self, eps, M0, F, x):
        """The trace after a chunk.

        Parameters
        ----------
        eps : dict
            The trace before it.
        M0 : dict
            ``(state, state) -> `` product of all ``D`` of the chunk.
        F : dict
            ``state -> M_t f_t`` over time: ``(time,)``, ``(time, size)`` or ``(time, rows, size)``.
        x : array
            Inputs ``(time, rows, I)``.
        """
        new = {}
        for state, kind in self.kinds.items():
            mixing = {k: M0[state, k] for k in self.kinds if (state, k) in M0}
            if kind is Kind.UNIFORM:
                item = {"x": jnp.tensordot(F[state], x, (0, 0)) + sum(m * eps[k]["x"] for k, m in mixing.items())}
                if self.bias:
                    item["one"] = jnp.sum(F[state]) + sum(m * eps[k]["one"] for k, m in mixing.items())
                new[state] = item
                continue
            factor = self._rows(F[state], (x.shape[0],))
            item = {"x": jnp.einsum("tri,trn->rin", x, factor)}
            if self.bias:
                item["one"] = jnp.sum(factor, 0)
            for k, m in mixing.items():
                m = self._rows(m, ())
                old = eps[k]["x"]
                item["x"] += old[:, :, None] * m[:, None, :] if old.ndim == 2 else old * m[:, None, :]
                if self.bias:
                    item["one"] += eps[k]["one"] * m
            new[state] = item
        return new

    def _rows(self, value, lead: tuple[int, ...]):
        """``(*lead, [[pop rows,] size])`` as ``(*lead, rows, N)``."""
        value = value.reshape(*lead, *((1, 1) if value.ndim == len(lead) else ()), *value.shape[len(lead) :])
        full = (*lead, self.population.rows, self.population.size)
        if value.ndim == len(lead) + 1:
            value = value.reshape(*lead, 1, -1)
        return jnp.broadcast_to(value, full).reshape(*lead, self.rows, self.out_size)

    # -- gradients -------------------------------------------------------------------------

    def gradient(self, values, x, ct):
        """Gradient of the layer's parameters from the steps of a chunk themselves.

        Parameters
        ----------
        values : dict
            Values of the states that the layer reads.
        x : pytree
            Inputs of the layer over time, as it took them.
        ct : array
            ``f_t . a_t``, cotangent of the layer's output, ``(time, pop rows, size)``.
        """
        if self.linear:
            flat = ct.reshape(-1, self.out_size)
            return self._effective(values, self.inputs(x).reshape(-1, self.in_size).T @ flat, jnp.sum(flat, 0))
        params = {i: values[i] for i in self.indices}

        def run(p):
            return jax.vmap(lambda x: self.connection.comm({**values, **p}, x)[1])(x)

        y, pullback = jax.vjp(run, params)
        ct = ct if self.connection.scale == 1.0 else ct * self.connection.scale
        return pullback(jax.tree.map(lambda leaf: ct.reshape(leaf.shape).astype(leaf.dtype), y))[0]

    def carried(self, values, eps, back):
        """Gradient of the layer's parameters from the trace: ``sum back . eps``.

        Parameters
        ----------
        values : dict
            Values of the states that the layer reads.
        eps : dict
            The trace.
        back : dict
            ``state -> `` its cotangent, ``(pop rows, size)``; absent means zero.
        """
        rows: list[tuple] = []
        weights, bias = [], []
        for state, kind in self.kinds.items():
            if state not in back:
                continue
            a, item = back[state].reshape(self.rows, self.out_size), eps[state]
            if kind is Kind.UNIFORM and not self.linear:
                rows.append((item["x"], a))
                rows.append((jnp.zeros_like(item["x"]), (item["one"] - 1.0) * a))
                continue
            weights.append(jnp.einsum("ri,rn->in" if kind is Kind.UNIFORM else "rin,rn->in", item["x"], a))
            if self.bias:
                bias.append(jnp.sum(item["one"] * a, 0))
        grads = jax.tree.map(jnp.zeros_like, {i: values[i] for i in self.indices})
        if rows:
            x = self._as_input(jnp.stack([x for x, _ in rows]))
            grads = jax.tree.map(jnp.add, grads, self.gradient(values, x, jnp.stack([a for _, a in rows])))
        if weights:
            G, b = sum(weights), sum(bias) if bias else jnp.zeros(self.out_size, self.dtype)
            grads = jax.tree.map(jnp.add, grads, self._effective(values, G, b))
        return grads

    def _as_input(self, array):
        """``(time, rows, I)`` as a stack of what the layer takes."""
        return jax.tree.map(lambda leaf: array.reshape(-1, *leaf.shape).astype(leaf.dtype), self.connection.x)

    def _effective(self, values, G, b):
        """Gradient of the parameters, given that of the effective weights ``G`` (I, N) and bias ``b`` (N,)."""
        if self.linear:
            comm, scale = self.connection.projection.comm, self.connection.scale
            if comm.w_mask is not None:
                G = G * u.get_mantissa(comm.w_mask)
            parts = {"weight": G * scale, "bias": b * scale}
            (index,) = self.indices

            def fill(name, value):
                return jax.tree.map(lambda leaf: parts[name].reshape(leaf.shape).astype(leaf.dtype), value)

            return {index: {name: fill(name, value) for name, value in values[index].items()}}
        # An affine layer is known by its response to unit inputs and to none.
        B = self.population.rows
        steps = -(-self.in_size // B)
        eye = jnp.eye(steps * B, self.in_size, dtype=self.dtype).reshape(steps, B, self.in_size)
        ct = jnp.zeros((steps * B, self.out_size), G.dtype).at[: self.in_size].set(G).reshape(steps, B, -1)
        none = jnp.zeros((1, B, self.in_size), self.dtype)
        rest = jnp.zeros((1, B, self.out_size), G.dtype).at[0, 0].set(b - jnp.sum(G, 0))
        return self.gradient(values, self._as_input(jnp.concatenate([eye, none])), jnp.concatenate([ct, rest]))

    def dense(self, eps) -> dict[str, dict[str, jax.Array]]:
        """The trace in full: ``x`` of shape ``(rows, I, N)`` and ``one`` of shape ``(rows, N)``."""
        out = {}
        for state, item in eps.items():
            x = item["x"]
            full = {"x": jnp.broadcast_to(x[:, :, None], (*x.shape, self.out_size)) if x.ndim == 2 else x}
            if self.bias:
                full["one"] = jnp.broadcast_to(item["one"], (self.rows, self.out_size))
            out[state] = full
        return out

    def like_weight(self, item, weight, unit: u.Unit):
        """One state's full trace in the structure of the parameter, with units; effective weights for other layers."""
        batch = self.population.batch
        rows = batch if self.rows == self.population.rows else (self.rows,)
        item = {k: v.reshape(*rows, *v.shape[1:]) * self.connection.scale for k, v in item.items()}
        if not self.linear:
            return item
        mask = self.connection.projection.comm.w_mask
        parts = {"weight": item["x"] if mask is None else item["x"] * u.get_mantissa(mask), "bias": item.get("one")}
        return {k: u.maybe_decimal(u.Quantity(parts[k], unit=unit / u.get_unit(v))) for k, v in weight.items()}

    def nbytes(self) -> int:
        """Bytes of the trace."""
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(self.zeros)))
