"""Recorded spikes: event files, rasters and tonic's data sets, read record by record and binned on the fly.

Every source is a `Recordings`: `batches` of it iterates over binned batches, `split` holds records out.

Examples
--------
>>> import brainunit as u, etrax.data
>>> with etrax.data.EventFile("shd_train.h5") as file:                       # doctest: +SKIP
...     training, validation = file.split(0.1, seed=0)                       # whole speakers are held out
...     for batch in file.batches(32, records=training, dt=4 * u.ms, duration=1 * u.second, units=70, shuffle=True):
...         batch.xs.shape, batch.labels.shape
((250, 32, 70), (32,))
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
