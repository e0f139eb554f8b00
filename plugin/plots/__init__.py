"""Figures of a training and of one trial. Every function returns a `matplotlib.figure.Figure` and shows nothing.

In a notebook, ``%matplotlib inline`` makes a figure at the end of a cell appear.
"""

from .alignment import plot_alignment
from .learning import plot_confusion, plot_learning, plot_seeds
from .quantities import plot_heat, plot_memory, plot_quantities, plot_raster
from .style import save
from .trial import plot_rasters, plot_states, plot_trace

__all__ = [
    "plot_alignment",
    "plot_confusion",
    "plot_heat",
    "plot_learning",
    "plot_memory",
    "plot_quantities",
    "plot_raster",
    "plot_rasters",
    "plot_seeds",
    "plot_states",
    "plot_trace",
    "save",
]
