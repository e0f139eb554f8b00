"""Recorded spikes: event files, rasters, tonic; streaming, positions, splits; what malformed files get."""

import sys
import tracemalloc

import brainstate
import brainunit as u
import numpy as np
import pytest

from etrax import cli, data, tasks

h5py = pytest.importorskip("h5py")

MS = 1.0 * u.ms


def write(path, *, n=6, n_units=20, speakers=True, n_classes=2, spikes=30, seed=0):  # noqa: PLR0913 - what a file may be like
    """A file of random records, and the records."""
    rng = np.random.default_rng(seed)
    records = []
    for index in range(n):
        times = np.sort(rng.uniform(0, 50, spikes)) * u.ms
        extra = (index % 3,) if speakers else ()
        records.append((times, rng.integers(0, n_units, spikes), index % n_classes, *extra))
    data.write_events(path, records, n_units=n_units, duration=50 * u.ms)
    return records


@pytest.fixture
def file(tmp_path):
    write(tmp_path / "a.h5")
    return tmp_path / "a.h5"


def published(path, times, units, labels, **extra):
    """A file laid out as SHD is published: float16 times, uint16 units and labels, no attributes."""
    with h5py.File(path, "w") as out:
        for name, lists, dtype in (("times", times, np.float16), ("units", units, np.uint16)):
            stored = out.create_dataset(f"spikes/{name}", (len(lists),), h5py.vlen_dtype(dtype))
            for index, values in enumerate(lists):
                stored[index] = np.asarray(values, dtype)
        out["labels"] = np.asarray(labels, np.uint16)
        for name, values in extra.items():
            out[f"extra/{name}"] = values
    return path


# -- reading and binning -------------------------------------------------------------------


def test_what_was_written_is_read(tmp_path):
    records = write(tmp_path / "a.h5")
    with data.EventFile(tmp_path / "a.h5") as file:
        assert (len(file), file.n_units, file.classes) == (6, 20, ("0", "1"))
        assert float(file.duration.to_decimal(u.ms)) == pytest.approx(50)
        np.testing.assert_array_equal(file.speakers, [0, 1, 2, 0, 1, 2])
        for index, (times, units, label, _) in enumerate(records):
            record = file.read(index)
            np.testing.assert_array_equal(record.times, times.to_decimal(u.second))
            np.testing.assert_array_equal(record.units, units)
            assert file.labels[index] == label


def test_the_published_layout(tmp_path):
    path = published(
        tmp_path / "shd.h5", [[0.25, 0.5], []], [[3, 699], []], [1, 0], speaker=[4, 5], keys=[b"null", b"eins"]
    )
    with data.EventFile(path) as file:
        assert file.n_units is None
        assert file.classes == ("null", "eins")
        np.testing.assert_array_equal(file.speakers, [4, 5])
        (batch,) = file.batches(2, dt=250 * MS, units=70)
        assert (file.n_units, batch.xs.shape) == (700, (3, 2, 70))  # the last spike is in the third step
        assert list(zip(*np.nonzero(batch.xs), strict=True)) == [(1, 0, 0), (2, 0, 69)]


def test_binning_by_hand():
    class Two(data.Recordings):
        name, classes, speakers = "two", ("0",), None
        labels = np.zeros(2, np.int32)
        n_units, duration = 4, 5 * MS

        def _read(self, index):
            times = [[0.0, 0.9, 1.0, 1.5, 4.999], [3.0]][index]
            return data.Record(np.array(times) * 1e-3, np.array([[0, 1, 2, 3, 3], [2]][index]))

    (batch,) = Two().batches(2, dt=MS)
    expected = np.zeros((5, 2, 4), np.uint8)
    expected[[0, 0, 1, 1, 4], 0, [0, 1, 2, 3, 3]] = 1
    expected[3, 1, 2] = 1
    np.testing.assert_array_equal(batch.xs, expected)
    (pooled,) = Two().batches(2, dt=MS, units=2, counts=True)
    np.testing.assert_array_equal(pooled.xs, expected.reshape(5, 2, 2, 2).sum(-1))
    (window,) = Two().batches(2, dt=MS, start=MS, duration=3 * MS)
    np.testing.assert_array_equal(window.xs, expected[1:4])


