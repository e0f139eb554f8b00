"""One batch of a training as one compiled function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.learners.sizes import lent, resized

from .answers import answers_of
from .checking import batch_check
from .checkpoint import pack_random, unpack_random
from .faults import bad_data, bad_network, nan_trials, sound
from .losses import Loss, counted_loss, weight_of
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
) -> Callable[..., dict[str, Any]]:
    """``(xs, ys, mask) -> {loss, weight, accuracy, answers, rate_hz, gradient_norm, fault}`` that trains on one batch.

    ``weight`` and ``answers`` say how much of the batch loss and accuracy are means of, ``fault`` what is not finite, in words.
    A batch of another size than the learner's is trained on by a learner made for that size, compiled when it first comes.
    Labels without an output, and a loss that does not fit, are a ValueError before anything changes.
    """
    model, own = learner.model, _rows(learner)
    check = batch_check(model, loss)
    updates: dict[int, Callable] = {}

    def update(xs, ys, mask):
        check(xs, ys, mask)
        n = xs.shape[1]
        if n not in updates:
            if own is not None and n != own and not options.reset:
                raise ValueError(
                    f"a batch has {n} trials but the learner holds states of {own}: with `reset=False` they go on from batch to "
                    "batch, so give all batches one size."
                )
            fitting = learner
            if own is not None and n != own:
                random = pack_random()  # a training that is resumed compiles at another time
                fitting = resized(learner, xs[0])
                learner.reset_state()
                unpack_random(random)
            updates[n] = _compiled(fitting, learner, options, loss, _Weights(optimizer, params, project))
        measured = updates[n](xs, jnp.asarray(ys), mask)
        nan, good = measured.pop("nan"), measured.pop("sound")
        measured["fault"] = ""
        if not good:
            known = {**model.states(brainstate.HiddenState), **params}
            other = "the loss, or a state of the network, is not finite"
            measured["fault"] = bad_data(xs, ys, mask) or bad_network(nan, known) or other
        return measured

    return update


class _Weights(NamedTuple):
    """What is trained, and how it changes."""

    optimizer: Any
    params: dict
    project: Callable[[], None]


def _rows(learner: Any) -> int | None:
    """How many trials a learner's states are of; None if it has none."""
    states = list(learner.hidden_states.values())
    return u.math.shape(states[0].value)[0] if states else None


def _compiled(learner: Any, whole: Any, options: TrainOptions, loss: Loss, weights: _Weights) -> Callable:
    """One batch as a compiled function; afterwards the states are of as many trials as those of the learner ``whole``."""
    model, cost = learner.model, rate_cost(learner.model, options)

    def step(x, y, weight):
        out = learner(x)
        value = jnp.mean(counted_loss(loss, out, y, weight))
        # outputs of other losses may be of any form
        kept = out if loss.classifies else ()
        return value + cost(), (value, kept, mean_spikes(model), nan_trials(out, x.shape[0]))

    def segment(data, chunk, trial=False):
        xs, ys, weighed = data
        grads, aux = learner.etrace_grad(
            xs, ys, weighed, step_fn=step, weights=weights.params, chunk_size=chunk, trial=trial, has_aux=True
        )
        grads, norm = _clipped(grads, options.clip_norm)
        weights.optimizer.update(grads)
        weights.project()
        return *aux, norm

    def run(xs, ys, mask):
        if options.reset:
            learner.reset_state()
        mask, T = jnp.asarray(mask, brainstate.environ.dftype()), mask.shape[0]
        # the loss counts where the mask says, the cost of rates everywhere
        weighed = mask / jnp.maximum(jnp.mean(mask), jnp.finfo(mask.dtype).tiny)  # a part of a stream may count nowhere
        period, chunk = _period(options, T)
        full, rest = divmod(T, period)
        data, parts = (xs, ys, weighed), []
        if full == 1:
            head = jax.tree.map(lambda a: a[:period], data)
            parts.append(jax.tree.map(lambda a: a[None], segment(head, chunk, options.reset and not rest)))
        elif full:
            head = jax.tree.map(lambda a: a[: full * period].reshape(full, period, *a.shape[1:]), data)
            parts.append(brainstate.transform.for_loop(lambda *at: segment(at, chunk), *head))
        if rest:
            tail = jax.tree.map(lambda a: a[full * period :], data)
            parts.append(jax.tree.map(lambda a: a[None], segment(tail, None if chunk is None else min(chunk, rest))))
        losses, outputs, spikes, nan = jax.tree.map(
            lambda *leaves: jnp.concatenate([a.reshape(-1, *a.shape[2:]) for a in leaves]), *(p[:4] for p in parts)
        )
        norms, mean = jnp.concatenate([p[4] for p in parts]), jnp.mean(losses)
        right, given, counted = answers_of(outputs, ys, mask, loss) if loss.classifies else (jnp.zeros(0, bool),) * 3
        finite = jnp.isfinite(mean) & _all_finite([state.value for state in weights.params.values()])
        return {
            "loss": mean,
            "weight": weight_of(mask, xs.shape[1]),
            "accuracy": jnp.sum(counted & (right == given)) / jnp.sum(counted),
            "answers": jnp.sum(counted),
            "rate_hz": jnp.mean(spikes) / dt_seconds(),
            "gradient_norm": jnp.mean(norms),
            "nan": nan,
            "sound": finite & sound(xs, ys, mask, nan, model),
        }

    @brainstate.transform.jit
    def update(xs, ys, mask):
        if learner is whole:
            return run(xs, ys, mask)
        with lent(whole, learner):
            measured = run(xs, ys, mask)
        whole.reset_state()
        return measured

    return update


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
    # squares leave the range long before the entries do: of 16 bits at 256, of 32 at 1e19
    wide = [leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in jax.tree.leaves(grads)]
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in wide]))
    scale = jnp.where(largest > 0, largest, 1)
    norm = scale * jnp.sqrt(sum(jnp.sum(jnp.square(leaf / scale)) for leaf in wide))
    if limit is None:
        return grads, norm
    factor = jnp.minimum(1.0, limit / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))
    return jax.tree.map(lambda leaf: (leaf * factor).astype(leaf.dtype), grads), norm


def _all_finite(values):
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(values)]))
