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

import brainstate
import braintools
import brainunit as u

from etrax.constant import Constant

from .integration import adaptive_jacobian, exponential, membrane_jacobian
from .threshold import FixedThreshold

__all__ = ["AdExIF"]


class AdExIF(FixedThreshold):
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

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        return {
            "V": braintools.init.param(self.V_initializer, self.varshape, batch_size),
            "w": braintools.init.param(self.w_initializer, self.varshape, batch_size),
        }

    def ranges(self) -> dict:
        """See `Dynamics.ranges`."""
        return {"w": (-2.0 * u.mA, 6.0 * u.mA)}

    def transition(self, V, w, *, current, delta) -> dict:
        """One exponential-Euler step of the equations above, first of V and then of w."""
        spike = self.get_spike(V)
        V, w = self.reset(V, spike), w + self.b * spike

        def rate(v):
            return (exponential(self, v)[0] - self.R * w + self.R * current(v)) / self.tau

        V = brainstate.nn.exp_euler_step(rate, V) + delta
        w = brainstate.nn.exp_euler_step(lambda w: (self.a * (V - self.V_rest) - w) / self.tau_w, w)
        return {"V": V, "w": w}

    def jacobian(self, V, w, *, current, delta) -> dict:
        """Closed form of the diagonal: the spike enters through the reset of V and the increment of w."""
        spike, slope_z = self.get_spike(V), self.spike_jacobian(V)["z", "V"]
        after = self.reset(V, spike)
        drift, slope, curvature = exponential(self, after)
        drift = drift - self.R * (w + self.b * spike)
        d = membrane_jacobian(after, current, R=self.R, tau=self.tau, drift=drift, slope=slope, curvature=curvature)
        decay = u.math.exp(-brainstate.environ.get_dt() / self.tau_w)
        kept, kick, couple = self.kept(V, slope_z), self.b * slope_z, (1.0 - decay) * self.a
        return adaptive_jacobian(d, "w", kept=kept, kick=kick, decay=decay, couple=couple)
