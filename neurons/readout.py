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
from typing import Any

import brainstate
import braintools
import brainunit as u
from jax.typing import ArrayLike

from etrax.checks import check_array, check_size, noted
from etrax.contract import Constant, Filter, argument

__all__ = ["LeakyReadout"]


class LeakyReadout(Filter):
    """Linear readout of low-passed spikes with state ``s`` (no unit).

    Raises
    ------
    ValueError
        If ``pre`` has another shape than ``in_size``.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import jax.numpy as jnp
    >>> readout = etrax.neurons.LeakyReadout(2, 1, tau=10.0 * u.ms, w_init=jnp.array([[1.0], [-1.0]]))
    >>> readout.init_state()
    >>> [round(float(readout(jnp.array(z))[0]), 3) for z in ([1.0, 0.0], [0.0, 0.0], [0.0, 1.0])]
    [1.0, 0.905, -0.181]
    """

    out_size: Any = argument(doc="Number of outputs: an int or a tuple of int.")
    tau: Any = Constant(default=5.0 * u.ms, above=0, doc="Time constant of the filter, scalar.")
    w_init: Callable | ArrayLike = argument(
        default=braintools.init.KaimingNormal(),
        doc="Weights or their initialiser, shape ``(prod(in_size), prod(out_size))``; the output has their unit.",
    )
    name: str | None = argument(default=None, doc="Name of the module.")

    output = "s"

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, check_size(name, value) if name == "out_size" else value)

    def __post_init__(self) -> None:
        shape = (math.prod(self.in_size), math.prod(self.out_size))
        with noted(
            lambda: f"That was `w_init` of LeakyReadout: its weights have the shape (inputs, outputs), here {shape}."
        ):
            weights = braintools.init.param(self.w_init, shape)
        check_array("w_init", weights, where=" of LeakyReadout")
        self.weight = brainstate.ParamState(weights)
        del self.w_init  # the weights are kept, not what they were made of

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
