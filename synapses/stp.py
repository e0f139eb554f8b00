r"""Short-term plasticity: facilitation and depression of spikes.

    \tau_f \dot u = -u,    \tau_d \dot x = 1 - x

    u^+ = u + U (1 - u_{t-1}),    r = u^+ x,    x^+ = x - u^+ x_{t-1} \text{ at a spike}

The jumps count from the values before the step; a spike passes with the efficacy :math:`r`.
Tsodyks, Pawelzik & Markram 1998, Neural Computation 10(4), eq. 2.5-2.8; the order of operations is
that of ``brainpy.state.STP``. The weighted spike is kept as a state: it depends on ``x`` before its
depletion, and only what is a state carries credit.
"""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp

from etrax.contract import Constant, Filter, argument

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
        """See `Dynamics.initial`: rested, and nothing released."""
        shape = self.varshape if batch_size is None else (batch_size, *self.varshape)
        dtype = brainstate.environ.dftype()
        return {
            "u": jnp.broadcast_to(jnp.asarray(self.U, dtype), shape),
            "x": jnp.ones(shape, dtype),
            "r": jnp.zeros(shape, dtype),
        }

    def transition(self, u, x, r, *, z) -> dict:
        """Relax, facilitate, release, deplete."""
        raised = brainstate.nn.exp_euler_step(lambda u: -u / self.tau_f, u) + z * self.U * (1.0 - u)
        recovered = brainstate.nn.exp_euler_step(lambda x: (1.0 - x) / self.tau_d, x)
        return {"u": raised, "x": recovered - z * raised * x, "r": raised * recovered * z}

    def jacobian(self, u, x, r, *, z) -> dict:
        """Closed form of the diagonal."""
        keep_u, keep_x = self._decays()
        raised = keep_u * u + z * self.U * (1.0 - u)
        recovered = 1.0 + keep_x * (x - 1.0)
        uu, uz = keep_u - z * self.U, self.U * (1.0 - u)
        return {
            ("u", "u"): uu,
            ("u", "z"): uz,
            ("x", "u"): -z * x * uu,
            ("x", "x"): keep_x - z * raised,
            ("x", "z"): -x * (raised + z * uz),
            ("r", "u"): z * recovered * uu,
            ("r", "x"): z * raised * keep_x,
            ("r", "z"): recovered * (raised + z * uz),
        }

    def _decays(self):
        dt = brainstate.environ.get_dt()
        return u.math.exp(-dt / self.tau_f), u.math.exp(-dt / self.tau_d)
