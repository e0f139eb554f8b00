"""One batch of a training as one compiled function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from .answers import accuracy_of, answers_of, label_check
from .losses import Loss
from .options import TrainOptions
from .rates import dt_seconds, mean_spikes, rate_cost

__all__ = ["make_update"]


def make_update(
    learner: Any,
    options: TrainOptions,
    loss: Loss,
    optimizer: Any,
    params: dict,
    project: Callable[[], None],
) -> Callable:
    """A compiled ``(xs, ys, mask) -> {loss, accuracy, rate_hz, gradient_norm, finite}`` that trains on one batch.

    Labels without an output are a ValueError before anything changes.
    """
    model, cost = learner.model, rate_cost(learner.model, options)
    check = label_check(model, loss)

    def step(x, y, weight):
        out = learner(x)
        value = jnp.mean(weight * u.get_mantissa(loss.function(out, y)))
        # outputs of other losses may be of any form
        return value + cost(), (value, out if loss.classifies else (), mean_spikes(model))

    def segment(data, chunk, trial=False):
        xs, ys, weights = data
        grads, (losses, outputs, spikes) = learner.etrace_grad(
            xs, ys, weights, step_fn=step, weights=params, chunk_size=chunk, trial=trial, has_aux=True
        )
        grads, norm = _clipped(grads, options.clip_norm)
        optimizer.update(grads)
        project()
        return losses, outputs, spikes, norm

    @brainstate.transform.jit
    def update(xs, ys, mask):
        if options.reset:
            learner.reset_state()
        mask, T = jnp.asarray(mask, brainstate.environ.dftype()), mask.shape[0]
        # the loss counts where the mask says, the cost of rates everywhere
        weights = mask / jnp.maximum(jnp.mean(mask), jnp.finfo(mask.dtype).tiny)  # a part of a stream may count nowhere
        period, chunk = _period(options, T)
        full, rest = divmod(T, period)
        data, parts = (xs, ys, weights), []
        if full == 1:
            head = jax.tree.map(lambda a: a[:period], data)
            parts.append(jax.tree.map(lambda a: a[None], segment(head, chunk, options.reset and not rest)))
        elif full:
            head = jax.tree.map(lambda a: a[: full * period].reshape(full, period, *a.shape[1:]), data)
            parts.append(brainstate.transform.for_loop(lambda *at: segment(at, chunk), *head))
        if rest:
            tail = jax.tree.map(lambda a: a[full * period :], data)
            parts.append(jax.tree.map(lambda a: a[None], segment(tail, None if chunk is None else min(chunk, rest))))
        losses, outputs, spikes = jax.tree.map(
            lambda *leaves: jnp.concatenate([a.reshape(-1, *a.shape[2:]) for a in leaves]), *(p[:3] for p in parts)
        )
        norms = jnp.concatenate([p[3] for p in parts])
        finite = jnp.isfinite(jnp.mean(losses)) & _all_finite([state.value for state in params.values()])
        return {
            "loss": jnp.mean(losses),
            "accuracy": accuracy_of(*answers_of(outputs, ys, mask, loss)) if loss.classifies else jnp.nan,
            "rate_hz": jnp.mean(spikes) / dt_seconds(),
            "gradient_norm": jnp.mean(norms),
            "finite": finite,
        }

    def checked(xs, ys, mask):
        check(xs, ys, mask)
        return update(xs, jnp.asarray(ys), mask)

    return checked


def _period(options: TrainOptions, T: int) -> tuple[int, int | None]:
    """Steps between updates, and steps evaluated in parallel (None: the learner's choice)."""
    chunk = None if options.chunk_size is None else int(options.chunk_size)  # learners take no numbers of NumPy
    if options.update == "trial":
        return T, chunk
    steps: Any = {"step": 1, "chunk": chunk}.get(str(options.update), options.update)
    period = min(T, int(steps))
    return period, None if chunk is None else min(chunk, period)


def _clipped(grads: dict, limit: float | None):
    """Gradients whose norm is at most the limit, and the norm they had."""
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(grads)))
    if limit is None:
        return grads, norm
    factor = jnp.minimum(1.0, limit / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))
    return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), grads), norm


def _all_finite(values):
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(values)]))
