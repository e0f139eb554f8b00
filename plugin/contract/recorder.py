"""The seam between modules and learner: modules tell a recorder what happens in one step, and it may answer.

Outside a recorder the modules are ordinary brainstate modules. Inside one, every part (neuron, synapse, filter) tells its
old states, its drives and its new states; every projection what enters it; every neuron its spikes. The recorder notes it
and lets its *listeners* hear it, one after the other: each has one job, and may pass on something else than it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["NOT_OF_PRE", "Listener", "Recorder", "active", "recording"]

_stack: list[Recorder] = []
_CALLS = (
    "`step_fn` called the learner {} times in one step: call `learner(x)` (not the model) exactly once, so that the trace "
    "advances once."
)

NOT_OF_PRE = (
    "a filter or readout with `pre=` is part of the population of that neuron: call it with exactly the value that `pre(...)` "
    "returned in this step, or, ahead of the call of `pre`, with `pre.get_spike()`; or leave `pre` out."
)


def active(module: Any = None) -> Recorder | None:
    """The recorder that is told of steps now, or None; given a ``module``, None also for one that it does not know.

    A network that is called within a step but is no part of the model (a teacher, another learner) is none of its business.
    """
    recorder = _stack[-1] if _stack else None
    return recorder if recorder is None or module is None or recorder.knows(module) else None


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Let ``recorder`` hear of every module that is called inside the block."""
    _stack.append(recorder)
    try:
        yield recorder
    finally:
        _stack.pop()


class Listener:
    """What hears of a step; a subclass overrides what it is for."""

    def stepped(self, module: Any, old: dict, drives: dict, new: dict) -> dict:
        """A part has stepped; returns its new states as the rest of its population reads them."""
        return new

    def written(self, state: Any, value: Any) -> Any:
        """A new value is about to be written; returns the one that is."""
        return value

    def sent(self, projection: Any, y: Any) -> Any:
        """A layer has sent ``y``; returns what reaches its neurons."""
        return y

    def held(self, module: Any, name: str, value: Any) -> Any:
        """A trained constant is read while it is held; returns what is read."""
        return value

    def ended(self) -> None:
        """The learner's step of the model has come to its end; what runs after it is the loss."""


