"""Recorded spikes: event files, rasters and tonic's data sets, read record by record and binned on the fly.

Every source is a `Recordings`: `batches` of it iterates over binned batches, `split` holds records out.
"""

from .batch import Batch
from .batches import Batches, Binned
from .hdf5 import EventFile
from .rasters import Rasters
from .record import Record, RecordError
from .recordings import Recordings
from .tonic_events import TonicEvents
from .writer import EventWriter, write_batches, write_events

__all__ = [
    "Batch",
    "Batches",
    "Binned",
    "EventFile",
    "EventWriter",
    "Rasters",
    "Record",
    "RecordError",
    "Recordings",
    "TonicEvents",
    "write_batches",
    "write_events",
]
