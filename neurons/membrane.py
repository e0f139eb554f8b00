r"""Membranes with a drift of any form, alone or with an adaptation current; the models differ in ``f`` only.

    \tau \dot V = f(V) - R w + R I(V),    \tau_w \dot w = a (V - V_{rest}) - w,    w \leftarrow w + b \text{ at a spike}

In one step the spike of the last one acts first, then V moves, then w follows the new V.
"""

from __future__ import annotations

import brainstate
import braintools
import brainunit as u

from .integration import adaptive_jacobian, membrane_jacobian
from .threshold import FixedThreshold

__all__ = ["AdaptiveMembrane", "Membrane"]


class Drift(FixedThreshold):
    """A membrane whose drift ``f`` is not linear; a subclass defines :meth:`drift`."""

    def drift(self, V) -> tuple:
        """``f(V)`` with its first two derivatives."""
        raise NotImplementedError(f"{type(self).__name__} must define `drift(V)`.")

    def steepest(self):
        """The highest potential at which a step may start."""
        raise NotImplementedError(f"{type(self).__name__} must define `steepest()`.")

    def start(self, V, spike):
        """Where the step starts from: the potential after the reset, but not so high that the step ends at infinity."""
        return u.math.minimum(self.reset(V, spike), self.steepest())

    def moved(self, V, spike, slope, current, less=None) -> tuple:
        """`membrane_jacobian` at the start of the step, and what is kept of V there; ``less`` is subtracted from the drift."""
        start = self.start(V, spike)
        drift, steep, curvature = self.drift(start)
        drift = drift if less is None else drift - less
        kept = u.math.where(start < self.steepest(), self.kept(V, slope), 0.0)
        d = membrane_jacobian(start, current, R=self.R, tau=self.tau, drift=drift, slope=steep, curvature=curvature)
        return d, kept


class Membrane(Drift):
    """Base class of neurons with one state ``V``."""

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        return {"V": braintools.init.param(self.V_initializer, self.varshape, batch_size)}

    def transition(self, V, *, current, delta) -> dict:
        """One exponential-Euler step."""
        V = self.start(V, self.get_spike(V))
        V = brainstate.nn.exp_euler_step(lambda v: (self.drift(v)[0] + self.R * current(v)) / self.tau, V)
        return {"V": V + delta}

    def jacobian(self, V, *, current, delta) -> dict:
        """Closed form of the diagonal."""
        d, kept = self.moved(V, self.get_spike(V), self.spike_jacobian(V)["z", "V"], current)
        d["V"] = d["V"] * kept
        return {**{("V", source): value for source, value in d.items()}, ("V", "delta"): 1.0}


class AdaptiveMembrane(Drift):
    """Base class of neurons with an adaptation current, states ``V`` and ``w``."""

    @property
    def _ceiling(self):
        """The highest potential that w follows: the height of an overshoot is no more than a number of the step."""
        return self.V_th + 100.0 * self.span

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        given = {"V": self.V_initializer, "w": self.w_initializer}
        return {name: braintools.init.param(value, self.varshape, batch_size) for name, value in given.items()}

    def ranges(self) -> dict:
        """See `Dynamics.ranges`."""
        return {"w": (-2.0 * u.mA, 6.0 * u.mA)}

    def transition(self, V, w, *, current, delta) -> dict:
        """One exponential-Euler step, first of V and then of w."""
        spike = self.get_spike(V)
        V, w = self.start(V, spike), w + self.b * spike

        def rate(v):
            return (self.drift(v)[0] - self.R * w + self.R * current(v)) / self.tau

        V = brainstate.nn.exp_euler_step(rate, V) + delta
        seen = u.math.minimum(V, self._ceiling)
        w = brainstate.nn.exp_euler_step(lambda w: (self.a * (seen - self.V_rest) - w) / self.tau_w, w)
        return {"V": V, "w": w}

    def jacobian(self, V, w, *, current, delta) -> dict:
        """Closed form of the diagonal: the spike enters through the reset of V and the increment of w."""
        spike, slope_z = self.get_spike(V), self.spike_jacobian(V)["z", "V"]
        d, kept = self.moved(V, spike, slope_z, current, less=self.R * (w + self.b * spike))
        decay = u.math.exp(-brainstate.environ.get_dt() / self.tau_w)
        new = self.transition(V, w, current=current, delta=delta)["V"]
        kick, couple = self.b * slope_z, u.math.where(new < self._ceiling, 1.0 - decay, 0.0) * self.a
        return adaptive_jacobian(d, "w", kept=kept, kick=kick, decay=decay, couple=couple)
