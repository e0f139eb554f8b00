"""Tasks: spikes, labels, splits; what bad options get."""

import brainstate
import braintools
import brainunit as u
import numpy as np
import pytest
from networks import thorough

from etrax import tasks
from etrax.tasks import cognitive


@pytest.fixture(autouse=True)
def single_precision():
    with brainstate.environ.context(precision=32):
        yield


OPTIONS = {"dms": {"delay": 100.0 * u.ms}, "evidence": {"delay": 100.0 * u.ms, "delay_spread": 50.0 * u.ms}}


@pytest.fixture(scope="module", params=thorough(tasks.TASKS, *({*tasks.TASKS} - {"dms", "evidence", "store_recall"})))
def task(request):
    with brainstate.environ.context(dt=1.0 * u.ms, precision=32):
        return tasks.get(request.param, **OPTIONS.get(request.param, {}))


def test_batches_are_spikes_and_labels(task):
    for batches, count in ((task.train(8), 2), (task.validation(8), 2), (task.test(8), 2)):
        for _, batch in zip(range(count), batches, strict=False):
            xs, ys = np.asarray(batch.xs), np.asarray(batch.ys)
            assert xs.shape == (task.n_steps, 8, task.n_in)
            assert set(np.unique(xs)) == {0.0, 1.0}
            assert 0.001 < xs.mean() < 0.3
            assert xs.dtype == np.float32
            assert batch.mask.shape == (task.n_steps,)
            assert 0 < batch.mask.sum() <= task.n_steps
            if task.regression:
                assert ys.shape == (task.n_steps, 8, task.n_out)
                assert task.loss == "mse"
            else:
                assert ys.shape == (task.n_steps, 8)
                assert ys.min() >= 0
                assert ys.max() < task.n_out
                assert task.loss == ("stepwise_cross_entropy" if task.stepwise else "cross_entropy")


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


