r"""Adaptive quadratic integrate-and-fire neuron.

    \tau \dot V = c (V - V_{rest}) (V - V_c) - R w + R I(V)

    \tau_w \dot w = a (V - V_{rest}) - w,    w \leftarrow w + b \text{ at a spike}

    z = H((V - V_{th}) / (V_{th} - V_{reset}))

Izhikevich 2004, IEEE Trans. Neural Netw. 15(5); Gerstner et al. 2014, Neuronal Dynamics, section
6.1; the order of operations (w follows the new potential) is that of ``brainpy.state.AdQuaIF``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import braintools
import brainunit as u

from etrax.contract import Constant, argument

from .integration import quadratic, steepest_quadratic
from .membrane import AdaptiveMembrane

__all__ = ["AdQuaIF"]


class AdQuaIF(AdaptiveMembrane):
    """Adaptive quadratic integrate-and-fire neuron with states ``V`` (mV) and ``w`` (mA).

    ``detach_reset`` concerns the reset of ``V`` only, not the adaptation.
    """

    R: Any = Constant(
        default=1.0 * u.ohm, above=0, doc="Membrane resistance, scalar or one value per neuron (as all below)."
    )
    tau: Any = Constant(default=10.0 * u.ms, above=0, doc="Time constant of the membrane.")
    tau_w: Any = Constant(default=10.0 * u.ms, above=0, doc="Time constant of the adaptation.")
    V_th: Any = Constant(default=-30.0 * u.mV, doc="Threshold.")
    V_reset: Any = Constant(default=-68.0 * u.mV, below="V_th", doc="Reset potential.")
    V_rest: Any = Constant(default=-65.0 * u.mV, doc="Resting potential.")
    V_c: Any = Constant(default=-50.0 * u.mV, doc="Potential above which the membrane runs away without input.")
    c: Any = Constant(default=0.07 / u.mV, above=0, doc="Strength of the quadratic term.")
    a: Any = Constant(default=1.0 * u.siemens, doc="Adaptation by the potential.")
    b: Any = Constant(default=0.1 * u.mA, doc="Adaptation by a spike.")
    V_initializer: Callable = argument(default=braintools.init.Constant(-65.0 * u.mV), doc="Initial potential.")
    w_initializer: Callable = argument(default=braintools.init.Constant(0.0 * u.mA), doc="Initial adaptation.")
    spk_fun: Callable = argument(default=braintools.surrogate.ReluGrad())
    spk_reset: str = argument(default="soft")
    name: str | None = argument(default=None)

    def drift(self, V) -> tuple:
        """See `Drift.drift`."""
        return quadratic(self, V)

    def steepest(self):
        """See `Drift.steepest`."""
        return steepest_quadratic(self)
