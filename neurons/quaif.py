r"""Quadratic integrate-and-fire neuron.

    \tau \dot V = c (V - V_{rest}) (V - V_c) + R I(V)

    z = H((V - V_{th}) / (V_{th} - V_{reset}))

Latham et al. 2000, J. Neurophysiol. 83; Gerstner et al. 2014, Neuronal Dynamics, eq. 5.16; the
order of operations is that of ``brainpy.state.QuaIF``.
"""

from __future__ import annotations

from collections.abc import Callable

import braintools
import brainunit as u

from etrax.contract import Constant

from .integration import quadratic
from .membrane import Membrane

__all__ = ["QuaIF"]


class QuaIF(Membrane):
    """Quadratic integrate-and-fire neuron with state ``V`` (mV).

    Parameters
    ----------
    in_size : int or tuple of int
        Shape of the population.
    R : Quantity
        Membrane resistance, scalar or one value per neuron (as all below).
    tau : Quantity
        Membrane time constant.
    V_th, V_reset, V_rest : Quantity
        Threshold, reset and resting potential.
    V_c, c : Quantity
        Potential above which the membrane runs away without input, and the strength of the quadratic term.
    V_initializer : callable
        Initial potential.
    spk_fun, spk_reset, detach_reset, name
        See :class:`etrax.Neuron`.
    """

    R = Constant(u.ohm)
    tau = Constant(u.ms)
    V_th = Constant(u.mV)
    V_reset = Constant(u.mV)
    V_rest = Constant(u.mV)
    V_c = Constant(u.mV)
    c = Constant(u.mV**-1)

    def __init__(
        self,
        in_size,
        R=1.0 * u.ohm,
        tau=10.0 * u.ms,
        V_th=-30.0 * u.mV,
        V_reset=-68.0 * u.mV,
        V_rest=-65.0 * u.mV,
        V_c=-50.0 * u.mV,
        c=0.07 / u.mV,
        V_initializer: Callable = braintools.init.Constant(-65.0 * u.mV),
        spk_fun: Callable = braintools.surrogate.ReluGrad(),
        spk_reset: str = "soft",
        name: str | None = None,
        *,
        detach_reset: bool = False,
    ):
        super().__init__(in_size, spk_fun, spk_reset, name, detach_reset=detach_reset)
        self.R = R
        self.tau = tau
        self.V_th = V_th
        self.V_reset = V_reset
        self.V_rest = V_rest
        self.V_c = V_c
        self.c = c
        self.V_initializer = V_initializer

    def drift(self, V) -> tuple:
        """See `Drift.drift`."""
        return quadratic(self, V)
