r"""Kinetic AMPA receptor, on the presynaptic side.

    \dot g = \alpha T p (1 - g) - \beta g

with the transmitter pulse :math:`p` of ``kinetics``: concentration :math:`T` for a time
:math:`T_{dur}` after a spike. Destexhe, Mainen & Sejnowski 1998, Kinetic models of synaptic
transmission, eq. 1.2; the values are those of ``brainpy.state.AMPA``, without a clock.
"""

from __future__ import annotations

import braintools
import brainunit as u
import jax.numpy as jnp

from etrax.contract import Constant, Filter, Neuron

from .kinetics import pulse, pulse_jacobian, relax, relax_jacobian

__all__ = ["AMPA"]


class AMPA(Filter):
    """Kinetic receptor with states ``g`` (mS unless ``g_initializer`` has another unit), ``p`` and ``since`` (no unit).

    Called with presynaptic spikes it returns the conductance of every presynaptic neuron's synapses, to be
    weighed and bound to an output by :class:`CurrentProj`.

    Parameters
    ----------
    in_size : int or tuple of int
        Shape of the presynaptic population.
    name : str, optional
        Name of the module.
    alpha : Quantity
        Binding rate per concentration, scalar or one value per presynaptic neuron (as all below).
    beta : Quantity
        Unbinding rate.
    T : Quantity
        Concentration of the transmitter in a pulse.
    T_dur : Quantity
        Duration of a pulse.
    g_initializer : callable or Quantity
        Initial conductance; it saturates at 1 of its unit.
    pre : etrax.Neuron, optional
        See :class:`etrax.Filter`.
    """

    alpha = Constant(1 / (u.ms * u.mM))
    beta = Constant(1 / u.ms)
    T = Constant(u.mM)
    T_dur = Constant(u.ms)

    def __init__(
        self,
        in_size,
        name: str | None = None,
        alpha=0.98 / (u.ms * u.mM),
        beta=0.18 / u.ms,
        T=0.5 * u.mM,
        T_dur=0.5 * u.ms,
        g_initializer=braintools.init.Constant(0.0 * u.mS),
        *,
        pre: Neuron | None = None,
    ):
        super().__init__(in_size, name=name, pre=pre)
        self.alpha = alpha
        self.beta = beta
        self.T = T
        self.T_dur = T_dur
        self.g_initializer = g_initializer

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
