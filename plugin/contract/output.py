"""The contract of synaptic outputs: conductance and potential give a current."""

from __future__ import annotations

from typing import Any, ClassVar

import brainstate

from .arguments import Declared
from .current import named_current
from .jacobian import Entries, automatic

__all__ = ["SynOut"]


class SynOut(Declared, brainstate.nn.Module):
    """Base class of synaptic outputs: conductance and potential give a current.

    A subclass defines ``update``. Where the current is affine in the potential it also defines
    ``affine(g) -> (offset, slope)`` of the current ``offset + slope * v`` (slope None if it does
    not depend on the potential) and may define ``jacobian()``, the entries ``("current", "g")`` and
    ``("slope", "g")``: the closed forms of neurons build on these. A neuron with an output that is
    not affine is differentiated automatically. Its constants are not trained, and keep the units that they are given in.
    """

    constants_learn: ClassVar[bool] = False

    def __init__(self):
        super().__init__()
        self._conductance = None

    def bind_cond(self, conductance) -> None:
        """Give the conductance of this step."""
        self._conductance = conductance

    def take_cond(self):
        """The conductance of this step; it can be taken once."""
        g, self._conductance = self._conductance, None
        if g is None:
            raise RuntimeError(
                f"{type(self).__name__} has no conductance for this step: call its projection before the neuron that it feeds."
            )
        return g

    def update(self, conductance, potential):
        """The current for a conductance and a membrane potential."""
        raise NotImplementedError(f"{type(self).__name__} must define `update(conductance, potential)`.")

    def affine(self, g) -> tuple[Any, Any]:
        """Offset and slope of the current as a function of the potential."""
        raise NotImplementedError(f"{type(self).__name__} is not affine in the potential: it defines no `affine(g)`.")

    @property
    def is_affine(self) -> bool:
        """Whether the current is affine in the potential."""
        return type(self).affine is not SynOut.affine

    def jacobian(self) -> Entries:
        """Derivatives of offset and slope with respect to the conductance."""
        return automatic(
            lambda point: named_current(*self.affine(point["g"])),
            {"g": 1.0},
        )
