"""The compiled parts of a training: a batch with its updates, a forward pass, and what both measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from .feed import fields
from .module import Neuron
from .options import TrainOptions, title

__all__ = ["LOSSES", "Evaluation", "Loss", "evaluate_with", "make_forward", "make_update", "named_loss", "title_of"]


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss of one step.

    Attributes
    ----------
    function : callable
        ``(output, y) -> loss``, of each trial ``(B,)`` or of all together.
    classifies : bool
        Whether outputs are logits of classes, so that an accuracy can be measured.
    stepwise : bool
        Whether each counted step is an answer of its own; else a trial is one answer.
    """

    function: Callable[[Any, Any], Any]
    classifies: bool = False
    stepwise: bool = False


def _cross_entropy(output, y):
    return braintools.metric.softmax_cross_entropy_with_integer_labels(output, y)


def _squared_error(output, y):
    if u.math.shape(output) != u.math.shape(y):  # NumPy's rules would compare each trial with the targets of all
        raise ValueError(
            f"`ys` has shape {u.math.shape(y)} at a step but the output {u.math.shape(output)}: give `ys` of shape "
            "(T, B, n_out)."
        )
    error = jnp.square(u.get_mantissa(output - y))
    return jnp.mean(error, axis=tuple(range(1, error.ndim)))


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(_cross_entropy, classifies=True),
    "stepwise_cross_entropy": Loss(_cross_entropy, classifies=True, stepwise=True),
    "mse": Loss(_squared_error),
}


def named_loss(loss: str | Loss | Callable) -> Loss:
    """A key of ``LOSSES``, a `Loss`, or a function of ``(output, y)``, as a `Loss`."""
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {', '.join(LOSSES)}, or a function of (output, y); got {loss!r}.")
        return LOSSES[loss]
    return loss if isinstance(loss, Loss) else Loss(loss)


def title_of(loss: Loss) -> str:
    """A loss as text that is the same in another process: its key in ``LOSSES``, or the name of its function."""
    return next((name for name, known in LOSSES.items() if known == loss), title(loss.function))


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


# -- one batch -----------------------------------------------------------------------------


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
    model, cost = learner.model, _rate_cost(learner.model, options)
    check = _label_check(learner, loss)

    def step(x, y, weight):
        out = learner(x)
        value = jnp.mean(weight * u.get_mantissa(loss.function(out, y)))
        # outputs of other losses may be of any form
        return value + cost(), (value, out if loss.classifies else (), _mean_spikes(model))

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
        period, chunk = _period(learner, options, T)
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
            "accuracy": _accuracy(*_answers(outputs, ys, mask, loss)) if loss.classifies else jnp.nan,
            "rate_hz": jnp.mean(spikes) / _dt_seconds(),
            "gradient_norm": jnp.mean(norms),
            "finite": finite,
        }

    def checked(xs, ys, mask):
        check(xs, ys, mask)
        return update(xs, jnp.asarray(ys), mask)

    return checked


def _label_check(run: Callable, loss: Loss) -> Callable[[Any, Any, np.ndarray], None]:
    """A function of ``(xs, ys, mask)``: a ValueError if the loss takes labels and ``ys`` holds one without an output."""
    n_out = None

    def check(xs, ys, mask):
        nonlocal n_out
        if not loss.classifies:
            return
        ys = np.asarray(ys)
        if ys.ndim != 2 or not np.issubdtype(ys.dtype, np.integer):
            raise ValueError(
                f"`ys` is an array of {ys.dtype} of shape {ys.shape}, but a loss of classes takes labels: give whole numbers of "
                "shape (T, B) or (B,), or another `loss`."
            )
        if n_out is None:
            n_out = brainstate.transform.eval_shape(run, xs[0]).shape[-1]
        counted = np.broadcast_to(np.reshape(mask, (len(ys), -1)) > 0, ys.shape)
        wrong = ys[(ys >= n_out) | (ys < 0) & counted]  # where the mask is 0, -1 may stand for no label
        if wrong.size:
            raise ValueError(
                f"`ys` has label {wrong[0]}, but the model has {n_out} outputs: labels are 0 to {n_out - 1}."
            )

    return check


def _period(learner, options: TrainOptions, T: int) -> tuple[int, int | None]:
    """Steps between updates, and steps evaluated in parallel (None: the learner's choice)."""
    chunk = options.chunk_size
    if options.update == "trial":
        return T, chunk
    if options.update == "chunk":
        if chunk is None and not hasattr(learner, "_natural_chunk"):
            raise ValueError(
                f"`update='chunk'` needs a `chunk_size` with {type(learner).__name__}: give a number of steps."
            )
        period = min(T, learner._natural_chunk() if chunk is None else chunk)
        return period, period
    period = min(T, 1 if options.update == "step" else int(options.update))
    return period, None if chunk is None else min(chunk, period)


