r"""Kinetic AMPA receptor, on the presynaptic side.

    \dot g = \alpha T p (1 - g) - \beta g

with the transmitter pulse :math:`p` of ``kinetics``: concentration :math:`T` for a time
:math:`T_{dur}` after a spike. Destexhe, Mainen & Sejnowski 1998, Kinetic models of synaptic
transmission, eq. 1.2; the values are those of ``brainpy.state.AMPA``, without a clock.
"""

from __future__ import annotations

from typing import Any

import braintools
import brainunit as u
import jax.numpy as jnp

from etrax.contract import Constant, Filter, argument

from .kinetics import pulse, pulse_jacobian, relax, relax_jacobian

__all__ = ["AMPA"]


class AMPA(Filter):
    """Kinetic receptor with states ``g`` (mS unless ``g_initializer`` has another unit), ``p`` and ``since`` (no unit).

    Called with presynaptic spikes it returns the conductance of every presynaptic neuron's synapses, to be
    weighed and bound to an output by :class:`CurrentProj`.
    """

    name: str | None = argument(default=None, doc="Name of the module.")
    alpha: Any = Constant(
        default=0.98 / (u.ms * u.mM),
        least=0,
        doc="Binding rate per concentration, scalar or one value per presynaptic neuron (as all below).",
    )
    beta: Any = Constant(default=0.18 / u.ms, least=0, doc="Unbinding rate.")
    T: Any = Constant(default=0.5 * u.mM, least=0, doc="Concentration of the transmitter in a pulse.")
    T_dur: Any = Constant(default=0.5 * u.ms, least=0, doc="Duration of a pulse.")
    g_initializer: Any = argument(
        default=braintools.init.Constant(0.0 * u.mS), doc="Initial conductance; it saturates at 1 of its unit."
    )

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        g = braintools.init.param(self.g_initializer, self.varshape, batch_size)
        blank = jnp.zeros(u.math.shape(g), u.math.get_dtype(g))
        return {"g": g, "p": blank, "since": blank}

    def transition(self, g, p, since, *, z) -> dict:
        """The pulse, then the receptor under it."""
        new = pulse(p, since, z, self.T_dur)
        return {"g": relax(g, self.alpha * self.T * new["p"], self.beta), **new}

    def jacobian(self, g, p, since, *, z) -> dict:
        """Closed form of the diagonal; nothing depends on ``since`` but by comparison."""
        by = pulse_jacobian(p, since, z, self.T_dur)
        rate = self.alpha * self.T
        keep, gain = relax_jacobian(g, rate * pulse(p, since, z, self.T_dur)["p"], self.beta)
        entries = {("g", "g"): keep}
        for source, value in by.items():
            entries |= {("p", source): value, ("g", source): gain * rate * value}
        return entries
