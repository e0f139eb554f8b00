r"""Exponential integrate-and-fire neuron.

    \tau \dot V = -(V - V_{rest}) + \Delta_T e^{(V - V_T) / \Delta_T} + R I(V)

    z = H((V - V_{th}) / (V_{th} - V_{reset}))

Fourcaud-Trocme et al. 2003, J. Neurosci. 23(37), eq. 2 and 6; the order of operations is that of
``brainpy.state.ExpIF``.

The exponent is cut off at 20. An exponential-Euler step from just below threshold overshoots by about
:math:`e^{dt (e^{(V_{th} - V_T) / \Delta_T} - 1) / \tau}`: with :math:`V_{th}` many :math:`\Delta_T` above
:math:`V_T` (as in the defaults) a step of 1 ms overflows, so take a smaller step or a lower threshold.
"""

from __future__ import annotations

from collections.abc import Callable

import braintools
import brainunit as u

from etrax.contract import Constant

from .integration import exponential
from .membrane import Membrane

__all__ = ["ExpIF"]


class ExpIF(Membrane):
    """Exponential integrate-and-fire neuron with state ``V`` (mV).

    Parameters
    ----------
    in_size : int or tuple of int
        Shape of the population.
    R : Quantity
        Membrane resistance, scalar or one value per neuron (as all below).
    tau : Quantity
        Membrane time constant.
    V_th, V_reset, V_rest : Quantity
        Threshold, reset and resting potential.
    V_T, delta_T : Quantity
        Potential at which the upstroke begins, and its sharpness.
    V_initializer : callable
        Initial potential.
    spk_fun, spk_reset, detach_reset, name
        See :class:`etrax.Neuron`.
    """

    R = Constant(u.ohm)
    tau = Constant(u.ms)
    V_th = Constant(u.mV)
    V_reset = Constant(u.mV)
    V_rest = Constant(u.mV)
    V_T = Constant(u.mV)
    delta_T = Constant(u.mV)

    def __init__(
        self,
        in_size,
        R=1.0 * u.ohm,
        tau=10.0 * u.ms,
        V_th=-30.0 * u.mV,
        V_reset=-68.0 * u.mV,
        V_rest=-65.0 * u.mV,
        V_T=-59.9 * u.mV,
        delta_T=3.48 * u.mV,
        V_initializer: Callable = braintools.init.Constant(-65.0 * u.mV),
        spk_fun: Callable = braintools.surrogate.ReluGrad(),
        spk_reset: str = "soft",
        name: str | None = None,
        *,
        detach_reset: bool = False,
    ):
        super().__init__(in_size, spk_fun, spk_reset, name, detach_reset=detach_reset)
        self.R = R
        self.tau = tau
        self.V_th = V_th
        self.V_reset = V_reset
        self.V_rest = V_rest
        self.V_T = V_T
        self.delta_T = delta_T
        self.V_initializer = V_initializer

    def drift(self, V) -> tuple:
        """See `Drift.drift`."""
        return exponential(self, V)
