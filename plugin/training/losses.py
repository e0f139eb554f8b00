"""Losses of one step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import braintools
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.checks import check_callable, check_flag
from etrax.text import shown

from .options import title

__all__ = ["LOSSES", "Loss", "counted_loss", "named_loss", "title_of", "weight_of"]


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss of one step.

    In training, validation and test the loss is the mean over all counted steps of all trials, each by its weight in the
    mask: a longer trial weighs more, one without a counted step nothing. Its gradient is what is learnt from.

    Attributes
    ----------
    function : callable
        ``(output, y) -> loss``, of each trial ``(B,)`` or one number for all together; with a mask ``(T, B)`` it must be
        that of each trial.
    classifies : bool
        Whether outputs are logits of classes, so that an accuracy can be measured.
    stepwise : bool
        Whether each counted step is an answer of its own; else a trial is one answer.
    """

    function: Callable[[Any, Any], Any]
    classifies: bool = False
    stepwise: bool = False

    def __post_init__(self):
        if isinstance(self.function, type):
            raise TypeError(f"`loss` is {shown(self.function)}: give a function of (output, y), or an instance.")
        check_callable("loss", self.function, "lambda output, y: jnp.mean((output - y) ** 2, axis=-1)", (None, None))
        check_flag("classifies", self.classifies)
        check_flag("stepwise", self.stepwise)


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


def counted_loss(loss: Loss, output: Any, y: Any, weight: Any) -> Any:
    """The loss of a step times its weight, of each trial or of all: 0, and without a gradient, where the weight is 0.

    There the loss may be NaN or infinite, and so may its derivative, which would reach the output as 0 * inf: the output is
    held constant.

    Parameters
    ----------
    loss : Loss
        Of one step.
    output, y : pytree
        What the model gives and what is asked for.
    weight : array () or (B,)
        From the mask of the batch.
    """
    counts = weight > 0

    def held(leaf):
        fits = u.math.shape(leaf)[: counts.ndim] == counts.shape  # else the leaf belongs to no trial
        return u.math.where(_as_wide(counts, leaf), leaf, jax.lax.stop_gradient(leaf)) if fits else leaf

    output = jax.tree.map(held, output, is_leaf=u.math.is_quantity)
    return jnp.where(counts, weight * u.get_mantissa(loss.function(output, y)), 0.0)


def _as_wide(array, leaf):
    """``array`` with as many axes as ``leaf``, new ones last."""
    return jnp.reshape(array, (*array.shape, *[1] * (u.math.ndim(leaf) - array.ndim)))


def weight_of(mask: Any, n: int) -> Any:
    """The sum of the weights of ``n`` trials; a mask ``(T,)`` is that of each."""
    return jnp.sum(mask) * (n if jnp.ndim(mask) == 1 else 1)


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
