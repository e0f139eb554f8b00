"""etrax: eligibility traces for spiking networks on JAX.

Modules report their element-wise transition and the diagonal of its Jacobian; a learner
composes them into traces and gradients that are accumulated forward in time.
"""

if __name__ != "etrax":
    raise ImportError(
        "this folder is the package `etrax`: install the project (`pip install -e .`) and write `import etrax`, not "
        "`import plugin` from the checkout."
    )

from . import neurons, synapses
from .adapter import adapt
from .baselines import BPTT
from .check import JacobianCheck, check_jacobian
from .constraints import Clamp, Dale
from .learner import D_RTRL, EligibilityTrace, NoTrace, compile
from .module import Current, Dynamics, Filter, Neuron, Synapse, SynOut
from .rtrl import RTRL
from .training import TrainOptions, TrainResult, train

__all__ = [
    "BPTT",
    "D_RTRL",
    "RTRL",
    "Clamp",
    "Current",
    "Dale",
    "Dynamics",
    "EligibilityTrace",
    "Filter",
    "JacobianCheck",
    "Neuron",
    "NoTrace",
    "SynOut",
    "Synapse",
    "TrainOptions",
    "TrainResult",
    "adapt",
    "check_jacobian",
    "compile",
    "neurons",
    "synapses",
    "train",
]
