r"""Leaky integrate-and-fire neuron with an absolute refractory period.

    \tau \dot V = -V + V_{rest} + R I(V),        z = H((V - V_{th}) / (V_{th} - V_{reset}))

For :math:`\tau_{ref}` after a spike the potential stays where the reset put it, whatever comes in.
A countdown of :math:`n = \lceil \tau_{ref} / dt \rceil` steps in the state says how long, and no clock is needed:
the spike makes it :math:`-n`, the steps after it :math:`n - 1, ..., 1`, and at 1 the neuron moves again. In
between it emits no spike and its surrogate derivative is zero, wherever the reset put the potential, so that
spikes are at least :math:`\tau_{ref}` apart. Gerstner et al. 2014, Neuronal Dynamics, section 1.3; the order of
operations is that of ``brainpy.state.LIFRef``, which keeps the time of the last spike, and which fires within
the period where a soft reset leaves the potential above threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax

from etrax.contract import Constant, argument

from .integration import leaky_jacobian
from .threshold import FixedThreshold

__all__ = ["LIFRef"]


class LIFRef(FixedThreshold):
    """Leaky integrate-and-fire neuron with states ``V`` (mV) and ``refractory`` (steps left, negative at a spike, no unit).

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> neuron = etrax.neurons.LIFRef(1, tau=10.0 * u.ms, tau_ref=5.0 * u.ms)
    >>> neuron.init_state()
    >>> [t for t in range(50) if neuron(3.0 * u.mA)[0]]  # five steps of rest, then three to the threshold
    [4, 12, 20, 28, 36, 45]
    """

    R: Any = Constant(
        default=1.0 * u.ohm, above=0, doc="Membrane resistance, scalar or one value per neuron (as all below)."
    )
    tau: Any = Constant(default=5.0 * u.ms, above=0, doc="Time constant of the membrane.")
    tau_ref: Any = Constant(default=5.0 * u.ms, least=0, doc="Refractory period, counted in whole steps (rounded up).")
    V_th: Any = Constant(default=1.0 * u.mV, doc="Threshold.")
    V_reset: Any = Constant(default=0.0 * u.mV, below="V_th", doc="Reset potential.")
    V_rest: Any = Constant(default=0.0 * u.mV, doc="Resting potential.")
    V_initializer: Callable = argument(default=braintools.init.Constant(0.0 * u.mV), doc="Initial potential.")
    spk_fun: Callable = argument(default=braintools.surrogate.ReluGrad())
    spk_reset: str = argument(default="soft")
    name: str | None = argument(default=None)

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        return {
            "V": braintools.init.param(self.V_initializer, self.varshape, batch_size),
            "refractory": braintools.init.param(braintools.init.Constant(0.0), self.varshape, batch_size),
        }

    def ranges(self) -> dict:
        """See `Dynamics.ranges`."""
        return {"refractory": (-3.0, 3.0)}

    def get_spike(self, V=None, refractory=None, **others):
        """Spikes at the given (else the current) states, shape ``([batch,] *varshape)``; none while refractory."""
        refractory = self.refractory.value if refractory is None else refractory
        spike = super().get_spike(V)
        return u.math.where(refractory > 0.0, 0.0 * spike, spike)

    def spike_jacobian(self, V, refractory=None, **others) -> dict:
        """See `Neuron.spike_jacobian`."""
        slope = super().spike_jacobian(V)["z", "V"]
        return {("z", "V"): u.math.where(refractory > 0.0, 0.0 * slope, slope)}

    def transition(self, V, refractory, *, current, delta) -> dict:
        """One exponential-Euler step of the equation above, unless refractory."""
        rests = u.math.abs(refractory) > 1.0
        held = self.reset(V, self.get_spike(V, refractory))
        free = brainstate.nn.exp_euler_step(lambda v: (-v + self.V_rest + self.R * current(v)) / self.tau, held)
        V = u.math.where(rests, held, free + delta)
        left = u.math.where(V >= self.V_th, -self._steps(), 0.0)
        left = u.math.where(rests, u.math.abs(refractory) - 1.0, left)
        return {"V": V, "refractory": jax.lax.stop_gradient(left.astype(refractory.dtype))}

    def jacobian(self, V, refractory, *, current, delta) -> dict:
        """Closed form of the diagonal; a number of steps has no derivative."""
        rests = u.math.abs(refractory) > 1.0
        held = self.reset(V, self.get_spike(V, refractory)) if current.slope is not None else None
        d = leaky_jacobian(held, current, R=self.R, tau=self.tau, V_rest=self.V_rest)
        free = u.math.where(rests, 0.0, 1.0)
        entries = {("V", source): free * value for source, value in d.items() if source != "V"}
        kept = self.kept(V, self.spike_jacobian(V, refractory)["z", "V"])
        entries["V", "V"] = u.math.where(rests, 1.0, d["V"]) * kept
        entries["V", "delta"] = free
        return entries

    def _steps(self):
        """The refractory period in steps; a period of whole steps is not rounded up by round-off."""
        return u.math.ceil(u.maybe_decimal(self.tau_ref / brainstate.environ.get_dt()) * (1.0 - 1e-6))
