"""How a network does on a set of trials, without learning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.data.batch import fields

from .answers import answers_of, label_check
from .losses import Loss, named_loss
from .rates import dt_seconds, mean_spikes

__all__ = ["Evaluation", "evaluate", "evaluate_with", "make_forward"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How a network does on a set of trials.

    Attributes
    ----------
    loss : float
        Mean loss over trials and counted steps; nats for the cross-entropy.
    accuracy : float
        Share of right answers; NaN where there are no classes.
    rate : float
        Mean firing rate, spikes per neuron and second.
    labels, predictions : array of int (n,)
        Right and given answers, one for each trial or, ``stepwise``, for each counted step of each; empty where there
        are no classes.
    stepwise : bool
        Whether an answer is a step.
    """

    loss: float
    accuracy: float
    rate: float
    labels: np.ndarray
    predictions: np.ndarray
    stepwise: bool = False


def make_forward(model: brainstate.nn.Module, loss: Loss) -> Callable:
    """A compiled ``(xs, ys, mask) -> (losses (B,), rates (B,), right, given, counted)`` from rest.

    The last three are the answers, ``(B,)`` or, step by step, ``(B, T)``; they are absent where there are no classes.
    """

    def step(x):
        return model(x), mean_spikes(model, axis=0)

    def forward(xs, ys, mask):
        brainstate.nn.reset_all_states(model, batch_size=xs.shape[1])
        outputs, spikes = brainstate.transform.for_loop(step, xs)
        losses = jax.vmap(lambda out, y: jnp.broadcast_to(u.get_mantissa(loss.function(out, y)), (xs.shape[1],)))(
            outputs, ys
        )
        weight = jnp.reshape(mask, (*mask.shape, *[1] * (2 - mask.ndim)))
        total = jnp.maximum(jnp.sum(jnp.broadcast_to(weight, losses.shape), axis=0), jnp.finfo(losses.dtype).tiny)
        answers = answers_of(outputs, ys, mask, loss) if loss.classifies else ()
        rates = jnp.broadcast_to(jnp.mean(spikes, axis=0) / dt_seconds(), (xs.shape[1],))
        return jnp.sum(weight * losses, axis=0) / total, rates, *answers

    return brainstate.transform.jit(forward)


def evaluate_with(
    forward: Callable, model: brainstate.nn.Module, batches: Iterable, loss: Loss, window: Callable | None = None
) -> Evaluation:
    """Run a compiled forward pass over batches of trials, each mask within a window."""
    parts, check = [], label_check(model, loss)
    for batch in batches:
        xs, ys, mask = fields(batch)
        ys, n = np.asarray(ys), np.shape(ys)[1]
        mask = mask if window is None else window(mask)
        size = _batch_size(model, n)
        for start in range(0, n, size):  # a smaller batch is filled up with its last trial, for one compiled shape
            index = np.minimum(np.arange(start, start + size), n - 1)
            weights = mask[:, index] if mask.ndim == 2 else mask
            check(xs[:, index], ys[:, index], weights)
            kept = min(size, n - start)
            result = [np.asarray(leaf)[:kept] for leaf in forward(xs[:, index], ys[:, index], weights)]
            losses, rates, *answers = result
            right, given, counted = answers or [np.zeros(0, int), np.zeros(0, int), np.zeros(0, bool)]
            parts.append([losses, rates, right[counted], given[counted]])
    if not parts:
        raise ValueError("`batches` is empty: give at least one batch of trials, e.g. `task.test(32)`.")
    losses, rates, right, given = (np.concatenate(column) for column in zip(*parts, strict=True))
    accuracy = float((right == given).mean()) if len(right) else float("nan")
    return Evaluation(float(losses.mean()), accuracy, float(rates.mean()), right, given, loss.stepwise)


def _batch_size(model: brainstate.nn.Module, n: int) -> int:
    """How many trials the model's states hold; they are made for ``n`` if there are none yet."""
    states = list(model.states(brainstate.HiddenState).values())
    if not states:
        brainstate.nn.init_all_states(model, batch_size=n)
        states = list(model.states(brainstate.HiddenState).values())
    return u.math.shape(states[0].value)[0] if states else n


def evaluate(
    model: brainstate.nn.Module, batches: Iterable, loss: str | Loss | Callable = "cross_entropy"
) -> Evaluation:
    """Run a model over batches of trials, e.g. ``task.test(32)``, without learning.

    The states of the model are reset; the answer is the class of the highest mean probability over the counted steps, or,
    with the loss ``"stepwise_cross_entropy"``, of the highest probability in each of them. ``task.loss`` is the loss of a task.

    Raises
    ------
    ValueError
        If there is no trial.
    """
    loss = named_loss(loss)
    with brainstate.environ.context(fit=False):
        return evaluate_with(make_forward(model, loss), model, batches, loss)
