"""The training loop: when weights change, what they are kept in, and when it stops."""

from typing import NamedTuple

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import trained
from trained import rows, same

import etrax
from etrax import storage
from etrax.training import checkpoint

# -- updates -------------------------------------------------------------------------------


def by_hand(xs, ys, period):
    """Updates every ``period`` steps with states and traces going on, without the loop."""
    learner = trained.learner()
    optimizer = braintools.optim.SGD(lr=0.1)
    optimizer.register_trainable_weights(learner.param_states)

    def step(x, y):
        out = learner(x)
        return jnp.mean(braintools.metric.softmax_cross_entropy_with_integer_labels(out, y))

    for start in range(0, len(xs), period):
        part = slice(start, start + period)
        optimizer.update(learner.etrace_grad(xs[part], ys[part], step_fn=step))
    return trained.weights(learner)


@pytest.mark.parametrize(
    ("changes", "period"),
    [
        pytest.param({}, 8, marks=pytest.mark.slow),
        pytest.param({"update": "step"}, 1, marks=pytest.mark.slow),
        (
            {
                "update": np.int64(4),
                "chunk_size": np.int64(2),
                "batch_size": np.int64(trained.B),
                "epochs": np.int64(1),
            },
            4,
        ),
        pytest.param({"update": 3, "chunk_size": 2}, 3, marks=pytest.mark.slow),  # a shorter one ends the trial
        pytest.param({"update": "chunk", "chunk_size": 4}, 4, marks=pytest.mark.slow),
    ],
)
def test_weights_change_when_they_should(changes, period):
    xs, ys = next(trained.validation())
    learner = trained.learner()
    options = etrax.TrainOptions(**changes)
    etrax.train(learner, [(xs, ys)], options, optimizer=braintools.optim.SGD(lr=0.1))
    for ours, theirs in zip(trained.weights(learner), by_hand(xs, ys, period), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)


@pytest.mark.slow
def test_a_window_is_a_mask():
    xs, ys = next(trained.validation())
    mask = np.zeros(trained.T)
    mask[3:6] = 1.0
    results, losses = [], []
    for batch, changes in (((xs, ys, mask), {}), ((xs, ys), {"loss_window": (3 * u.ms, 6 * u.ms)})):
        learner = trained.learner()
        measured = etrax.train(learner, [batch], etrax.TrainOptions(**changes), validation=lambda batch=batch: [batch])
        losses.append(measured.best_loss)
        results.append(trained.weights(learner))
    assert losses[0] == losses[1]
    same(*results)


@pytest.mark.slow
def test_a_mask_of_each_trial():
    xs, ys = next(trained.validation())
    mask = np.zeros(trained.T)
    mask[3:6] = 1.0
    common, per_trial = trained.learner(), trained.learner()
    etrax.train(common, [(xs, ys, mask)])
    etrax.train(per_trial, [(xs, ys, np.broadcast_to(mask[:, None], (trained.T, trained.B)))])
    for a, b in zip(trained.weights(per_trial), trained.weights(common), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_a_gradient_is_clipped():
    xs, ys = next(trained.validation())
    learner = trained.learner()
    start = trained.weights(learner)
    etrax.train(learner, [(xs, ys)], etrax.TrainOptions(clip_norm=1e-3), optimizer=braintools.optim.SGD(lr=1.0))
    moved = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(trained.weights(learner), start, strict=True)))
    np.testing.assert_allclose(moved, 1e-3, rtol=1e-6)


def test_a_model_is_compiled_and_a_function_is_a_loss():
    with brainstate.random.seed_context(1):
        net = trained.Net()
    targets = (next(trained.validation())[0], np.ones((trained.T, trained.B, trained.N_OUT)))
    options = etrax.TrainOptions(epochs=30, learning_rate=1e-2)
    histories = [
        etrax.train(model, [targets], options, loss=loss).history
        for model, loss in ((net, "mse"), (trained.learner(), lambda out, y: jnp.mean((out - y) ** 2)))
    ]
    assert histories[0][-1]["train_loss"] < histories[0][0]["train_loss"]
    np.testing.assert_allclose(histories[0][-1]["train_loss"], histories[1][-1]["train_loss"], rtol=1e-6)


