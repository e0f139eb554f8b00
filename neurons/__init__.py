"""Neuron models, one file each, and the leaky readout."""

if __name__ != "etrax.neurons":
    raise ImportError(
        "this folder is the package `etrax.neurons`: install the project (`pip install -e .`) and write "
        "`import etrax.neurons`, not `import neurons` from the checkout."
    )

from .adexif import AdExIF
from .adquaif import AdQuaIF
from .alif import ALIF
from .brf import BRF
from .cubalif import CubaLIF
from .expif import ExpIF
from .gif import Gif
from .if_ import IF
from .izhikevich import Izhikevich
from .lif import LIF
from .lifref import LIFRef
from .quaif import QuaIF
from .readout import LeakyReadout
from .seadlif import SEadLIF

__all__ = [
    "ALIF",
    "BRF",
    "IF",
    "LIF",
    "AdExIF",
    "AdQuaIF",
    "CubaLIF",
    "ExpIF",
    "Gif",
    "Izhikevich",
    "LIFRef",
    "LeakyReadout",
    "QuaIF",
    "SEadLIF",
]
