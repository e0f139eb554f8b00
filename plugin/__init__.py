"""etrax: eligibility traces for spiking networks on JAX.

Modules report their element-wise transition and the diagonal of its Jacobian; a learner
composes them into traces and gradients that are accumulated forward in time.
"""

if __name__ != "etrax":
    raise ImportError(
        "this folder is the package `etrax`: install the project (`pip install -e .`) and write `import etrax`, not "
        "`import plugin` from the checkout."
    )

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import analysis, comparison, data, experiment, learners, network, neurons, plots, synapses, tasks, training
    from .analysis import BenchmarkFigures, GradientReport, benchmark_figures, gradient_report
    from .contract import (
        Constant,
        Current,
        Dynamics,
        Filter,
        JacobianCheck,
        Neuron,
        Pattern,
        Synapse,
        SynOut,
        adapt,
        argument,
        check_jacobian,
        register_pattern,
    )
    from .exchange import from_nir, neurobench_model, to_nir
    from .learners import BPTT, D_RTRL, DFA, RTRL, EligibilityTrace, EProp, Learner, NoTrace, compile
    from .training import Clamp, Dale, TrainOptions, TrainResult, train

    __version__: str

__all__ = [
    "BPTT",
    "DFA",
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
    "Learner",
    "Neuron",
    "NoTrace",
    "Pattern",
    "SynOut",
    "Synapse",
    "TrainOptions",
    "TrainResult",
    "__version__",
    "adapt",
    "analysis",
    "argument",
    "benchmark_figures",
    "check_jacobian",
    "comparison",
    "compile",
    "data",
    "experiment",
    "from_nir",
    "gradient_report",
    "learners",
    "network",
    "neurobench_model",
    "neurons",
    "plots",
    "register_pattern",
    "synapses",
    "tasks",
    "to_nir",
    "train",
    "training",
]

# Where the names above are found: nothing is imported before it is asked for, so that the command line answers at once.
_PACKAGES = frozenset(
    {
        "analysis",
        "comparison",
        "data",
        "experiment",
        "learners",
        "network",
        "neurons",
        "plots",
        "synapses",
        "tasks",
        "training",
    }
)
_HOMES = {
    "analysis": ("BenchmarkFigures", "GradientReport", "benchmark_figures", "gradient_report"),
    "contract": (
        *("Constant", "Current", "Dynamics", "Filter", "JacobianCheck", "Neuron", "Pattern", "SynOut", "Synapse"),
        *("adapt", "argument", "check_jacobian", "register_pattern"),
    ),
    "exchange": ("from_nir", "neurobench_model", "to_nir"),
    "learners": ("BPTT", "DFA", "D_RTRL", "EProp", "EligibilityTrace", "Learner", "NoTrace", "RTRL", "compile"),
    "training": ("Clamp", "Dale", "TrainOptions", "TrainResult", "train"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"etrax.{name}")
    if name in _HOME_OF:
        value = getattr(import_module(f"etrax.{_HOME_OF[name]}"), name)
    elif name == "__version__":
        value = import_module("importlib.metadata").version("etrax")
    else:
        raise AttributeError(f"module 'etrax' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