@pytest.mark.slow
def test_a_function_is_a_loss_of_several_outputs():
    class Two(trained.Net):
        def update(self, x):
            out = super().update(x)
            return {"out": out, "twice": 2 * out}

    targets = (next(trained.validation())[0], np.ones((trained.T, trained.B, trained.N_OUT)))
    nets, losses = [], []
    for kind, error in (
        (Two, lambda output, y: jnp.mean((output["twice"] - y) ** 2, axis=-1)),
        (trained.Net, lambda output, y: jnp.mean((2 * output - y) ** 2, axis=-1)),
    ):
        with brainstate.random.seed_context(1):
            net = kind()
        net.syn.comm.weight.value = jax.tree.map(lambda w: 10 * jnp.abs(w), net.syn.comm.weight.value)  # it fires
        losses.append([etrax.train(net, [targets], etrax.TrainOptions(update=3), loss=error).history[0]["train_loss"]])
        losses[-1].append(etrax.training.evaluate(net, [targets], error).loss)
        nets.append(
            [np.asarray(leaf) for s in net.states(brainstate.ParamState).values() for leaf in jax.tree.leaves(s.value)]
        )
    assert losses[0][1] < losses[0][0]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-12)
    for ours, theirs in zip(*nets, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


class Records(NamedTuple):
    xs: np.ndarray
    labels: np.ndarray
    records: np.ndarray


@pytest.mark.slow
def test_batches_of_several_kinds():
    xs, ys = next(trained.validation())
    results = []
    for batch in ((xs, ys), (xs.astype(np.uint8), ys[0]), Records(xs.astype(np.uint8), ys[0], np.arange(trained.B))):
        learner = trained.learner()
        etrax.train(learner, [batch])
        results.append(trained.weights(learner))
    same(results[0], results[1])
    same(results[0], results[2])
    for batch, message in (
        ((xs,), "got 1 parts"),
        ((xs, ys[:3]), "they must agree"),
        ((xs[0, 0], ys), "must be of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            etrax.train(trained.learner(), [batch])


@pytest.mark.parametrize(
    ("weights", "window", "message"),
    [
        (np.arange(trained.T) >= 6, (0 * u.ms, 6 * u.ms), "`loss_window` is .*counts from 6.* to 8.*no step counts"),
        (np.zeros(trained.T), None, "mask of a batch is 0 at every step"),
        (
            np.where(np.arange(trained.T) == 3, np.nan, 1.0),
            None,
            "`mask` of a batch holds NaN, first at step 3.*finite weights",
        ),
        (np.arange(trained.T) - 1.0, None, "`mask` of a batch holds a negative weight, first at step 0"),
    ],
)
def test_a_mask_without_a_step_that_counts(weights, window, message):
    learner = trained.learner()
    start = trained.weights(learner)
    for mask in (weights, np.repeat(weights[:, None], trained.B, axis=1)):
        with pytest.raises(ValueError, match=message):
            etrax.train(learner, [(*next(trained.validation()), mask)], etrax.TrainOptions(loss_window=window))
    same(trained.weights(learner), start)


@pytest.mark.slow
def test_a_part_of_a_stream_may_count_nowhere():
    learner = trained.learner()
    start = trained.weights(learner)
    batch = (*next(trained.validation()), np.zeros(trained.T))
    result = etrax.train(learner, [batch], etrax.TrainOptions(reset=False))
    assert np.isnan(result.history[-1]["train_loss"])
    assert np.isnan(result.history[-1]["train_accuracy"])
    same(trained.weights(learner), start)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ys: ys + 1, "`ys` has label 2, but the model has 2 outputs: labels are 0 to 1"),
        (lambda ys: ys - 1, "`ys` has label -1, but the model has 2 outputs"),
        (lambda ys: ys.astype(float), r"`ys` is an array of float64 of shape \(8, 3\).*give whole numbers"),
        (lambda ys: np.eye(2, dtype=int)[ys], r"`ys` is an array of int64 of shape \(8, 3, 2\).*give whole numbers"),
    ],
)
def test_labels_without_an_output(change, message):
    xs, ys = next(trained.validation())
    learner = trained.learner()
    start = trained.weights(learner)
    with pytest.raises(ValueError, match=message):
        etrax.train(learner, [(xs, change(ys))])
    same(trained.weights(learner), start)
    with pytest.raises(ValueError, match=message):
        etrax.training.evaluate(learner.model, [(xs, change(ys))])


@pytest.mark.slow
def test_no_label_is_needed_where_nothing_counts():
    xs, ys = next(trained.validation())
    mask, results = np.arange(trained.T) >= 2, []
    for labels in (ys, np.where(mask[:, None], ys, -1)):
        learner = trained.learner()
        etrax.train(learner, [(xs, labels, mask)])
        results.append(trained.weights(learner))
    same(*results)


def test_targets_are_not_stretched():
    xs, ys = next(trained.validation())
    learner = trained.learner()
    for targets in (ys, ys[..., None], ys[0]):
        with pytest.raises(
            ValueError, match=r"`ys` has shape .* the output \(3, 2\): give `ys` of shape \(T, B, n_out\)"
        ):
            etrax.train(learner, [(xs, targets)], loss="mse")
        with pytest.raises(ValueError, match="give `ys` of shape"):
            etrax.training.evaluate(learner.model, [(xs, targets)], "mse")


# -- constraints ---------------------------------------------------------------------------


