"""Neuron models, one file each, and the leaky readout."""

if __name__ != "etrax.neurons":
    raise ImportError(
        "this folder is the package `etrax.neurons`: install the project (`pip install -e .`) and write "
        "`import etrax.neurons`, not `import neurons` from the checkout."
    )

from .alif import ALIF
from .lif import LIF
from .readout import LeakyReadout

__all__ = ["ALIF", "LIF", "LeakyReadout"]