class Recorder:
    """What happened in one step.

    Parameters
    ----------
    *listeners : Listener
        Who hears of it, in this order.
    modules : frozenset of int, optional
        ``id`` of the modules that it knows; all if left out.
    send : callable, optional
        ``(projection, x) -> (what entered its layer, what left it)`` in place of the projection's layer.
    traced : frozenset of int
        ``id`` of the modules whose trained constants act through the trace: within their step they are held.
    closed : frozenset of int
        ``id`` of modules among them whose trained constants are held until the model's step has ended.
    signals : bool
        Whether learning signals are taken from the step.
    weight : scalar, optional
        Weight of the loss of the step; 1 if left out.

    Attributes
    ----------
    old, new : dict
        ``id(module) -> `` states of the parts that have stepped, by name, before and after it.
    x, y : dict
        ``id(projection) -> `` what entered its layer, and what left it.
    early : dict
        ``id(filter) -> `` what entered filters ahead of the call of their ``pre``, and the spikes of its last step.
    """

    def __init__(
        self,
        *listeners: Listener,
        modules: frozenset[int] | None = None,
        send: Callable[[Any, Any], tuple[Any, Any]] | None = None,
        traced: frozenset[int] = frozenset(),
        closed: frozenset[int] = frozenset(),
        signals: bool = False,
        weight: Any = None,
    ):
        self._listeners = listeners
        self._modules = modules
        self._send = send
        self._traced = traced
        self._closed = closed
        self.signals = signals
        self._weight = weight
        self.old: dict[int, dict] = {}
        self.new: dict[int, dict] = {}
        self.x: dict[int, Any] = {}
        self.y: dict[int, Any] = {}
        self.early: dict[int, Any] = {}
        self._stepped: list[Any] = []
        self._spikes: dict[int, Any] = {}
        self._calls = 0
        self._ended = False

    # -- the learner tells -----------------------------------------------------------------

    def call(self) -> None:
        """The learner is called, once in a step."""
        self._calls += 1
        if self._calls > 1:
            raise ValueError(_CALLS.format(self._calls))

    def end(self) -> None:
        """The model has stepped."""
        self._ended = True
        for listener in self._listeners:
            listener.ended()

    def close(self) -> None:
        """The step is over; a ValueError unless the learner was called."""
        if self._calls != 1:
            raise ValueError(_CALLS.format(self._calls))

    def counted(self, out: Any) -> Any:
        """The output of the model's step, held constant where the loss of the step does not count.

        A derivative of that loss may be NaN or infinite, and would reach what made the output as 0 * NaN.
        """
        if self._weight is None:
            return out
        return jax.tree.map(
            lambda leaf: jax.lax.select_n(_like(self._weight > 0, leaf), jax.lax.stop_gradient(leaf), leaf), out
        )

    # -- modules tell ----------------------------------------------------------------------

    def part(self, module: Any, old: dict, drives: dict, new: dict) -> dict:
        """A part has stepped from ``old`` to ``new``; returns the values to write."""
        if id(module) in self.new:
            raise RuntimeError(
                f"{type(module).__name__}{f' `{module.name}`' if module.name else ''} was stepped twice in one step of the model: call each "
                "neuron and each projection once per step, and leave the synapse of a projection to it."
            )
        for listener in self._listeners:
            new = listener.stepped(module, old, drives, new)
        self.old[id(module)], self.new[id(module)] = old, new
        self._stepped.append(module)
        return {name: self._written(module.hidden[name], value) for name, value in new.items()}

    def _written(self, state: Any, value: Any) -> Any:
        for listener in self._listeners:
            value = listener.written(state, value)
        return value

    def projection(self, module: Any, x: Any) -> Any:
        """``x`` enters a projection; returns what leaves its layer."""
        x, y = (x, module.sized(module.comm(x))) if self._send is None else self._send(module, x)
        self.x[id(module)] = jax.lax.stop_gradient(x)
        self.y[id(module)] = y
        for listener in self._listeners:
            y = listener.sent(module, y)
        return y

    def emitted(self, neuron: Any, spikes: Any) -> None:
        """A neuron has emitted spikes."""
        self._spikes[id(neuron)] = spikes

    def emission(self, part: Any, x: Any) -> Any:
        """The spikes that a filter of its ``pre`` takes, as the rest of the population reads them.

        After the call of ``pre``, ``x`` must be what that emitted. Ahead of it, the spikes of its last step: both are kept,
        so that who relies on it can see whether they are the same.
        """
        neuron = part.pre
        if id(neuron) not in self.new and self.knows(neuron):
            self.early[id(part)] = x, neuron.get_spike()
            return jax.lax.stop_gradient(x) if id(neuron) in self._traced else x  # it acts through the trace
        if self._spikes.get(id(neuron)) is not x:
            raise ValueError(NOT_OF_PRE)
        return self.inside(neuron).get_spike(**self.new[id(neuron)])

    # -- modules ask -----------------------------------------------------------------------

    def knows(self, module: Any) -> bool:
        """Whether a module is one of those that are recorded."""
        return self._modules is None or id(module) in self._modules

    def constant(self, module: Any, name: str, value: Any) -> Any:
        """A trained constant of a module as it is read now."""
        stepped = id(module) in self.new and not (id(module) in self._closed and not self._ended)
        if stepped or id(module) not in self._traced:
            return value
        value = jax.tree.map(jax.lax.stop_gradient, value)
        for listener in self._listeners:
            value = listener.held(module, name, value)
        return value

    def inside(self, module: Any) -> Any:
        """The module as the rest of its population reads it: its trained constants act through the trace."""
        return module.held() if id(module) in self._traced else module

    # -- afterwards ------------------------------------------------------------------------

    def states(self) -> list[tuple[Any, Any]]:
        """States that parts have written, with their new values before any listener changed what was written."""
        return [(module.hidden[name], v) for module in self._stepped for name, v in self.new[id(module)].items()]


def _like(flag: Any, leaf: Any) -> Any:
    return jnp.broadcast_to(flag, jnp.shape(leaf))
