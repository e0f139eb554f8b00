"""Which steps are evaluated together: plain numbers, made before anything runs."""

from __future__ import annotations

from typing import NamedTuple

from etrax.text import bytes_text

__all__ = ["MEMORY", "Budget", "Ends", "Limits", "Part", "block_length", "plan"]

MEMORY = 2**30  # bytes that the steps of a chunk may take, unless a user says otherwise


class Limits(NamedTuple):
    """What is evaluated together, and what is kept rather than computed again.

    Attributes
    ----------
    block : int
        Steps that are looked at together: what is seen of them stays in the cache.
    entries : int
        Entries of a population's Jacobian that vary and are kept for these steps; more are computed where they are used.
    """

    block: int = 128
    entries: int = 4


class Budget(NamedTuple):
    """The memory that a chunk may take.

    Attributes
    ----------
    total, step : int
        Bytes of a chunk, at most, and of one step of it.
    divides : bool
        Whether a sequence may be divided: not if the gradient depends on where chunks end.
    """

    total: int
    step: int
    divides: bool = True

    @property
    def longest(self) -> int:
        """Steps of the longest chunk; one step is always possible."""
        return max(1, self.total // self.step)

    def chunk_length(self, T: int) -> int:
        """Steps of the chunks of a sequence: all of it while it fits, which costs less time than any other division.

        Chunks are of one length if one is near, so that no rest needs a program of its own.

        Raises
        ------
        ValueError
            If the sequence does not fit and may not be divided.
        """
        fewest = -(-T // self.longest)
        if fewest > 1 and not self.divides:
            raise ValueError(
                f"a sequence of {T} steps in one chunk takes some {bytes_text(T * self.step)}, more than `memory`, "
                f"{bytes_text(self.total)}, and this gradient depends on where chunks end: give `chunk_size=`, or compile "
                f"with `memory={T * self.step}`."
            )
        number = next((n for n in range(fewest, 2 * fewest) if T % n == 0), fewest)
        return -(-T // number)

    def __str__(self) -> str:
        fit = f"{self.longest} steps, {bytes_text(self.step)} each, in `memory` of {bytes_text(self.total)}"
        return f"chunks of up to {fit}" if self.divides else f"sequences of up to {fit}; longer ones need `chunk_size`"


class Ends(NamedTuple):
    """Where a chunk is in a trial.

    Attributes
    ----------
    first, last : bool
        Whether the trace before it is zero, and whether nobody reads the one after it.
    """

    first: bool = False
    last: bool = False


class Part(NamedTuple):
    """Consecutive chunks of one length.

    Attributes
    ----------
    start, length, repeat : int
        The first step, the steps of a chunk, how many chunks.
    ends : Ends
        Where they are in a trial.
    """

    start: int
    length: int
    repeat: int
    ends: Ends = Ends()


def plan(T: int, chunk: int, trial: bool) -> list[Part]:
    """The chunks of a sequence of ``T`` steps; the last one may be shorter.

    The last chunk of a trial stands alone, where it leaves out work, and so does a first one that only the last one
    follows: a condition in a loop over chunks would cost as much as it saves, and more programs compile longer.
    """
    ragged = (T - 1) % chunk + 1  # steps of the last chunk, which is full if T is a multiple
    alone = ragged if T <= chunk or trial or ragged < chunk else 0
    n = (T - alone) // chunk
    parts = [Part(0, chunk, n, Ends(first=trial and n == 1))] if n else []
    return parts + ([Part(n * chunk, alone, 1, Ends(first=trial and not n, last=trial))] if alone else [])


def block_length(K: int, most: int) -> int:
    """Steps of a chunk of ``K`` that are looked at together, up to ``most``: a divisor of it if there is a fair one."""
    longest = min(K, most)
    return max((n for n in range(max(1, most // 8), longest + 1) if K % n == 0), default=longest)