def test_steps_at_the_edges_of_floating_point():
    with brainstate.environ.context(dt=0.1 * u.ms):
        rasters = data.Rasters(np.ones((1, 300, 1), bool), [0], dt=0.1 * u.ms)
        (batch,) = rasters.batches(1)
    np.testing.assert_array_equal(batch.xs, 1)
    with pytest.raises(ValueError, match="`dt` is not set"), brainstate.environ.context(dt=None):
        rasters.batches(1)


def test_a_file_larger_than_the_budget_is_streamed(tmp_path):
    budget, spikes = 2**19, 400
    path, n = tmp_path / "large.h5", 250
    rng = np.random.default_rng(0)

    def records():
        for index in range(n):
            yield np.sort(rng.uniform(0, 100, spikes)) * u.ms, rng.integers(0, 700, spikes), index % 10

    tracemalloc.start()
    try:
        data.write_events(path, records(), n_units=700)
        assert path.stat().st_size > 1.5 * budget
        assert tracemalloc.get_traced_memory()[1] < budget
        tracemalloc.reset_peak()
        total = 0
        with data.EventFile(path) as file:
            for batch in file.batches(16, dt=MS, units=70, counts=True, shuffle=True):
                total += int(batch.xs.sum())
        assert total == n * spikes
        assert tracemalloc.get_traced_memory()[1] < budget
    finally:
        tracemalloc.stop()


# -- order, position, split ----------------------------------------------------------------


def test_each_epoch_has_its_order(file):
    with data.EventFile(file) as source:
        batches = source.batches(4, dt=MS, shuffle=True, seed=3)
        epochs = [np.concatenate([b.records for b in batches]) for _ in range(2)]
        again = np.concatenate([b.records for b in source.batches(4, dt=MS, shuffle=True, seed=3)])
        assert len(batches) == 2
        assert len(source.batches(4, dt=MS, drop_last=True)) == 1
    np.testing.assert_array_equal(epochs[0], again)
    assert np.any(epochs[0] != epochs[1])
    assert all(sorted(order) == list(range(6)) for order in epochs)


def test_a_restored_position_goes_on_bit_for_bit(file):
    with data.EventFile(file) as source:
        whole = source.batches(2, dt=MS, shuffle=True, seed=3)
        reference = [b for _ in range(3) for b in whole]
        first = source.batches(2, dt=MS, shuffle=True, seed=3)
        for _ in first:
            pass
        next(iter(first))
        state = first.state()
        later = source.batches(2, dt=MS, shuffle=True, seed=0)
        later.restore(state)
        rest = [*later, *later]
        with pytest.raises(ValueError, match="a position with batch_size 2, but here it is 3"):
            source.batches(3, dt=MS, shuffle=True).restore(state)
    assert len(rest) == 5
    for got, expected in zip(rest, reference[4:], strict=True):
        np.testing.assert_array_equal(got.xs, expected.xs)
        np.testing.assert_array_equal(got.records, expected.records)


def test_a_split_keeps_speakers_apart(tmp_path):
    write(tmp_path / "a.h5", n=60)
    with data.EventFile(tmp_path / "a.h5") as file:
        kept, held = file.split(0.3, seed=1)
        np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(60))
        assert not set(file.speakers[kept]) & set(file.speakers[held])
        assert len(held) == 20
        assert any(set(file.split(0.3, seed=seed)[1]) != set(held) for seed in range(5))


def test_without_speakers_a_split_is_stratified(tmp_path):
    write(tmp_path / "a.h5", n=60, speakers=False)
    with data.EventFile(tmp_path / "a.h5") as file:
        assert file.speakers is None
        kept, held = file.split(0.2)
        np.testing.assert_array_equal(np.bincount(file.labels[held]), [6, 6])
        assert len(kept) == 48
        with pytest.raises(ValueError, match="`fraction` must be between 0 and 1, got 1.5"):
            file.split(1.5)
        with pytest.raises(ValueError, match="leaves nothing on one side"):
            file.split(0.001)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be a whole number above 0, got 0"),
        ({"batch_size": True}, "`batch_size` must be a whole number above 0, got True"),
        ({"units": 2.0}, "`units` must be a whole number above 0, got 2.0"),
        ({"dt": 1.0}, "`dt` must be a quantity in units like ms, got 1.0"),
        ({"duration": -1 * MS}, "`duration` must be a time above 0"),
        ({"start": 60 * MS}, "`start` is .* but the longest record ends at"),
        ({"units": 7}, "`units` must divide the 20 units of .*, got 7"),
        ({"records": [6]}, "`records` must be from 0 to 5"),
        ({"records": []}, "`records` must be a list of one or more"),
    ],
)
def test_bad_arguments_of_batches(file, options, message):
    with data.EventFile(file) as source, pytest.raises(ValueError, match=message):
        source.batches(**{"batch_size": 2, "dt": MS, **options})


