r"""Short-term plasticity: facilitation and depression of spikes.

    \tau_f \dot u = -u,    \tau_d \dot x = 1 - x

    u^+ = u + U (1 - u_{t-1}),    r = u^+ x,    x^+ = x - u^+ x_{t-1} \text{ at a spike}

The jumps count from the values before the step; a spike passes with the efficacy :math:`r`. Where n spikes
fall into one step, as in counts, the others follow the first one at once, and r is the sum of what they release:

    u_k = u_{k-1} + U (1 - u_{k-1}),    r_k = u_k x_{k-1},    x_k = x_{k-1} - r_k

(``brainpy.state.STP`` multiplies by n, which releases more than there is). Tsodyks, Pawelzik & Markram 1998, Neural
Computation 10(4), eq. 2.5-2.8; the order of operations is that of ``brainpy.state.STP``, and so is the start: ``x`` is
rested, but ``u = U`` is what a spike just before would have left, so that a first spike passes with
:math:`U + U (1 - U)` (0.2775), where a synapse at rest (u = 0), that of the source, has :math:`U` (0.15).
The weighted spike is kept as a state: it depends on ``x`` before its depletion, and only what is a state carries credit.
"""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp

from etrax.contract import Constant, Filter, argument

from .depletion import first_and_more, power, power_slope

__all__ = ["STP"]


class STP(Filter):
    """Facilitating and depressing synapses with states ``u``, ``x`` and ``r`` (no unit); returns ``r``.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import jax.numpy as jnp
    >>> stp = etrax.synapses.STP(1, U=0.5, tau_d=200.0 * u.ms, tau_f=10.0 * u.ms)
    >>> stp.init_state()
    >>> [round(float(stp(jnp.ones(1))[0]), 2) for _ in range(4)]  # spikes in a row pass with less and less
    [0.7, 0.24, 0.06, 0.02]
    """

    name: str | None = argument(default=None, doc="Name of the module.")
    U: Any = Constant(
        default=0.15,
        least=0,
        most=1,
        doc="Rise of the release probability at a spike, scalar or one value per presynaptic neuron (as all below).",
    )
    tau_f: Any = Constant(default=1500.0 * u.ms, above=0, doc="Time constant of facilitation.")
    tau_d: Any = Constant(default=200.0 * u.ms, above=0, doc="Time constant of recovery from depression.")

    output = "r"

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`: nothing depleted or released, and ``u = U``."""
        shape = self.varshape if batch_size is None else (batch_size, *self.varshape)
        dtype = brainstate.environ.dftype()
        return {
            "u": jnp.broadcast_to(jnp.asarray(self.U, dtype), shape),
            "x": jnp.ones(shape, dtype),
            "r": jnp.zeros(shape, dtype),
        }

    def transition(self, u, x, r, *, z) -> dict:
        """Relax; facilitate, release, deplete by the first spike and then by those that follow it."""
        z, more = first_and_more(z)
        raised = brainstate.nn.exp_euler_step(lambda u: -u / self.tau_f, u) + z * self.U * (1.0 - u)
        recovered = brainstate.nn.exp_euler_step(lambda x: (1.0 - x) / self.tau_d, x)
        left = recovered - z * raised * x
        kept, unused = self._more(raised, more)
        return {
            "u": 1.0 - kept * (1.0 - raised),
            "x": left * unused,
            "r": raised * recovered * z + left * (1.0 - unused),
        }

    def jacobian(self, u, x, r, *, z) -> dict:
        """Closed form of the diagonal."""
        keep_u, keep_x = self._decays()
        z, more = first_and_more(z)
        raised = keep_u * u + z * self.U * (1.0 - u)
        recovered = 1.0 + keep_x * (x - 1.0)
        left = recovered - z * raised * x
        kept, unused = self._more(raised, more)
        slope = -power_slope(1.0 - raised, more) * power(
            1.0 - self.U, 0.5 * more * (more + 1.0)
        )  # of unused, by raised
        by_u = {"u": keep_u - z * self.U, "z": self.U * (1.0 - u)}
        rows = {
            "u": (-z * x * by_u["u"], z * recovered * by_u["u"]),
            "x": (keep_x - z * raised, z * raised * keep_x),
            "z": (-x * (raised + z * by_u["z"]), recovered * (raised + z * by_u["z"])),
        }
        entries = {("u", source): kept * value for source, value in by_u.items()}
        for source, (of_left, released) in rows.items():
            depleted = left * slope * by_u[source] if source in by_u else 0.0
            entries["x", source] = of_left * unused + depleted
            entries["r", source] = released + of_left * (1.0 - unused) - depleted
        return entries

    def _more(self, raised, more) -> tuple:
        """What spikes that follow the first leave: of ``1 - u``, and of ``x``."""
        not_used = power(1.0 - raised, more) * power(1.0 - self.U, 0.5 * more * (more + 1.0))
        return power(1.0 - self.U, more), not_used

    def _decays(self):
        dt = brainstate.environ.get_dt()
        return u.math.exp(-dt / self.tau_f), u.math.exp(-dt / self.tau_d)
