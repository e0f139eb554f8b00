"""How the error of a step reaches the states of a network."""

from __future__ import annotations

from typing import Any

from etrax.engine.graph import Graph
from etrax.engine.step import Routes

__all__ = ["Error"]


class Error:
    """The derivative of the loss through the step itself, down through the layers above: that of `D_RTRL`.

    A subclass sends it on other ways.
    """

    @property
    def routes(self) -> Routes:
        """Where derivatives reach states."""
        return Routes()

    def prepare(self, graph: Graph, args: tuple) -> dict[str, Any]:
        """Look at the model, with one step's arguments; returns the states of weights of its own, by name."""
        return {}

    def fed_back(self, out: Any, weights: dict[str, Any]) -> Any:
        """The output of a step, with derivatives besides those of the step."""
        return out