def _clipped(grads: dict, limit: float | None):
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(grads)))
    if limit is None:
        return grads, norm
    factor = jnp.minimum(1.0, limit / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))
    return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), grads), norm


def _all_finite(values):
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(values)]))


# -- rates ---------------------------------------------------------------------------------


def _rate_cost(model, options: TrainOptions) -> Callable[[], Any]:
    """The cost of high rates in the present step: of each neuron where the model has ``rates()``, else of populations."""
    if not options.rate_cost:
        return lambda: 0.0
    limit = float(options.rate_limit.to_decimal(u.Hz))
    if not hasattr(model, "rates") and not spiking(model):
        raise ValueError(
            "`rate_cost` needs neurons that spike, or a model with a method `rates()` in Hz; there are none."
        )

    def cost():
        if hasattr(model, "rates"):
            rates = model.rates()
            rates = rates.to_decimal(u.Hz) if isinstance(rates, u.Quantity) else rates
            return options.rate_cost * jnp.mean(jnp.square(jax.nn.relu(rates / limit - 1.0)))
        rates = [jnp.mean(neuron.get_spike()) / _dt_seconds() for neuron in spiking(model)]
        return options.rate_cost * sum(jnp.square(jax.nn.relu(rate / limit - 1.0)) for rate in rates)

    return cost


def spiking(model: brainstate.nn.Module) -> list[Neuron]:
    """The populations of a model that spike."""
    return list(model.nodes(Neuron).values())


def _mean_spikes(model, axis: int | None = None):
    """Spikes per neuron in the present step, of each trial if ``axis`` is 0."""
    spikes = [neuron.get_spike() for neuron in spiking(model)]
    if not spikes:
        return jnp.zeros(())
    keep = (lambda s: s.reshape(s.shape[0], -1)) if axis == 0 else jnp.ravel
    return jnp.mean(jnp.concatenate([keep(s) for s in spikes], axis=-1), axis=-1)


def _dt_seconds() -> float:
    return float(brainstate.environ.get_dt().to_decimal(u.second))


# -- without learning ----------------------------------------------------------------------


def _answers(outputs, ys, mask, loss: Loss):
    """Right answers, given ones, and which count: ``(T, B, n_out)`` to three of ``(B,)`` or, step by step, ``(B, T)``."""
    weight = jnp.broadcast_to(jnp.reshape(mask, (*mask.shape, *[1] * (2 - mask.ndim))), ys.shape)
    counted = weight > 0
    if loss.stepwise:
        return ys.T, jnp.argmax(outputs, axis=-1).T, counted.T
    last = len(ys) - 1 - jnp.argmax(counted[::-1], axis=0)  # what is asked for may change before and after
    given = jnp.argmax(jnp.sum(weight[..., None] * jax.nn.softmax(outputs, axis=-1), axis=0), axis=-1)
    return jnp.take_along_axis(ys, last[None], axis=0)[0], given, jnp.ones(given.shape, bool)


def _accuracy(right, given, counted):
    """Share of the counted answers that are right."""
    return jnp.sum(counted & (right == given)) / jnp.maximum(jnp.sum(counted), 1)


def make_forward(model: brainstate.nn.Module, loss: Loss) -> Callable:
    """A compiled ``(xs, ys, mask) -> (losses (B,), rates (B,), right, given, counted)`` from rest.

    The last three are the answers, ``(B,)`` or, step by step, ``(B, T)``; they are absent where there are no classes.
    """

    def step(x):
        return model(x), _mean_spikes(model, axis=0)

    def forward(xs, ys, mask):
        brainstate.nn.reset_all_states(model, batch_size=xs.shape[1])
        outputs, spikes = brainstate.transform.for_loop(step, xs)
        losses = jax.vmap(lambda out, y: jnp.broadcast_to(u.get_mantissa(loss.function(out, y)), (xs.shape[1],)))(
            outputs, ys
        )
        weight = jnp.reshape(mask, (*mask.shape, *[1] * (2 - mask.ndim)))
        total = jnp.maximum(jnp.sum(jnp.broadcast_to(weight, losses.shape), axis=0), jnp.finfo(losses.dtype).tiny)
        answers = _answers(outputs, ys, mask, loss) if loss.classifies else ()
        rates = jnp.broadcast_to(jnp.mean(spikes, axis=0) / _dt_seconds(), (xs.shape[1],))
        return jnp.sum(weight * losses, axis=0) / total, rates, *answers

    return brainstate.transform.jit(forward)


def evaluate_with(
    forward: Callable, model: brainstate.nn.Module, batches: Iterable, loss: Loss, window: Callable | None = None
) -> Evaluation:
    """Run a compiled forward pass over batches of trials, each mask within a window."""
    parts, check = [], _label_check(model, loss)
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
