r"""Izhikevich's neuron.

    \dot V = p_1 V^2 + p_2 V + p_3 - u + I(V),    \dot u = a (b V - u)

    V \leftarrow c,\quad u \leftarrow u + d \text{ at a spike},    z = H((V - V_{th}) / V_{th})

with :math:`p_1 = 0.04 / (mV ms)`, :math:`p_2 = 5 / ms`, :math:`p_3 = 140 mV / ms`. Currents are in
mV / ms. Izhikevich 2003, IEEE Trans. Neural Netw. 14(6), eq. 1-3; the order of operations (u
follows the new potential) is that of ``brainpy.state.Izhikevich``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u

from etrax.contract import Constant, argument

from .integration import adaptive_jacobian, decay_of, gain_of, membrane_jacobian
from .threshold import FixedThreshold, hard_only

__all__ = ["Izhikevich"]

_RATE = u.mV / u.ms  # some methods have an argument named u


class Izhikevich(FixedThreshold):
    """Izhikevich's neuron with states ``V`` (mV) and ``u`` (mV/ms).

    The model has the hard reset only; ``detach_reset`` concerns the reset of ``V`` only, not the recovery.

    Raises
    ------
    ValueError
        If ``spk_reset`` is not ``'hard'``.
    """

    a: Any = Constant(default=0.02 / u.ms, doc="Rate of the recovery, scalar or one value per neuron (as all below).")
    b: Any = Constant(default=0.2 / u.ms, doc="Sensitivity of the recovery to the potential.")
    c: Any = Constant(default=-65.0 * u.mV, below="V_th", doc="Potential after a spike.")
    d: Any = Constant(default=8.0 * u.mV / u.ms, doc="What a spike adds to the recovery.")
    V_th: Any = Constant(default=30.0 * u.mV, above=0, doc="Threshold.")
    V_initializer: Callable = argument(default=braintools.init.Constant(-65.0 * u.mV), doc="Initial potential.")
    u_initializer: Callable = argument(default=braintools.init.Constant(0.0 * u.mV / u.ms), doc="Initial recovery.")
    spk_fun: Callable = argument(default=braintools.surrogate.ReluGrad())
    spk_reset: str = argument(default="hard")
    name: str | None = argument(default=None)

    p1 = 0.04 / (u.ms * u.mV)
    p2 = 5.0 / u.ms
    p3 = 140.0 * u.mV / u.ms

    def __post_init__(self) -> None:
        hard_only(self, "Izhikevich's neuron", to="c")

    @property
    def V_reset(self):
        """The potential after a spike."""
        return self.c

    @property
    def span(self):
        """See `FixedThreshold.span`."""
        return self.V_th

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        start = braintools.init.param(self.u_initializer, self.varshape, batch_size)
        return {
            "V": braintools.init.param(self.V_initializer, self.varshape, batch_size),
            # in these words: some releases of brainunit spell the quotient in base units
            "u": u.Quantity(start.to_decimal(u.mV / u.ms), unit=u.mV / u.ms),
        }

    def ranges(self) -> dict:
        """See `Dynamics.ranges`."""
        return {"u": (-15.0 * _RATE, 10.0 * _RATE)}

    def update(self, x=0.0 * u.mV / u.ms):
        """See `Neuron.update`; ``x`` in mV / ms."""
        return super().update(x)

    def transition(self, V, u, *, current, delta) -> dict:
        """One exponential-Euler step of the equations above, first of V and then of u."""
        spike = self.get_spike(V)
        V, u = self.reset(V, spike), u + self.d * spike
        V = brainstate.nn.exp_euler_step(lambda v: self._drift(v) - u + current(v), V) + delta
        u = brainstate.nn.exp_euler_step(lambda u: self.a * (self.b * V - u), u)
        return {"V": V, "u": u}

    def jacobian(self, V, u, *, current, delta) -> dict:
        """Closed form of the diagonal: the spike enters through the reset of V and the increment of u."""
        spike, slope = self.get_spike(V), self.spike_jacobian(V)["z", "V"]
        after = self.reset(V, spike)
        d = membrane_jacobian(
            after,
            current,
            R=1.0,
            tau=1.0,
            drift=self._drift(after) - (u + self.d * spike),
            slope=2.0 * self.p1 * after + self.p2,
            curvature=2.0 * self.p1,
        )
        kept, kick = self.kept(V, slope), self.d * slope
        decay, couple = decay_of(self.a), gain_of(self.a) * self.a * self.b
        return adaptive_jacobian(d, "u", kept=kept, kick=kick, decay=decay, couple=couple)

    def _drift(self, V):
        return self.p1 * V * V + self.p2 * V + self.p3
