"""The network that the recipes describe, its weights on disk, and what it does in one trial."""

from .model import RecurrentALIF, build, copy_of
from .recording import TraceRecording, Trial, record_trace, record_trial
from .weights import load_weights, save_weights

__all__ = [
    "RecurrentALIF",
    "TraceRecording",
    "Trial",
    "build",
    "copy_of",
    "load_weights",
    "record_trace",
    "record_trial",
    "save_weights",
]