# -- malformed files -----------------------------------------------------------------------


def replaced(path, name, value):
    with h5py.File(path, "r+") as file:
        if value is None:
            del file[name]
        elif name in file.attrs:
            file.attrs[name] = value
        elif isinstance(value, tuple):
            index, content = value
            file[name][index] = np.asarray(content, h5py.check_vlen_dtype(file[name].dtype))
        else:
            if name in file:
                del file[name]
            file[name] = value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("labels", None, "lacks the data set 'labels', so no record has a label"),
        ("spikes/units", None, "lacks the data set 'spikes/units'"),
        ("spikes/times", np.zeros(6), "'spikes/times' of .* must hold one list of numbers for each record"),
        ("labels", np.zeros(5, int), "record 5 of .* has no label: there are 6 records but 5 labels"),
        ("labels", np.zeros(9, int), "label 6 of .* has no record: there are 6 records but 9 labels"),
        ("labels", np.array([0, 0, 0, -1, 0, 0]), "record 3 of .* has label -1; labels must be from 0"),
        ("labels", np.zeros(6), "the labels of .* must be a list of whole numbers, got float64"),
        ("extra/speaker", np.zeros(4, int), "speakers of .* record 4 has no speaker"),
        ("extra/keys", b"null", r"'extra/keys' of .* must be a list, a name for each class; got shape \(\)"),
        ("n_units", "many", "the attribute `n_units` of .* must be a whole number above 0, got many"),
        ("duration", np.nan, "the attribute `duration` of .* must be a number of seconds above 0, got nan"),
    ],
)
def test_a_malformed_file_is_refused_at_opening(file, name, value, message):
    replaced(file, name, value)
    with pytest.raises(data.RecordError, match=message) as error:
        data.EventFile(file)
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "spikes/times",
            np.linspace(0.03, 0.0, 30),
            "the time of spike 1, .* comes after a later one; sort the spikes",
        ),
        ("spikes/times", np.linspace(-0.01, 0.03, 30), "the time of spike 0, -0.01 s, is negative; count time from"),
        ("spikes/times", np.r_[np.zeros(29), np.nan], "the time of spike 29, nan s, is not a finite number"),
        ("spikes/times", np.zeros(7), r"times of shape \(7,\) and units of shape \(30,\): give one unit for each time"),
        ("spikes/units", np.r_[np.zeros(29), 20], "spike 29 is of unit 20; units must be from 0 to 19"),
    ],
)
def test_a_malformed_record_is_named_when_it_is_read(file, name, value, message):
    replaced(file, name, (4, value))
    with data.EventFile(file) as source:
        batches = iter(source.batches(2, dt=MS))
        next(batches)
        next(batches)
        with pytest.raises(data.RecordError, match=f"record 4 of '.*a.h5'.*{message}"):
            next(batches)
        with pytest.raises(data.RecordError, match="record 4 of"):
            source.scan()


@pytest.mark.parametrize("factor", [1e3, 1e6])
def test_times_in_other_units_are_noticed_unless_a_length_is_given(tmp_path, factor):
    times = np.array([0.5, 0.9]) * factor
    path = tmp_path / "a.h5"
    for name, stated in (("a.h5", None), ("b.h5", 1.0 * u.second)):
        records = [([0.1] * u.second, [0], 0), ([0.5, 0.9] * u.second, [0, 1], 1)]
        data.write_events(tmp_path / name, records, n_units=2, duration=stated)
    with h5py.File(path, "r+") as file:
        del file.attrs["duration"]
        file["spikes/times"][1] = times
    with data.EventFile(path) as source:
        for _ in range(2):
            with pytest.raises(data.RecordError, match=f"record 1 of .*a.h5' ends at {times[1]:g} s: .* in seconds"):
                source.batches(2, dt=MS)
        assert source.batches(2, dt=MS, duration=5 * MS).steps == 5
    with data.EventFile(tmp_path / "b.h5") as source:
        assert source.batches(2, dt=MS).steps == 1000


