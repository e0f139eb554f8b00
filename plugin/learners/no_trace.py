"""A control: no trace."""

from __future__ import annotations

from typing import Any

import brainstate

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
    name : str, optional
        Name of the learner.

    Raises
    ------
    TypeError
        If an option is given that it does not read: one of how a memory is kept, or of credit through time.
    """

    def __init__(
        self,
        model: brainstate.nn.Module,
        *,
        through_depth: bool = False,
        memory: int = MEMORY,
        name: str | None = None,
        **unread: Any,
    ):
        made_of = Composition(credit=Credit(through_depth=through_depth), diagonal=False)
        super().__init__(model, made_of, memory=memory, name=name, **unread)
