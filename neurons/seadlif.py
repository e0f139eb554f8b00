r"""Adaptive leaky integrate-and-fire neuron in symplectic-Euler steps.

    \hat V_k = \alpha V_{k-1} + (1 - \alpha) (V_{rest} + R (I_k - w_{k-1})),    z_k = H((\hat V_k - V_{th}) / (V_{th} - V_{reset}))

    V_k = \hat V_k \text{ after the reset},    w_k = \beta w_{k-1} + (1 - \beta) (a (V_k - V_{rest}) + b z_k)

with :math:`\alpha = e^{-dt/\tau}`, :math:`\beta = e^{-dt/\tau_w}`. Baronig et al. 2024, arXiv 2408.07517
(2025, Nature Communications 16, doi 10.1038/s41467-025-60878-z): unlike in forward Euler the
adaptation sees the new potential, which keeps oscillations stable. As everywhere here, reset
and spike-triggered adaptation of step k are carried out at the start of step k + 1: the states are
:math:`\hat V_k` and :math:`w_{k-1}`, the spikes those of the paper. There, potentials have no unit,
:math:`V_{rest} = 0`, :math:`V_{th} = 1`, :math:`R = 1`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u

from etrax.contract import Constant, argument

from .integration import leaky_jacobian
from .threshold import FixedThreshold

__all__ = ["SEadLIF"]


class SEadLIF(FixedThreshold):
    """Symplectic adaptive leaky integrate-and-fire neuron with states ``V`` (mV) and ``w`` (mA).

    ``detach_reset`` concerns the reset of ``V`` only, not the adaptation.
    """

    R: Any = Constant(
        default=1.0 * u.ohm, above=0, doc="Membrane resistance, scalar or one value per neuron (as all below)."
    )
    tau: Any = Constant(default=15.0 * u.ms, above=0, doc="Time constant of the membrane.")
    tau_w: Any = Constant(default=180.0 * u.ms, above=0, doc="Time constant of the adaptation.")
    V_th: Any = Constant(default=1.0 * u.mV, doc="Threshold.")
    V_reset: Any = Constant(default=0.0 * u.mV, below="V_th", doc="Reset potential.")
    V_rest: Any = Constant(default=0.0 * u.mV, doc="Resting potential.")
    a: Any = Constant(default=60.0 * u.siemens, doc="Adaptation by the potential.")
    b: Any = Constant(default=120.0 * u.mA, doc="Adaptation by a spike.")
    V_initializer: Callable = argument(default=braintools.init.Constant(0.0 * u.mV), doc="Initial potential.")
    w_initializer: Callable = argument(default=braintools.init.Constant(0.0 * u.mA), doc="Initial adaptation.")
    spk_fun: Callable = argument(default=braintools.surrogate.ReluGrad())
    spk_reset: str = argument(default="hard")
    name: str | None = argument(default=None)

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
        """What the spike of the last step does, then w and at last V."""
        spike = self.get_spike(V)
        V = self.reset(V, spike)
        decay = self._decay()
        w = decay * w + (1.0 - decay) * (self.a * (V - self.V_rest) + self.b * spike)

        def rate(v):
            return (-(v - self.V_rest) + self.R * (current(v) - w)) / self.tau

        return {"V": brainstate.nn.exp_euler_step(rate, V) + delta, "w": w}

    def jacobian(self, V, w, *, current, delta) -> dict:
        """Closed form of the diagonal: the new w is part of the current."""
        slope = self.spike_jacobian(V)["z", "V"]
        decay, kept = self._decay(), self.kept(V, slope)
        after, rest = None, self.V_rest
        if current.slope is not None:
            new = self.transition(V, w, current=current, delta=delta)["w"]
            after, rest = self.reset(V, self.get_spike(V)), self.V_rest - self.R * new
        d = leaky_jacobian(after, current, R=self.R, tau=self.tau, V_rest=rest)
        entries = {("V", source): value for source, value in d.items()}
        entries["w", "V"] = (1.0 - decay) * (self.a * kept + self.b * slope)
        entries["w", "w"] = decay
        entries["V", "V"] = d["V"] * kept - u.maybe_decimal(d["current"] * entries["w", "V"])
        entries["V", "w"] = -d["current"] * decay
        entries["V", "delta"] = 1.0
        return entries

    def _decay(self):
        return u.math.exp(-brainstate.environ.get_dt() / self.tau_w)
