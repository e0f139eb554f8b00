"""What could get lost of recordings without a word: spikes, units, shares, open files."""

import contextlib
import pickle

import brainunit as u
import numpy as np
import pytest

from etrax import cli, data, tasks

h5py = pytest.importorskip("h5py")

MS = 1.0 * u.ms


def written(path, times, *, n_units=4, stated=True, **attributes):
    """A file with a record for each list of times in seconds; the units are drawn."""
    rng = np.random.default_rng(0)
    records = [(np.asarray(t) * u.second, rng.integers(0, n_units, len(t)), i % 2) for i, t in enumerate(times)]
    data.write_events(path, records, n_units=n_units)
    if not stated:
        with h5py.File(path, "r+") as file:
            for name in ("n_units", "duration"):
                if name in file.attrs:
                    del file.attrs[name]
    return path


def spread(factor, offset=0.0, n=8):
    return [np.sort(np.random.default_rng(i).random(50)) * factor + offset for i in range(n)]


# -- spikes --------------------------------------------------------------------------------
@pytest.mark.parametrize(("factor", "offset"), [(1e3, 0.0), (1e6, 0.0), (1.0, 1.7e9), (1.5, 0.0)])
def test_spikes_after_a_duration_are_an_error(factor, offset, tmp_path):
    """Times in ms or us, on an absolute clock, and a duration that is too short."""
    with data.EventFile(written(tmp_path / "a.h5", spread(factor, offset), stated=False), n_units=4) as file:
        batches = file.batches(8, dt=4 * MS, duration=1 * u.second)
        first, last = spread(factor, offset)[0][[0, -1]]
        with pytest.raises(
            data.RecordError, match=r"record 0 of .*a.h5' has times from .* outside the window from 0 to 1 s: divide"
        ) as told:
            next(batches)
        assert f"from {first:g} to {last:g} s" in str(told.value)


def test_a_window_is_cut_out_where_it_is_asked_for(tmp_path):
    times = spread(1.0, 1000.0)
    with data.EventFile(written(tmp_path / "a.h5", times)) as file:
        (batch,) = file.batches(8, dt=MS, start=1000 * u.second, duration=0.5 * u.second, counts=True)
        assert batch.xs.sum() == sum(int(np.sum(t < 1000.5)) for t in times)
        with pytest.raises(data.RecordError, match="all spikes of its batch lie outside the window from 0 to 0.5 s"):
            next(file.batches(8, dt=MS, start=0 * u.second, duration=0.5 * u.second))


def test_a_task_loses_no_spike_of_a_longer_test_file(tmp_path):
    written(tmp_path / "a.h5", spread(0.05, n=20), stated=False)
    written(tmp_path / "b.h5", [*spread(0.05), [0.1, 0.2]], stated=False)
    with tasks.get(f"data:{tmp_path / 'a.h5'},{tmp_path / 'b.h5'}", n_units=4) as task:
        assert task.n_steps == 201
        assert [batch.xs.shape for batch in task.test(9)] == [(201, 9, 4)]


def test_units_that_never_fire_are_inputs(tmp_path):
    path = written(tmp_path / "a.h5", spread(0.02, n=20), n_units=4, stated=False)
    for given, right in ((None, 4), (6, 6)):
        with tasks.get(f"data:{path}", n_units=given) as task:
            assert task.n_in == right
    np.savez(tmp_path / "r.npz", spikes=np.ones((8, 2, 3), bool), labels=np.arange(8) % 2, dt=1.0, dt_unit="ms")
    with pytest.raises(ValueError, match="`n_units` is 6, but the rasters in .* have 3: leave it out"):
        tasks.get(f"data:{tmp_path / 'r.npz'}", n_units=6)


# -- time steps ----------------------------------------------------------------------------
def test_a_time_step_has_a_unit(tmp_path):
    arrays = {"spikes": np.ones((2, 30, 3), bool), "labels": [0, 1]}
    for stated, right in (
        ({"dt": 1e-3}, 1.0),
        ({"dt": 1.0, "dt_unit": "ms"}, 1.0),
        ({"dt": 500, "dt_unit": "us"}, 0.5),
    ):
        np.savez(tmp_path / "r.npz", **arrays, **stated)
        assert float(data.Rasters.load(tmp_path / "r.npz").duration.to_decimal(u.ms)) == pytest.approx(30 * right)
    for stated, message in (
        ({"dt": 1.0}, "`dt` in .* is 1 without a unit, and hardly in seconds: save `dt_unit='ms'` .* `dt=1 . u.ms`"),
        ({"dt": 1.0, "dt_unit": "fortnight"}, "`dt_unit` in .* must be one of s, ms, us; got 'fortnight'"),
    ):
        np.savez(tmp_path / "r.npz", **arrays, **stated)
        with pytest.raises(ValueError, match=message):
            data.Rasters.load(tmp_path / "r.npz")


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 2, 0)])
def test_rasters_of_nothing(shape):
    with pytest.raises(data.RecordError, match="give at least one record, one step and one unit"):
        data.Rasters(np.zeros(shape, bool), np.zeros(shape[0], int), dt=MS)


