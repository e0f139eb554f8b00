r"""Leaky integrate-and-fire neuron.

    \tau \dot V = -V + V_{rest} + R I(V),        z = H((V - V_{th}) / (V_{th} - V_{reset}))

A spike of the last step lowers the potential at the start of the next one: by
:math:`V_{th} - V_{reset}` (soft) or to :math:`V_{reset}` (hard). Delta synapses add to the
potential at the end of the step. Gerstner et al. 2014, Neuronal Dynamics, section 1.3;
the order of operations is that of ``brainpy.state.LIF``.
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

__all__ = ["LIF"]


class LIF(FixedThreshold):
    """Leaky integrate-and-fire neuron with state ``V`` (mV).

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> neuron = etrax.neurons.LIF(1, tau=10.0 * u.ms)
    >>> neuron.init_state()
    >>> [int(neuron(2.0 * u.mA)[0]) for _ in range(10)]  # it comes to 2 mV; 1 mV takes 10 ms * log 2
    [0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
    """

    R: Any = Constant(
        default=1.0 * u.ohm, above=0, doc="Membrane resistance, scalar or one value per neuron (as all below)."
    )
    tau: Any = Constant(default=5.0 * u.ms, above=0, doc="Time constant of the membrane.")
    V_th: Any = Constant(default=1.0 * u.mV, doc="Threshold.")
    V_reset: Any = Constant(default=0.0 * u.mV, below="V_th", doc="Reset potential.")
    V_rest: Any = Constant(default=0.0 * u.mV, doc="Resting potential.")
    V_initializer: Callable = argument(default=braintools.init.Constant(0.0 * u.mV), doc="Initial potential.")
    spk_fun: Callable = argument(default=braintools.surrogate.ReluGrad())
    spk_reset: str = argument(default="soft")
    name: str | None = argument(default=None)

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        return {"V": braintools.init.param(self.V_initializer, self.varshape, batch_size)}

    def transition(self, V, *, current, delta) -> dict:
        """One exponential-Euler step of the equation above."""
        V = self.reset(V, self.get_spike(V))
        V = brainstate.nn.exp_euler_step(lambda v: (-v + self.V_rest + self.R * current(v)) / self.tau, V)
        return {"V": V + delta}

    def jacobian(self, V, *, current, delta) -> dict:
        """Closed form of the diagonal; the reset contributes ``1 - (V_th - V_reset) dz/dV``."""
        after = self.reset(V, self.get_spike(V)) if current.slope is not None else None
        d = leaky_jacobian(after, current, R=self.R, tau=self.tau, V_rest=self.V_rest)
        d["V"] = d["V"] * self.kept(V, self.spike_jacobian(V)["z", "V"])
        return {**{("V", source): value for source, value in d.items()}, ("V", "delta"): 1.0}
