r"""Kinetic NMDA receptor of second order, on the presynaptic side.

    \dot x = \alpha_2 T p (1 - x) - \beta_2 x,        \dot g = \alpha_1 x (1 - g) - \beta_1 g

with the transmitter pulse :math:`p` of ``kinetics``; :math:`x` is stepped first. Its magnesium block
is the output `MgBlock`. Destexhe, Mainen & Sejnowski 1994, J. Comput. Neurosci. 1; the values are
those of ``brainpy.state.BioNMDA``, without a clock.
"""

from __future__ import annotations

import braintools
import brainunit as u
import jax.numpy as jnp

from etrax.contract import Constant, Filter, Neuron

from .kinetics import pulse, pulse_jacobian, relax, relax_jacobian

__all__ = ["BioNMDA"]


class BioNMDA(Filter):
    """Kinetic receptor with states ``g`` (mS unless ``g_initializer`` has another unit), ``x``, ``p``, ``since`` (no unit).

    Parameters
    ----------
    in_size : int or tuple of int
        Shape of the presynaptic population.
    name : str, optional
        Name of the module.
    alpha1, beta1 : Quantity
        Rates of ``g``, scalar or one value per presynaptic neuron (as all below).
    alpha2, beta2 : Quantity
        Binding rate per concentration, and unbinding rate, of ``x``.
    T, T_dur : Quantity
        Concentration of the transmitter in a pulse, and its duration.
    g_initializer, x_initializer : callable or ArrayLike
        Initial conductance, which saturates at 1 of its unit, and initial ``x``.
    pre : etrax.Neuron, optional
        See :class:`etrax.Filter`.
    """

    alpha1 = Constant(1 / u.ms)
    beta1 = Constant(1 / u.ms)
    alpha2 = Constant(1 / (u.ms * u.mM))
    beta2 = Constant(1 / u.ms)
    T = Constant(u.mM)
    T_dur = Constant(u.ms)

    def __init__(
        self,
        in_size,
        name: str | None = None,
        alpha1=2.0 / u.ms,
        beta1=0.01 / u.ms,
        alpha2=1.0 / (u.ms * u.mM),
        beta2=0.5 / u.ms,
        T=1.0 * u.mM,
        T_dur=0.5 * u.ms,
        g_initializer=braintools.init.Constant(0.0 * u.mS),
        x_initializer=braintools.init.Constant(0.0),
        *,
        pre: Neuron | None = None,
    ):
        super().__init__(in_size, name=name, pre=pre)
        self.alpha1 = alpha1
        self.beta1 = beta1
        self.alpha2 = alpha2
        self.beta2 = beta2
        self.T = T
        self.T_dur = T_dur
        self.g_initializer = g_initializer
        self.x_initializer = x_initializer

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
