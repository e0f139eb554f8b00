r"""Adaptive exponential integrate-and-fire neuron.

    \tau \dot V = -(V - V_{rest}) + \Delta_T e^{(V - V_T) / \Delta_T} - R w + R I(V)

    \tau_w \dot w = a (V - V_{rest}) - w,    w \leftarrow w + b \text{ at a spike}

    z = H((V - V_{th}) / (V_{th} - V_{reset}))

Brette & Gerstner 2005, J. Neurophysiol. 94, eq. 1-4; the order of operations (w follows the new
potential) is that of ``brainpy.state.AdExIF``. On the size of the time step see
`etrax.neurons.ExpIF`.
"""

from __future__ import annotations

from collections.abc import Callable

import braintools
import brainunit as u

from etrax.contract import Constant

from .integration import exponential
from .membrane import AdaptiveMembrane

__all__ = ["AdExIF"]


class AdExIF(AdaptiveMembrane):
    """Adaptive exponential integrate-and-fire neuron with states ``V`` (mV) and ``w`` (mA).

    Parameters
    ----------
    in_size : int or tuple of int
        Shape of the population.
    R : Quantity
        Membrane resistance, scalar or one value per neuron (as all below).
    tau, tau_w : Quantity
        Time constants of the membrane and of the adaptation.
    V_th, V_reset, V_rest : Quantity
        Threshold, reset and resting potential.
    V_T, delta_T : Quantity
        Potential at which the upstroke begins, and its sharpness.
    a, b : Quantity
        Adaptation by the potential, and by a spike.
    V_initializer, w_initializer : callable
        Initial potential and adaptation.
    spk_fun, spk_reset, detach_reset, name
        See :class:`etrax.Neuron`. ``detach_reset`` concerns the reset of ``V`` only, not the adaptation.
    """

    R = Constant(u.ohm)
    tau = Constant(u.ms)
    tau_w = Constant(u.ms)
    V_th = Constant(u.mV)
    V_reset = Constant(u.mV)
    V_rest = Constant(u.mV)
    V_T = Constant(u.mV)
    delta_T = Constant(u.mV)
    a = Constant(u.siemens)
    b = Constant(u.mA)

    def __init__(
        self,
        in_size,
        R=1.0 * u.ohm,
        tau=10.0 * u.ms,
        tau_w=30.0 * u.ms,
        V_th=-55.0 * u.mV,
        V_reset=-68.0 * u.mV,
        V_rest=-65.0 * u.mV,
        V_T=-59.9 * u.mV,
        delta_T=3.48 * u.mV,
        a=1.0 * u.siemens,
        b=1.0 * u.mA,
        V_initializer: Callable = braintools.init.Constant(-65.0 * u.mV),
        w_initializer: Callable = braintools.init.Constant(0.0 * u.mA),
        spk_fun: Callable = braintools.surrogate.ReluGrad(),
        spk_reset: str = "soft",
        name: str | None = None,
        *,
        detach_reset: bool = False,
    ):
        super().__init__(in_size, spk_fun, spk_reset, name, detach_reset=detach_reset)
        self.R = R
        self.tau = tau
        self.tau_w = tau_w
        self.V_th = V_th
        self.V_reset = V_reset
        self.V_rest = V_rest
        self.V_T = V_T
        self.delta_T = delta_T
        self.a = a
        self.b = b
        self.V_initializer = V_initializer
        self.w_initializer = w_initializer

    def drift(self, V) -> tuple:
        """See `Drift.drift`."""
        return exponential(self, V)
