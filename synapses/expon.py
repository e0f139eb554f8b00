r"""Exponential synapse.

    \tau \dot g = -g,    g \leftarrow g + y

The input of a step is added after the decay and acts on the neuron in the same step.
Gerstner et al. 2014, Neuronal Dynamics, section 3.1; order of operations as in
``brainpy.state.Expon``.
"""

from __future__ import annotations

import brainstate
import braintools
import brainunit as u

from etrax.contract import Constant, Synapse

__all__ = ["Expon"]


class Expon(Synapse):
    """Exponentially decaying synapse with state ``g`` (mS unless ``g_initializer`` has another unit).

    Parameters
    ----------
    in_size : int or tuple of int
        Shape of the postsynaptic population.
    name : str, optional
        Name of the module.
    tau : Quantity
        Time constant, scalar or one value per postsynaptic neuron.
    g_initializer : callable or Quantity
        Initial conductance; its unit is the unit that the weights must have.
    """

    tau = Constant(u.ms)

    def __init__(
        self, in_size, name: str | None = None, tau=8.0 * u.ms, g_initializer=braintools.init.Constant(0.0 * u.mS)
    ):
        super().__init__(in_size, name=name)
        self.tau = tau
        self.g_initializer = g_initializer

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        return {"g": braintools.init.param(self.g_initializer, self.varshape, batch_size)}

    def transition(self, g, *, y) -> dict:
        """Decay, then add the input."""
        return {"g": brainstate.nn.exp_euler_step(lambda g: -g / self.tau, g) + y}

    def jacobian(self, g, *, y) -> dict:
        """Closed form of the diagonal."""
        return {("g", "g"): u.math.exp(-brainstate.environ.get_dt() / self.tau), ("g", "y"): 1.0}
