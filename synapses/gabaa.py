"""Kinetic GABA-A receptor, on the presynaptic side: the equations of ``ampa`` with other rates.

Destexhe, Mainen & Sejnowski 1998, Kinetic models of synaptic transmission, section 1.4; the values
are those of ``brainpy.state.GABAa``.
"""

from __future__ import annotations

import braintools
import brainunit as u

from etrax.contract import Neuron

from .ampa import AMPA

__all__ = ["GABAa"]


class GABAa(AMPA):
    """Kinetic receptor; states and parameters as in :class:`AMPA`."""

    def __init__(
        self,
        in_size,
        name: str | None = None,
        alpha=0.53 / (u.ms * u.mM),
        beta=0.18 / u.ms,
        T=1.0 * u.mM,
        T_dur=1.0 * u.ms,
        g_initializer=braintools.init.Constant(0.0 * u.mS),
        *,
        pre: Neuron | None = None,
    ):
        super().__init__(in_size, name, alpha, beta, T, T_dur, g_initializer, pre=pre)
