"""Online learners and their relatives, all with one interface."""

from .bptt import BPTT
from .compilation import compile
from .d_rtrl import D_RTRL, EligibilityTrace
from .eprop import EProp
from .no_trace import NoTrace
from .report import Report
from .rtrl import RTRL

__all__ = ["BPTT", "D_RTRL", "RTRL", "EProp", "EligibilityTrace", "NoTrace", "Report", "compile"]
