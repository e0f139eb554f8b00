"""Losses of one step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import braintools
import brainunit as u
import jax.numpy as jnp

from .options import title

__all__ = ["LOSSES", "Loss", "named_loss", "title_of"]


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
