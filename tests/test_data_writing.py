"""Writing event files: what was written is read; what a file cannot hold is refused, and an old file stays."""

import brainstate
import brainunit as u
import numpy as np
import pytest

from etrax import data, tasks

pytest.importorskip("h5py")

MS = 1.0 * u.ms


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (([2, 1] * u.ms, [0, 0], 0), "record 1 for .*: the time of spike 1, 0.001 s, comes after a later one"),
        (([1.0], [0], 0), "record 1 for .* has times without a unit of time"),
        (([1.0] * u.ms, [3], 0), "record 1 for .*: spike 0 is of unit 3; units must be from 0 to 2"),
        (([1.0] * u.ms, [0.5], 0), "record 1 for .* has units of type float64"),
        (([1.0] * u.ms, [0], -1), "record 1 for .* has label -1"),
        (([1.0] * u.ms, [0], 0, 7), "record 1 for .* has a speaker, unlike those before it"),
        (([9.0] * u.ms, [0], 0), "record 1 for .* has a spike at 0.009.* s, after its end at 0.005 s"),
    ],
)
def test_a_malformed_record_is_not_written_and_the_old_file_stays(tmp_path, record, message):
    path = tmp_path / "a.h5"
    path.write_text("before")
    good = ([1.0] * u.ms, [0], 0)
    with pytest.raises(data.RecordError, match=message):
        data.write_events(path, [good, record], n_units=3, duration=5 * MS)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_a_file_without_records_is_not_written(tmp_path):
    with pytest.raises(data.RecordError, match="would have no record"):
        data.write_events(tmp_path / "a.h5", [], n_units=3)
    assert not list(tmp_path.iterdir())


def test_a_task_becomes_a_file(tmp_path):
    with brainstate.environ.context(precision=32):
        task = tasks.get("digits", duration=20 * MS)
        batch = next(iter(task.test(40)))
        n = data.write_batches(tmp_path / "digits.h5", [batch], dt=MS, classes=task.classes)
    assert n == 40
    with data.EventFile(tmp_path / "digits.h5") as file:
        (read,) = file.batches(40, dt=MS)
        assert file.classes == task.classes
        np.testing.assert_array_equal(read.xs, batch.xs)
        np.testing.assert_array_equal(read.labels, np.asarray(batch.ys)[-1])


XS = (np.random.default_rng(0).random((7, 3, 5)) < 0.3).astype(np.float32)
YS = np.stack([[0, 0, 0]] * 3 + [[1, 2, 3]] + [[9, 9, 9]] * 3)


@pytest.mark.parametrize(
    ("batch", "labels"),
    [
        ((XS, YS), [9, 9, 9]),
        ((XS, np.array([1, 2, 3])), [1, 2, 3]),
        ((XS, YS, np.arange(7) < 4), [1, 2, 3]),
        ((XS, YS, np.arange(7)[:, None] < [4, 7, 1]), [1, 9, 0]),
        (data.Binned(XS.astype(np.uint8), np.array([1, 2, 3], np.int32), np.arange(3)), [1, 2, 3]),
    ],
)
def test_what_trains_can_be_written(tmp_path, batch, labels):
    assert data.write_batches(tmp_path / "a.h5", [batch], dt=MS) == 3
    with data.EventFile(tmp_path / "a.h5") as file:
        (read,) = file.batches(3, dt=MS)
    np.testing.assert_array_equal(read.xs, XS)
    np.testing.assert_array_equal(read.labels, labels)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((XS, np.zeros((7, 3, 2))), r"must have labels, .* got float64 \(7, 3, 2\)"),
        ((XS, np.zeros((7, 3))), "must have labels"),
        ((XS[..., None], YS), r"\(T, B, n_in\), got \(7, 3, 5, 1\)"),
        ((XS + 1, YS), "must hold spikes, 0 or 1"),
    ],
)
def test_a_batch_that_a_file_cannot_hold_is_refused(tmp_path, batch, message):
    with pytest.raises(ValueError, match=message):
        data.write_batches(tmp_path / "a.h5", [batch], dt=MS)
    assert not list(tmp_path.iterdir())
