"""Names that the engine gives to what acts on the states of a population; a user's states may be called anything."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

__all__ = ["Drive", "Old", "Path"]

Path = tuple[Hashable, ...]


class Drive(NamedTuple):
    """Something that parameters act through: a row of Jacobian entries ``f`` belongs to each.

    Attributes
    ----------
    name : str
        As reports show it.
    kind : str
        ``"input"`` of a synapse, named by the state that it enters; ``"conductance"`` of a projection without synapse, by
        its path; ``"jump"`` of a potential; ``"constant"`` in a part's equations, by its path.
    """

    name: str
    kind: str

    def __str__(self) -> str:
        return self.name


class Old(NamedTuple):
    """The value of a state before the step."""

    state: str
