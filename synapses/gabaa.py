"""Kinetic GABA-A receptor, on the presynaptic side: the equations of ``ampa`` with other rates.

Destexhe, Mainen & Sejnowski 1998, Kinetic models of synaptic transmission, section 1.4; the values
are those of ``brainpy.state.GABAa``.
"""

from __future__ import annotations

from typing import Any

import brainunit as u

from etrax.contract import Constant

from .ampa import AMPA

__all__ = ["GABAa"]


class GABAa(AMPA):
    """Kinetic receptor; states as in :class:`AMPA`."""

    alpha: Any = Constant(
        default=0.53 / (u.ms * u.mM),
        least=0,
        doc="Binding rate per concentration, scalar or one value per presynaptic neuron (as all below).",
    )
    beta: Any = Constant(default=0.18 / u.ms, least=0, doc="Unbinding rate.")
    T: Any = Constant(default=1.0 * u.mM, least=0, doc="Concentration of the transmitter in a pulse.")
    T_dur: Any = Constant(default=1.0 * u.ms, least=0, doc="Duration of a pulse.")
