"""Stateful brainstate functions as pure functions of the values of their states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import jax
import jax.numpy as jnp

__all__ = ["Pure", "States", "Values", "like"]

Values = dict[int, Any]


class States:
    """Numbers the states that pure functions use, so that their values fit in one pytree.

    Model states come first, in the order of their paths; states met later follow.
    """

    def __init__(self, states):
        self.all: list[brainstate.State] = []
        self._index: dict[int, int] = {}
        for state in states:
            self.index(state)

    def index(self, state: brainstate.State) -> int:
        """The number of a state."""
        if id(state) not in self._index:
            self._index[id(state)] = len(self.all)
            self.all.append(state)
        return self._index[id(state)]

    def read(self, indices) -> Values:
        """The present values."""
        return {i: self.all[i].value for i in indices}

    def write(self, values: Values) -> None:
        """Assign values."""
        for i, value in values.items():
            self.all[i].value = value


def like(old: Any, new: Any) -> Any:
    """New values of states in the dtypes of the old ones, as a scan needs them."""
    return jax.tree.map(lambda a, b: jnp.asarray(b, jnp.asarray(a).dtype), old, new)


class Pure:
    """A stateful function as ``(values, *args) -> (written values, output)``.

    Parameters
    ----------
    fun : callable
        Reads and writes ``brainstate.State`` objects.
    states : States
        The numbering shared by all pure functions of one learner.
    """

    def __init__(self, fun: Callable, states: States):
        self._fun = brainstate.transform.StatefulFunction(fun)
        self._states = states

    def trace(self, *args) -> tuple[list[int], list[int]]:
        """Numbers of the states read or written, and of those written, for arguments like these."""
        used = [self._states.index(s) for s in self._fun.get_states(*args)]
        written = [self._states.index(s) for s in self._fun.get_write_states(*args)]
        return used, written

    def __call__(self, values: Values, *args) -> tuple[Values, Any]:
        used = [self._states.index(s) for s in self._fun.get_states(*args)]
        new, out = self._fun.jaxpr_call([values[i] for i in used], *args)
        return {i: v for i, v in zip(used, new, strict=True) if v is not None}, out

    def vmap(self, mapped: set[int], in_axes: Any = 0, out_axes: Any = 0) -> Callable:
        """The function over a leading axis of its arguments and of the values numbered in ``mapped``.

        Returns only the output, with ``out_axes``.
        """

        def call(values: Values, *args):
            axes = {i: 0 if i in mapped else None for i in values}
            argument_axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
            return jax.vmap(lambda v, *a: self(v, *a)[1], in_axes=(axes, *argument_axes), out_axes=out_axes)(
                values, *args
            )

        return call
