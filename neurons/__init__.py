"""Neuron models, one file each, and the leaky readout."""

if __name__ != "etrax.neurons":
    raise ImportError(
        "this folder is the package `etrax.neurons`: install the project (`pip install -e .`) and write "
        "`import etrax.neurons`, not `import neurons` from the checkout."
    )

from .alif import ALIF
from .cubalif import CubaLIF
from .if_ import IF
from .lif import LIF
from .lifref import LIFRef
from .readout import LeakyReadout

__all__ = [
    "ALIF",
    "IF",
    "LIF",
    "CubaLIF",
    "LIFRef",
    "LeakyReadout",
]
