r"""Adaptive leaky integrate-and-fire neuron.

    \tau \dot V = -V + V_{rest} + R I(V),    \tau_a \dot a = -a,    a \leftarrow a + 1 \text{ at a spike}

    z = H((V - V_{th} - \beta a) / (V_{th} - V_{reset}))

Each spike raises the threshold by :math:`\beta`, for a time :math:`\tau_a`. Bellec et al.
2018, arXiv 1803.09574, eq. 1-4 (LSNN); the order of operations is that of
``brainpy.state.ALIF``.
"""

from __future__ import annotations

from collections.abc import Callable

import brainstate
import braintools
import brainunit as u

from etrax.contract import Constant, Neuron

from .integration import leaky_jacobian

__all__ = ["ALIF"]


class ALIF(Neuron):
    """Adaptive leaky integrate-and-fire neuron with states ``V`` (mV) and ``a`` (no unit).

    Parameters
    ----------
    in_size : int or tuple of int
        Shape of the population.
    R : Quantity
        Membrane resistance, scalar or one value per neuron (as all below).
    tau, tau_a : Quantity
        Time constants of the membrane and of the adaptation.
    V_th, V_reset, V_rest : Quantity
        Resting threshold, reset and resting potential.
    beta : Quantity
        Rise of the threshold per spike.
    spk_fun, spk_reset, detach_reset, name
        See :class:`etrax.Neuron`. ``detach_reset`` concerns the reset of ``V`` only, not the adaptation.
    V_initializer, a_initializer : callable
        Initial potential and adaptation.
    """

    R = Constant(u.ohm)
    tau = Constant(u.ms)
    tau_a = Constant(u.ms)
    V_th = Constant(u.mV)
    V_reset = Constant(u.mV)
    V_rest = Constant(u.mV)
    beta = Constant(u.mV)

    def __init__(
        self,
        in_size,
        R=1.0 * u.ohm,
        tau=5.0 * u.ms,
        tau_a=100.0 * u.ms,
        V_th=1.0 * u.mV,
        V_reset=0.0 * u.mV,
        V_rest=0.0 * u.mV,
        beta=0.1 * u.mV,
        spk_fun: Callable = braintools.surrogate.ReluGrad(),
        spk_reset: str = "soft",
        V_initializer: Callable = braintools.init.Constant(0.0 * u.mV),
        a_initializer: Callable = braintools.init.Constant(0.0),
        name: str | None = None,
        *,
        detach_reset: bool = False,
    ):
        super().__init__(in_size, spk_fun, spk_reset, name, detach_reset=detach_reset)
        self.R = R
        self.tau = tau
        self.tau_a = tau_a
        self.V_th = V_th
        self.V_reset = V_reset
        self.V_rest = V_rest
        self.beta = beta
        self.V_initializer = V_initializer
        self.a_initializer = a_initializer

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
