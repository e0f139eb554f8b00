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
    """One projection as the learner sees it; its layer is what of ``comm`` has parameters."""

    path: Path
    projection: Any
    population: int
    drive: Drive
    comm: Pure
    params: dict[Path, brainstate.ParamState]
    scale: float
    x: Any
    y: Any
    pattern: Pattern | None
    before: list[Any]  # what acts on the input ahead of the layer, without parameters
    changing: list[int]  # numbers of the states that the layer reads and that may change from step to step

    def settle(self, moving: set[int]) -> None:
        """Take down which states change; a layer that reads such a state is known by its derivative only."""
        self.changing = [i for i in self.changing if i in moving]
        if self.changing:
            self.pattern = None

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
