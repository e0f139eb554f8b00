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
from .constant import Constant
from .constraints import Clamp, Dale
from .eprop import EProp
from .gradient_report import GradientReport, gradient_report
from .learner import D_RTRL, EligibilityTrace, NoTrace, compile
from .metrics import BenchmarkFigures, benchmark_figures
from .module import Current, Dynamics, Filter, Neuron, Synapse, SynOut
from .neurobench import neurobench_model
from .nir import to_nir
from .nir_import import from_nir
from .pattern import Pattern, register_pattern
from .rtrl import RTRL
from .training import TrainOptions, TrainResult, train

__all__ = [
    "BPTT",
    "D_RTRL",
    "RTRL",
    "BenchmarkFigures",
    "Clamp",
    "Constant",
    "Current",
    "Dale",
    "Dynamics",
    "EProp",
    "EligibilityTrace",
    "Filter",
    "GradientReport",
    "JacobianCheck",
    "Neuron",
    "NoTrace",
    "Pattern",
    "SynOut",
    "Synapse",
    "TrainOptions",
    "TrainResult",
    "adapt",
    "benchmark_figures",
    "check_jacobian",
    "compile",
    "from_nir",
    "gradient_report",
    "neurobench_model",
    "neurons",
    "register_pattern",
    "synapses",
    "to_nir",
    "train",
]
