"""A control: no trace."""

from __future__ import annotations

from typing import Any

import brainstate

from etrax.checks import check_flag
from etrax.engine.planning import MEMORY
from etrax.engine.step import Credit

from .online import Composition, OnlineLearner

__all__ = ["NoTrace"]


class NoTrace(OnlineLearner):
    """``D = 0``: the trace holds the newest step only. A control for :class:`D_RTRL`, with the same interface.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network.
    through_depth : bool
        As for :class:`D_RTRL`; without a memory it changes nothing.
    memory : int
        As for :class:`D_RTRL`.
    strict : bool
        Whether lost credit that the definition does not drop is an error when the model is compiled, in place of a warning.
    name : str, optional
        Name of the learner.

    Raises
    ------
    TypeError
        If an option is given that it does not read: one of how a memory is kept, or of credit through time.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import jax.numpy as jnp
    >>> task = etrax.tasks.get("patterns", duration=50.0 * u.ms)
    >>> net = etrax.network.build(task, etrax.tasks.Recipe(n_rec=6, weight_scale=10.0 * u.mS))
    >>> xs, ys, _ = map(jnp.asarray, next(task.train(batch_size=2)))
    >>> learner = etrax.compile(net, etrax.NoTrace, xs[0], batch_size=2)
    >>> _ = learner(jnp.ones_like(xs[0])), learner(jnp.zeros_like(xs[0]))
    >>> trace = learner.get_etrace_of("projection.comm.weight")["neurons", "V"]["weight"]
    >>> bool((abs(trace[:, :20]) > 0.0 * trace.unit).any())  # of the inputs one step ago
    False
    """

    def __init__(
        self,
        model: brainstate.nn.Module,
        *,
        through_depth: bool = False,
        memory: int = MEMORY,
        strict: bool = False,
        name: str | None = None,
        **unread: Any,
    ):
        check_flag("through_depth", through_depth)
        made_of = Composition(credit=Credit(through_depth=through_depth), diagonal=False)
        super().__init__(model, made_of, memory=memory, strict=strict, name=name, **unread)
