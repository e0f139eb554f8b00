r"""Leaky integrate-and-fire neuron with a synaptic current of its own.

    \tau_{syn} \dot g = -g,    \tau \dot V = -(V - V_{rest}) + R (g + I(V))

    z = H((V - V_{th}) / (V_{th} - V_{reset}))

A `etrax.synapses.DeltaProj` adds to the current :math:`g` (its weights are in mA), not to the
potential, and acts in the same step. Gerstner et al. 2014, Neuronal Dynamics, section 1.3 and
3.1; the order of operations is that of ``brainpy.state.CubaLIF``.
"""

from __future__ import annotations

from collections.abc import Callable

import brainstate
import braintools
import brainunit as u

from etrax.contract import Constant

from .integration import leaky_jacobian
from .threshold import FixedThreshold

__all__ = ["CubaLIF"]


class CubaLIF(FixedThreshold):
    """Leaky integrate-and-fire neuron with states ``g`` (mA) and ``V`` (mV).

    Parameters
    ----------
    in_size : int or tuple of int
        Shape of the population.
    R : Quantity
        Membrane resistance, scalar or one value per neuron (as all below).
    tau, tau_syn : Quantity
        Time constants of the membrane and of the synaptic current.
    V_th, V_reset, V_rest : Quantity
        Threshold, reset and resting potential.
    V_initializer, g_initializer : callable
        Initial potential and synaptic current.
    spk_fun, spk_reset, detach_reset, name
        See :class:`etrax.Neuron`.
    """

    R = Constant(u.ohm)
    tau = Constant(u.ms)
    tau_syn = Constant(u.ms)
    V_th = Constant(u.mV)
    V_reset = Constant(u.mV)
    V_rest = Constant(u.mV)

    def __init__(
        self,
        in_size,
        R=1.0 * u.ohm,
        tau=5.0 * u.ms,
        tau_syn=5.0 * u.ms,
        V_th=1.0 * u.mV,
        V_reset=0.0 * u.mV,
        V_rest=0.0 * u.mV,
        V_initializer: Callable = braintools.init.Constant(0.0 * u.mV),
        g_initializer: Callable = braintools.init.Constant(0.0 * u.mA),
        spk_fun: Callable = braintools.surrogate.ReluGrad(),
        spk_reset: str = "soft",
        name: str | None = None,
        *,
        detach_reset: bool = False,
    ):
        super().__init__(in_size, spk_fun, spk_reset, name, detach_reset=detach_reset)
        self.R = R
        self.tau = tau
        self.tau_syn = tau_syn
        self.V_th = V_th
        self.V_reset = V_reset
        self.V_rest = V_rest
        self.g_initializer = g_initializer
        self.V_initializer = V_initializer

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        return {
            "g": braintools.init.param(self.g_initializer, self.varshape, batch_size),
            "V": braintools.init.param(self.V_initializer, self.varshape, batch_size),
        }

    def transition(self, g, V, *, current, delta) -> dict:
        """One exponential-Euler step of the equations above, first of g and then of V."""
        V = self.reset(V, self.get_spike(V))
        g = brainstate.nn.exp_euler_step(lambda g: -g / self.tau_syn, g) + delta

        def rate(v):
            return (-(v - self.V_rest) + self.R * (g + current(v))) / self.tau

        return {"g": g, "V": brainstate.nn.exp_euler_step(rate, V)}

    def jacobian(self, g, V, *, current, delta) -> dict:
        """Closed form of the diagonal: the new g is part of the current."""
        decay = u.math.exp(-brainstate.environ.get_dt() / self.tau_syn)
        after = self.reset(V, self.get_spike(V)) if current.slope is not None else None
        rest = self.V_rest if current.slope is None else self.V_rest + self.R * (decay * g + delta)
        d = leaky_jacobian(after, current, R=self.R, tau=self.tau, V_rest=rest)
        entries = {("g", "g"): decay, ("g", "delta"): 1.0}
        entries |= {("V", source): value for source, value in d.items()}
        entries["V", "V"] = d["V"] * self.kept(V, self.spike_jacobian(V)["z", "V"])
        return {**entries, ("V", "g"): d["current"] * decay, ("V", "delta"): d["current"]}
