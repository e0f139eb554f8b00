"""What a loss may be in training and evaluation, which trials and steps it counts, and that all figures are the same quantity."""

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
import trained

import etrax
from etrax import data, training

T, N_IN, N_OUT = trained.T, trained.N_IN, trained.N_OUT
STILL = 1e-30  # a learning rate that changes no weight


def error_of_trial(output, y):
    return jnp.mean((output - y) ** 2, axis=-1)


def error_of_all(output, y):
    return jnp.mean((output - y) ** 2)


def trials(n, steps=T, seed=0):
    """Spikes and targets of a regression."""
    rng = np.random.default_rng(seed)
    return (rng.random((steps, n, N_IN)) < 0.4).astype(float), rng.normal(size=(steps, n, N_OUT))


def learner_of(algorithm=etrax.D_RTRL, n=trained.B, **options):
    """A compiled learner with the same weights each time, whose neurons fire."""
    with brainstate.random.seed_context(1):
        net = trained.Net()
    net.syn.comm.weight.value = jax.tree.map(lambda w: 10 * jnp.abs(w), net.syn.comm.weight.value)
    return etrax.compile(net, algorithm, jnp.zeros((n, N_IN)), batch_size=n, **options)


def sgd(lr=0.1):
    return braintools.optim.SGD(lr=lr)


def close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14)


# -- shapes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "per_trial", "message"),
    [
        (
            error_of_all,
            True,
            r"`loss` gives one number.* mask of the batch, of shape \(8, 3\).*one loss per trial, of shape \(3,\)",
        ),
        (
            lambda out, y: (out - y)[:, :1] ** 2,
            False,
            r"`loss` gives shape \(3, 1\) at a step of 3 trials: return one loss per trial",
        ),
        (lambda out, y: (out - y) ** 2, True, r"`loss` gives shape \(3, 2\)"),
        (lambda out, y: jnp.mean((out - y) ** 2, axis=0), False, r"`loss` gives shape \(2,\)"),
        (lambda out, y: error_of_trial(out, y)[None], False, r"`loss` gives shape \(1, 3\)"),
    ],
)
def test_a_loss_is_of_each_trial_or_of_all(loss, per_trial, message):
    learner = learner_of()
    start = trained.weights(learner)
    batch = (*trials(3), np.ones((T, 3) if per_trial else T))
    with pytest.raises(ValueError, match=message):
        etrax.train(learner, [batch], loss=loss)
    close(trained.weights(learner), start)
    with pytest.raises(ValueError, match=message):
        training.evaluate(learner.model, [batch], loss)


def test_of_each_trial_and_of_all_are_the_same_where_all_count():
    batch, results = trials(3), []
    for loss in (error_of_trial, error_of_all):
        learner = learner_of()
        history = etrax.train(learner, [batch], loss=loss, optimizer=sgd()).history
        results.append(
            [*trained.weights(learner), history[0]["train_loss"], training.evaluate(learner.model, [batch], loss).loss]
        )
    close(*results)


# -- batches of another size ---------------------------------------------------------------


def cut(n, size):
    """Batches of ``n`` trials, the last one smaller."""
    xs, ys = trials(n)
    return [(xs[:, at : at + size], ys[:, at : at + size]) for at in range(0, n, size)]


