"""Tasks: spikes, labels, splits; what bad options get."""

import brainstate
import brainunit as u
import numpy as np
import pytest

from etrax import tasks


@pytest.fixture(autouse=True)
def single_precision():
    with brainstate.environ.context(precision=32):
        yield


OPTIONS = {"digits": {}, "dms": {"delay": 100.0 * u.ms}}


@pytest.fixture(scope="module", params=tasks.TASKS)
def task(request):
    with brainstate.environ.context(dt=1.0 * u.ms, precision=32):
        return tasks.get(request.param, **OPTIONS[request.param])


def test_batches_are_spikes_and_labels(task):
    for batches, count in ((task.train(8), 2), (task.validation(8), 2), (task.test(8), 2)):
        for _, batch in zip(range(count), batches, strict=False):
            xs, ys = np.asarray(batch.xs), np.asarray(batch.ys)
            assert xs.shape == (task.n_steps, 8, task.n_in)
            assert set(np.unique(xs)) == {0.0, 1.0}
            assert 0.001 < xs.mean() < 0.3
            assert ys.shape == (task.n_steps, 8)
            assert ys.min() >= 0
            assert ys.max() < task.n_out
            assert batch.mask.shape == (task.n_steps,)
            assert 0 < batch.mask.sum() < task.n_steps


def test_at_least_a_hundred_steps(task):
    assert task.n_steps >= 100


def first(batches):
    return np.asarray(next(iter(batches)).xs)


def test_the_same_seed_gives_the_same_spikes(task):
    np.testing.assert_array_equal(first(task.train(8, seed=1)), first(task.train(8, seed=1)))
    assert np.any(first(task.train(8, seed=1)) != first(task.train(8, seed=2)))
    assert np.any(first(task.train(8, seed=1, epoch=0)) != first(task.train(8, seed=1, epoch=1)))
    np.testing.assert_array_equal(first(task.test(8)), first(task.test(8)))


def test_held_out_trials_do_not_depend_on_the_batch_size(task):
    whole = np.concatenate([np.asarray(b.xs) for b in task.validation(1000)], axis=1)
    parts = np.concatenate([np.asarray(b.xs) for b in task.validation(37)], axis=1)
    np.testing.assert_array_equal(whole, parts)


def test_all_classes_occur(task):
    for batches in (task.train(32), task.validation(1000), task.test(1000)):
        labels = np.concatenate([np.asarray(b.ys)[-1] for b in batches])
        shares = np.bincount(labels, minlength=task.n_out) / len(labels)
        assert shares.min() > 0.5 / task.n_out


def test_every_digit_image_is_in_one_part():
    from sklearn.datasets import load_digits

    from etrax.tasks.digits import _split

    parts = _split()
    images = np.concatenate([images for images, _ in parts.values()])
    assert len(images) == 1797

    def ordered(rows):
        return rows[np.lexsort(rows.T)]

    np.testing.assert_allclose(ordered(images), ordered((load_digits().data / 16).astype(np.float32)))


def test_the_delay_of_dms():
    short, long = (tasks.get("dms", delay=delay * u.ms) for delay in (100.0, 300.0))
    assert long.n_steps - short.n_steps == 200


def test_a_match_shows_the_same_stimulus_twice():
    task = tasks.get("dms", delay=100.0 * u.ms, max_rate=500.0 * u.Hz)
    batch = next(iter(task.test(64)))
    xs, label = np.asarray(batch.xs), np.asarray(batch.ys)[-1]
    sample, second = xs[50:250].mean(0), xs[350:].mean(0)
    directions = [part[:, 4:].reshape(64, 8, 4).sum(-1).argmax(1) for part in (sample, second)]
    same = directions[0] == directions[1]
    np.testing.assert_array_equal(same, label == task.classes.index("match"))
    assert 0.2 < same.mean() < 0.8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tasks.get("mnist"), "`task` must be one of digits, dms; got 'mnist'"),
        (lambda: tasks.get("digits", delay=1 * u.ms), "no option `delay`; its options are duration, max_rate"),
        (lambda: tasks.get("dms", delay=-5 * u.ms), "`delay` must be a number above 0"),
        (lambda: tasks.get("dms", delay=5 * u.mV), "`delay` must be a quantity in units like ms"),
        (lambda: tasks.get("dms", delay=0.1 * u.ms), "`delay` is .* but one time step is"),
        (lambda: tasks.Recipe(epochs=0), "`epochs` must be a whole number above 0, got 0"),
        (lambda: tasks.Recipe(tau=3.0), "`tau` must be a quantity in units like ms, got 3.0"),
        (lambda: tasks.Recipe(rate_cost=-1.0), "`rate_cost` must be a number from 0 on, got -1.0"),
        (lambda: tasks.get("digits").updates(5000), "`batch_size` is 5000 but task 'digits' has"),
    ],
)
def test_bad_options(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_task_without_dt():
    with brainstate.environ.context(dt=None), pytest.raises(ValueError, match="`dt` is not set"):
        tasks.get("dms")
