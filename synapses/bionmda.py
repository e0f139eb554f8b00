r"""Kinetic NMDA receptor of second order, on the presynaptic side.

    \dot x = \alpha_2 T p (1 - x) - \beta_2 x,        \dot g = \alpha_1 x (1 - g) - \beta_1 g

with the transmitter pulse :math:`p` of ``kinetics``; :math:`x` is stepped first. Its magnesium block
is the output `MgBlock`. Destexhe, Mainen & Sejnowski 1994, J. Comput. Neurosci. 1; the values are
those of ``brainpy.state.BioNMDA``, without a clock.
"""

from __future__ import annotations

from typing import Any

import braintools
import brainunit as u
import jax.numpy as jnp

from etrax.contract import Constant, Filter, argument

from .kinetics import pulse, pulse_jacobian, relax, relax_jacobian

__all__ = ["BioNMDA"]


class BioNMDA(Filter):
    """Kinetic receptor with states ``g`` (mS unless ``g_initializer`` has another unit), ``x``, ``p``, ``since`` (no unit)."""

    name: str | None = argument(default=None, doc="Name of the module.")
    alpha1: Any = Constant(
        default=2.0 / u.ms,
        least=0,
        doc="Rate at which ``g`` follows ``x``, scalar or one value per presynaptic neuron (as all below).",
    )
    beta1: Any = Constant(default=0.01 / u.ms, least=0, doc="Rate at which ``g`` decays.")
    alpha2: Any = Constant(default=1.0 / (u.ms * u.mM), least=0, doc="Binding rate per concentration, of ``x``.")
    beta2: Any = Constant(default=0.5 / u.ms, least=0, doc="Unbinding rate, of ``x``.")
    T: Any = Constant(default=1.0 * u.mM, least=0, doc="Concentration of the transmitter in a pulse.")
    T_dur: Any = Constant(default=0.5 * u.ms, least=0, doc="Duration of a pulse.")
    g_initializer: Any = argument(
        default=braintools.init.Constant(0.0 * u.mS), doc="Initial conductance; it saturates at 1 of its unit."
    )
    x_initializer: Any = argument(default=braintools.init.Constant(0.0), doc="Initial ``x``.")

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        g = braintools.init.param(self.g_initializer, self.varshape, batch_size)
        x = braintools.init.param(self.x_initializer, self.varshape, batch_size)
        blank = jnp.zeros(u.math.shape(g), u.math.get_dtype(g))
        return {"g": g, "x": x, "p": blank, "since": blank}

    def transition(self, g, x, p, since, *, z) -> dict:
        """The pulse, then the first stage under it, then the second."""
        new = pulse(p, since, z, self.T_dur)
        x = relax(x, self.alpha2 * self.T * new["p"], self.beta2)
        return {"g": relax(g, self.alpha1 * x, self.beta1), "x": x, **new}

    def jacobian(self, g, x, p, since, *, z) -> dict:
        """Closed form of the diagonal, by the chain p, x, g."""
        by = pulse_jacobian(p, since, z, self.T_dur)
        rate = self.alpha2 * self.T
        new = self.transition(g, x, p, since, z=z)
        keep_x, gain_x = relax_jacobian(x, rate * new["p"], self.beta2)
        keep_g, gain_g = relax_jacobian(g, self.alpha1 * new["x"], self.beta1)
        onto_x = {"x": keep_x, **{source: gain_x * rate * value for source, value in by.items()}}
        return {
            ("g", "g"): keep_g,
            **{("p", source): value for source, value in by.items()},
            **{("x", source): value for source, value in onto_x.items()},
            **{("g", source): gain_g * self.alpha1 * value for source, value in onto_x.items()},
        }
