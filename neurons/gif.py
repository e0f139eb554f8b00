r"""Generalised integrate-and-fire neuron with internal currents and a moving threshold.

    \tau \dot V = -(V - V_{rest}) + R (I_1 + I_2 + I(V))

    \dot I_1 = -k_1 I_1,    \dot I_2 = -k_2 I_2,    \dot V_{th} = a (V - V_{rest}) - b (V_{th} - V_{th,inf})

    I_j \leftarrow R_j I_j + A_j,    V_{th} \leftarrow \max(V_{th}, V_{th,reset}) \text{ at a spike}

    z = H((V - V_{th}) / (V_{th} - V_{reset}))

Mihalas & Niebur 2009, Neural Comput. 21(3), eq. 2.1-2.4; the order of operations (the threshold
follows the potential after the reset, V the new internal currents) is that of
``brainpy.state.Gif``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u

from etrax.contract import Constant, Neuron, argument
from etrax.contract.jacobian import compose

from .integration import decay_of, gain_of, leaky_jacobian

__all__ = ["Gif"]


class Gif(Neuron):
    """Generalised integrate-and-fire neuron with states ``V``, ``V_th`` (mV), ``I1`` and ``I2`` (mA).

    ``detach_reset`` concerns the reset of ``V`` only.
    """

    R: Any = Constant(
        default=20.0 * u.ohm, above=0, doc="Membrane resistance, scalar or one value per neuron (as all below)."
    )
    tau: Any = Constant(default=20.0 * u.ms, above=0, doc="Time constant of the membrane.")
    V_rest: Any = Constant(default=-70.0 * u.mV, doc="Resting potential.")
    V_reset: Any = Constant(default=-70.0 * u.mV, below="V_th_inf", doc="Reset potential.")
    V_th_inf: Any = Constant(default=-50.0 * u.mV, doc="Threshold at rest.")
    V_th_reset: Any = Constant(default=-60.0 * u.mV, doc="The least threshold after a spike.")
    V_th_initializer: Callable = argument(default=braintools.init.Constant(-50.0 * u.mV), doc="Initial threshold.")
    a: Any = Constant(default=0.0 / u.ms, doc="Rate at which the threshold follows the potential.")
    b: Any = Constant(default=0.01 / u.ms, least=0, doc="Rate at which the threshold returns to rest.")
    k1: Any = Constant(default=0.2 / u.ms, least=0, doc="Rate at which the first internal current decays.")
    k2: Any = Constant(default=0.02 / u.ms, least=0, doc="Rate at which the second internal current decays.")
    R1: Any = Constant(default=0.0, doc="What is left of the first internal current after a spike.")
    R2: Any = Constant(default=1.0, doc="What is left of the second internal current after a spike.")
    A1: Any = Constant(default=0.0 * u.mA, doc="What a spike adds to the first internal current.")
    A2: Any = Constant(default=0.0 * u.mA, doc="What a spike adds to the second internal current.")
    V_initializer: Callable = argument(default=braintools.init.Constant(-70.0 * u.mV), doc="Initial potential.")
    I1_initializer: Callable = argument(
        default=braintools.init.Constant(0.0 * u.mA), doc="Initial value of the first internal current."
    )
    I2_initializer: Callable = argument(
        default=braintools.init.Constant(0.0 * u.mA), doc="Initial value of the second internal current."
    )
    spk_fun: Callable = argument(default=braintools.surrogate.ReluGrad())
    spk_reset: str = argument(default="soft")
    name: str | None = argument(default=None)

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        return {
            "V": braintools.init.param(self.V_initializer, self.varshape, batch_size),
            "I1": braintools.init.param(self.I1_initializer, self.varshape, batch_size),
            "I2": braintools.init.param(self.I2_initializer, self.varshape, batch_size),
            "V_th": braintools.init.param(self.V_th_initializer, self.varshape, batch_size),
        }

    def ranges(self) -> dict:
        """See `Dynamics.ranges`."""
        low, high = self.V_th_reset, self.V_th_inf
        wide = high - self.V_reset
        currents = (-1.0 * u.mA, 2.0 * u.mA)
        V = (self.V_reset - 0.5 * wide, high + wide)
        return {"V": V, "V_th": (low - 0.5 * (high - low), high + 0.5 * (high - low)), "I1": currents, "I2": currents}

    def get_spike(self, V=None, V_th=None, **others):
        """Spikes at the given (else the current) states, shape ``([batch,] *varshape)``."""
        V = self.V.value if V is None else V
        V_th = self.V_th.value if V_th is None else V_th
        return self.spk_fun((V - V_th) / (V_th - self.V_reset))

    def spike_jacobian(self, V, V_th, **others) -> dict:
        """See `Neuron.spike_jacobian`."""
        span = V_th - self.V_reset
        slope = self.surrogate((V - V_th) / span) / span
        return {("z", "V"): slope, ("z", "V_th"): -slope * (V - self.V_reset) / span}

    def transition(self, V, I1, I2, V_th, *, current, delta) -> dict:
        """One exponential-Euler step of the equations above."""
        spike = self.get_spike(V, V_th)
        V = self.reset(V, spike, V_th)
        I1 = I1 + spike * (self.R1 * I1 + self.A1 - I1)
        I2 = I2 + spike * (self.R2 * I2 + self.A2 - I2)
        V_th = V_th + spike * (u.math.maximum(self.V_th_reset, V_th) - V_th)
        I1 = brainstate.nn.exp_euler_step(lambda i: -self.k1 * i, I1)
        I2 = brainstate.nn.exp_euler_step(lambda i: -self.k2 * i, I2)

        def follow(v_th):
            return self.a * (V - self.V_rest) - self.b * (v_th - self.V_th_inf)

        def rate(v):
            return (-(v - self.V_rest) + self.R * (I1 + I2 + current(v))) / self.tau

        V_th = brainstate.nn.exp_euler_step(follow, V_th)
        return {"V": brainstate.nn.exp_euler_step(rate, V) + delta, "I1": I1, "I2": I2, "V_th": V_th}

    def jacobian(self, V, I1, I2, V_th, *, current, delta) -> dict:
        """Closed form: what the spike does to the states (old to kicked), then the step (kicked to new)."""
        spike, z = self.get_spike(V, V_th), self.spike_jacobian(V, V_th)
        raised = u.math.maximum(self.V_th_reset, V_th) - V_th
        lost = u.math.where(V_th >= self.V_th_reset, 0.0, 1.0)
        kicked = {
            "V": self._reset_row(V, V_th, spike, z),
            "I1": _kick(z, (self.R1 - 1.0) * I1 + self.A1, "I1", 1.0 + spike * (self.R1 - 1.0)),
            "I2": _kick(z, (self.R2 - 1.0) * I2 + self.A2, "I2", 1.0 + spike * (self.R2 - 1.0)),
            "V_th": _kick(z, raised, "V_th", 1.0 - spike * lost),
            "current": {"current": 1.0},
            "slope": {"slope": 1.0},
            "delta": {"delta": 1.0},
        }
        decays = {"I1": decay_of(self.k1), "I2": decay_of(self.k2)}
        after, rest = None, self.V_rest
        if current.slope is not None:
            after = self.reset(V, spike, V_th)
            new = self.transition(V, I1, I2, V_th, current=current, delta=delta)
            rest = rest + self.R * (new["I1"] + new["I2"])
        d = leaky_jacobian(after, current, R=self.R, tau=self.tau, V_rest=rest)
        step = {("V", source): value for source, value in d.items()}
        step |= {("V", name): d["current"] * decay for name, decay in decays.items()}
        step |= {(name, name): decay for name, decay in decays.items()}
        step["V_th", "V"] = u.maybe_decimal(self.a * gain_of(self.b))
        step["V_th", "V_th"] = decay_of(self.b)
        step["V", "delta"] = 1.0
        rows = compose(step, kicked)
        return {(name, source): value for name, row in rows.items() for source, value in row.items()}

    def _reset_row(self, V, V_th, spike, z) -> dict:
        """Derivatives of the potential after the reset."""
        size = (V_th if self.spk_reset == "soft" else V) - self.V_reset
        row = {"V": 1.0} if self.detach_reset else {"V": 1.0 - size * z["z", "V"], "V_th": -size * z["z", "V_th"]}
        if self.spk_reset == "soft":
            row["V_th"] = row.get("V_th", 0.0) - spike
        return row


def _kick(z: dict, size, name: str, kept) -> dict:
    """Derivatives of a state that a spike moves by ``size``."""
    row = {
        source: u.maybe_decimal(size * slope) if name == "V_th" else size * slope for (_, source), slope in z.items()
    }
    row[name] = row[name] + kept if name in row else kept
    return row