def test_a_truncated_file(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(data.RecordError, match="a.h5' cannot be opened, so not even its first record .* truncated"):
        data.EventFile(file)


def test_a_damaged_record(tmp_path):
    write(tmp_path / "a.h5", n=300, spikes=40)
    content = bytearray((tmp_path / "a.h5").read_bytes())
    at = content.index(b"GCOL", len(content) // 2)  # a heap that holds the spikes of some records
    content[at : at + 4] = b"\0\0\0\0"
    (tmp_path / "a.h5").write_bytes(content)
    with (
        data.EventFile(tmp_path / "a.h5") as file,
        pytest.raises(data.RecordError, match=r"record \d+ of .* cannot be read .* the file is damaged"),
    ):
        file.scan()


def test_not_hdf5_and_no_file(tmp_path):
    (tmp_path / "a.h5").write_text("times,units")
    with pytest.raises(data.RecordError, match="a.h5' is not an HDF5 file"):
        data.EventFile(tmp_path / "a.h5")
    with pytest.raises(data.RecordError, match="b.h5' is not a file"):
        data.EventFile(tmp_path / "b.h5")


def test_without_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'etrax\[data\]'"):
        data.EventFile(tmp_path / "a.h5")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'etrax\[data\]'"):
        data.EventWriter(tmp_path / "a.h5", n_units=2)


# -- rasters and tonic ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [int, np.uint8, np.float32, np.float64])
def test_rasters(tmp_path, dtype):
    spikes = np.random.default_rng(0).integers(0, 3, (4, 7, 5)).astype(dtype)
    np.savez(tmp_path / "a.npz", spikes=spikes, labels=[0, 1, 0, 1], speakers=[0, 0, 1, 1])
    rasters = data.Rasters.load(tmp_path / "a.npz", dt=MS)
    (batch,) = rasters.batches(4, dt=MS, counts=True)
    np.testing.assert_array_equal(batch.xs, np.moveaxis(spikes, 0, 1))
    assert set(rasters.speakers[rasters.split(0.5)[0]]) in ({0}, {1})


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"spikes": np.zeros((2, 3, 4), int)}, "lacks the array 'labels', so no record has labels"),
        ({"spikes": np.zeros((2, 3)), "labels": [0, 0]}, "must be whole numbers of shape"),
        ({"spikes": np.zeros((2, 3, 4), int), "labels": [0]}, "record 1 of .* has no label"),
        ({"spikes": np.full((2, 3, 4), 0.5), "labels": [0, 0]}, "record 0 of .* that is not whole"),
        ({"spikes": np.full((2, 3, 4), np.inf), "labels": [0, 0]}, "record 0 of .* that is not whole"),
        ({"spikes": np.zeros((2, 3, 4), complex), "labels": [0, 0]}, "must be whole numbers of shape"),
        ({"spikes": np.full((2, 3, 4), -1), "labels": [0, 0]}, "record 0 of .* negative number of spikes"),
    ],
)
def test_malformed_rasters(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(data.RecordError, match=message):
        data.Rasters.load(tmp_path / "a.npz", dt=MS).read(0)
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    with pytest.raises(data.RecordError, match="b.npz' cannot be read as .npz"):
        data.Rasters.load(tmp_path / "b.npz", dt=MS)


class Camera:
    """Laid out as a data set of tonic: events of a camera of 3 x 2 places and two polarities."""

    sensor_size = (3, 2, 2)
    targets = ("left", b"r\xe9")  # in Latin-1
    lowest = 0  # polarity

    def __len__(self):
        return 2

    def __getitem__(self, index):
        events = np.zeros(2, [("t", int), ("x", int), ("y", int), ("p", int)])
        events["t"], events["x"], events["y"], events["p"] = [1000, 2500], [2, 0], [1, 0], [1, index or self.lowest]
        return events, self.targets[index]


def test_events_of_tonic():
    camera = data.TonicEvents(Camera())
    assert camera.n_units == 12
    assert camera.classes == ("left", "ré")
    np.testing.assert_array_equal(camera.labels, [0, 1])
    np.testing.assert_array_equal(camera.read(1).units, [11, 6])
    camera._dataset.lowest = -1
    with pytest.raises(
        data.RecordError, match="record 0 of .* an event with p = -1; .*: renumber them .*, a polarity of -1 as 0"
    ):
        camera.read(0)
    camera._dataset.lowest = 0
    (batch,) = camera.batches(2, dt=MS)
    assert batch.xs.shape == (3, 2, 12)
    assert list(zip(*np.nonzero(batch.xs[:, 0]), strict=True)) == [(1, 11), (2, 0)]


def test_tonic_by_name(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tonic", None)
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'etrax\[events\]'"):
            data.TonicEvents("SHD")
    pytest.importorskip("tonic")
    with pytest.raises(ValueError, match="`dataset` must be one of .*SHD.*; got 'Shd'"):
        data.TonicEvents("Shd", save_to=tmp_path)


def test_a_published_file_through_tonic(tmp_path, monkeypatch):
    datasets = pytest.importorskip("tonic.datasets")
    folder = tmp_path / "SHD"
    folder.mkdir()
    published(folder / "shd_train.h5", [[0.25], [0.5]], [[3], [699]], [1, 0], speaker=[4, 5], keys=[b"null", b"eins"])
    monkeypatch.setattr(datasets.SHD, "_check_exists", lambda self: True)
    shd = data.TonicEvents("SHD", save_to=str(tmp_path))
    assert (shd.n_units, shd.classes) == (700, ("null", "eins"))
    np.testing.assert_array_equal(shd.labels, [1, 0])
    np.testing.assert_array_equal(shd.speakers, [4, 5])
    np.testing.assert_array_equal(shd.read(1).units, [699])


# -- as a task -----------------------------------------------------------------------------


def test_a_file_is_a_task(tmp_path):
    write(tmp_path / "a.h5", n=60)
    write(tmp_path / "b.h5", n=10, seed=1)
    with brainstate.environ.context(precision=32):
        task = tasks.get(f"data:{tmp_path / 'a.h5'},{tmp_path / 'b.h5'}", fraction=0.3, units=10)
        assert (task.n_in, task.n_out, task.n_steps, task.n_train) == (10, 2, 50, 40)
        epoch = [np.asarray(batch.xs) for batch in task.train(8, seed=1, epoch=2)]
        assert len(epoch) == task.updates(8)
        later = task.train(8, seed=1, epoch=2)
        later.restore({"next": 3})
        np.testing.assert_array_equal(epoch[3:], [np.asarray(batch.xs) for batch in later])
        assert sum(batch.xs.shape[1] for batch in task.test(4)) == 10
        alone = tasks.get(f"data:{tmp_path / 'a.h5'}")
        assert alone.n_train == 20
        with pytest.raises(ValueError, match="has no option `speed`; its options are fraction, start"):
            tasks.get(f"data:{tmp_path / 'a.h5'}", speed=2)


def test_test_files_that_do_not_fit(tmp_path):
    write(tmp_path / "a.h5")
    write(tmp_path / "b.h5", n_units=30)
    write(tmp_path / "c.h5", n_classes=3)
    with pytest.raises(data.RecordError, match="record 2 of .* has label 2, but .* has 2 classes"):
        tasks.get(f"data:{tmp_path / 'a.h5'},{tmp_path / 'c.h5'}")
    with pytest.raises(data.RecordError, match="states 30 units, but"):
        tasks.get(f"data:{tmp_path / 'a.h5'},{tmp_path / 'b.h5'}")


def test_a_malformed_record_stops_a_training_in_one_line(tmp_path, capsys):
    write(tmp_path / "a.h5", n=60)
    replaced(tmp_path / "a.h5", "spikes/times", (4, np.linspace(0.03, 0.0, 30)))
    command = ["train", f"data:{tmp_path / 'a.h5'}", "--out", str(tmp_path / "out"), "--batch-size", "20"]
    with brainstate.environ.context(precision=32), pytest.raises(SystemExit) as stop:
        cli.main([*command, "--epochs", "1", "--neurons", "4", "--no-controls"])
    assert stop.value.code == 2
    assert "error: record 4 of" in capsys.readouterr().err
