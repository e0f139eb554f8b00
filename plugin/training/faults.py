"""NaN and infinity in a batch or in a network: whether there is any, and what to tell of it."""

from __future__ import annotations

from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from etrax.checks import not_finite
from etrax.text import dotted

__all__ = ["bad_data", "bad_network", "nan_trials", "sound"]


def nan_trials(output: Any, n: int) -> Any:
    """Which of ``n`` trials have NaN in the output of a step, ``(n,)``; all of them where it has no axis of trials."""
    found = jnp.zeros(n, bool)
    for leaf in jax.tree.leaves(output):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            of_trials = jnp.isnan(leaf).reshape(n, -1) if leaf.shape[:1] == (n,) else jnp.isnan(leaf).reshape(1, -1)
            found |= jnp.any(of_trials, axis=1)
    return found


def sound(xs: Any, ys: Any, mask: Any, nan: Any, model: brainstate.nn.Module) -> Any:
    """Whether inputs, and targets where the mask counts, are finite, and output ``(T, B)`` and last states of the model not NaN."""
    good = jnp.all(jnp.isfinite(xs)) & ~jnp.any(nan)
    if jnp.issubdtype(ys.dtype, jnp.inexact):
        counted = jnp.reshape(mask > 0, (*mask.shape, *[1] * (ys.ndim - mask.ndim)))
        good &= jnp.all(jnp.isfinite(ys) | ~counted)
    for state in model.states(brainstate.HiddenState).values():
        for leaf in jax.tree.leaves(state.value):
            good &= ~jnp.any(jnp.isnan(leaf))
    return good


def bad_data(xs: Any, ys: Any, mask: Any) -> str:
    """What is not finite in the data of a batch, in words; empty if nothing is."""
    for name, array, counted in (("xs", xs, None), ("ys", ys, mask)):
        if what := not_finite(array, counted=counted):
            return f"`{name}` of the batch holds {what}: clean the data"
    return ""


def bad_network(nan: Any, states: dict) -> str:
    """What is not finite in a network after a batch, in words; empty if nothing is.

    Parameters
    ----------
    nan : array of bool (T, B)
        Where the output was NaN.
    states : dict
        ``path -> State``, in the order that they are looked at.
    """
    if np.any(nan):
        step, sample = np.argwhere(np.asarray(nan))[0]
        return f"the output of the network is NaN, first at step {step}, sample {sample}"
    for path, state in states.items():
        for leaf in jax.tree.leaves(state.value):
            if what := not_finite(leaf, axes=()):
                return f"{dotted(path)} of the network holds {what}"
    return ""
