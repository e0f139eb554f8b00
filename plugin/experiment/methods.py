"""The ways to get gradients that are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from etrax.learners.bptt import BPTT
from etrax.learners.d_rtrl import D_RTRL
from etrax.learners.dfa import DFA
from etrax.learners.eprop import EProp
from etrax.learners.no_trace import NoTrace

__all__ = ["METHODS", "Method", "check_method"]


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to get gradients: a learner, its options, and which parameters it trains (paths that start with ``part``)."""

    title: str
    algorithm: Any
    part: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


METHODS: dict[str, Method] = {
    "d_rtrl": Method("D-RTRL", D_RTRL),
    "d_rtrl_depth": Method("D-RTRL through depth", D_RTRL, options={"through_depth": True}),
    "es_d_rtrl": Method("ES-D-RTRL", D_RTRL, options={"carry": "rank1"}),
    "eprop": Method("e-prop", EProp, options={"feedback": "symmetric"}),
    "eprop_random": Method("e-prop, random feedback", EProp, options={"feedback": "random"}),
    "eprop_adaptive": Method("e-prop, adaptive feedback", EProp, options={"feedback": "adaptive"}),
    "dfa": Method("direct feedback alignment", DFA),
    "no_trace": Method("D = 0", NoTrace),
    "readout": Method("readout only", NoTrace, part="readout"),
    "bptt": Method("BPTT", BPTT),
}


def check_method(method: str) -> Method:
    """The method of that name; a ValueError lists the known ones."""
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}.")
    return METHODS[method]
