"""What all sources of recorded spikes share: records, the checks they pass, binning, batches, held-out records.

A record is a list of spikes ``(t_k, c_k)``, ``t_k`` in seconds from its beginning and ``c_k`` one of the ``n_units``
input units. Binned from ``start`` on with step ``dt`` it is the raster

    x[s, j] = 1  if some spike has  floor((t_k - start) / dt) = s  and  floor(c_k * units / n_units) = j,

``s = 0 .. steps - 1``, or the number of such spikes with ``counts=True``. Spikes outside the window are left out.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import brainunit as u
import numpy as np

from etrax.checks import check_array, check_dt, check_flag, check_seed, whole_number

from .batches import Batches, Binning
from .record import AFTER, Record, RecordError, check_numbers, check_record

__all__ = ["Recordings"]


class Recordings(abc.ABC):
    """A source of recorded spikes; a subclass sets the attributes and says how to read one record.

    Attributes
    ----------
    name : str
        What messages call it: the path of a file, as a rule.
    labels : array of int32 (N,)
        Class of each record.
    speakers : array of int (N,) or None
        Who or what each record comes from; a split keeps them apart.
    classes : tuple of str
        What each label means.
    n_units : int or None
        Input units; None until a pass over the records has found it (see :meth:`scan`).
    duration : Quantity or None
        Length of the longest record; None until found likewise.
    longest : int or None
        The record that ``duration`` was found from; None where it is stated.
    """

    name: str
    labels: np.ndarray
    speakers: np.ndarray | None
    classes: tuple[str, ...]
    n_units: int | None
    duration: u.Quantity | None
    longest: int | None = None

    @abc.abstractmethod
    def _read(self, index: int) -> Record:
        """The record as it is stored, unchecked."""

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Record:
        """One record, checked.

        Raises
        ------
        RecordError
            If it cannot be read, or has a time that is negative, not finite or out of order, or a unit out of range.
        """
        whole_number("index", index, least=0, most=len(self) - 1)
        return check_record(self._read(index), self.n_units, f"record {index} of {self.name!r}")

    def scan(self) -> None:
        """Read and check every record once, and set ``n_units`` and ``duration`` where they are not known."""
        last, top, longest = 0.0, -1, 0
        for index in range(len(self)):
            record = self.read(index)
            if len(record.times):
                longest = index if record.times[-1] > last else longest
                last, top = max(last, float(record.times[-1])), max(top, int(record.units.max()))
        if top < 0:
            raise RecordError(f"{self.name!r} has no spike in any of its {len(self)} records: check how it was made.")
        if self.n_units is None:
            self.n_units = top + 1
        if self.duration is None:
            self.duration, self.longest = (last + AFTER) * u.second, longest

    def batches(  # noqa: PLR0913 - one call says all about the batches, as users write it
        self,
        batch_size: int,
        *,
        records: Sequence[int] | np.ndarray | None = None,
        shuffle: bool = False,
        seed: int = 0,
        dt: u.Quantity | None = None,
        start: u.Quantity | None = None,
        duration: u.Quantity | None = None,
        units: int | None = None,
        counts: bool = False,
        drop_last: bool = False,
    ) -> Batches:
        """Iterate over binned batches; in memory is one batch at a time.

        Parameters
        ----------
        batch_size : int
            Records of a batch.
        records : array of int, optional
            Which records, e.g. from :meth:`split`; all if left out.
        shuffle : bool
            Whether each epoch has an order of its own, drawn from ``seed`` and the epoch.
        seed : int
            Of the orders.
        dt : Quantity, optional
            Time step; that of the environment if left out.
        start : Quantity, optional
            Beginning of the time window, 0 s if left out. With both ``start`` and ``duration``, spikes outside are cut off.
        duration : Quantity, optional
            Length of the window: that of the longest record from ``start`` on if left out, for which a file that does
            not state it is read once. Without ``start``, a spike after it is an error: times may be in other units, or of another
            clock.
        units : int, optional
            Number of input units of a batch; neighbours are pooled. A divisor of ``n_units``.
        counts : bool
            Whether to count the spikes of a step instead of noting that there was one.
        drop_last : bool
            Whether to leave out the last batch if it is smaller.

        Returns
        -------
        Batches
            The iterator; its position can be saved and restored.

        Raises
        ------
        ValueError
            If an argument has a bad value.
        RecordError
            If the length of the records is neither stated nor given and one ends after 100 s, which tells of times in
            other units; while iterating, if a record is malformed, has spikes after a ``duration`` without ``start``, or if no spike
            of a batch lies in the window.
        """
        batch_size = whole_number("batch_size", batch_size)  # before a pass over all records
        check_seed(seed)
        for name, flag in (("shuffle", shuffle), ("counts", counts), ("drop_last", drop_last)):
            check_flag(name, flag)
        binning = Binning(
            self,
            dt=check_dt() if dt is None else dt,
            start=start,
            duration=duration,
            units=units,
            counts=counts,
        )
        chosen = np.arange(len(self)) if records is None else records
        return Batches(binning, batch_size, chosen, shuffle=shuffle, seed=seed, drop_last=drop_last)

    def split(
        self, fraction: float = 0.1, *, seed: int = 0, records: Sequence[int] | np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hold records out, e.g. for validation.

        With two or more speakers, whole speakers are held out: in an order drawn from ``seed``, each that brings the number
        of records nearer to ``fraction``. Otherwise that share of each class is.

        Parameters
        ----------
        fraction : float
            Share of the records to hold out, between 0 and 1.
        seed : int
            Of the choice.
        records : array of int, optional
            Records to divide; all if left out.

        Returns
        -------
        kept, held_out : array of int
            Numbers of records, ascending.

        Raises
        ------
        ValueError
            If ``fraction`` is not between 0 and 1, nothing is left on one side, or each speaker has too many records for it.
        """
        check_array("fraction", fraction, u.UNITLESS, example="0.1")
        check_seed(seed)
        if not 0 < fraction < 1:
            raise ValueError(f"`fraction` must be between 0 and 1, got {fraction!r}.")
        chosen = np.arange(len(self)) if records is None else check_numbers(records, len(self), self.name)
        rng = np.random.default_rng(seed)
        out = np.zeros(len(chosen), bool)
        speakers = None if self.speakers is None else self.speakers[chosen]
        if speakers is not None and len(np.unique(speakers)) > 1:
            out = np.isin(speakers, self._held_out(speakers, fraction, rng))
        else:
            for label in np.unique(self.labels[chosen]):
                of_class = rng.permutation(np.flatnonzero(self.labels[chosen] == label))
                out[of_class[: round(fraction * len(of_class))]] = True
        if out.all() or not out.any():
            raise ValueError(
                f"`fraction` {fraction} of the {len(chosen)} records of {self.name!r} leaves nothing on one side: "
                "take one nearer to 0.5, or more records."
            )
        return np.sort(chosen[~out]), np.sort(chosen[out])

    def _held_out(self, speakers: np.ndarray, fraction: float, rng: np.random.Generator) -> list[int]:
        """Speakers whose records together are nearest to a share, in an order that is drawn."""
        known, sizes = np.unique(speakers, return_counts=True)
        wanted, taken = fraction * len(speakers), 0
        held: list[int] = []
        for at in rng.permutation(len(known)):
            if abs(taken + sizes[at] - wanted) <= abs(taken - wanted) and len(held) < len(known) - 1:
                taken, held = taken + sizes[at], [*held, known[at]]
        if not held:  # the smallest is more than twice what is wanted
            share = sizes.min() / len(speakers)
            raise ValueError(
                f"`fraction` {fraction} of the {len(speakers)} records of {self.name!r} cannot be held out as whole speakers: the "
                f"smallest has {share:.0%} of them; give `fraction={share:.2f}`, or a source without speakers."
            )
        return held
