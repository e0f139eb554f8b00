"""The seam between modules and learner: modules report one step, a recorder listens.

Outside a recorder the modules are ordinary brainstate modules. Inside one, every part
(neuron, synapse, filter) reports its old state, its drives and its Jacobian entries, and
every projection reports what it sends where. The recorder may answer with two things:
the output of a projection, when it is already known, and a zero that is added to each new
state, so that the derivative of a loss with respect to that state can be taken.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp

__all__ = ["NOTHING", "Recorder", "active", "like", "recording"]

NOTHING: dict[str, dict] = {"sent": {}, "new": {}}  # of a step: no outputs and new states that are known already
_stack: list[Recorder] = []
_CALLS = (
    "`step_fn` called the learner {} times in one step: call `learner(x)` (not the model) exactly once, so that the trace "
    "advances once."
)


def active() -> Recorder | None:
    """The recorder that listens now, or None."""
    return _stack[-1] if _stack else None


@contextmanager
def recording(recorder: Recorder):
    """Let ``recorder`` listen to every module called inside the block."""
    _stack.append(recorder)
    try:
        yield recorder
    finally:
        _stack.pop()


@dataclass
class Recorder:
    """What happened in one step.

    Parameters
    ----------
    jacobian : bool
        Whether parts report their Jacobian entries.
    zeros : dict, optional
        ``id(state) -> array`` added to the mantissa of that new state.
    known : dict, optional
        ``id(state) -> value`` of new states that are known already; derivatives are still those of the step.
    send : callable, optional
        ``(projection, x) -> y``, replaces the evaluation of the projection's layer.
    parts : frozenset of int
        ``id`` of the modules whose trained constants act through the trace.
    cut : bool
        Whether derivatives end where the output of a projection enters its neurons.
    closed : set of int
        ``id`` of modules whose trained constants are held even after their step.
    """

    jacobian: bool = False
    zeros: dict[int, jax.Array] = field(default_factory=dict)
    known: dict[int, Any] = field(default_factory=dict)
    send: Any = None
    parts: frozenset[int] = frozenset()
    cut: bool = False
    closed: set[int] = field(default_factory=set)
    calls: int = 0
    x: dict[int, Any] = field(default_factory=dict)
    y: dict[int, Any] = field(default_factory=dict)
    entries: dict[int, dict] = field(default_factory=dict)
    new: dict[int, dict] = field(default_factory=dict)
    spikes: dict[int, Any] = field(default_factory=dict)
    modules: list = field(default_factory=list)

    def call(self) -> None:
        """Count a call of the learner; there is one per step."""
        self.calls += 1
        if self.calls > 1:
            raise ValueError(_CALLS.format(self.calls))

    def close(self) -> None:
        """Check that the learner was called."""
        if self.calls != 1:
            raise ValueError(_CALLS.format(self.calls))

    def part(self, module, old: dict, drives: dict, new: dict) -> dict:
        """Note one part's step; return its new states with the zeros added."""
        if id(module) in self.new:
            raise RuntimeError(
                f"{type(module).__name__} `{module.name or ''}` was stepped twice in one step of the model; "
                "call each neuron and each projection once per step."
            )
        if self.jacobian:
            self.entries[id(module)] = module.entries(**old, **drives)
        for name, state in module.hidden.items():
            if id(state) in self.known:
                known = self.known[id(state)]
                new = {**new, name: _known(like(known, new[name]), known)}
        self.new[id(module)] = new
        self.modules.append(module)
        return {name: self.shifted(module.hidden[name], value) for name, value in new.items()}

    def written(self) -> list[tuple[Any, Any]]:
        """States that parts have written, with their values."""
        return [(module.hidden[name], v) for module in self.modules for name, v in self.new[id(module)].items()]

    def holds(self, module) -> bool:
        """Whether the trained constants of a module are held: inside its step they act through the trace."""
        return id(module) in self.parts and (id(module) not in self.new or id(module) in self.closed)

    def inside(self, module):
        """The module as the rest of its population reads it: its trained constants act through the trace."""
        return module.held() if id(module) in self.parts else module

    def shifted(self, state, value):
        """The new value of a state with its zero added."""
        zero = self.zeros.get(id(state))
        if zero is None:
            return value
        return value + u.maybe_decimal(u.Quantity(zero.reshape(u.math.shape(value)), unit=u.get_unit(value)))

    def projection(self, module, x):
        """Note what enters a projection; return what leaves its layer."""
        self.x[id(module)] = jax.lax.stop_gradient(x)
        y = module.comm(x) if self.send is None else self.send(module, x)
        self.y[id(module)] = y
        return jax.lax.stop_gradient(y) if self.cut else y

    def emission(self, neuron, x):
        """The spikes of ``neuron`` in this step without the zeros, for a filter inside its population."""
        if self.spikes.get(id(neuron)) is not x:
            raise ValueError(
                "a filter or readout with `pre=` is part of the population of that neuron: call it with "
                "exactly the value that `pre(...)` returned in this step, or leave `pre` out."
            )
        return self.inside(neuron).get_spike(**self.new[id(neuron)])


@jax.custom_jvp
def _known(value, known):
    """``known``, with the derivative of ``value``."""
    return known


_known.defjvps(lambda tangent, ans, value, known: tangent, None)


def like(old: Any, new: Any) -> Any:
    """New values of states in the dtypes of the old ones, as a scan needs them."""
    return jax.tree.map(lambda a, b: jnp.asarray(b, jnp.asarray(a).dtype), old, new)
