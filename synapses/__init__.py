"""Synapse models, synaptic outputs and projections, one file each."""

if __name__ != "etrax.synapses":
    raise ImportError(
        "this folder is the package `etrax.synapses`: install the project (`pip install -e .`) and write "
        "`import etrax.synapses`, not `import synapses` from the checkout."
    )

from .expon import Expon
from .outputs import COBA, CUBA
from .projection import AlignPostProj, DeltaProj, Projection

__all__ = ["COBA", "CUBA", "AlignPostProj", "DeltaProj", "Expon", "Projection"]
