"""Which steps are evaluated together: plain numbers, made before anything runs."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Ends", "Limits", "Part", "block_length", "chunk_length", "plan"]


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


def chunk_length(T: int, natural: int) -> int:
    """Steps of the chunks of a sequence, about ``natural``: of one length, so that no shorter one needs a program of its own."""
    fewest = -(-T // natural)
    number = next((n for n in range(fewest, 2 * fewest) if T % n == 0), fewest)
    return -(-T // number)