def test_weights_stay_in_their_sets(whole):
    weight = checkpoint.Checkpoints(whole[0]).latest()["states"]["model.syn.comm.weight"]["leaves"]
    assert max(np.abs(np.asarray(leaf)).max() for leaf in weight) == pytest.approx(0.6)

    learner = trained.learner()
    signs = [1] * (trained.N_IN + 2) + [-1] * (trained.N_REC - 2)
    dale = etrax.Dale(signs)
    etrax.train(
        learner,
        trained.Stream(),
        etrax.TrainOptions(max_batches=5, learning_rate=0.1, constraints={"syn.comm.weight.weight": dale}),
    )
    value = learner.model.syn.comm.weight.value["weight"]
    assert np.all(np.asarray(value.to_decimal(u.mS)) * np.asarray(signs)[:, None] >= 0)
    assert np.all(np.asarray(dale.flipped(-value).to_decimal(u.mS)) * np.asarray(signs)[:, None] >= 0)


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ({"nothing": etrax.Clamp(low=0.0)}, "'nothing', which fits no parameter; they are .*syn.comm.weight.weight"),
        ({"syn.comm.*": etrax.Clamp(low=0.0)}, "`low` of `Clamp` is 0.0 but the weight is in mS"),
        ({"syn.comm.weight.weight": etrax.Dale([1, -1])}, r"`signs` holds 2 signs but the weight has shape \(9, 5\)"),
        ({"out.*": lambda w: w[0]}, "turned a weight of shape"),
    ],
)
def test_a_bad_constraint(constraints, message):
    with pytest.raises(ValueError, match=message):
        etrax.train(trained.learner(), [next(trained.validation())], etrax.TrainOptions(constraints=constraints))


def test_bad_sets():
    with pytest.raises(ValueError, match="`Clamp` needs a bound"):
        etrax.Clamp()
    with pytest.raises(ValueError, match="`low` must not be above `high`"):
        etrax.Clamp(low=1 * u.mS, high=0 * u.mS)
    with pytest.raises(ValueError, match="`signs` must be -1, 0 or 1"):
        etrax.Dale([1, 2])


# -- the end -------------------------------------------------------------------------------


def test_it_stops_on_validation_with_the_best_weights(tmp_path):
    learner = trained.learner()
    options = etrax.TrainOptions(epochs=50, learning_rate=0.3, patience=2)
    data = [(x, 1 - y) for x, y in trained.validation()]  # what helps here hurts there
    result = etrax.train(learner, data, options, validation=trained.validation, folder=tmp_path)
    assert result.stopped == "patience"
    assert len(result.history) < 50
    held_out = etrax.training.evaluate(learner.model, trained.validation())
    assert held_out.loss == pytest.approx(result.best_loss, rel=1e-9)
    assert result.best_loss == min(row["validation_loss"] for row in result.history)
    best = storage.load(tmp_path / "best.npz")
    same(
        jax.tree.leaves(best["states"]["model.out.weight"]["leaves"]),
        jax.tree.leaves(best["best"]["out.weight"]["leaves"]),
    )


def test_a_failure_names_the_last_good_checkpoint(tmp_path):
    with pytest.raises(
        FloatingPointError,
        match=r"batch 8 .*`xs` of the batch holds NaN, first at step 0.*checkpoint-000000006.npz.*`clip_norm`",
    ):
        trained.short(tmp_path, stream=trained.Stream(bad_at=8))
    assert [int(row["batch"]) for row in rows(tmp_path)] == [2, 4, 5, 6]
    assert checkpoint.Checkpoints(tmp_path).latest()["position"]["count"] == 6
    with pytest.raises(ValueError, match="holds a training that is not finished: go on with `resume=True`"):
        trained.short(tmp_path)


def test_a_stream_that_ends_and_one_that_is_empty():
    options, learner = etrax.TrainOptions(epochs=3), trained.learner()
    result = etrax.train(learner, iter([next(trained.validation())]), options)
    assert (result.stopped, result.batches) == ("data", 1)
    with pytest.raises(ValueError, match="`task` gives no batch"):
        etrax.train(learner, [], options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"update": "often"}, "`update` must be one of step, chunk, trial, or a number"),
        ({"update": 0}, "`update` must be a whole number above 0"),
        *(
            ({name: True}, f"`{name}` must be a whole number above 0, got True")
            for name in ("update", "chunk_size", "epochs", "batch_size", "max_batches", "patience", "keep")
        ),
        ({"patience": 0}, "`patience` must be a whole number"),
        ({"rate_limit": 3.0}, "`rate_limit` must be a quantity"),
        ({"loss_window": (5 * u.ms, 1 * u.ms)}, "`loss_window` must be two times"),
        ({"schedule_every": "day"}, "`schedule_every` must be"),
    ],
)
def test_bad_options(changes, message):
    with pytest.raises(ValueError, match=message):
        etrax.TrainOptions(**changes)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"optimizer": "adam"}, TypeError, "`optimizer` must be .*got 'adam': `braintools.optim.Adam"),
        ({"optimizer": optax.adam(1e-3)}, TypeError, r"`optimizer` must be .*`braintools.optim.OptaxOptimizer\(tx\)`"),
        ({"options": {"epochs": 2}}, TypeError, r"`options` must be .*got \{'epochs': 2\}"),
        ({"task": "digits"}, TypeError, r"`task` is the name 'digits': give .*etrax.tasks.get\('digits'\)"),
        ({"task": 3}, TypeError, "`task` must be .*got 3"),
        ({"folder": __file__}, ValueError, "`folder` .*test_train.py' cannot be written .*a file of that name"),
    ],
)
def test_a_bad_argument(changes, error, message):
    with pytest.raises(error, match=message):
        etrax.train(trained.Net(), **{"task": [next(trained.validation())], **changes})
