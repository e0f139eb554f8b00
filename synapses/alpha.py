r"""Alpha synapse.

    \tau \dot h = -h,    h \leftarrow h + y,        \tau \dot g = h - g

A unit input gives the conductance :math:`(t / \tau) e^{-t / \tau}`. Roth & van Rossum 2009, Modeling
synapses, eq. 6.3; order of operations as in ``brainpy.state.Alpha``: ``g`` takes the old ``h``, so
that an input acts on the neuron one step later.
"""

from __future__ import annotations

from typing import Any

import brainstate
import braintools
import brainunit as u

from etrax.contract import Constant, Synapse, argument

__all__ = ["Alpha"]


class Alpha(Synapse):
    """Alpha-function synapse with states ``g`` and ``h`` (mS unless ``g_initializer`` has another unit).

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> syn = etrax.synapses.Alpha(1, tau=4.0 * u.ms)
    >>> syn.init_state()
    >>> g = [float(syn(y * u.mS)[0] / u.mS) for y in [1.0] + 9 * [0.0]]
    >>> g[0], g.index(max(g))  # nothing at first; the most after the time constant
    (0.0, 4)
    """

    tau: Any = Constant(default=8.0 * u.ms, above=0, doc="Time constant, scalar or one value per postsynaptic neuron.")
    g_initializer: Any = argument(
        default=braintools.init.Constant(0.0 * u.mS),
        doc="Initial value of both states; its unit is the unit that the weights must have.",
    )

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        g = braintools.init.param(self.g_initializer, self.varshape, batch_size)
        return {"g": g, "h": g}

    def transition(self, g, h, *, y) -> dict:
        """Both relax, then the input is added to ``h``."""
        return {
            "g": brainstate.nn.exp_euler_step(lambda g: (h - g) / self.tau, g),
            "h": brainstate.nn.exp_euler_step(lambda h: -h / self.tau, h) + y,
        }

    def jacobian(self, g, h, *, y) -> dict:
        """Closed form of the diagonal."""
        decay = u.math.exp(-brainstate.environ.get_dt() / self.tau)
        return {("g", "g"): decay, ("g", "h"): 1.0 - decay, ("h", "h"): decay, ("h", "y"): 1.0}
