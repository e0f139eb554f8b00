"""What a gradient and a network are worth: alignment with backpropagation, footprint and operations."""

from .footprint import BenchmarkFigures, benchmark_figures
from .gradient import GradientReport, gradient_report

__all__ = ["BenchmarkFigures", "GradientReport", "benchmark_figures", "gradient_report"]
