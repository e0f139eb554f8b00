r"""Adaptive leaky integrate-and-fire neuron.

    \tau \dot V = -V + V_{rest} + R I(V),    \tau_a \dot a = -a,    a \leftarrow a + 1 \text{ at a spike}

    z = H((V - V_{th} - \beta a) / (V_{th} - V_{reset}))

Each spike raises the threshold by :math:`\beta`, for a time :math:`\tau_a`. Bellec et al.
2018, arXiv 1803.09574, eq. 1-4 (LSNN); the order of operations is that of
``brainpy.state.ALIF``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u

from etrax.contract import Constant, Neuron, argument

from .integration import leaky_jacobian

__all__ = ["ALIF"]


class ALIF(Neuron):
    """Adaptive leaky integrate-and-fire neuron with states ``V`` (mV) and ``a`` (no unit).

    ``detach_reset`` concerns the reset of ``V`` only, not the adaptation.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> neuron = etrax.neurons.ALIF(1, tau=10.0 * u.ms, beta=0.5 * u.mV)
    >>> neuron.init_state()
    >>> [t for t in range(50) if neuron(2.0 * u.mA)[0]]  # later and later, as the threshold rises
    [6, 19, 39]
    """

    R: Any = Constant(
        default=1.0 * u.ohm, above=0, doc="Membrane resistance, scalar or one value per neuron (as all below)."
    )
    tau: Any = Constant(default=5.0 * u.ms, above=0, doc="Time constant of the membrane.")
    tau_a: Any = Constant(default=100.0 * u.ms, above=0, doc="Time constant of the adaptation.")
    V_th: Any = Constant(default=1.0 * u.mV, doc="Threshold at rest.")
    V_reset: Any = Constant(default=0.0 * u.mV, below="V_th", doc="Reset potential.")
    V_rest: Any = Constant(default=0.0 * u.mV, doc="Resting potential.")
    beta: Any = Constant(default=0.1 * u.mV, doc="Rise of the threshold per spike.")
    spk_fun: Callable = argument(default=braintools.surrogate.ReluGrad())
    spk_reset: str = argument(default="soft")
    V_initializer: Callable = argument(default=braintools.init.Constant(0.0 * u.mV), doc="Initial potential.")
    a_initializer: Callable = argument(default=braintools.init.Constant(0.0), doc="Initial adaptation.")
    name: str | None = argument(default=None)

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        return {
            "V": braintools.init.param(self.V_initializer, self.varshape, batch_size),
            "a": braintools.init.param(self.a_initializer, self.varshape, batch_size),
        }

    def distance(self, V, a):
        """Scaled distance from the adaptive threshold."""
        return (V - self.V_th - self.beta * a) / (self.V_th - self.V_reset)

    def get_spike(self, V=None, a=None):
        """Spikes at the given (else the current) states, shape ``([batch,] *varshape)``."""
        return self.spk_fun(self.distance(self.V.value if V is None else V, self.a.value if a is None else a))

    def spike_jacobian(self, V, a) -> dict:
        """See `Neuron.spike_jacobian`."""
        slope = self.surrogate(self.distance(V, a)) / (self.V_th - self.V_reset)
        return {("z", "V"): slope, ("z", "a"): -self.beta * slope}

    def transition(self, V, a, *, current, delta) -> dict:
        """One exponential-Euler step of the equations above."""
        spike = self.get_spike(V, a)
        V = self.reset(V, spike)
        V = brainstate.nn.exp_euler_step(lambda v: (-v + self.V_rest + self.R * current(v)) / self.tau, V)
        a = brainstate.nn.exp_euler_step(lambda a: -a / self.tau_a, a + spike)
        return {"V": V + delta, "a": a}

    def jacobian(self, V, a, *, current, delta) -> dict:
        """Closed form of the diagonal: the spike enters through the reset of V and the increment of a."""
        z = self.spike_jacobian(V, a)
        after = self.reset(V, self.get_spike(V, a)) if current.slope is not None else None
        d = leaky_jacobian(after, current, R=self.R, tau=self.tau, V_rest=self.V_rest)
        entries = {("V", source): value for source, value in d.items()}
        entries["V", "delta"] = 1.0
        jump = self.reset_size(V)
        if jump is not None:
            entries["V", "V"] = d["V"] * (1.0 - jump * z["z", "V"])
            entries["V", "a"] = d["V"] * (-jump) * z["z", "a"]
        decay = u.math.exp(-brainstate.environ.get_dt() / self.tau_a)
        entries["a", "V"] = decay * z["z", "V"]
        entries["a", "a"] = decay * (1.0 + z["z", "a"])
        return entries
