"""A projection's layer as the learner needs it: gradients of its parameters from inputs and cotangents.

Any layer with a VJP serves. A plain ``brainstate.nn.Linear`` is multiplied directly; another layer that
is affine in its input is known by its response to unit inputs.
"""

from __future__ import annotations

import math

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from .graph import Connection, Graph
from .jacobian import Kind, marked

__all__ = ["Layer", "per_row"]


class Layer:
    """The layer of one connection.

    Parameters
    ----------
    graph : Graph
        The model's populations and kinds.
    connection : Connection
        The projection.

    Raises
    ------
    ValueError
        If the layer's output does not have the shape of the population.
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
        self.lead = math.prod(in_shape[:-1]) if self.linear else 1  # a Linear acts on the last axis
        self.in_size = math.prod(in_shape) // self.lead
        self.out_size = self.population.size // self.lead
        self.rows = self.population.rows * self.lead
        if math.prod(u.math.shape(y)) != self.population.rows * self.population.size:
            raise ValueError(
                f"`comm` of {connection.name} gives shape {u.math.shape(y)}, but `post` has shape {self.population.varshape} "
                f"with batch {self.population.batch}: input and model must have the same batch size, and the layer the "
                "size of `post`."
            )
        self.indices = [graph.states.index(s) for s in connection.params.values()]
        self.dtype = jnp.result_type(*jax.tree.leaves(y))
        self.bias = not self.linear or "bias" in comm.weight.value

    def check_affine(self) -> None:
        """Raise a ValueError unless the output is affine in the input."""
        if self.linear:
            return
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
                "weight x input: use `carry='window'`, or put the nonlinearity in a neuron."
            )

    def input(self, x) -> jax.Array:
        """Mantissas of one step's input as ``(rows, I)``."""
        return u.get_mantissa(x).reshape(self.rows, self.in_size).astype(self.dtype)

    def as_input(self, array):
        """``(rows, time, I)`` as a stack over time of what the layer takes; with time inside, products need no transposition."""
        array = jnp.swapaxes(array, 0, 1)
        return jax.tree.map(lambda leaf: array.reshape(-1, *leaf.shape).astype(leaf.dtype), self.connection.x)

    def over_time(self, value):
        """``(time,)``, ``(time, size)`` or ``(pop rows, time, size)`` as ``(rows, time, N)``."""
        value = per_row(value)
        value = jnp.broadcast_to(value, (self.population.rows, value.shape[1], self.population.size))
        if self.lead == 1:
            return value
        value = value.reshape(self.population.rows, -1, self.lead, self.out_size)
        return jnp.swapaxes(value, 1, 2).reshape(self.rows, -1, self.out_size)

    def full(self, value):
        """``([[pop rows,] size])`` as ``(rows, N)``."""
        return jnp.broadcast_to(value, (self.population.rows, self.population.size)).reshape(self.rows, self.out_size)

    def gradient(self, values, x, ct):
        """Gradient of the layer's parameters from the steps of a chunk themselves.

        Parameters
        ----------
        values : dict
            Values of the states that the layer reads.
        x : array
            Inputs over time, ``(rows, time, I)``.
        ct : array
            ``f_t . a_t``, cotangent of the layer's output, ``(pop rows, time, size)``.
        """
        if self.linear:
            flat = self.over_time(ct).reshape(-1, self.out_size)
            return self.effective(values, x.reshape(-1, self.in_size).T @ flat, jnp.sum(flat, 0))
        ct, x = jnp.swapaxes(ct, 0, 1), self.as_input(x)
        params = {i: values[i] for i in self.indices}

        def run(p):
            return jax.vmap(lambda x: self.connection.comm({**values, **p}, x)[1])(x)

        y, pullback = jax.vjp(run, params)
        ct = ct if self.connection.scale == 1.0 else ct * self.connection.scale
        return pullback(jax.tree.map(lambda leaf: ct.reshape(leaf.shape).astype(leaf.dtype), y))[0]

    def effective(self, values, G, b):
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
        eye = jnp.eye(steps * B, self.in_size, dtype=self.dtype).reshape(B, steps, self.in_size)
        ct = jnp.zeros((steps * B, self.out_size), G.dtype).at[: self.in_size].set(G).reshape(B, steps, -1)
        none = jnp.zeros((B, 1, self.in_size), self.dtype)
        rest = jnp.zeros((B, 1, self.out_size), G.dtype).at[0, 0].set(b - jnp.sum(G, 0))
        return self.gradient(values, jnp.concatenate([eye, none], 1), jnp.concatenate([ct, rest], 1))

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


def per_row(value):
    """``(time,)``, ``(time, size)`` or ``(rows, time, size)`` as something that broadcasts to the last of these."""
    if value.ndim == 1:
        return value[None, :, None]
    return value[None] if value.ndim == 2 else value
