"""Online learners and their relatives, all with the interface of `Learner`; each is a composition of parts."""

from .bptt import BPTT
from .compilation import LEARNERS, compile, options_of
from .d_rtrl import D_RTRL
from .dfa import DFA
from .eprop import EProp
from .learner import Learner
from .no_trace import NoTrace
from .online import EligibilityTrace
from .report import Report
from .rtrl import RTRL

__all__ = [
    "BPTT",
    "DFA",
    "D_RTRL",
    "LEARNERS",
    "RTRL",
    "EProp",
    "EligibilityTrace",
    "Learner",
    "NoTrace",
    "Report",
    "compile",
    "options_of",
]
