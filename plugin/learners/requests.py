"""What is asked of a learner over a sequence, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import brainstate
import jax.numpy as jnp

from etrax.engine.names import Path
from etrax.text import dotted, shown

__all__ = ["Outcome", "Request", "chosen", "reduced"]


class Request(NamedTuple):
    """What is asked of a learner over a sequence, its arguments checked; see `Learner.etrace_grad`.

    Attributes
    ----------
    step_fn : callable
        ``(*slices) -> (loss or None, aux)``.
    key : tuple
        What tells step functions apart that are compiled: the user's function and how its result is read.
    sequences, mask
        Time-major arguments and weights of the losses, shape ``(T,)``.
    weights : dict
        ``path -> State`` to differentiate; empty where no gradient is asked for.
    setting : Hashable
        What tells the environment and the attributes of modules apart, see `Settings`.
    """

    step_fn: Callable
    key: tuple
    sequences: tuple
    mask: Any
    weights: dict[Path, brainstate.State]
    setting: Hashable
    chunk_size: int | None = None
    trial: bool = False
    reduction: str = "sum"
    loss_output: str = "per_step"

    @property
    def length(self) -> int:
        """Steps of the sequence."""
        return len(self.mask)


class Outcome(NamedTuple):
    """Gradients by path, and losses and aux as they were asked for."""

    grads: dict[Path, Any]
    losses: Any
    aux: Any


def chosen(weights: Any, known: dict[Path, brainstate.ParamState]) -> dict[Path, brainstate.State]:
    """The parameters to differentiate; an error that names the one that is none of those that are ``known``."""
    advice = "take some of `learner.param_states`, e.g. `{path: s for path, s in learner.param_states.items() if path[0] == 'out'}`."
    if not isinstance(weights, Mapping):
        raise TypeError(f"`weights` must be a dict of paths and ParamStates, got {type(weights).__name__}: {advice}")
    if not weights:
        raise ValueError("`weights` is empty: give at least one ParamState to differentiate.")
    for path, state in weights.items():
        if not isinstance(state, brainstate.State):
            raise TypeError(f"`weights` has {shown(state)} for {path!r}, which is no ParamState: {advice}")
        if all(state is not other for other in known.values()):
            names = ", ".join(map(dotted, known))
            raise ValueError(
                f"`weights` has {path!r}, which is no parameter of the model that was compiled, though its path may be; they are {names}: "
                f"{advice}"
            )
    return dict(weights)


def reduced(losses, mask, reduction: str, loss_output: str):
    """Losses as they were asked for."""
    if loss_output == "per_step":
        return losses
    losses = jnp.where(mask > 0, losses * mask, 0.0)  # one that does not count may be NaN
    if loss_output == "masked":
        return losses
    return jnp.sum(losses) / (jnp.maximum(jnp.sum(mask), 1.0) if reduction == "mean" else 1.0)
