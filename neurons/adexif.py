r"""Adaptive exponential integrate-and-fire neuron.

    \tau \dot V = -(V - V_{rest}) + \Delta_T e^{(V - V_T) / \Delta_T} - R w + R I(V)

    \tau_w \dot w = a (V - V_{rest}) - w,    w \leftarrow w + b \text{ at a spike}

    z = H((V - V_{th}) / (V_{th} - V_{reset}))

Brette & Gerstner 2005, J. Neurophysiol. 94, eq. 1-4; the order of operations (w follows the new
potential) is that of ``brainpy.state.AdExIF``. On the reset and the size of the time step see
`etrax.neurons.ExpIF`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import braintools
import brainunit as u

from etrax.contract import Constant, argument

from .integration import exponential, steepest_exponential
from .membrane import AdaptiveMembrane
from .threshold import hard_only

__all__ = ["AdExIF"]


class AdExIF(AdaptiveMembrane):
    """Adaptive exponential integrate-and-fire neuron with states ``V`` (mV) and ``w`` (mA).

    The model has the hard reset only; ``detach_reset`` concerns the reset of ``V`` only, not the adaptation.

    Raises
    ------
    ValueError
        If ``spk_reset`` is not ``'hard'``.
    """

    R: Any = Constant(
        default=1.0 * u.ohm, above=0, doc="Membrane resistance, scalar or one value per neuron (as all below)."
    )
    tau: Any = Constant(default=10.0 * u.ms, above=0, doc="Time constant of the membrane.")
    tau_w: Any = Constant(default=30.0 * u.ms, above=0, doc="Time constant of the adaptation.")
    V_th: Any = Constant(default=-55.0 * u.mV, doc="Threshold.")
    V_reset: Any = Constant(default=-68.0 * u.mV, below="V_th", doc="Reset potential.")
    V_rest: Any = Constant(default=-65.0 * u.mV, doc="Resting potential.")
    V_T: Any = Constant(default=-59.9 * u.mV, doc="Potential at which the upstroke begins.")
    delta_T: Any = Constant(default=3.48 * u.mV, above=0, doc="Sharpness of the upstroke.")
    a: Any = Constant(default=1.0 * u.siemens, doc="Adaptation by the potential.")
    b: Any = Constant(default=1.0 * u.mA, doc="Adaptation by a spike.")
    V_initializer: Callable = argument(default=braintools.init.Constant(-65.0 * u.mV), doc="Initial potential.")
    w_initializer: Callable = argument(default=braintools.init.Constant(0.0 * u.mA), doc="Initial adaptation.")
    spk_fun: Callable = argument(default=braintools.surrogate.ReluGrad())
    spk_reset: str = argument(default="hard")
    name: str | None = argument(default=None)

    def __post_init__(self) -> None:
        hard_only(self, "AdExIF")

    def drift(self, V) -> tuple:
        """See `Drift.drift`."""
        return exponential(self, V)

    def steepest(self):
        """See `Drift.steepest`."""
        return steepest_exponential(self)
