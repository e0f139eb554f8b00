"""Synapse models, synaptic outputs and projections, one file each."""

if __name__ != "etrax.synapses":
    raise ImportError(
        "this folder is the package `etrax.synapses`: install the project (`pip install -e .`) and write "
        "`import etrax.synapses`, not `import synapses` from the checkout."
    )

from .alpha import Alpha
from .ampa import AMPA
from .bionmda import BioNMDA
from .delay import InputDelay
from .dual_expon import DualExpon
from .expon import Expon
from .gabaa import GABAa
from .outputs import COBA, CUBA, MgBlock
from .projection import AlignPostProj, CurrentProj, DeltaProj, Projection
from .std import STD
from .stp import STP

__all__ = [
    "AMPA",
    "COBA",
    "CUBA",
    "STD",
    "STP",
    "AlignPostProj",
    "Alpha",
    "BioNMDA",
    "CurrentProj",
    "DeltaProj",
    "DualExpon",
    "Expon",
    "GABAa",
    "InputDelay",
    "MgBlock",
    "Projection",
]
