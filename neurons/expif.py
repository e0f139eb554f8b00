r"""Exponential integrate-and-fire neuron.

    \tau \dot V = -(V - V_{rest}) + \Delta_T e^{(V - V_T) / \Delta_T} + R I(V)

    z = H((V - V_{th}) / (V_{th} - V_{reset}))

Fourcaud-Trocme et al. 2003, J. Neurosci. 23(37), eq. 2 and 6; the order of operations is that of
``brainpy.state.ExpIF``.

The exponent is cut off at 20. An exponential-Euler step from just below threshold overshoots by about
:math:`e^{dt (e^{(V_{th} - V_T) / \Delta_T} - 1) / \tau}`: with :math:`V_{th}` many :math:`\Delta_T` above
:math:`V_T` (as in the defaults) a step of 1 ms overflows, so take a smaller step or a lower threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import braintools
import brainunit as u

from etrax.contract import Constant, argument

from .integration import exponential
from .membrane import Membrane

__all__ = ["ExpIF"]


class ExpIF(Membrane):
    """Exponential integrate-and-fire neuron with state ``V`` (mV)."""

    R: Any = Constant(
        default=1.0 * u.ohm, above=0, doc="Membrane resistance, scalar or one value per neuron (as all below)."
    )
    tau: Any = Constant(default=10.0 * u.ms, above=0, doc="Time constant of the membrane.")
    V_th: Any = Constant(default=-30.0 * u.mV, doc="Threshold.")
    V_reset: Any = Constant(default=-68.0 * u.mV, below="V_th", doc="Reset potential.")
    V_rest: Any = Constant(default=-65.0 * u.mV, doc="Resting potential.")
    V_T: Any = Constant(default=-59.9 * u.mV, doc="Potential at which the upstroke begins.")
    delta_T: Any = Constant(default=3.48 * u.mV, above=0, doc="Sharpness of the upstroke.")
    V_initializer: Callable = argument(default=braintools.init.Constant(-65.0 * u.mV), doc="Initial potential.")
    spk_fun: Callable = argument(default=braintools.surrogate.ReluGrad())
    spk_reset: str = argument(default="soft")
    name: str | None = argument(default=None)

    def drift(self, V) -> tuple:
        """See `Drift.drift`."""
        return exponential(self, V)
