r"""Dual exponential synapse.

    \tau_{rise} \dot g_{rise} = -g_{rise},    \dot g = -g / \tau_{decay} + g_{rise} / \tau_{rise}

where g_rise jumps by y; the conductance is :math:`a g`. With :math:`r = \tau_{rise} / \tau_{decay}`

    (1 - r) g = g_{decay} - g_{rise},    \tau_{decay} \dot g_{decay} = -g_{decay},    both jump by y

is the difference of two exponentials of the source and of ``brainpy.state.DualExpon``; it is stepped as one state, since
the difference of two nearly equal numbers has no digits left (in float32 at :math:`r = 0.9999`, and none of a
:math:`1 - r` of zero). :math:`a` is ``amplitude``, times :math:`r^{r / (r - 1)}` if ``normalize``, so that the response
to a unit input peaks at 1, else times :math:`1 - r`. Equal time constants give the alpha function; the larger one decays.
Roth & van Rossum 2009, Modeling synapses, eq. 6.4 and 6.5.
"""

from __future__ import annotations

from typing import Any

import brainstate
import braintools
import brainunit as u

from etrax.contract import Constant, Synapse, argument

__all__ = ["DualExpon"]


class DualExpon(Synapse):
    """Synapse that rises and decays exponentially, with states ``g_rise`` and ``g`` (mS).

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
        doc="Initial value of ``g_rise``, of which nothing conducts yet; its unit is that which the weights must have.",
    )

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        g = braintools.init.param(self.g_initializer, self.varshape, batch_size)
        return {"g_rise": g, "g": 0.0 * g}

    def transition(self, g_rise, g, *, y) -> dict:
        """Both decay, then the input is added."""
        entries = self.jacobian(g_rise, g, y=y)
        return {
            "g_rise": entries["g_rise", "g_rise"] * g_rise + y,
            "g": entries["g", "g"] * g + entries["g", "g_rise"] * g_rise,
        }

    def jacobian(self, g_rise, g, *, y) -> dict:
        """Closed form of the diagonal, which is all of a linear step: what rises in it feeds g while g decays."""
        dt = brainstate.environ.get_dt()
        decay, feed = u.math.exp(-dt / self.tau_decay), u.maybe_decimal(dt / self.tau_rise)
        return {
            ("g_rise", "g_rise"): u.math.exp(-dt / self.tau_rise),
            ("g_rise", "y"): 1.0,
            ("g", "g"): decay,
            ("g", "g_rise"): feed * decay * u.math.exprel(u.maybe_decimal(dt / self.tau_decay) - feed),
        }

    def scale(self):
        """The factor ``a``."""
        ratio = u.maybe_decimal(self.tau_rise / self.tau_decay)
        if not self.normalize:
            return self.amplitude * (1.0 - ratio)
        return self.amplitude * u.math.exp(
            ratio / u.math.exprel(u.math.log(ratio))
        )  # r ** (r / (r - 1)), also at r = 1

    def conductance(self, g_rise, g):
        """See `Synapse.conductance`."""
        return self.scale() * g

    def conductance_jacobian(self, g_rise, g) -> dict:
        """Closed form."""
        return {("g", "g"): self.scale()}
