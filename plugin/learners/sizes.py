"""Batches of another size than a learner was compiled for."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import brainstate
import brainunit as u

from etrax.text import dotted

from .learner import Learner
from .online import OnlineLearner
from .settings import claim

__all__ = ["lent", "reset_to", "resized"]


def reset_to(model: brainstate.nn.Module, n: int) -> None:
    """Give all states of a model their initial values for ``n`` trials.

    Raises
    ------
    ValueError
        If a state is left with the number of trials that it had while others are not.
    """
    before = _shapes(model)
    brainstate.nn.reset_all_states(model, batch_size=n)
    after = _shapes(model)
    sizes = {before[path][:1] for path in after if before[path] != after[path]}
    for path, shape in after.items():
        if shape == before[path] and shape[:1] in sizes:
            raise ValueError(
                f"the state {dotted(path)} keeps its shape {shape} in a batch of {n} trials: let `reset_state(batch_size)` of its "
                "module make one of that size, or choose a batch size that divides the number of trials."
            )


def _shapes(model: brainstate.nn.Module) -> dict:
    return {path: u.math.shape(state.value) for path, state in model.states(brainstate.HiddenState).items()}


def resized(learner: Learner, x: Any) -> Learner:
    """A learner for another batch size on the same model, weights and feedback; its traces are its own and start at zero.

    The states of the model are then of that size: each of the two begins a trial with its own ``reset_state``. They stay in the
    hands of ``learner`` but while they are `lent`.

    Parameters
    ----------
    learner : Learner
        Compiled.
    x : array
        One step's input, of the new batch size.

    Raises
    ------
    ValueError
        If a module of the model keeps states of the old size when it is reset.
    """
    other = copy.copy(learner)
    reset_to(learner.model, x.shape[0])
    if isinstance(learner, OnlineLearner) and isinstance(other, OnlineLearner):
        # an error notes what it finds in a graph, so each has its own; weights of feedback are shared
        other.made_of = learner.made_of._replace(error=copy.copy(learner.made_of.error))
    with lent(learner, other):
        other.compile_graph(x)
    if isinstance(learner, OnlineLearner) and isinstance(other, OnlineLearner):
        other.feedback_weights = learner.feedback_weights
    return other


@contextlib.contextmanager
def lent(learner: Learner, other: Learner) -> Iterator[None]:
    """The states of a learner in the hands of another one, which gives them back; for whole trials, as traces are not shared."""
    states = list(learner.hidden_states.values())
    claim(other, states)
    try:
        yield
    finally:
        claim(learner, states)
