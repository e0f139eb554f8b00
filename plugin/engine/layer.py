"""A projection's layer as the learner needs it: gradients of its parameters from inputs and cotangents.

Any layer with a VJP serves. One whose `Pattern` is known is multiplied at its weights only; another that is
affine in its input is known by its response to unit inputs.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.contract import Pattern
from etrax.contract.dependence import dependent
from etrax.contract.sparse import sampled, sampled_rows

from .graph import Graph
from .handover import Entered
from .pure import Pure
from .sources import Connection

__all__ = ["Layer", "per_row"]


class Layer:
    """The layer of one connection.

    Parameters
    ----------
    graph : Graph
        The model's populations and kinds.
    connection : Connection
        The projection.

    Attributes
    ----------
    pattern : Pattern or None
        What its weights connect, if that is known.
    synapses : int
        Number of weights ``W`` behind a trace: of the non-zeros, or ``in_size * out_size``.
    shared : bool
        Whether all synapses share one weight. What enters the trace is then the layer's response to a weight of 1.

    Raises
    ------
    ValueError
        If the layer's output does not have the shape of the population, or if a registered pattern does not fit it.
    """

    def __init__(self, graph: Graph, connection: Connection):
        self.connection = connection
        self.graph = graph
        self.population = graph.populations[connection.population]
        x, y = connection.x, connection.y
        batch = len(self.population.batch)
        in_shape = u.math.shape(x)[batch:]
        if math.prod(u.math.shape(y)) != self.population.rows * self.population.size:
            raise ValueError(
                f"`comm` of {connection.name} gives shape {u.math.shape(y)}, but `post` has shape {self.population.varshape} "
                f"with batch {self.population.batch}: input and model must have the same batch size, and the layer the "
                "size of `post`."
            )
        self.indices = [graph.states.index(s) for s in connection.params.values()]
        # a trace is as precise as the states, whatever the weights are
        self.dtype = jnp.result_type(u.get_mantissa(self.population.hidden[0].state.value))
        self.pattern = connection.pattern
        self.pre: Any = None
        self.post: Any = None
        self.lead, self.shared, self.bias = 1, False, True
        self.in_size, self.out_size = math.prod(in_shape), self.population.size
        if self.pattern is not None:
            self._fit(self.pattern, in_shape)
        self.rows = self.population.rows * self.lead
        self.synapses = self.in_size * self.out_size if self.pre is None else self.pre.size

    def _fit(self, pattern: Pattern, in_shape) -> None:
        """Take sizes from the pattern."""
        name = self.connection.name

        def read():
            weights, bias = pattern.read()
            if bias is not None:
                bias = u.Quantity(bias).to_decimal(u.get_unit(self.connection.y))
            return weights, bias

        self.weights = Pure(read, self.graph.states)
        self._used, _ = self.weights.trace()
        if not set(self.indices) <= set(self._used):
            raise ValueError(
                f"the pattern of `comm` of {name} reads only some of the layer's parameters: let `weights` and `bias` "
                "depend on all that the layer does."
            )
        weight = jax.eval_shape(lambda v: self.weights(v)[1], self.graph.states.read(self._used))[0]
        size = math.prod(u.math.shape(weight))
        self.bias = pattern.bias is not None
        if size == 1 and (math.prod(in_shape) * self.out_size if pattern.pre is None else pattern.pre.size) > 1:
            self.shared, self.in_size = True, self.out_size
            self.pre = self.post = np.arange(self.out_size)
        elif pattern.pre is None:
            self.lead = math.prod(in_shape[:-1])  # a dense layer acts on the last axis
            self.in_size, self.out_size = in_shape[-1], self.out_size // self.lead
            if u.math.shape(weight) != (self.in_size, self.out_size):
                raise ValueError(
                    f"`weights` of the pattern of `comm` of {name} has shape {u.math.shape(weight)}, but the layer leads from "
                    f"{self.in_size} to {self.out_size}: a dense layer's must be (n_in, n_out), a sparse one needs `pre` and `post`."
                )
        else:
            self.pre, self.post = pattern.pre, pattern.post
            if size != self.pre.size:
                raise ValueError(
                    f"`weights` of the pattern of `comm` of {name} has {size} entries for {self.pre.size} synapses: give one "
                    "per synapse, or one for all."
                )

    # -- affine layers -------------------------------------------------------------------

    @property
    def is_affine(self) -> bool:
        """Whether the output is affine in the input."""
        if self.pattern is not None:
            return True
        comm, x = self.connection.comm, self.connection.x
        values = self.graph.states.read(comm.trace(x)[0])

        def slope(x):
            return {"slope": jax.jvp(lambda x: comm(values, x)[1], (x,), (jax.tree.map(jnp.ones_like, x),))[1]}

        return not dependent(slope, x)

    @property
    def why_no_weights(self) -> str:
        """Why no effective weights stand for the layer in all steps; empty if they do."""
        if self.connection.changing:
            return "reading what changes from step to step"
        return "" if self.is_affine else "not affine in its input"

    def check_affine(self) -> None:
        """Raise a ValueError unless the layer has effective weights."""
        if self.why_no_weights:
            raise ValueError(
                f"`comm` of {self.connection.name} is {self.why_no_weights}, so its parameters have no trace of the form "
                "weight x input: use `carry='dense'` or `carry='window'`, which keep what enters instead, or put what is not affine "
                "into a neuron, and what is random ahead of the parameters (`brainstate.nn.Sequential(Dropout, Linear)`)."
            )

    def n_params(self) -> int:
        """Number of trained values."""
        return sum(leaf.size for s in self.connection.params.values() for leaf in jax.tree.leaves(s.value))

    # -- inputs and outputs --------------------------------------------------------------

    def input(self, entered: Entered) -> Any:
        """Mantissas of one step's input as ``(rows, I)``; where the layer reads what changes, with that: an `Entered`."""
        x = self._as_rows(entered.x)
        if not self.connection.changing:
            return x
        return Entered(x, jax.tree.map(lambda a: a.reshape(1, -1), entered.read))

    def no_inputs(self, steps: int) -> Any:
        """Room for the inputs of some steps, ``(rows, time, I)``."""
        x = jnp.zeros((self.rows, steps, self.in_size), self.dtype)
        read = self.graph.states.read(self.connection.changing)
        return Entered(x, jax.tree.map(lambda a: jnp.zeros((1, steps, a.size), a.dtype), read)) if read else x

    def _as_rows(self, x) -> jax.Array:
        if self.shared:
            return self._response(x).reshape(self.rows, self.in_size).astype(self.dtype)
        x = u.get_mantissa(x)
        if self.pattern is not None and self.pattern.events:
            x = x != 0
        return x.reshape(self.rows, self.in_size).astype(self.dtype)

    def _response(self, x):
        """The layer's output for a shared weight of 1, its derivative by that weight."""
        states, comm = self.graph.states, self.connection.comm
        fixed = states.read(i for i in {*comm.trace(x)[0], *self._used} if i not in self.indices)
        at = {i: jax.tree.map(jnp.ones_like, states.all[i].value) for i in self.indices}

        def weight(p):
            return jax.tree.leaves(self.weights({i: {**fixed, **p}[i] for i in self._used})[1][0])[0]

        one, pullback = jax.vjp(weight, at)
        (way,) = pullback(jnp.ones_like(one))
        _, slope = jax.jvp(weight, (at,), (way,))
        _, y = jax.jvp(lambda p: comm({**fixed, **p}, x)[1], (at,), (way,))
        return jax.tree.leaves(y)[0] / slope.reshape(())

    def _as_entered(self, values, x) -> Entered:
        """What `input` gave over time, ``(rows, time, I)``, as a stack over time of what the layer takes and reads."""
        x, read = x if isinstance(x, Entered) else (x, {})
        x = jnp.swapaxes(x, 0, 1)  # with time inside, products need no transposition
        entered = jax.tree.map(lambda leaf: x.reshape(-1, *leaf.shape).astype(leaf.dtype), self.connection.x)
        now = {i: values[i] for i in read}
        return Entered(entered, jax.tree.map(lambda a, like: a.reshape(-1, *like.shape), read, now))

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

    # -- weights: ``W`` is (I, N), or (synapses,) ------------------------------------------

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape ``W`` of what a trace holds per row."""
        return (self.in_size, self.out_size) if self.pre is None else (self.synapses,)

    def outer(self, x, y):
        """``sum_t x_t (x) y_t`` at the weights, per row: ``(rows, time, I)`` and ``(rows, time, N)`` give ``(rows, *W)``."""
        if self.pre is None:
            return jnp.einsum("rti,rtn->rin", x, y)
        return sampled_rows(x, y, self.pre, self.post)

    def correlate(self, x, y):
        """``sum_c x_c (x) y_c`` at the weights: ``(c, I)`` and ``(c, N)`` give ``W``."""
        # as (y^T x)^T, which is as fast for small layers and a third faster for 1212 inputs of 512 neurons (jax 0.12, CPU)
        return (y.T @ x).T if self.pre is None else sampled(x, y, self.pre, self.post)

    def at_pre(self, x):
        """``(rows, I)`` for every weight."""
        return x[:, :, None] if self.pre is None else jnp.take(x, self.pre, axis=1, mode="fill", fill_value=0)

    def at_post(self, y):
        """``(rows, N)`` for every weight."""
        return y[:, None, :] if self.post is None else jnp.take(y, self.post, axis=1, mode="fill", fill_value=0)

    # -- gradients -----------------------------------------------------------------------

    def gradient(self, values, x, ct):
        """Gradient of the layer's parameters from the steps of a chunk, equation (27) of docs/mathematics.md.

        Parameters
        ----------
        values : dict
            Values of the states that the layer reads.
        x : array
            Inputs over time, ``(rows, time, I)``.
        ct : array
            ``f_t . a_t``, cotangent of the layer's output, ``(pop rows, time, size)``.
        """
        if self.pattern is not None:
            flat = self.over_time(ct).reshape(-1, self.out_size)
            return self.effective(values, self.correlate(x.reshape(-1, self.in_size), flat), jnp.sum(flat, 0))
        ct, (x, read) = jnp.swapaxes(ct, 0, 1), self._as_entered(values, x)
        params = {i: values[i] for i in self.indices}

        def run(p):
            return jax.vmap(lambda x, read: self.connection.comm({**values, **read, **p}, x)[1])(x, read)

        y, pullback = jax.vjp(run, params)
        ct = ct if self.connection.scale == 1.0 else ct * self.connection.scale
        return pullback(jax.tree.map(lambda leaf: ct.reshape(leaf.shape).astype(leaf.dtype), y))[0]

    def back(self, values, entered: Entered, ct):
        """Cotangents of the input in some steps, by those of the output.

        Parameters
        ----------
        values : dict
            Values of the states that the layer reads.
        entered : Entered
            What entered, a stack over time.
        ct : array
            ``f_t . a_t``, cotangent of the layer's output, ``(pop rows, time, size)``.
        """
        ct = jnp.swapaxes(ct, 0, 1) * self.connection.scale

        def one(x, read, ct):
            y, pullback = jax.vjp(lambda x: self.connection.comm({**values, **read}, x)[1], x)
            return pullback(jax.tree.map(lambda leaf: ct.reshape(leaf.shape).astype(leaf.dtype), y))[0]

        return jax.vmap(one)(*entered, ct)

    def effective(self, values, G, b):
        """Gradient of the parameters, given that of the weights ``G`` (W) and of the bias ``b`` (N,)."""
        if self.pattern is not None:
            pullback, shapes = self._pullback(values)
            return pullback(self._spread_over(shapes, G * self.connection.scale, b * self.connection.scale))
        # An affine layer is known by its response to unit inputs and to none.
        B = self.population.rows
        steps = -(-self.in_size // B)
        eye = jnp.eye(steps * B, self.in_size, dtype=self.dtype).reshape(B, steps, self.in_size)
        ct = jnp.zeros((steps * B, self.out_size), G.dtype).at[: self.in_size].set(G).reshape(B, steps, -1)
        none = jnp.zeros((B, 1, self.in_size), self.dtype)
        rest = jnp.zeros((B, 1, self.out_size), G.dtype).at[0, 0].set(b - jnp.sum(G, 0))
        return self.gradient(values, jnp.concatenate([eye, none], 1), jnp.concatenate([ct, rest], 1))

    def _pullback(self, values):
        """From cotangents of weights and bias to those of the parameters, ``{number: value}``."""

        def read(params):
            return self.weights({i: {**values, **params}[i] for i in self._used})[1]

        shapes, pullback = jax.vjp(read, {i: values[i] for i in self.indices})
        return (lambda ct: pullback(ct)[0]), shapes

    def _spread_over(self, shapes, G, b):
        weights, bias = shapes

        def fill(leaf, value):
            return value.reshape(leaf.shape).astype(leaf.dtype)

        G = jnp.sum(G) if self.shared else G
        return jax.tree.map(partial(fill, value=G), weights), jax.tree.map(partial(fill, value=b), bias)

    def like_weight(self, item, state: brainstate.State, unit: u.Unit):
        """One state's full trace in the structure of a parameter, with units.

        Shaped like the parameter with a leading batch axis; after that one value per neuron for a weight that all synapses
        share, and one per place along the axes on which a dense layer does not act. For a layer without a pattern, the
        trace of its effective weights and bias.
        """
        shape = self.population.varshape
        rows = (*self.population.batch, *(shape[:-1] if self.lead > 1 else ()))
        item = {k: v * self.connection.scale for k, v in item.items()}
        if self.pattern is None:
            return {k: v.reshape(*rows, *v.shape[1:]) for k, v in item.items()}
        pullback, shapes = self._pullback(self.graph.states.read({*self._used, *self.indices}))
        one = item.get("one", jnp.zeros((self.rows, self.out_size), self.dtype))
        take = jax.vmap(lambda G, b: pullback(self._spread_over(shapes, G, b))[self.graph.states.index(state)])
        if self.shared:
            each = jnp.eye(self.out_size, dtype=self.dtype)
            trace = jax.vmap(lambda n: take(item["x"] * n, one * n), out_axes=1)(each)
        else:
            trace = take(item["x"], one)

        def with_unit(value, weight):
            value = u.get_mantissa(value)
            value = value.reshape(*rows, *value.shape[1:])
            return u.maybe_decimal(u.Quantity(value, unit=unit / u.get_unit(weight)))

        return jax.tree.map(with_unit, trace, state.value, is_leaf=lambda v: isinstance(v, u.Quantity))


def per_row(value):
    """``(time,)``, ``(time, size)`` or ``(rows, time, size)`` as something that broadcasts to the last of these."""
    if value.ndim == 1:
        return value[None, :, None]
    return value[None] if value.ndim == 2 else value
