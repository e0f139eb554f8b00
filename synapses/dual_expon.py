r"""Dual exponential synapse.

    \tau_{rise} \dot g_{rise} = -g_{rise},    \tau_{decay} \dot g_{decay} = -g_{decay},    both jump by y

    g = a (g_{decay} - g_{rise})

:math:`a` is ``amplitude``, times the factor that makes the response to a unit input peak at 1 if
``normalize``. Roth & van Rossum 2009, Modeling synapses, eq. 6.4 and 6.5; order of operations as
in ``brainpy.state.DualExpon``.
"""

from __future__ import annotations

from typing import Any

import brainstate
import braintools
import brainunit as u

from etrax.contract import Constant, Synapse, argument

__all__ = ["DualExpon"]


class DualExpon(Synapse):
    """Synapse that rises and decays exponentially, with states ``g_rise`` and ``g_decay`` (mS).

    Raises
    ------
    ValueError
        If ``normalize`` and the time constants are equal.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> syn = etrax.synapses.DualExpon(1, tau_decay=10.0 * u.ms, tau_rise=2.0 * u.ms)
    >>> syn.init_state()
    >>> g = [float(syn(y * u.mS)[0] / u.mS) for y in [1.0] + 29 * [0.0]]
    >>> g.index(max(g)), round(max(g), 1)
    (4, 1.0)
    """

    tau_decay: Any = Constant(
        default=10.0 * u.ms,
        above=0,
        doc="Time constant of the decay, scalar or one value per postsynaptic neuron (as all below).",
    )
    tau_rise: Any = Constant(default=1.0 * u.ms, above=0, doc="Time constant of the rise.")
    amplitude: Any = Constant(default=1.0, doc="Factor of the conductance.")
    normalize: bool = argument(default=True, doc="Whether the response to a unit input peaks at ``amplitude``.")
    g_initializer: Any = argument(
        default=braintools.init.Constant(0.0 * u.mS),
        doc="Initial value of both states; its unit is the unit that the weights must have.",
    )

    def __post_init__(self) -> None:
        if self.normalize and bool(u.math.any(self.tau_decay == self.tau_rise)):
            raise ValueError(
                f"`tau_rise` equals `tau_decay` ({self.tau_rise}), so that the conductance cannot be normalized: use "
                "`Alpha`, or `normalize=False`."
            )

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        g = braintools.init.param(self.g_initializer, self.varshape, batch_size)
        return {"g_rise": g, "g_decay": g}

    def transition(self, g_rise, g_decay, *, y) -> dict:
        """Both decay, then the input is added."""
        return {
            "g_rise": brainstate.nn.exp_euler_step(lambda g: -g / self.tau_rise, g_rise) + y,
            "g_decay": brainstate.nn.exp_euler_step(lambda g: -g / self.tau_decay, g_decay) + y,
        }

    def jacobian(self, g_rise, g_decay, *, y) -> dict:
        """Closed form of the diagonal."""
        dt = brainstate.environ.get_dt()
        return {
            ("g_rise", "g_rise"): u.math.exp(-dt / self.tau_rise),
            ("g_rise", "y"): 1.0,
            ("g_decay", "g_decay"): u.math.exp(-dt / self.tau_decay),
            ("g_decay", "y"): 1.0,
        }

    def scale(self):
        """The factor ``a``."""
        if not self.normalize:
            return self.amplitude
        ratio = u.maybe_decimal(self.tau_rise / self.tau_decay)
        return self.amplitude * ratio ** (ratio / (ratio - 1.0)) / (1.0 - ratio)

    def conductance(self, g_rise, g_decay):
        """See `Synapse.conductance`."""
        return self.scale() * (g_decay - g_rise)

    def conductance_jacobian(self, g_rise, g_decay) -> dict:
        """Closed form."""
        scale = self.scale()
        return {("g", "g_rise"): -scale, ("g", "g_decay"): scale}
