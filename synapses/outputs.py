r"""From conductance to current.

    CUBA: I = g \cdot scale          COBA: I = g (E - V)

(Vogels & Abbott 2005, J. Neurosci. 25(46), for the two kinds of network.) Both are affine in
the potential, which is what the neurons' closed forms use.
"""

from __future__ import annotations

import brainunit as u

from etrax.module import SynOut

__all__ = ["COBA", "CUBA"]


class CUBA(SynOut):
    """Current-based output.

    Parameters
    ----------
    scale : Quantity or Unit
        Driving force that stands in for ``E - V``; 1 V turns mS into mA.
    """

    def __init__(self, scale=u.volt):
        super().__init__()
        self.scale = scale

    def update(self, conductance, potential=None):
        """The current ``g * scale``."""
        return conductance * self.scale

    def affine(self, g):
        """See `SynOut.affine`."""
        return g * self.scale, None

    def jacobian(self) -> dict:
        """Closed form."""
        return {("current", "g"): 1.0 * self.scale}


class COBA(SynOut):
    """Conductance-based output.

    Parameters
    ----------
    E : Quantity
        Reversal potential.
    """

    def __init__(self, E):
        super().__init__()
        self.E = E

    def update(self, conductance, potential):
        """The current ``g (E - V)``."""
        return conductance * (self.E - potential)

    def affine(self, g):
        """See `SynOut.affine`."""
        return g * self.E, -g

    def jacobian(self) -> dict:
        """Closed form."""
        return {("current", "g"): self.E, ("slope", "g"): -1.0}
