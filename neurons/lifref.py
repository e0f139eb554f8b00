r"""Leaky integrate-and-fire neuron with an absolute refractory period.

    \tau \dot V = -V + V_{rest} + R I(V),        z = H((V - V_{th}) / (V_{th} - V_{reset}))

For :math:`\tau_{ref}` after a spike the potential stays where the reset put it, whatever comes in.
A countdown of steps in the state says how long: it starts at
:math:`\lceil \tau_{ref} / dt \rceil - 1` with a spike, so that spikes are at least
:math:`\tau_{ref}` apart, and no clock is needed. Gerstner et al. 2014, Neuronal Dynamics, section
1.3; the order of operations is that of ``brainpy.state.LIFRef``, which keeps the time of the last
spike.
"""

from __future__ import annotations

from collections.abc import Callable

import brainstate
import braintools
import brainunit as u
import jax

from etrax.contract import Constant

from .integration import leaky_jacobian
from .threshold import FixedThreshold

__all__ = ["LIFRef"]


class LIFRef(FixedThreshold):
    """Leaky integrate-and-fire neuron with states ``V`` (mV) and ``refractory`` (steps left, no unit).

    Parameters
    ----------
    in_size : int or tuple of int
        Shape of the population.
    R : Quantity
        Membrane resistance, scalar or one value per neuron (as all below).
    tau, tau_ref : Quantity
        Membrane time constant; refractory period, counted in whole steps (rounded up).
    V_th, V_reset, V_rest : Quantity
        Threshold, reset and resting potential.
    V_initializer : callable
        Initial potential.
    spk_fun, spk_reset, detach_reset, name
        See :class:`etrax.Neuron`.
    """

    R = Constant(u.ohm)
    tau = Constant(u.ms)
    tau_ref = Constant(u.ms)
    V_th = Constant(u.mV)
    V_reset = Constant(u.mV)
    V_rest = Constant(u.mV)

    def __init__(
        self,
        in_size,
        R=1.0 * u.ohm,
        tau=5.0 * u.ms,
        tau_ref=5.0 * u.ms,
        V_th=1.0 * u.mV,
        V_reset=0.0 * u.mV,
        V_rest=0.0 * u.mV,
        V_initializer: Callable = braintools.init.Constant(0.0 * u.mV),
        spk_fun: Callable = braintools.surrogate.ReluGrad(),
        spk_reset: str = "soft",
        name: str | None = None,
        *,
        detach_reset: bool = False,
    ):
        super().__init__(in_size, spk_fun, spk_reset, name, detach_reset=detach_reset)
        self.R = R
        self.tau = tau
        self.tau_ref = tau_ref
        self.V_th = V_th
        self.V_reset = V_reset
        self.V_rest = V_rest
        self.V_initializer = V_initializer

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        return {
            "V": braintools.init.param(self.V_initializer, self.varshape, batch_size),
            "refractory": braintools.init.param(braintools.init.Constant(0.0), self.varshape, batch_size),
        }

    def ranges(self) -> dict:
        """See `Dynamics.ranges`."""
        return {"refractory": (-3.0, 3.0)}

    def transition(self, V, refractory, *, current, delta) -> dict:
        """One exponential-Euler step of the equation above, unless refractory."""
        held = self.reset(V, self.get_spike(V))
        free = brainstate.nn.exp_euler_step(lambda v: (-v + self.V_rest + self.R * current(v)) / self.tau, held)
        V = u.math.where(refractory > 0.0, held, free + delta)
        left = u.math.where(V >= self.V_th, self._steps() - 1.0, refractory - 1.0)
        return {"V": V, "refractory": jax.lax.stop_gradient(u.math.maximum(left, 0.0))}

    def jacobian(self, V, refractory, *, current, delta) -> dict:
        """Closed form of the diagonal; a number of steps has no derivative."""
        held = self.reset(V, self.get_spike(V)) if current.slope is not None else None
        d = leaky_jacobian(held, current, R=self.R, tau=self.tau, V_rest=self.V_rest)
        free = u.math.where(refractory > 0.0, 0.0, 1.0)
        entries = {("V", source): free * value for source, value in d.items() if source != "V"}
        kept = self.kept(V, self.spike_jacobian(V)["z", "V"])
        entries["V", "V"] = u.math.where(refractory > 0.0, 1.0, d["V"]) * kept
        entries["V", "delta"] = free
        return entries

    def _steps(self):
        """The refractory period in steps; a period of whole steps is not rounded up by round-off."""
        return u.math.ceil(u.maybe_decimal(self.tau_ref / brainstate.environ.get_dt()) * (1.0 - 1e-6))
