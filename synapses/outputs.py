r"""From conductance to current.

    CUBA: I = g \cdot scale          COBA: I = g (E - V)

    MgBlock: I = g (E - V) / (1 + [Mg] / \beta \, e^{\alpha (V_{offset} - V)})

Vogels & Abbott 2005, J. Neurosci. 25(46), for the two kinds of network; Jahr & Stevens 1990,
J. Neurosci. 10(9), for the magnesium block. The first two are affine in the potential, which
is what the neurons' closed forms use.
"""

from __future__ import annotations

from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp

from etrax.contract import Constant, SynOut
from etrax.text import unit_text

__all__ = ["COBA", "CUBA", "MgBlock"]


class CUBA(SynOut):
    """Current-based output.

    Examples
    --------
    >>> import brainunit as u, etrax
    >>> etrax.synapses.CUBA(scale=2.0 * u.volt).update(3.0 * u.mS, -65.0 * u.mV).to_decimal(u.mA)
    6.0
    """

    scale: Any = Constant(
        default=u.volt, doc="Driving force that stands in for ``E - V``, a quantity or a unit; 1 V turns mS into mA."
    )

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

    Examples
    --------
    >>> import brainunit as u, etrax
    >>> etrax.synapses.COBA(E=0.0 * u.mV).update(3.0 * u.mS, -65.0 * u.mV).to_decimal(u.uA)
    195.0
    """

    E: Any = Constant(u.mV, doc="Reversal potential.")

    def update(self, conductance, potential):
        """The current ``g (E - V)``."""
        return conductance * (self.E - potential)

    def affine(self, g):
        """See `SynOut.affine`."""
        return g * self.E, -g

    def jacobian(self) -> dict:
        """Closed form."""
        return {("current", "g"): self.E, ("slope", "g"): -1.0}


class MgBlock(SynOut):
    """Conductance-based output of NMDA receptors, which magnesium blocks at low potentials.

    Raises
    ------
    ValueError
        At the first step, if the units do not fit each other.
    """

    E: Any = Constant(
        default=0.0, doc="Reversal potential; in the unit of the potential, e.g. ``0.0 * u.mV`` for neurons in mV."
    )
    cc_Mg: Any = Constant(default=1.2, least=0, doc="Magnesium concentration.")
    alpha: Any = Constant(
        default=0.062, doc="Inverse of the potential over which the block changes, e.g. ``0.062 / u.mV``."
    )
    beta: Any = Constant(
        default=3.57, above=0, doc="Concentration of half block at zero potential, in the unit of ``cc_Mg``."
    )
    V_offset: Any = Constant(default=0.0, doc="Shift of the potential.")

    def update(self, conductance, potential):
        """The current ``g (E - V)`` times the fraction of open channels."""
        volt = u.get_unit(potential)
        units = {"E": volt, "V_offset": volt, "alpha": 1 / volt, "beta": u.get_unit(self.cc_Mg)}
        for name, unit in units.items():
            got = u.get_unit(getattr(self, name))
            if not got.has_same_dim(unit):
                raise ValueError(
                    f"`{name}` of MgBlock is in {unit_text(got)} but must be in units like {unit_text(unit)}."
                )
        # 1 / (1 + block) by the logarithm of the block: far below V_offset the block itself overflows
        block = jnp.log(u.maybe_decimal(self.cc_Mg / self.beta)) + u.maybe_decimal(
            self.alpha * (self.V_offset - potential)
        )
        return conductance * (self.E - potential) * jax.nn.sigmoid(-block)
