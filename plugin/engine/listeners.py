"""What listens to the steps of a model for the engine, one job each."""

from __future__ import annotations

from typing import Any

import brainunit as u
import jax

from etrax.contract.recorder import Listener

from .pure import like

__all__ = ["Apart", "Cut", "Earlier", "JacobianEntries", "Known", "Zeros"]


class JacobianEntries(Listener):
    """Takes down the Jacobian entries of every part: ``of[id(module)]``."""

    def __init__(self):
        self.of: dict[int, dict] = {}

    def stepped(self, module, old, drives, new):
        """See `Listener.stepped`."""
        self.of[id(module)] = module.entries(**old, **drives)
        return new


class Known(Listener):
    """Puts new states that are known already, ``{id(state): value}``, in place of those of the step; derivatives stay."""

    def __init__(self, values: dict[int, Any]):
        self.values = values

    def stepped(self, module, old, drives, new):
        """See `Listener.stepped`."""
        known = {name: self.values[id(s)] for name, s in module.hidden.items() if id(s) in self.values}
        return {**new, **{name: _known(like(value, new[name]), value) for name, value in known.items()}}


class Zeros(Listener):
    """Adds a zero to each new state, ``{id(state): array}``, so that a derivative with respect to it can be taken.

    See equation (18) of docs/mathematics.md: what a population reads of itself is without the zeros. Those of the states
    in ``late`` are added when the model has stepped: nothing in the step depends on them.
    """

    def __init__(self, zeros: dict[int, jax.Array], late: frozenset[int] = frozenset()):
        self.zeros = zeros
        self.late = late
        self._waiting: list[Any] = []

    def written(self, state, value):
        """See `Listener.written`."""
        if id(state) in self.late:
            self._waiting.append(state)
            return value
        return self._added(state, value)

    def ended(self):
        """See `Listener.ended`."""
        for state in self._waiting:
            state.value = self._added(state, state.value)

    def _added(self, state, value):
        zero = self.zeros.get(id(state))
        if zero is None:
            return value
        return value + u.maybe_decimal(u.Quantity(zero.reshape(u.math.shape(value)), unit=u.get_unit(value)))


class Apart(Listener):
    """Ends derivatives from a part's old states, and from its constants, to its new states, by ``id`` of the part."""

    def __init__(self, parts: frozenset[int]):
        self.parts = parts

    def stepped(self, module, old, drives, new):
        """See `Listener.stepped`."""
        if id(module) not in self.parts:  # a filter of unknown neurons, which is no part of a population
            return new
        return module.held().transition(**jax.tree.map(jax.lax.stop_gradient, old), **drives)


class Earlier(Listener):
    """Adds a shift to constants, ``{id(module): {name: array}}``, where they act on spikes of before the module's step."""

    def __init__(self, shifts: dict[int, dict[str, Any]]):
        self.shifts = shifts

    def held(self, module, name, value):
        """See `Listener.held`."""
        shift = self.shifts.get(id(module), {}).get(name)
        return value if shift is None else value + u.maybe_decimal(u.Quantity(shift, unit=u.get_unit(value)))


class Cut(Listener):
    """Ends derivatives where the output of a projection enters its neurons."""

    def sent(self, projection, y):
        """See `Listener.sent`."""
        return jax.lax.stop_gradient(y)


@jax.custom_jvp
def _known(value, known):
    """``known``, with the derivative of ``value``."""
    return known


_known.defjvps(lambda tangent, ans, value, known: tangent, None)