# -- shares --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("sizes", "held"), [([38, 2], 2), ([500, 20, 20, 20, 20], 60), ([2] * 20, 4), ([30, 3, 3, 3, 1], 4)]
)
def test_a_split_keeps_its_share(sizes, held):
    speakers = np.repeat(np.arange(len(sizes)), sizes)
    source = data.Rasters(
        np.zeros((len(speakers), 1, 2), np.uint8), np.arange(len(speakers)) % 4, dt=MS, speakers=speakers
    )
    found = [len(source.split(0.1, seed=seed)[1]) for seed in range(100)]
    assert max(abs(n - held) for n in found) <= 1
    kept, out = source.split(0.1, seed=3)
    assert not set(speakers[kept]) & set(speakers[out])


def test_a_split_says_that_it_cannot():
    source = data.Rasters(np.zeros((40, 1, 2), np.uint8), np.arange(40) % 4, dt=MS, speakers=np.arange(40) % 2)
    with pytest.raises(ValueError, match=r"`fraction` 0.1 .* the smallest has 50% of them; give `fraction=0.50`"):
        source.split(0.1)
    assert len(source.split(0.5)[1]) == 20


# -- names and files -----------------------------------------------------------------------
def test_a_class_in_latin_1(tmp_path):
    path = written(tmp_path / "a.h5", spread(0.02))
    with h5py.File(path, "r+") as file:
        keys = np.array(["null", "fünf"], dtype=object)
        file.require_group("extra").create_dataset("keys", data=[k.encode("latin-1") for k in keys])
    with data.EventFile(path) as file:
        assert file.classes == ("null", "fünf")


def test_a_polarity_that_is_none():
    class Events:
        sensor_size, targets = (2, 1, 2), [0]

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return np.array([(0, 1, -1)], dtype=[("t", int), ("x", int), ("p", int)]), 0

    with pytest.raises(
        data.RecordError, match="record 0 .* has an event with p = -1; its sensor has 2, numbered from 0 on"
    ):
        data.TonicEvents(Events()).read(0)


def test_a_file_goes_to_another_process(tmp_path, monkeypatch):
    written(tmp_path / "a.h5", spread(0.02))
    monkeypatch.chdir(tmp_path)
    with data.EventFile("a.h5") as file:
        packed = pickle.dumps(file)
        monkeypatch.chdir(tmp_path.parent)  # as a worker may be elsewhere
        with pickle.loads(packed) as copy:
            np.testing.assert_array_equal(copy.read(3).times, file.read(3).times)
            assert (copy.name, copy.classes, copy.n_units) == (file.name, file.classes, file.n_units)


@pytest.fixture
def opened(monkeypatch):
    """The event files that a test opens."""
    files, start = [], data.EventFile.__init__
    monkeypatch.setattr(data.EventFile, "__init__", lambda self, *a, **k: (files.append(self), start(self, *a, **k))[1])
    return files


def test_a_task_closes_its_files(tmp_path, opened):
    path = written(tmp_path / "a, b.h5", spread(0.02, n=20))
    with tasks.get(f"data:{path},{path}") as task:  # two files, each with a comma in its name
        assert len(opened) == 2
        next(task.train(4))
    with pytest.raises(ValueError, match="leaves nothing on one side"):
        tasks.get(f"data:{path}", fraction=0.01)
    assert len(opened) == 3
    assert not any(file._file for file in opened)
    with tasks.get("patterns") as task:
        task.close()


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["figures", "--trials", "2"], 0, "activation sparsity"),
        (["train", "--epochs", "1", "--batch-size", "99"], 2, "`batch_size` is 99"),
        (["experiment"], 2, "`batch_size` is 32"),
    ],
)
def test_a_command_closes_the_files_of_its_task(words, status, told, tmp_path, opened, capsys):
    path = written(tmp_path / "a.h5", spread(0.02, n=20), stated=False)
    with pytest.raises(SystemExit) if status else contextlib.nullcontext():
        assert cli.main([words[0], f"data:{path}", "--n-units", "6", "--neurons", "3", *words[1:]]) == status
    assert told in "".join(capsys.readouterr())
    assert [file.n_units for file in opened] == [6]
    assert not opened[0]._file
