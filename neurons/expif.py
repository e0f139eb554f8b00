r"""Exponential integrate-and-fire neuron.

    \tau \dot V = -(V - V_{rest}) + \Delta_T e^{(V - V_T) / \Delta_T} + R I(V)

    z = H((V - V_{th}) / (V_{th} - V_{reset}))

Fourcaud-Trocme et al. 2003, J. Neurosci. 23(37), eq. 2 and 6; the order of operations is that of
``brainpy.state.ExpIF``.

The upstroke of a spike has no end of its own: it is the reset to :math:`V_{reset}` that ends it. Less than that, as the
soft reset of ``brainpy.state.ExpIF``, its default, leaves the potential on the upstroke, and the neuron fires at every step.

The exponent is cut off at 20, and a step starts no higher than where the upstroke grows :math:`e^{10}`-fold in it
(:math:`V_T + \Delta_T \log(1 + 10 \tau / dt)`), so that it ends far above threshold, but not at infinity as in the
reference at a step of 0.1 ms. A spike is then late by up to a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import braintools
import brainunit as u

from etrax.contract import Constant, argument

from .integration import exponential, steepest_exponential
from .membrane import Membrane
from .threshold import hard_only

__all__ = ["ExpIF"]


class ExpIF(Membrane):
    """Exponential integrate-and-fire neuron with state ``V`` (mV).

    The model has the hard reset only.

    Raises
    ------
    ValueError
        If ``spk_reset`` is not ``'hard'``.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> neuron = etrax.neurons.ExpIF(1)
    >>> neuron.init_state()
    >>> with brainstate.environ.context(dt=0.1 * u.ms):
    ...     times = [k for k in range(250) if neuron(20.0 * u.mA)[0]]
    >>> [round(0.1 * k, 1) for k in times]  # ms
    [7.1, 15.6, 24.1]
    """

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
    spk_reset: str = argument(default="hard")
    name: str | None = argument(default=None)

    def __post_init__(self) -> None:
        hard_only(self, "ExpIF")

    def drift(self, V) -> tuple:
        """See `Drift.drift`."""
        return exponential(self, V)

    def steepest(self):
        """See `Drift.steepest`."""
        return steepest_exponential(self)