@pytest.mark.parametrize("loss", [error_of_trial, error_of_all])
def test_nothing_is_filled_in_evaluation(loss):
    learner = learner_of()
    learner.etrace_evolve(*trials(3)[:1])
    before = [np.asarray(u.get_mantissa(s.value)) for s in learner.hidden_states.values()]
    whole = training.evaluate(learner.model, [trials(7)], loss)
    parts = training.evaluate(learner.model, cut(7, 3), loss)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
    assert parts.rate == pytest.approx(whole.rate, rel=1e-12)
    assert whole.rate > 0
    close([np.asarray(u.get_mantissa(s.value)) for s in learner.hidden_states.values()], before)  # it can go on


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        (etrax.D_RTRL, {}),
        pytest.param(etrax.EProp, {"feedback": "adaptive"}, marks=pytest.mark.slow),
        pytest.param(etrax.DFA, {}, marks=pytest.mark.slow),
        pytest.param(etrax.BPTT, {}, marks=pytest.mark.slow),
        pytest.param(etrax.RTRL, {}, marks=pytest.mark.slow),
    ],
)
def test_the_last_batch_of_a_training_is_smaller(algorithm, options):
    given = {} if algorithm in (etrax.BPTT, etrax.RTRL, etrax.D_RTRL) else {"feedback_seed": 3, **options}
    learner = learner_of(algorithm, **given)
    batches = cut(8, 3)
    result = etrax.train(learner, batches, etrax.TrainOptions(epochs=2), loss=error_of_all, optimizer=sgd())
    assert result.batches == 6

    optimizer, losses = sgd(), []
    sizes = {n: learner_of(algorithm, n, **given) for n in (3, 2)}
    optimizer.register_trainable_weights(sizes[3].param_states)
    for xs, ys in batches * 2:
        one = sizes[xs.shape[1]]
        for path, state in sizes[3].param_states.items():
            one.param_states[path].value = state.value
        one.reset_state()
        grads, loss = one.etrace_grad(xs, ys, step_fn=lambda x, y, one=one: error_of_all(one(x), y), return_value=True)
        optimizer.update(grads)
        losses.append(float(jnp.mean(loss)) * xs.shape[1])
    close(trained.weights(learner), trained.weights(sizes[3]))
    assert result.history[1]["train_loss"] == pytest.approx(sum(losses[3:]) / 8, rel=1e-9)
    learner.etrace_grad(
        *trials(3), step_fn=lambda x, y: error_of_all(learner(x), y)
    )  # of the size that it was made for


