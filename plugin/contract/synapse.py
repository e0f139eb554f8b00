"""The contract of synapses, which stand with the neurons that they feed."""

from __future__ import annotations

from typing import Any

import brainunit as u

from etrax.checks import check_unit

from .arguments import argument
from .dynamics import Dynamics
from .jacobian import Entries, automatic
from .recorder import active

__all__ = ["Synapse"]


class Synapse(Dynamics):
    """Base class of synapses aligned with the neurons that they feed.

    A subclass defines ``initial`` and ``transition(g, ..., *, y)`` where ``y`` is the weighted
    presynaptic input, in the unit of the first state. The output reads the state ``g``, unless
    the subclass defines another ``conductance(g, ...)`` of its new states.
    """

    in_size: Any = argument(doc="Shape of the postsynaptic population: an int or a tuple of int.")
    name: str | None = argument(default=None, doc="Name of the module.")

    def __init__(self, in_size, name: str | None = None):
        super().__init__(in_size, name=name)
        self._inputs: list[Any] = []

    def conductance(self, *args: Any, **states: Any) -> Any:
        """What the output reads, a function of the new states."""
        return states["g"]

    def conductance_jacobian(self, *args: Any, **states: Any) -> Entries:
        """Entries ``("g", state) -> derivative`` of :meth:`conductance`."""
        if type(self).conductance is Synapse.conductance:
            return {("g", "g"): 1.0}
        return automatic(lambda point: {"g": self.conductance(**point)}, states)

    def conductance_constant_jacobian(self, *args: Any, **states: Any) -> Entries:
        """Entries ``("g", constant) -> derivative`` of :meth:`conductance` for the constants that are trained."""
        return self._by_constants(lambda module: {"g": module.conductance(**states)})

    def receive(self, y) -> None:
        """Take weighted input for the coming step."""
        self._inputs.append(y)

    def advance(self, x=None):
        """One step on what was received (and ``x``); returns the conductance as its population reads it."""
        inputs, self._inputs = self._inputs, []
        if x is not None:
            inputs.append(x)
        self.check_states()
        unit = u.get_unit(next(iter(self.hidden.values())).value)
        y = u.maybe_decimal(u.Quantity(0.0, unit=unit))
        for value in inputs:
            y = y + check_unit(value, unit, "the output of `comm`", f"`syn` {type(self).__name__}")
        new = self.step(y=y)
        recorder = active(self)
        return (self if recorder is None else recorder.inside(self)).conductance(**new)

    def update(self, x=None):
        """One step; returns the conductance, shape ``([batch,] *varshape)``."""
        self.advance(x)
        return self.conductance(**{name: state.value for name, state in self.hidden.items()})
