"""All chunks of a sequence."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .chunk import ChunkResult, Engine, Traces
from .planning import plan
from .pure import Values

__all__ = ["run_chunks"]


def run_chunks(  # noqa: PLR0913 - values and traces, arguments and mask go in pairs everywhere
    engine: Engine, values: Values, held: Traces, slices: tuple, mask: Any, chunk: int, *, trial: bool = False
) -> ChunkResult:
    """Run a sequence.

    Parameters
    ----------
    engine : Engine
        Of the step function.
    values, held : dict
        Values of the states, and what is held of the traces.
    slices, mask : pytree
        Arguments of the steps, and the weights of their losses, over time.
    chunk : int
        Steps of a chunk.
    trial : bool
        Whether the trace before the sequence is zero and nobody reads the one after it.
    """
    T = mask.shape[0]
    fixed = {i: v for i, v in values.items() if i not in engine.written}
    grads = {i: jax.tree.map(jnp.zeros_like, values[i]) for i in engine.weights}
    carry = ({i: values[i] for i in engine.written}, held, grads)

    def cut(start, length):
        return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, length), (slices, mask))

    outputs = []
    for part in plan(T, chunk, trial):

        def body(carry, start, part=part):
            state, held, grads = carry
            at, weight = cut(start, part.length)
            out = engine.chunk({**fixed, **state}, held, at, weight, part.ends)
            return (out.values, out.traces, jax.tree.map(jnp.add, grads, out.grads)), (out.loss, out.aux)

        if part.repeat == 1:
            carry, out = body(carry, part.start)
        else:
            carry, out = jax.lax.scan(body, carry, part.start + jnp.arange(part.repeat) * part.length)
            out = jax.tree.map(lambda a, n=part.repeat * part.length: a.reshape(n, *a.shape[2:]), out)
        outputs.append(out)
    loss, aux = jax.tree.map(lambda *parts: jnp.concatenate(parts), *outputs) if len(outputs) > 1 else outputs[0]
    state, held, grads = carry
    return ChunkResult(state, jax.tree.map(jnp.zeros_like, held) if trial else held, grads, loss, aux)
