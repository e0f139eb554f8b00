r"""Short-term depression of spikes.

    \tau \dot x = 1 - x,        r = x,    x^+ = x - U x_{t-1} \text{ at a spike}

A spike passes with the efficacy :math:`r`, from before the depletion, whose size counts from the value
before the step. Where n spikes fall into one step, as in counts, the others follow the first one at once,
each with :math:`r_k = x_{k-1}` and :math:`x_k = (1 - U) x_{k-1}`, and r is the sum (``brainpy.state.STD`` multiplies by
n, which uses up more than there is). Abbott et al. 1997, Science 275; the order of operations is that of
``brainpy.state.STD``. The weighted spike is kept as a state, as in ``stp``.
"""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp

from etrax.contract import Constant, Filter, argument

from .depletion import first_and_more, power

__all__ = ["STD"]


class STD(Filter):
    """Depressing synapses with states ``x`` and ``r`` (no unit); returns ``r``."""

    name: str | None = argument(default=None, doc="Name of the module.")
    tau: Any = Constant(
        default=200.0 * u.ms,
        above=0,
        doc="Time constant of recovery, scalar or one value per presynaptic neuron (as below).",
    )
    U: Any = Constant(default=0.07, least=0, most=1, doc="Fraction that a spike uses up.")

    output = "r"

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`: rested, and nothing released."""
        shape = self.varshape if batch_size is None else (batch_size, *self.varshape)
        dtype = brainstate.environ.dftype()
        return {"x": jnp.ones(shape, dtype), "r": jnp.zeros(shape, dtype)}

    def transition(self, x, r, *, z) -> dict:
        """Recover; release, deplete by the first spike and then by those that follow it."""
        z, more = first_and_more(z)
        recovered = brainstate.nn.exp_euler_step(lambda x: (1.0 - x) / self.tau, x)
        left = recovered - z * self.U * x
        kept, passed = self._more(more)
        return {"x": left * kept, "r": recovered * z + left * passed}

    def jacobian(self, x, r, *, z) -> dict:
        """Closed form of the diagonal."""
        keep = u.math.exp(-brainstate.environ.get_dt() / self.tau)
        z, more = first_and_more(z)
        kept, passed = self._more(more)
        return {
            ("x", "x"): (keep - z * self.U) * kept,
            ("x", "z"): -self.U * x * kept,
            ("r", "x"): z * keep + (keep - z * self.U) * passed,
            ("r", "z"): 1.0 + keep * (x - 1.0) - self.U * x * passed,
        }

    def _more(self, more) -> tuple:
        """Of what the first spike leaves: what spikes that follow it leave, and what passes by them, 1 + (1 - U) + ..."""
        kept = power(1.0 - self.U, more)
        return kept, u.math.where(self.U > 0.0, (1.0 - kept) / u.math.where(self.U > 0.0, self.U, 1.0), more)
