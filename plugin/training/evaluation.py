"""How a network does on a set of trials, without learning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.checks import check_kind
from etrax.data.batch import fields
from etrax.text import shown

from .answers import answers_of
from .checking import batch_check, windowed
from .faults import bad_data, bad_network, nan_trials, sound
from .losses import Loss, counted_loss, named_loss, weight_of
from .options import check_window
from .rates import dt_seconds, mean_spikes

__all__ = ["Evaluation", "Forward", "evaluate", "evaluate_with", "make_forward"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How a network does on a set of trials.

    Attributes
    ----------
    loss : float
        Mean over all counted steps of all trials, each by its weight in the mask; nats for the cross-entropy.
    accuracy : float
        Share of right answers; NaN where there are no classes.
    rate : float
        Mean firing rate, spikes per neuron and second.
    labels, predictions : array of int (n,)
        Right and given answers, one for each trial with a counted step or, ``stepwise``, for each counted step of each;
        empty where there are no classes.
    stepwise : bool
        Whether an answer is a step.
    """

    loss: float
    accuracy: float
    rate: float
    labels: np.ndarray
    predictions: np.ndarray
    stepwise: bool = False


class Forward(NamedTuple):
    """What a forward pass gives: sums of the losses and of their weights, rates ``(B,)``, answers, NaN ``(T, B)``, and whether all is sound.

    The answers are right and given ones and which count, ``(B,)`` or, step by step, ``(B, T)``; empty where there are no
    classes.
    """

    loss: Any
    weight: Any
    rates: Any
    answers: tuple
    nan: Any
    sound: Any


def make_forward(model: brainstate.nn.Module, loss: Loss) -> Callable[..., Forward]:
    """A compiled ``(xs, ys, mask) -> Forward``, from rest."""

    def step(x):
        output = model(x)
        return output, mean_spikes(model, axis=0), nan_trials(output, x.shape[0])

    def forward(xs, ys, mask):
        B, mask = xs.shape[1], jnp.asarray(mask, brainstate.environ.dftype())
        brainstate.nn.reset_all_states(model, batch_size=B)
        outputs, spikes, nan = brainstate.transform.for_loop(step, xs)
        losses = jax.vmap(partial(counted_loss, loss))(outputs, ys, mask)
        answers = answers_of(outputs, ys, mask, loss) if loss.classifies else ()
        rates = jnp.broadcast_to(jnp.mean(spikes, axis=0) / dt_seconds(), (B,))
        good = sound(xs, ys, mask, nan, model)
        return Forward(jnp.sum(losses) * (B if losses.ndim == 1 else 1), weight_of(mask, B), rates, answers, nan, good)

    return brainstate.transform.jit(forward)


def evaluate_with(
    forward: Callable, model: brainstate.nn.Module, batches: Iterable, loss: Loss, window: Any = None
) -> Evaluation:
    """Run a compiled forward pass over batches of trials, each mask within a loss window; the states are put back."""
    parts: list = []
    check = batch_check(model, loss)
    states: dict = {}
    for batch in batches:
        xs, ys, mask = fields(batch)
        ys, mask = np.asarray(ys), windowed(mask, window)
        if not parts:
            if not model.states(brainstate.HiddenState):
                brainstate.nn.init_all_states(model, batch_size=xs.shape[1])
            states = {state: state.value for state in model.states().values()}
        check(xs, ys, mask)
        result = forward(xs, ys, mask)
        data, network = ("", "") if result.sound else (bad_data(xs, ys, mask), bad_network(result.nan, model.states()))
        for state, value in states.items():  # after each batch, as they may have had another size
            state.value = value
        if data:
            raise ValueError(f"{data}.")
        if network:
            raise FloatingPointError(f"{network}: there is no loss to measure.")
        right, given, counted = map(
            np.asarray, result.answers or [np.zeros(0, int), np.zeros(0, int), np.zeros(0, bool)]
        )
        parts.append([float(result.loss), float(result.weight), result.rates, right[counted], given[counted]])
    if not parts:
        raise ValueError("`batches` is empty: give at least one batch of trials, e.g. `task.test(32)`.")
    losses, weights, *arrays = zip(*parts, strict=True)
    if not sum(weights):
        where = "" if window is None else f" within `loss_window` {window[0]} to {window[1]}"
        raise ValueError(f"the masks of all batches are 0{where}: no step counts, so there is nothing to measure.")
    rates, right, given = map(np.concatenate, arrays)
    accuracy = float((right == given).mean()) if len(right) else float("nan")
    return Evaluation(sum(losses) / sum(weights), accuracy, float(rates.mean()), right, given, loss.stepwise)


def evaluate(
    model: brainstate.nn.Module,
    batches: Iterable,
    loss: str | Loss | Callable = "cross_entropy",
    *,
    loss_window: tuple[u.Quantity, u.Quantity] | None = None,
) -> Evaluation:
    """Run a model over batches of trials, e.g. ``task.test(32)``, without learning.

    Each batch is run from rest, in the size that it has; the states of the model are put back afterwards. The answer is the
    class of the highest mean probability over the counted steps, or, with the loss ``"stepwise_cross_entropy"``, of the
    highest probability in each of them. ``task.loss`` is the loss of a task. A trial without a counted step weighs nothing.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network.
    batches : iterable
        Of ``(xs, ys)`` or ``(xs, ys, mask)``, as for `etrax.train`.
    loss : str, Loss or callable
        As for `etrax.train`.
    loss_window : tuple of Quantity, optional
        As in `TrainOptions`.

    Raises
    ------
    ValueError
        If there is no trial or no step that counts, or data that count are not finite; if the loss has a shape that does not
        fit.
    FloatingPointError
        If the network gives NaN, whether or not the step counts.
    """
    check_kind("model", model, brainstate.nn.Module, "a brainstate.nn.Module", "the model comes first, then batches")
    loss = named_loss(loss)
    if not isinstance(batches, Iterable) or hasattr(batches, "shape"):
        raise TypeError(
            f"`batches` must be batches of trials, got {shown(batches)}: give e.g. `task.test(32)` or `[(xs, ys)]`."
        )
    if loss_window is not None:
        check_window(loss_window)
    with brainstate.environ.context(fit=False):
        return evaluate_with(make_forward(model, loss), model, batches, loss, loss_window)
