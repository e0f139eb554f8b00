r"""Leaky readout: filter the spikes first, then weigh them.

    s_t = \kappa s_{t-1} + z_t,    r_t = s_t W,    \kappa = e^{-dt/\tau}

The values equal those of a leak after the output weights, ``r_t = \kappa r_{t-1} + z_t W``
(``brainpy.state.LeakyRateReadout``). The filtered spike is one more state of the population
that emits it, so a learner with a diagonal Jacobian carries its credit exactly; a leak
behind the weights would be invisible to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import brainstate
import braintools
import brainunit as u
from jax.typing import ArrayLike

from etrax.contract import Constant, Filter, Neuron

__all__ = ["LeakyReadout"]


class LeakyReadout(Filter):
    """Linear readout of low-passed spikes with state ``s`` (no unit).

    Parameters
    ----------
    in_size, out_size : int or tuple of int
        Shape of the population that is read and number of outputs.
    tau : Quantity
        Time constant of the filter, scalar.
    w_init : callable or array
        Weights or their initialiser, shape ``(prod(in_size), prod(out_size))``; the output has their unit.
    name : str, optional
        Name of the module.
    pre : etrax.Neuron, optional
        The neurons whose spikes are read: call the readout with what ``pre(...)`` returned.
        Without it the filter is left out of the trace and only the newest spike gets credit.

    Raises
    ------
    ValueError
        If ``pre`` has another shape than ``in_size``.
    """

    tau = Constant(u.ms)

    output = "s"

    def __init__(
        self,
        in_size,
        out_size,
        tau=5.0 * u.ms,
        w_init: Callable | ArrayLike = braintools.init.KaimingNormal(),
        name: str | None = None,
        *,
        pre: Neuron | None = None,
    ):
        super().__init__(in_size, name=name, pre=pre)
        self.out_size = out_size
        self.tau = tau
        shape = (math.prod(self.in_size), math.prod(self.out_size))
        self.weight = brainstate.ParamState(braintools.init.param(w_init, shape))

    def initial(self, batch_size: int | None = None) -> dict:
        """See `Dynamics.initial`."""
        return {"s": braintools.init.param(braintools.init.Constant(0.0), self.varshape, batch_size)}

    def transition(self, s, *, z) -> dict:
        """The filter."""
        return {"s": self._decay() * s + z}

    def jacobian(self, s, *, z) -> dict:
        """Closed form of the diagonal."""
        return {("s", "s"): self._decay(), ("s", "z"): 1.0}

    def _decay(self):
        return u.math.exp(-brainstate.environ.get_dt() / self.tau)

    def update(self, x):
        """Filter the spikes ``x``, shape ``([batch,] *in_size)``, and weigh them, shape ``([batch,] *out_size)``."""
        s = super().update(x)
        lead = u.math.shape(s)[: u.math.ndim(s) - len(self.in_size)]
        return (s.reshape(*lead, -1) @ self.weight.value).reshape(*lead, *self.out_size)