@pytest.mark.slow
@pytest.mark.parametrize("stop", [2, 3, 4])
def test_a_training_with_a_smaller_batch_is_resumed(stop, tmp_path):
    def run(folder, batches, **more):
        learner = learner_of(etrax.EProp, feedback="adaptive", feedback_seed=1)
        options = etrax.TrainOptions(epochs=2, max_batches=batches, checkpoint_every=1)
        etrax.train(learner, cut(8, 3), options, loss=error_of_all, folder=folder, **more)
        return trained.weights(learner)

    whole = run(tmp_path / "whole", 6)
    run(tmp_path / "parts", stop)
    for ours, theirs in zip(run(tmp_path / "parts", 6, resume=True), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    logs = [(tmp_path / name / "log.csv").read_bytes() for name in ("whole", "parts")]
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_records_that_do_not_fill_the_last_batch():
    spikes = (np.random.default_rng(0).random((5, T, N_IN)) < 0.4).astype(np.int8)
    batches = data.Rasters(spikes, np.arange(5) % 2, dt=1 * u.ms).batches(3)
    learner = learner_of()
    result = etrax.train(learner, batches, etrax.TrainOptions(epochs=2))
    assert result.batches == 4
    assert len(training.evaluate(learner.model, batches).labels) == 5


def test_a_stream_needs_batches_of_one_size():
    with pytest.raises(
        ValueError, match="a batch has 2 trials but the learner holds states of 3.*give all batches one size"
    ):
        etrax.train(learner_of(), cut(8, 3), etrax.TrainOptions(reset=False), loss="mse")


class Stuck(trained.Net):
    """Keeps a state of the size that it was first given."""

    def __init__(self):
        super().__init__()
        self.kept = Kept()

    def update(self, x):
        return self.kept(super().update(x))


class Kept(brainstate.nn.Module):
    def init_state(self, batch_size=None, **kwargs):
        self.last = brainstate.HiddenState(jnp.zeros((batch_size, N_OUT)))

    def update(self, x):
        self.last.value = 0.5 * self.last.value + x
        return self.last.value


@pytest.mark.filterwarnings("ignore:part of the credit of out.weight, syn.comm.weight is lost")
def test_a_state_that_does_not_follow_is_named():
    net, message = Stuck(), r"the state kept.last keeps its shape \(3, 2\) in a batch of 2 trials: let `reset_state"
    with pytest.raises(ValueError, match=message):
        etrax.train(net, cut(8, 3), loss="mse")
    with pytest.raises(ValueError, match=message):
        training.evaluate(net, cut(8, 3), "mse")
    assert training.evaluate(net, cut(6, 3), "mse").loss > 0


# -- what counts ---------------------------------------------------------------------------


def test_a_window_is_the_same_for_training_validation_and_test():
    window, batch = (3 * u.ms, 6 * u.ms), trials(3)
    mask = (np.arange(T) >= 3) & (np.arange(T) < 6)
    learner = learner_of()
    options = etrax.TrainOptions(loss_window=window)
    history = etrax.train(
        learner, [batch], options, loss="mse", optimizer=sgd(STILL), validation=lambda: [batch]
    ).history
    test = training.evaluate(learner.model, [batch], "mse", loss_window=window).loss
    assert history[0]["train_loss"] == pytest.approx(test, rel=1e-12)
    assert history[0]["validation_loss"] == test
    assert training.evaluate(learner.model, [(*batch, mask)], "mse").loss == test
    assert training.evaluate(learner.model, [batch], "mse").loss != pytest.approx(test)
    with pytest.raises(ValueError, match="`loss_window` must be two times"):
        training.evaluate(learner.model, [batch], "mse", loss_window=(1, 2))


def test_trials_of_different_length_weigh_the_same_everywhere():
    lengths = [3, 8, 5, 2, 8]
    xs, ys = trials(5)
    mask = (np.arange(T)[:, None] < np.array(lengths)) * 1.0
    batches = [(xs[:, a:b], ys[:, a:b], mask[:, a:b]) for a, b in ((0, 3), (3, 5))]
    learner = learner_of()
    result = etrax.train(learner, batches, loss="mse", optimizer=sgd(STILL), validation=lambda: batches)
    row, pooled = result.history[0], training.evaluate(learner.model, [(xs, ys, mask)], "mse").loss
    assert row["train_loss"] == pytest.approx(row["validation_loss"], rel=1e-12)
    assert row["train_loss"] == pytest.approx(pooled, rel=1e-12)
    alone = [training.evaluate(learner.model, [(xs[:n, [i]], ys[:n, [i]])], "mse").loss for i, n in enumerate(lengths)]
    assert pooled == pytest.approx(np.average(alone, weights=lengths), rel=1e-9)  # a counted step weighs one
    assert pooled != pytest.approx(np.mean(alone), rel=1e-3)
    shorter = [(*trials(3, steps=5), np.ones(5)), (*trials(3), np.ones(T))]  # batches of different length
    result = etrax.train(learner, shorter, loss=error_of_all, optimizer=sgd(STILL), validation=lambda: shorter)
    assert result.history[0]["train_loss"] == pytest.approx(result.history[0]["validation_loss"], rel=1e-12)


@pytest.mark.parametrize("loss", ["cross_entropy", "stepwise_cross_entropy"])
def test_a_trial_that_counts_nowhere_weighs_nothing(loss):
    xs, _ = trials(3)
    ys = np.broadcast_to([0, 1, 1], (T, 3))
    mask = np.ones((T, 3))
    mask[:, 2] = 0
    learner = learner_of()
    whole = training.evaluate(learner.model, [(xs, ys, mask)], loss)
    part = training.evaluate(learner.model, [(xs[:, :2], ys[:, :2], mask[:, :2])], loss)
    assert whole.loss == pytest.approx(part.loss, rel=1e-12)
    assert whole.accuracy == part.accuracy
    np.testing.assert_array_equal(whole.labels, part.labels)
    row = etrax.train(
        learner, [(xs, ys, mask)], loss=loss, optimizer=sgd(STILL), validation=lambda: [(xs, ys, mask)]
    ).history[0]
    assert row["train_loss"] == pytest.approx(part.loss, rel=1e-12)
    assert row["train_accuracy"] == row["validation_accuracy"] == pytest.approx(part.accuracy)


def test_a_trial_too_short_for_the_window_does_not_stop_a_training():
    xs, _ = trials(3)
    ys, lengths = np.broadcast_to([0, 1, 1], (T, 3)), np.array([8, 8, 4])
    mask = (np.arange(T)[:, None] < lengths) * 1.0
    window = (4 * u.ms, 8 * u.ms)
    short = (xs[:4, 2:], ys[:4, 2:])
    learner = learner_of()
    whole = training.evaluate(learner.model, [(xs, ys, mask), short], loss_window=window)
    part = training.evaluate(learner.model, [(xs[:, :2], ys[:, :2])], loss_window=window)
    assert whole.loss == pytest.approx(part.loss, rel=1e-12)
    np.testing.assert_array_equal(whole.predictions, part.predictions)
    with pytest.raises(ValueError, match=r"masks of all batches are 0 within `loss_window` 4.* to 8.*no step counts"):
        training.evaluate(learner.model, [short], loss_window=window)


# -- NaN and infinity ----------------------------------------------------------------------


def root(output, y):
    """Its derivative is 0 * inf where the target is 0."""
    return jnp.sum(jnp.sqrt(jnp.abs(output * y)), axis=-1)


def infinite(output, y):
    """It is infinite there too."""
    return root(output, y) / y[:, 0]


@pytest.mark.parametrize("algorithm", networks.thorough([etrax.D_RTRL, etrax.BPTT, etrax.RTRL], etrax.D_RTRL))
@pytest.mark.parametrize(
    ("loss", "value"),
    networks.thorough([("mse", np.nan), ("mse", np.inf), (root, 0.0), (infinite, 0.0)], (infinite, 0.0)),
)
def test_what_does_not_count_may_be_anything(algorithm, loss, value):
    xs, ys = trials(3)
    ys = np.abs(ys) + 0.1
    for mask in (np.arange(T) >= 2, (np.arange(T)[:, None] >= 2) & (np.arange(3) != 1)):
        out = np.broadcast_to((mask if mask.ndim == 2 else mask[:, None])[..., None], ys.shape)
        results = []
        for targets in (ys, np.where(out, ys, value)):
            learner, batch = learner_of(algorithm), (xs, targets, mask)
            history = etrax.train(learner, [batch], loss=loss, optimizer=sgd(), validation=lambda b=batch: [b]).history
            results.append([*trained.weights(learner), history[0]["train_loss"], history[0]["validation_loss"]])
        for ours, theirs in zip(*results, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_nan_that_counts_is_named():
    xs, ys = trials(3)
    bad_x, bad_y, mask = xs.copy(), ys.copy(), np.ones((T, 3))
    bad_x[5, 1, 2] = np.nan
    bad_y[3, 2, 0] = -np.inf
    mask[5, 1] = 0
    for batch, message in (
        ((bad_x, ys, mask), r"`xs` of the batch holds NaN, first at step 5, sample 1, index \(5, 1, 2\)"),
        ((xs, bad_y), r"`ys` of the batch holds infinity, first at step 3, sample 2, index \(3, 2, 0\)"),
    ):
        with pytest.raises(FloatingPointError, match=f"training failed at batch 1 .*{message}"):
            etrax.train(learner_of(), [batch], loss="mse")
        with pytest.raises(ValueError, match=message):
            training.evaluate(learner_of().model, [batch], "mse")
    mask[2, 1] = -1
    for run in (
        lambda b: etrax.train(learner_of(), b, loss="mse"),
        lambda b: training.evaluate(learner_of().model, b, "mse"),
    ):
        with pytest.raises(
            ValueError, match="the `mask` of a batch holds a negative weight, first at step 2, sample 1"
        ):
            run([(xs, ys, mask)])


class Unstable(trained.Net):
    """Its output is NaN where the first input is above 1."""

    def update(self, x):
        return super().update(x) + jnp.where(x[:, :1] > 1, jnp.nan, 0.0)


def test_nan_of_the_network_is_an_error_even_where_nothing_counts():
    xs, ys = trials(3)
    xs[1, 2, 0] = 2.0
    batch, message = (xs, ys, np.arange(T) >= 4), "output of the network is NaN, first at step 1, sample 2"
    with pytest.raises(FloatingPointError, match=f"{message}.*no loss to measure"):
        training.evaluate(Unstable(), [batch], "mse")
    with pytest.raises(FloatingPointError, match=f"training failed at batch 1 .*{message}"):
        etrax.train(Unstable(), [batch], loss="mse")
    net = trained.Net()
    net.out.weight.value = net.out.weight.value * jnp.nan
    with pytest.raises(FloatingPointError, match="output of the network is NaN, first at step 0, sample 0"):
        training.evaluate(net, [trials(3)], "mse")
