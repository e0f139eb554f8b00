"""Networks for other simulators and benchmarks, and from them."""

from .neurobench import neurobench_model
from .nir_export import to_nir
from .nir_import import NIRNetwork, from_nir

__all__ = ["NIRNetwork", "from_nir", "neurobench_model", "to_nir"]
