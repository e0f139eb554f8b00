"""What a neuron, a synapse, an output or a layer tells about itself, and nothing of what is made of it."""

from . import layers as layers  # registers the layers of brainstate
from .adapter import adapt
from .arguments import argument
from .check import JacobianCheck, check_jacobian
from .constant import Constant
from .current import Current
from .dynamics import Dynamics
from .filter import Filter
from .jacobian import Entries
from .neuron import Neuron
from .output import SynOut
from .pattern import Pattern, register_pattern
from .synapse import Synapse

__all__ = [
    "Constant",
    "Current",
    "Dynamics",
    "Entries",
    "Filter",
    "JacobianCheck",
    "Neuron",
    "Pattern",
    "SynOut",
    "Synapse",
    "adapt",
    "argument",
    "check_jacobian",
    "register_pattern",
]