def test_a_restored_epoch_goes_on_with_the_same_spikes(task):
    epoch = task.train(task.n_train // 3, seed=1, epoch=1)
    assert len(epoch) == 3
    next(epoch)
    state = epoch.state()
    rest = [np.asarray(batch.xs) for batch in epoch]
    other = task.train(task.n_train // 3, seed=1, epoch=1)
    other.restore(state)
    np.testing.assert_array_equal(rest, [np.asarray(batch.xs) for batch in other])
    assert len(rest) == 2


def test_all_classes_occur(task):
    if task.regression:
        pytest.skip("a regression has no classes")
    for batches in (task.train(32), task.validation(1000), task.test(1000)):
        labels = np.concatenate([np.asarray(b.ys)[-1] for b in batches])
        shares = np.bincount(labels, minlength=task.n_out) / len(labels)
        assert shares.min() > 0.5 / task.n_out


def test_every_digit_image_is_in_one_part():
    from sklearn.datasets import load_digits

    from etrax.tasks.digits import parts_of_digits

    parts = parts_of_digits()
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


def test_evidence_is_the_side_of_more_cues():
    task = tasks.get("evidence", max_rate=1000.0 * u.Hz)
    assert (task.n_in, task.n_steps) == (40, 2250)
    batch = next(iter(task.train(64)))
    xs, label = np.asarray(batch.xs).reshape(2250, 64, 4, 10), np.asarray(batch.ys)[-1]
    left, right, recall, noise = np.moveaxis(xs, 2, 0)
    cues = np.arange(2250) < 7 * 150
    on = cues & (np.arange(2250) % 150 < 100)
    np.testing.assert_array_equal((left + right)[on], 1)
    assert not (left + right)[~on].any()
    np.testing.assert_array_equal(right[on].sum((0, 2)) > left[on].sum((0, 2)), label == 1)
    np.testing.assert_array_equal(recall[:, 0, 0], batch.mask)
    assert batch.mask.sum() == 150
    assert 0.24 < noise.mean() < 0.26


def test_the_delay_of_evidence_is_drawn():
    task = tasks.get("evidence", delay=1000.0 * u.ms, delay_spread=500.0 * u.ms, max_rate=1000.0 * u.Hz)
    assert task.n_steps == 7 * 150 + 1500 + 150
    xs = np.asarray(next(iter(task.train(64))).xs)[:, :, :20].sum(-1)
    begin, end = np.argmax(xs > 0, axis=0), task.n_steps - np.argmax(xs[::-1] > 0, axis=0)
    np.testing.assert_array_equal(end - begin, 7 * 150 - 50)
    delay = task.n_steps - 150 - (end + 50)
    assert 500 <= delay.min() < 600
    assert 1400 < delay.max() <= 1500


def test_store_recall_asks_for_the_bit_of_the_last_store():
    task = tasks.get("store_recall", max_rate=1000.0 * u.Hz)
    batch = next(iter(task.train(64)))
    xs = np.asarray(batch.xs).reshape(6, 200, 64, 4, 10).mean((1, 4)) > 0.5
    for trial in range(64):
        zero, one, store, recall = xs[:, trial].T
        assert recall.tolist() == [False] * 5 + [True]
        assert (zero ^ one).tolist() == [True] * 5 + [False]
        assert int(one[np.flatnonzero(store)[-1]]) == batch.ys[-1, trial]
    np.testing.assert_array_equal(batch.mask, np.arange(1200) >= 1000)


def test_patterns_are_sums_of_sinusoids():
    task = tasks.get("patterns")
    first, second = (np.asarray(next(iter(task.train(4, seed=seed))).ys) for seed in (0, 1))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(np.abs(first).max(0), 1, rtol=1e-6)
    power = np.abs(np.fft.rfft(first[:, 0], axis=0))
    assert np.flatnonzero(power.max(1) > 1).tolist() == [1, 2, 3, 5]
    assert np.any(first != np.asarray(next(iter(tasks.get("patterns", pattern_seed=1).train(4))).ys))


# -- braintools.cogtask --------------------------------------------------------------------

FEW = ("GoNoGo", "ImmediateDirectionReproduction")


@pytest.mark.parametrize(
    "name", [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in cognitive.names()]
)
def test_every_trial_task_of_cogtask(name):
    with brainstate.environ.context(dt=10.0 * u.ms):
        task = tasks.get(f"cogtask:{name}")
        batch = next(iter(task.train(64, seed=1)))
        xs, ys, mask = (np.asarray(part) for part in batch)
        np.testing.assert_array_equal(xs, next(iter(task.train(64, seed=1))).xs)
        assert np.any(xs != np.asarray(next(iter(task.train(64, seed=2))).xs))
    assert xs.shape == (task.n_steps, 64, task.n_in)
    assert xs.dtype == np.float32
    assert set(np.unique(xs)) == {0.0, 1.0}
    assert 0.02 < xs.mean() < 0.6
    assert set(np.unique(mask)) <= {0.0, 1.0}
    asked = ys[mask > 0]
    if task.regression:
        assert ys.shape == (task.n_steps, 64, task.n_out)
        assert np.unique(asked, axis=1).shape[1] > 1
    else:
        assert ys.shape == (task.n_steps, 64)
        assert len(np.unique(asked)) > 1
        assert asked.max() < task.n_out == len(task.classes)
        assert np.any(np.diff(asked, axis=0) != 0) == task.stepwise


def test_there_are_trial_tasks():
    assert {"DelayMatchSample", "EvidenceAccumulation", "ReadySetGo"} <= set(cognitive.names())
    assert len(cognitive.names()) >= 23


def test_trials_of_drawn_length_end_together():
    with brainstate.environ.context(dt=10.0 * u.ms):
        task = tasks.get("cogtask:HierarchicalReasoning", max_rate=100.0 * u.Hz, background=1e-6 * u.Hz)
        batch = next(iter(task.train(64)))
        xs = np.asarray(batch.xs)
        np.testing.assert_array_equal(np.flatnonzero(batch.mask), np.arange(task.n_steps - 45, task.n_steps))
        assert (np.asarray(batch.ys)[-50:] > 0).all()
        begin = np.argmax(xs.any(-1), axis=0)
        assert begin.min() < 10
        assert begin.max() > 20


def test_a_cogtask_of_ones_own():
    ct = braintools.cogtask
    with brainstate.environ.context(dt=10.0 * u.ms):
        own = ct.Task(
            phases=ct.Stimulus(100 * u.ms, inputs={"side": ct.identity("side")}, outputs={"label": 0})
            >> ct.Response(100 * u.ms, outputs={"label": ct.label("answer")}),
            input_features=ct.Feature(1, "side"),
            output_features=ct.Feature(2, "answer"),
            trial_init=lambda ctx: ctx.update(answer=(answer := ctx.rng.choice(2)), side=2.0 * answer - 1.0),
        )
        task = cognitive.make(own, signed=True, copies=2, background=1e-6 * u.Hz)
        batch = next(iter(task.train(64)))
    assert (task.n_in, task.n_steps, task.n_out) == (4, 20, 2)
    xs, label = np.asarray(batch.xs), np.asarray(batch.ys)[-1]
    np.testing.assert_array_equal(batch.mask, np.arange(20) >= 15)
    np.testing.assert_array_equal(xs[:10, :, :2].all((0, 2)), label == 1)  # 100 Hz: a spike in every step
    np.testing.assert_array_equal(xs[:10, :, 2:].all((0, 2)), label == 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tasks.get("mnist"), "must be one of digits, dms, evidence, .*cogtask:NAME, data:FILE; got 'mnist'"),
        (lambda: tasks.get("cogtask:"), "must be one of .*; got 'cogtask:'"),
        (lambda: tasks.get("cogtask:Chess"), "`source` must be one of AntiReach, .*; got 'Chess'"),
        (lambda: tasks.get("cogtask:GoNoGo", t_wait=1), "no option `t_wait`; its options are copies, .*t_stimulus"),
        (lambda: tasks.get("data:no.h5"), "'no.h5' is not a file"),
        (lambda: tasks.get("evidence", n_cues=4), "`n_cues` must be odd, .* got 4"),
        (lambda: tasks.get("evidence", max_rate=2000.0 * u.Hz), "a firing rate of 2000 Hz asks for 2 spikes per step"),
        (lambda: tasks.get("evidence", delay=5 * u.ms, delay_spread=5 * u.ms), "make the spread shorter"),
        (lambda: tasks.get("store_recall", n_periods=1), "`n_periods` must be 2 or more"),
        (lambda: tasks.get("patterns", duration=3 * u.ms), "`duration` is 3 .*ms, which is 3 steps: make it 5 or more"),
        (lambda: tasks.get("digits", delay=1 * u.ms), "no option `delay`; its options are duration, max_rate"),
        (lambda: tasks.get("dms", delay=-5 * u.ms), "`delay` must be a number above 0"),
        (lambda: tasks.get("dms", delay=5 * u.mV), "`delay` must be a quantity in units like ms"),
        (lambda: tasks.get("dms", delay=0.1 * u.ms), "`delay` is .* but one time step is"),
        (lambda: tasks.Recipe(epochs=0), "`epochs` must be a whole number above 0, got 0"),
        (lambda: tasks.Recipe(tau=3.0), "`tau` must be a quantity in units like ms, got 3.0"),
        (lambda: tasks.Recipe(rate_cost=-1.0), "`rate_cost` must be a number from 0 on, got -1.0"),
        (lambda: tasks.get("evidence", n_cues=True), "`n_cues` must be a whole number above 0, got True"),
        (lambda: tasks.get("digits").updates(5000), "`batch_size` is 5000 but task 'digits' has"),
    ],
)
def test_bad_options(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_task_without_dt():
    with brainstate.environ.context(dt=None), pytest.raises(ValueError, match="`dt` is not set"):
        tasks.get("dms")
