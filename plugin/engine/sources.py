"""What drives a population with trained parameters: the layers of projections, and constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import brainstate

from etrax.contract import Pattern
from etrax.text import dotted

from .names import Drive, Path
from .pure import Pure

__all__ = ["Connection", "Source", "TrainedConstant"]


@dataclass
class Connection:
    """One projection as the learner sees it."""

    path: Path
    projection: Any
    population: int
    drive: Drive
    comm: Pure
    params: dict[Path, brainstate.ParamState]
    scale: float
    x: Any
    y: Any
    pattern: Pattern | None = None

    @property
    def name(self) -> str:
        return dotted(self.path)


@dataclass
class TrainedConstant:
    """A constant in a population's equations that is a parameter: a drive of its own, with nothing but its value."""

    path: Path
    population: int
    params: dict[Path, brainstate.ParamState]
    value: Pure  # one mantissa per neuron

    @property
    def name(self) -> str:
        return dotted(self.path)

    @property
    def drive(self) -> Drive:
        return Drive(self.name, "constant")


Source = Connection | TrainedConstant
