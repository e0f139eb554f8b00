r"""Exponential synapse.

    \tau \dot g = -g,    g \leftarrow g + y

The input of a step is added after the decay and acts on the neuron in the same step.
Gerstner et al. 2014, Neuronal Dynamics, section 3.1; order of operations as in
``brainpy.state.Expon``.
"""

from __future__ import annotations

from typing import Any

import brainstate
import braintools
import brainunit as u

from etrax.contract import Constant, Synapse, argument

__all__ = ["Expon"]


class Expon(Synapse):
    """Exponentially decaying synapse with state ``g`` (mS unless ``g_initializer`` has another unit).

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> syn = etrax.synapses.Expon(1, tau=10.0 * u.ms)
    >>> syn.init_state()
    >>> [round(float(syn(y * u.mS)[0] / u.mS), 3) for y in (1.0, 0.0, 0.0)]
    [1.0, 0.905, 0.819]
    """

    tau: Any = Constant(default=8.0 * u.ms, above=0, doc="Time constant, scalar or one value per postsynaptic neuron.")
    g_initializer: Any = argument(
        default=braintools.init.Constant(0.0 * u.mS),
        doc="Initial conductance; its unit is the unit that the weights must have.",
    )

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        return {"g": braintools.init.param(self.g_initializer, self.varshape, batch_size)}

    def transition(self, g, *, y) -> dict:
        """Decay, then add the input."""
        return {"g": brainstate.nn.exp_euler_step(lambda g: -g / self.tau, g) + y}

    def jacobian(self, g, *, y) -> dict:
        """Closed form of the diagonal."""
        return {("g", "g"): u.math.exp(-brainstate.environ.get_dt() / self.tau), ("g", "y"): 1.0}
