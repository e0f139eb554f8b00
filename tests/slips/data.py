"""Tasks, recordings and their files."""

from .table import read

__all__ = ["ROWS"]

ROWS = read("""
# task unknown
# ValueError: `task` must be one of digits, dms, evidence, store_recall, patterns
etrax.tasks.get("mnist")

# task not a string
# TypeError: `name` must be the name of a task | one of digits, dms, evidence, store_recall, patterns
etrax.tasks.get(etrax.tasks)

# task option unknown
# ValueError: task 'dms' has no option `delays`; its options are delay, max_rate.
etrax.tasks.get("dms", delays=3)

# task delay no unit
# ValueError: `delay` must be a quantity in units like ms, got 200 | write e.g. `1.0 * u.ms`
etrax.tasks.get("dms", delay=200)

# task delay in Hz
# ValueError: `delay` must be a quantity in units like ms, got Quantity(200, "Hz") | write e.g. `1.0 * u.ms`
etrax.tasks.get("dms", delay=200 * u.Hz)

# task delay negative
# ValueError: `delay` must be a number above 0, got -200 ms.
etrax.tasks.get("dms", delay=-200 * u.ms)

# task duration zero
# ValueError: `duration` must be a number above 0, got 0 ms.
etrax.tasks.get("patterns", duration=0 * u.ms)

# task duration below dt
# ValueError: `duration` is 0.1 ms but one time step is | make it at least that long
etrax.tasks.get("patterns", duration=0.1 * u.ms)

# task evidence cues even
# ValueError: `n_cues` must be odd, so that one side has more; got 4.
etrax.tasks.get("evidence", n_cues=4)

# task evidence cues float
# ValueError: `n_cues` must be a whole number above 0, got 5.0.
etrax.tasks.get("evidence", n_cues=5.0)

# task evidence rate no unit
# ValueError: `max_rate` must be a quantity in units like Hz, got 100 | write e.g. `1.0 * u.Hz`
etrax.tasks.get("evidence", max_rate=100)

# task rate above one spike per step
# ValueError: a firing rate of 5000 Hz asks for 5 spikes per step | make the rate lower or `dt` shorter
etrax.tasks.get("evidence", max_rate=5000 * u.Hz)

# task cogtask unknown
# ValueError: `source` must be one of AntiReach, ContextDecisionMaking
etrax.tasks.get("cogtask:Nothing")

# task cogtask empty
# ValueError: `task` must be one of digits, dms, evidence, store_recall, patterns
etrax.tasks.get("cogtask:")

# task data missing file
# RecordError: `path` 'nothing.h5' is not a file | give an event file in the format of SHD
etrax.tasks.get("data:nothing.h5")

# task data of other suffix
# RecordError: is not an HDF5 file | give one in the format of SHD (unpack it first if it is
open(folder + "/a.csv", "w").write("1,2")
etrax.tasks.get("data:" + folder + "/a.csv")

# task dt not set
# ValueError: `dt` is not set | put the call inside `with brainstate.environ.context(dt=1.0
with brainstate.environ.context(dt=None):
    etrax.tasks.get("dms")

# task train without size
# TypeError: drawn.<locals>.train() missing 1 required positional argument: 'batch_size'
task.train()

# task train size zero
# ValueError: `batch_size` must be a whole number from 1 to 512, got 0.
next(task.train(0))

# task train size too large
# ValueError: `batch_size` must be a whole number from 1 to 512, got 1000000.
next(task.train(10**6))

# task train size float
# ValueError: `batch_size` must be a whole number from 1 to 512, got 4.0.
next(task.train(4.0))

# task train seed float
# ValueError: `seed` must be a whole number from 0 to 2**32 - 1, got 0.5.
next(task.train(4, seed=0.5))

# task validation size
# ValueError: `batch_size` must be a whole number above 0, got 0.
next(task.validation(0))

# task test size string
# ValueError: `batch_size` must be a whole number above 0, got '4'.
next(task.test("4"))

# task updates zero
# ValueError: `batch_size` must be a whole number above 0, got 0.
task.updates(0)

# Recipe n_rec float
# ValueError: `n_rec` must be a whole number above 0, got 20.0.
etrax.tasks.Recipe(n_rec=20.0)

# Recipe tau without unit
# ValueError: `tau` must be a quantity in units like ms, got 20.0 | write e.g. `1.0 * u.ms`
etrax.tasks.Recipe(tau=20.0)

# Recipe tau wrong unit
# ValueError: `tau` must be a quantity in units like ms, got Quantity(20., "mV") | write e.g. `1.0 * u.ms`
etrax.tasks.Recipe(tau=20.0 * u.mV)

# Recipe weight_scale no unit
# ValueError: `weight_scale` must be a quantity in units like mS, got 10.0 | write e.g. `1.0 * u.mS`
etrax.tasks.Recipe(weight_scale=10.0)

# Recipe unknown
# TypeError: Recipe.__init__() got an unexpected keyword argument 'n_hidden'
etrax.tasks.Recipe(n_hidden=10)

# Recipe beta no unit
# ValueError: `beta` must be a quantity in units like mV, got 0.1 | write e.g. `1.0 * u.mV`
etrax.tasks.Recipe(beta=0.1)

# Recipe rate_limit no unit
# ValueError: `rate_limit` must be a quantity in units like Hz, got 50 | write e.g. `1.0 * u.Hz`
etrax.tasks.Recipe(rate_limit=50)

# build without task
# TypeError: `task` must be an etrax.tasks.Task, got 'dms' | write e.g. `etrax.tasks.get('dms')`
etrax.network.build("dms")

# build recipe as task
# TypeError: `task` must be an etrax.tasks.Task | write e.g. `etrax.tasks.get('dms')`
etrax.network.build(etrax.tasks.Recipe())

# build recipe class
# TypeError: `recipe` must be an etrax.tasks.Recipe, got the class Recipe | make an instance of it, e.g. `Recipe(...)`
etrax.network.build(task, etrax.tasks.Recipe)

# build seed positional
# TypeError: `recipe` must be an etrax.tasks.Recipe, got 0 | write e.g. `etrax.tasks.Recipe(n_rec=100)`
etrax.network.build(task, 0)

# build seed float
# ValueError: `seed` must be a whole number from 0 to 2**32 - 1, got 0.5.
etrax.network.build(task, seed=0.5)

# RecurrentALIF n_in float
# ValueError: `n_in` must be a whole number above 0, got 20.0.
etrax.network.RecurrentALIF(20.0, 2, etrax.tasks.Recipe(n_rec=6))

# RecurrentALIF recipe dict
# TypeError: `recipe` must be an etrax.tasks.Recipe, got {'n_rec' | 6}: write e.g. `etrax.tasks.Recipe(n_rec=100)`
etrax.network.RecurrentALIF(20, 2, {"n_rec": 6})

# RecurrentALIF recipe first
# TypeError: `recipe` must be an etrax.tasks.Recipe, got 2 | write e.g. `etrax.tasks.Recipe(n_rec=100)`
etrax.network.RecurrentALIF(etrax.tasks.Recipe(n_rec=6), 20, 2)

# RecurrentALIF n_out zero
# ValueError: `n_out` must be a whole number above 0, got 0.
etrax.network.RecurrentALIF(20, 0, etrax.tasks.Recipe(n_rec=6))

# Rasters dt missing
# TypeError: Rasters.__init__() missing 1 required keyword-only argument: 'dt'
etrax.data.Rasters(np.zeros((4, 10, 3), int), np.zeros(4, int))

# Rasters dt no unit
# ValueError: `dt` must be a quantity in units like ms, got 1.0 | write e.g. `1.0 * u.ms`
etrax.data.Rasters(np.zeros((4, 10, 3), int), np.zeros(4, int), dt=1.0)

# Rasters labels too few
# RecordError: record 3 of 'the rasters' has no label | there are 4 records but 3 labels; give one for each
etrax.data.Rasters(np.zeros((4, 10, 3), int), np.zeros(3, int), dt=1 * u.ms)

# Rasters time first
# RecordError: record 4 of 'the rasters' has no label | there are 10 records but 4 labels; give one for each
etrax.data.Rasters(np.zeros((10, 4, 3), int), np.zeros(4, int), dt=1 * u.ms)

# Rasters labels float
# RecordError: the labels of 'the rasters' must be a list of whole numbers, got
etrax.data.Rasters(np.zeros((4, 10, 3), int), np.zeros(4) + 0.5, dt=1 * u.ms)

# Rasters labels strings
# RecordError: the labels of 'the rasters' must be a list of whole numbers
etrax.data.Rasters(np.zeros((4, 10, 3), int), ["a", "b", "a", "b"], dt=1 * u.ms)

# Rasters labels one-hot
# RecordError: the labels of 'the rasters' must be a list of whole numbers, got
etrax.data.Rasters(np.zeros((4, 10, 3), int), np.eye(4, dtype=int), dt=1 * u.ms)

# Rasters classes too few
# RecordError: record 2 of 'the rasters' has label 2; labels must be from 0 to 1.
etrax.data.Rasters(np.zeros((4, 10, 3), int), np.array([0, 1, 2, 0]), dt=1 * u.ms, classes=("a", "b"))

# Rasters classes a string
# RecordError: `classes` of 'the rasters' must be several names, got 'ab' | write e.g. `('low', 'high')`
etrax.data.Rasters(np.zeros((4, 10, 3), int), np.array([0, 1, 0, 0]), dt=1 * u.ms, classes="ab")

# Rasters probabilities
# RecordError: record 0 of 'the rasters' has a number of spikes that is not whole
next(etrax.data.Rasters(np.full((4, 10, 3), 0.5), np.zeros(4, int), dt=1 * u.ms).batches(2))

# Rasters load missing
# RecordError: `path` 'nowhere.npz' is not a file | give rasters saved with `numpy.savez`
etrax.data.Rasters.load("nowhere.npz")

# Rasters load wrong keys
# RecordError: lacks the array 'spikes', so no record has spikes | save it with the others
np.savez(folder + "/x.npz", x=np.zeros((4, 10, 3)), y=np.zeros(4))
etrax.data.Rasters.load(folder + "/x.npz")

# Rasters load an npy
# RecordError: cannot be read as .npz ('numpy.ndarray' object does not support the | save it again with `numpy.savez`
np.save(folder + "/x.npy", np.zeros((4, 10, 3)))
etrax.data.Rasters.load(folder + "/x.npy")

# Rasters speakers too few
# RecordError: the speakers of 'the rasters' must be one whole number for each of
etrax.data.Rasters(np.zeros((4, 10, 3), int), np.zeros(4, int), dt=1 * u.ms, speakers=[0])

# batches size zero
# ValueError: `batch_size` must be a whole number above 0, got 0.
rasters.batches(0)

# batches dt number
# ValueError: `dt` must be a quantity in units like ms, got 1.0 | write e.g. `1.0 * u.ms`
rasters.batches(2, dt=1.0)

# batches dt in mV
# ValueError: `dt` must be a quantity in units like ms, got Quantity(1., "mV") | write e.g. `1.0 * u.ms`
rasters.batches(2, dt=1.0 * u.mV)

# batches duration number
# ValueError: `duration` must be a quantity in units like ms, got 10 | write e.g. `1.0 * u.ms`
rasters.batches(2, duration=10)

# batches duration short
# RecordError: record 0 of 'the rasters' has times from 0.0015 to 0.0075 s, and 7 of | divide times by 1000 if they are in ms, by 1e6 if in us;
next(rasters.batches(2, duration=2 * u.ms))

# batches start beyond
# RecordError: record 1 of 'the rasters' has times from 0.0015 to 0.0065 s, and all | divide times by 1000 if they are in ms, by 1e6 if in us;
next(rasters.batches(2, start=1 * u.second, duration=1 * u.ms))

# batches records floats
# ValueError: `records` must be a list of one or more numbers of records, got
rasters.batches(2, records=[0.5, 1.5])

# batches records mask
# ValueError: `records` must be a list of one or more numbers of records, got
rasters.batches(2, records=np.array([True, False, True, False, True, False, True, False]))

# batches records out of range
# ValueError: `records` must be from 0 to 7, the records of 'the rasters'; got 99.
rasters.batches(2, records=[0, 99])

# batches records empty
# ValueError: `records` must be a list of one or more numbers of records, got
rasters.batches(2, records=[])

# batches shuffle seed as string
# ValueError: `seed` must be a whole number from 0 to 2**32 - 1, got 'x'.
rasters.batches(2, shuffle=True, seed="x")

# batches records fraction
# ValueError: `records` must be a list of one or more numbers of records, got
rasters.batches(2, records=0.5)

# split fraction percent
# ValueError: `fraction` must be between 0 and 1, got 20.
rasters.split(20)

# split fraction zero
# ValueError: `fraction` must be between 0 and 1, got 0.0.
rasters.split(0.0)

# split fraction string
# TypeError: `fraction` must be a number or an array, got '0.2' | write e.g. `jnp.asarray(...)`
rasters.split("0.2")

# read out of range
# ValueError: `index` must be a whole number from 0 to 7, got 99.
rasters.read(99)

# read float
# ValueError: `index` must be a whole number from 0 to 7, got 1.0.
rasters.read(1.0)

# EventFile missing
# RecordError: `path` 'nowhere.h5' is not a file | give an event file in the format of SHD
etrax.data.EventFile("nowhere.h5")

# EventFile of npz
# RecordError: is not an HDF5 file | give one in the format of SHD (unpack it first if it is
np.savez(folder + "/x.npz", x=np.zeros(3))
etrax.data.EventFile(folder + "/x.npz")

# EventFile of other hdf5
# RecordError: lacks the data set 'spikes/times', so no record has spikes | write the file in the format of SHD, e.g. with
import h5py
with h5py.File(folder + "/o.h5", "w") as f:
    f["data"] = np.zeros(3)
etrax.data.EventFile(folder + "/o.h5")

# EventFile closed
# RecordError: is closed | read its records inside the `with` block, or before
f = etrax.data.EventFile(events); f.close(); next(f.batches(1, dt=1 * u.ms))

# EventFile n_units string
# ValueError: `n_units` must be a whole number above 0, got '700'.
etrax.data.EventFile(events, n_units="700")

# EventFile n_units too few
# RecordError: spike 1 is of unit 2; units must be from 0 to 0
f = etrax.data.EventFile(events, n_units=1); next(f.batches(1, dt=1 * u.ms))

# EventFile without dt
# ValueError: `dt` is not set | put the call inside `with brainstate.environ.context(dt=1.0
with brainstate.environ.context(dt=None):
    f = etrax.data.EventFile(events); next(f.batches(1))

# EventWriter without with
# ValueError: `append` was called outside the block of the writer | use `with EventWriter(...) as file:`
w = etrax.data.EventWriter(folder + "/e.h5", n_units=3); w.append([1.0] * u.ms, [0], 0)

# EventWriter times without unit
# RecordError: has times without a unit of time | write e.g. `times * u.ms`
with etrax.data.EventWriter(folder + "/e.h5", n_units=3) as w:
    w.append([1.0], [0], 0)

# EventWriter times and units of other length
# RecordError: has times of shape (2,) and units of shape (1,) | give one unit for each time
with etrax.data.EventWriter(folder + "/e.h5", n_units=3) as w:
    w.append([1.0, 2.0] * u.ms, [0], 0)

# EventWriter unit too high
# RecordError: spike 0 is of unit 3; units must be from 0 to 2
with etrax.data.EventWriter(folder + "/e.h5", n_units=3) as w:
    w.append([1.0] * u.ms, [3], 0)

# EventWriter label string
# RecordError: has label 'zero'; labels must be whole numbers from 0
with etrax.data.EventWriter(folder + "/e.h5", n_units=3) as w:
    w.append([1.0] * u.ms, [0], "zero")

# EventWriter arguments swapped
# RecordError: has times without a unit of time
with etrax.data.EventWriter(folder + "/e.h5", n_units=3) as w:
    w.append([0, 1], [1.0, 2.0] * u.ms, 0)

# EventWriter negative time
# RecordError: the time of spike 0 | is negative; count time from the beginning of the record
with etrax.data.EventWriter(folder + "/e.h5", n_units=3) as w:
    w.append([-1.0] * u.ms, [0], 0)

# EventWriter duration number
# ValueError: `duration` must be a quantity in units like ms, got 100 | write e.g. `1.0 * u.ms`
etrax.data.EventWriter(folder + "/e.h5", n_units=3, duration=100)

# write_events records of two
# TypeError: EventWriter.append() missing 1 required positional argument: 'label'
etrax.data.write_events(folder + "/e.h5", [([1.0] * u.ms, [0])], n_units=3)

# write_events empty
# RecordError: would have no record | append at least one
etrax.data.write_events(folder + "/e.h5", [], n_units=3)

# write_events arguments swapped
# TypeError: `path` must be a path | write e.g. `path='run'`
etrax.data.write_events([([1.0] * u.ms, [0], 0)], folder + "/e.h5", n_units=3)

# write_batches regression
# ValueError: `batches` must have labels, whole numbers of shape (T, B) or (B,), as | an event file holds a class for each trial, not values to
etrax.data.write_batches(folder + "/e.h5", task.train(4), dt=1 * u.ms)

# write_batches dt number
# ValueError: `dt` must be a quantity in units like ms, got 1.0 | write e.g. `1.0 * u.ms`
etrax.data.write_batches(folder + "/e.h5", [(np.ones((5, 2, 3)), np.zeros((5, 2), int))], dt=1.0)

# write_batches one batch
# ValueError: a batch must be (xs, ys) or (xs, ys, mask), time-major; | for one batch write `[(xs, ys)]`, a list of it
etrax.data.write_batches(folder + "/e.h5", (np.ones((5, 2, 3)), np.zeros((5, 2), int)), dt=1 * u.ms)
""")
