"""The contract of filters, which stand with the neurons whose spikes they take."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp

from etrax.checks import check_array, check_kind

from .arguments import argument
from .dynamics import Dynamics
from .neuron import Neuron
from .recorder import active

__all__ = ["Filter"]


class Filter(Dynamics):
    """Base class of what spikes pass through on the presynaptic side, before they are weighed.

    A subclass defines ``initial`` and ``transition(..., *, z)`` where ``z`` are the spikes; its
    output is the new value of the state that ``output`` names.

    Parameters
    ----------
    in_size : int or tuple of int
        Shape of the presynaptic population.
    name : str, optional
        Name of the module.
    pre : Neuron, optional
        The neurons whose spikes are filtered: call the filter with what ``pre(...)`` returned, or, ahead of ``pre`` as in a
        projection from ``pre`` onto itself, with ``pre.get_spike()``. Its states then belong to the population of ``pre``,
        so that credit through their memory is in the trace.
        Without it only the newest spike gets credit.

    Raises
    ------
    ValueError
        If ``pre`` has another shape than ``in_size``.
    """

    graph_invisible_attrs = ("pre",)
    output = "g"

    in_size: Any = argument(doc="Shape of the presynaptic population: an int or a tuple of int.")
    pre: Neuron | None = argument(
        default=None, kw_only=True, doc="The neurons whose spikes these are, see :class:`etrax.Filter`."
    )

    def __init__(self, in_size, name: str | None = None, *, pre: Neuron | None = None):
        super().__init__(in_size, name=name)
        self.pre = pre
        if pre is not None:
            check_kind("pre", pre, Neuron, "an etrax.Neuron", "give the neurons whose spikes these are")
            if pre.varshape != self.varshape:
                raise ValueError(
                    f"`in_size` is {self.varshape} but `pre` has shape {pre.varshape}: give them one shape."
                )
            pre.filters.append(self)

    def update(self, z):
        """One step on the spikes ``z``, shape ``([batch,] *in_size)``; returns the filtered spikes, same shape."""
        check_array("z", z, u.UNITLESS, where=f", the spikes that enter {type(self).__name__},")
        recorder = active(self)
        if recorder is not None and self.pre is not None:
            z = recorder.emission(self, z)
        if not jnp.issubdtype(jnp.result_type(z), jnp.inexact):
            z = jnp.asarray(z, brainstate.environ.dftype())
        self.step(z=z)
        return self.hidden[self.output].value
