r"""Leaky integrate-and-fire neuron with a synaptic current of its own.

    \tau_{syn} \dot g = -g,    \tau \dot V = -(V - V_{rest}) + R (g + I(V))

    z = H((V - V_{th}) / (V_{th} - V_{reset}))

A `etrax.synapses.DeltaProj` adds to the current :math:`g` (its weights are in mA), not to the
potential, and acts in the same step. Gerstner et al. 2014, Neuronal Dynamics, section 1.3 and
3.1; the order of operations is that of ``brainpy.state.CubaLIF``.
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

__all__ = ["CubaLIF"]


class CubaLIF(FixedThreshold):
    """Leaky integrate-and-fire neuron with states ``g`` (mA) and ``V`` (mV).

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import jax.numpy as jnp
    >>> neuron = etrax.neurons.CubaLIF(1, tau_syn=5.0 * u.ms)
    >>> comm = brainstate.nn.Linear(1, 1, w_init=jnp.array([[2.0]]) * u.mA, b_init=None)
    >>> projection = etrax.synapses.DeltaProj(comm=comm, post=neuron)  # onto its current, its first state
    >>> neuron.init_state()
    >>> for spike in (1.0, 0.0):
    ...     projection(jnp.array([spike]))
    ...     _ = neuron()
    >>> round(float(neuron.g.value[0] / u.mA), 3)  # 2 exp(-1 / 5)
    1.637
    """

    R: Any = Constant(
        default=1.0 * u.ohm, above=0, doc="Membrane resistance, scalar or one value per neuron (as all below)."
    )
    tau: Any = Constant(default=5.0 * u.ms, above=0, doc="Time constant of the membrane.")
    tau_syn: Any = Constant(default=5.0 * u.ms, above=0, doc="Time constant of the synaptic current.")
    V_th: Any = Constant(default=1.0 * u.mV, doc="Threshold.")
    V_reset: Any = Constant(default=0.0 * u.mV, below="V_th", doc="Reset potential.")
    V_rest: Any = Constant(default=0.0 * u.mV, doc="Resting potential.")
    V_initializer: Callable = argument(default=braintools.init.Constant(0.0 * u.mV), doc="Initial potential.")
    g_initializer: Callable = argument(default=braintools.init.Constant(0.0 * u.mA), doc="Initial synaptic current.")
    spk_fun: Callable = argument(default=braintools.surrogate.ReluGrad())
    spk_reset: str = argument(default="soft")
    name: str | None = argument(default=None)

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        return {
            "g": braintools.init.param(self.g_initializer, self.varshape, batch_size),
            "V": braintools.init.param(self.V_initializer, self.varshape, batch_size),
        }

    def transition(self, g, V, *, current, delta) -> dict:
        """One exponential-Euler step of the equations above, first of g and then of V."""
        V = self.reset(V, self.get_spike(V))
        g = brainstate.nn.exp_euler_step(lambda g: -g / self.tau_syn, g) + delta

        def rate(v):
            return (-(v - self.V_rest) + self.R * (g + current(v))) / self.tau

        return {"g": g, "V": brainstate.nn.exp_euler_step(rate, V)}

    def jacobian(self, g, V, *, current, delta) -> dict:
        """Closed form of the diagonal: the new g is part of the current."""
        decay = u.math.exp(-brainstate.environ.get_dt() / self.tau_syn)
        after = self.reset(V, self.get_spike(V)) if current.slope is not None else None
        rest = self.V_rest if current.slope is None else self.V_rest + self.R * (decay * g + delta)
        d = leaky_jacobian(after, current, R=self.R, tau=self.tau, V_rest=rest)
        entries = {("g", "g"): decay, ("g", "delta"): 1.0}
        entries |= {("V", source): value for source, value in d.items()}
        entries["V", "V"] = d["V"] * self.kept(V, self.spike_jacobian(V)["z", "V"])
        return {**entries, ("V", "g"): d["current"] * decay, ("V", "delta"): d["current"]}
