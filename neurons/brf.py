r"""Balanced resonate-and-fire neuron.

    \dot V = b V - \omega W + R I(V) / \tau,    \dot W = \omega V + b W,    b = p(\omega) - b_0 - q / \tau

    q \leftarrow \gamma q + z,    z = H((V - V_{th} - \beta q) / V_{th})

    p(\omega) = (\sqrt{1 - (dt\,\omega)^2} - 1) / dt

in forward-Euler steps. :math:`V + i W` is the complex potential of the paper, and :math:`p(\omega)` its
divergence boundary: at b = p a step of forward Euler neither damps nor amplifies, so
:math:`b_0 > 0` keeps the neuron stable. A spike resets nothing but raises q, which damps the
oscillation and lifts the threshold while it decays. Higuchi et al. 2024, arXiv 2402.14603 (dynamics,
divergence boundary, refractory period, smooth reset). As everywhere here, what the
spike of a step does is carried out at the start of the next one: the state q is
the one that the paper's spike of this step is compared with. The paper has no units:
:math:`\tau = 1 s`, :math:`V_{th} = \beta = 1`, :math:`R = 1`, :math:`dt = 0.01 s`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.contract import Constant, Neuron, argument

__all__ = ["BRF"]


class BRF(Neuron):
    """Balanced resonate-and-fire neuron with states ``V``, ``W`` (mV) and ``q`` (no unit).

    Raises
    ------
    ValueError
        When the states are made, if ``omega`` is larger than ``1 / dt``: no step of forward Euler is stable then.
    """

    R: Any = Constant(
        default=1.0 * u.ohm,
        above=0,
        doc="The input current gives ``R I / tau``, scalar or one value per neuron (as all below).",
    )
    tau: Any = Constant(default=1.0 * u.second, above=0, doc="See R; and q damps with the rate ``q / tau``.")
    omega: Any = Constant(default=10.0 / u.second, doc="Angular frequency, at most ``1 / dt``.")
    b_offset: Any = Constant(default=1.0 / u.second, doc="Damping beyond the divergence boundary.")
    gamma: Any = Constant(default=0.9, least=0, most=1, doc="What is left of q after one step.")
    V_th: Any = Constant(default=1.0 * u.mV, above=0, doc="Threshold at rest.")
    beta: Any = Constant(default=1.0 * u.mV, doc="Rise of the threshold with q.")
    V_initializer: Callable = argument(
        default=braintools.init.Constant(0.0 * u.mV), doc="Initial potential, the real part."
    )
    W_initializer: Callable = argument(
        default=braintools.init.Constant(0.0 * u.mV), doc="Initial potential, the imaginary part."
    )
    q_initializer: Callable = argument(default=braintools.init.Constant(0.0), doc="Initial refractory variable.")
    spk_fun: Callable = argument(default=braintools.surrogate.ReluGrad())
    name: str | None = argument(default=None)
    detach_reset: bool = argument(default=False, kw_only=True, doc="Whether the surrogate derivative is kept out of q.")

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        self._check_omega()
        return {
            "V": braintools.init.param(self.V_initializer, self.varshape, batch_size),
            "W": braintools.init.param(self.W_initializer, self.varshape, batch_size),
            "q": braintools.init.param(self.q_initializer, self.varshape, batch_size),
        }

    def ranges(self) -> dict:
        """See `Dynamics.ranges`."""
        wide = (-2.0 * self.V_th, 3.0 * self.V_th)
        return {"V": wide, "W": wide}

    def get_spike(self, V=None, q=None, **others):
        """Spikes at the given (else the current) states, shape ``([batch,] *varshape)``."""
        return self.spk_fun(self._distance(self.V.value if V is None else V, self.q.value if q is None else q))

    def spike_jacobian(self, V, q, **others) -> dict:
        """See `Neuron.spike_jacobian`."""
        slope = self.surrogate(self._distance(V, q)) / self.V_th
        return {("z", "V"): slope, ("z", "q"): u.maybe_decimal(-self.beta * slope)}

    def transition(self, V, W, q, *, current, delta) -> dict:
        """What the spike of the last step does to q, then one forward-Euler step of the oscillation."""
        dt = brainstate.environ.get_dt()
        q = self._refractory(V, q)
        b = self._damping(q)
        drive = self.R * current(V) / self.tau
        return {
            "V": V + dt * (b * V - self.omega * W + drive) + delta,
            "W": W + dt * (self.omega * V + b * W),
            "q": q,
        }

    def jacobian(self, V, W, q, *, current, delta) -> dict:
        """Closed form of the diagonal: the spike acts through q on the damping."""
        dt = brainstate.environ.get_dt()
        z = {} if self.detach_reset else self.spike_jacobian(V, q)
        stay = 1.0 + u.maybe_decimal(dt * self._damping(self._refractory(V, q)))
        turn = u.maybe_decimal(dt * self.omega)
        gain = dt * self.R / self.tau
        row = {"q": self.gamma + z.get(("z", "q"), 0.0), "V": z.get(("z", "V"))}
        damp = {name: (-dt / self.tau) * value for name, value in row.items() if value is not None}
        entries = {("q", name): value for name, value in row.items() if value is not None}
        entries |= {("V", name): V * value for name, value in damp.items()}
        entries |= {("W", name): W * value for name, value in damp.items()}
        entries["V", "V"] = stay + u.maybe_decimal(entries.get(("V", "V"), 0.0))
        entries["W", "V"] = turn + u.maybe_decimal(entries.get(("W", "V"), 0.0))
        entries |= {("V", "W"): -turn, ("W", "W"): stay, ("V", "current"): gain, ("V", "delta"): 1.0}
        if current.slope is not None:
            entries["V", "V"] = entries["V", "V"] + u.maybe_decimal(gain * current.slope)
            entries["V", "slope"] = gain * V
        return entries

    def _check_omega(self) -> None:
        dt = brainstate.environ.get("dt", None)
        turn = 0.0 if dt is None else u.maybe_decimal(dt * self.omega)
        try:
            highest = float(jnp.max(jnp.abs(turn)))
        except jax.errors.ConcretizationTypeError:
            return  # trained, so its value is not known here
        if highest > 1.0:
            raise ValueError(
                f"`omega` must be at most 1 / dt, but dt * omega is {highest:.4g} at dt = {dt}: take a smaller time step or a "
                "lower frequency."
            )

    def _distance(self, V, q):
        return (V - self.V_th - self.beta * q) / self.V_th

    def _refractory(self, V, q):
        spike = self.get_spike(V, q)
        return self.gamma * q + (jax.lax.stop_gradient(spike) if self.detach_reset else spike)

    def _damping(self, q):
        dt = brainstate.environ.get_dt()
        boundary = (u.math.sqrt(1.0 - (dt * self.omega) ** 2) - 1.0) / dt
        return boundary - self.b_offset - q / self.tau
