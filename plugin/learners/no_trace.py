"""A control: no trace."""

from __future__ import annotations

from .d_rtrl import D_RTRL

__all__ = ["NoTrace"]


class NoTrace(D_RTRL):
    """``D = 0``: the trace holds the newest step only. A control for :class:`D_RTRL`, with the same interface."""

    diagonal = False
