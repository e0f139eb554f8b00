"""All chunks of a sequence."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .engine import Engine
from .waiting.pending import Pending

__all__ = ["run_chunks"]


def run_chunks(engine: Engine, values, eps, sequences, mask, chunk: int, trial: bool = False):
    """All chunks of a sequence, the last one ragged; returns the written values, traces, gradient sums, losses, aux.

    Where no chunk waits, the last one of a trial is outside the scan, where it leaves out work, and so is a first one that
    only the last one follows: a condition in the scan would cost as much as it saves, and more programs compile longer.
    """
    T = mask.shape[0]
    fixed = {i: v for i, v in values.items() if i not in engine.written}
    state = {i: values[i] for i in engine.written}
    grads = {i: jax.tree.map(jnp.zeros_like, values[i]) for i in engine.weights}
    outputs = []

    def part(start, length):
        return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, length), (sequences, mask))

    def body(carry, start, length=chunk, first=False, last=False):
        state, eps, grads = carry
        slices, weight = part(start, length)
        state, eps, more, loss, aux = engine.chunk({**fixed, **state}, eps, slices, weight, first, last)
        return (state, eps, jax.tree.map(jnp.add, grads, more)), (loss, aux)

    carry = (state, eps, grads)
    pending = Pending(engine, chunk, T, trial)
    if pending.slots:
        return pending.run(fixed, *carry, part)
    if pending.whole:
        chunk = T
    ragged = (T - 1) % chunk + 1  # steps of the last chunk, which is full if T is a multiple
    alone = ragged if T <= chunk or trial or ragged < chunk else 0  # of them outside the scan
    n = (T - alone) // chunk
    if n == 1:
        carry, out = body(carry, 0, first=trial)
        outputs.append(out)
    elif n:
        carry, out = jax.lax.scan(body, carry, jnp.arange(n) * chunk)
        outputs.append(jax.tree.map(lambda a: a.reshape(n * chunk, *a.shape[2:]), out))
    if alone:
        carry, out = body(carry, n * chunk, alone, first=trial and not n, last=trial)
        outputs.append(out)
    loss, aux = jax.tree.map(lambda *parts: jnp.concatenate(parts), *outputs) if len(outputs) > 1 else outputs[0]
    state, eps, grads = carry
    return state, jax.tree.map(jnp.zeros_like, eps) if trial else eps, grads, loss, aux
