"""All kinds of tasks from the command line, the accuracy of steps, and what a method trains and saves beside the model."""

import csv

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
from etrax import cli, experiment, network, plots, tasks, training
from etrax.training import checkpoint

TINY = ["--neurons", "6", "--max-batches", "1", "--no-controls"]


@pytest.fixture
def recordings(tmp_path):
    """A function that writes rasters, perhaps with a bad record, and returns the name of the task."""

    def write(*, bad=False):
        spikes = (np.random.default_rng(0).random((40, 30, 6)) < 0.2).astype(np.int8)
        spikes[:, 0, 0] -= 2 * bad
        np.savez(tmp_path / "rasters.npz", spikes=spikes, labels=np.arange(40) % 2, dt=1e-3)
        return f"data:{tmp_path / 'rasters.npz'}"

    return write


def train(task, out, *arguments):
    """Run the command and read the metrics."""
    with brainstate.environ.context(precision=32):
        assert cli.main(["train", task, *TINY, *arguments, "--out", str(out)]) == 0
    with open(out / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


# -- tasks from the command line -----------------------------------------------------------


@pytest.mark.slow
def test_a_regression_has_an_error_and_no_accuracy(tmp_path, capsys):
    (row,) = train("patterns", tmp_path, "--method", "eprop_adaptive", "--batch-size", "64")
    assert not [column for column in row if "accuracy" in column]
    assert 0 < float(row["validation_loss"]) < 10
    assert "patterns, e-prop, adaptive feedback: test error (mean square) 0." in capsys.readouterr().out
    assert {"rasters.png", "learning_curves.png"} < {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "confusion_matrix.png").exists()


@pytest.mark.slow
def test_recordings_of_a_file(recordings, tmp_path):
    (row,) = train(recordings(), tmp_path / "out", "--batch-size", "8")
    assert 0 <= float(row["validation_accuracy"]) <= 1
    assert (tmp_path / "out" / "confusion_matrix.png").exists()


def test_a_bad_record_is_one_line(recordings, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train(recordings(bad=True), tmp_path / "out", "--batch-size", "8")
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("etrax train: error: record ")
    assert "negative number of spikes" in error


def test_the_task_brings_its_loss():
    task = tasks.get("patterns", duration=20 * u.ms, n_patterns=2)
    recipe = tasks.Recipe(n_rec=4, batch_size=8)
    net = network.build(task, recipe)
    result = etrax.train(net, task, etrax.TrainOptions(batch_size=8, max_batches=1))
    assert np.isnan(result.history[0]["train_accuracy"])
    assert result.best_loss == pytest.approx(training.evaluate(net, task.validation(8), "mse").loss)
    trial = network.record_trial(net, task, recipe)
    assert trial.label is None
    assert trial.target.shape == trial.output.shape
    plots.plot_rasters(trial, task.outputs)


# -- accuracy ------------------------------------------------------------------------------


def busy(algorithm, **options):
    """A compiled learner whose neurons fire."""
    with brainstate.random.seed_context(1):
        net = trained.Net()
    net.syn.comm.weight.value = jax.tree.map(lambda w: 10 * jnp.abs(w), net.syn.comm.weight.value)
    example = jnp.zeros((trained.B, trained.N_IN), brainstate.environ.dftype())
    return etrax.compile(net, algorithm, example, batch_size=trained.B, **options)


class Same(brainstate.nn.Module):
    """Gives what it gets."""

    def update(self, x):
        return x


def test_a_stepwise_task_counts_steps():
    answers = np.array([[0, 1], [1, 1], [1, 0], [0, 0]])  # (T, B)
    asked = np.array([[1, 1], [1, 0], [1, 1], [0, 0]])
    batch = (jnp.asarray(np.eye(2)[answers]), asked, np.array([0.0, 1.0, 1.0, 1.0]))
    by_step = training.evaluate(Same(), [batch], "stepwise_cross_entropy")
    assert by_step.accuracy == pytest.approx(4 / 6)
    np.testing.assert_array_equal(by_step.labels, [1, 1, 0, 0, 1, 0])
    np.testing.assert_array_equal(by_step.predictions, [1, 1, 0, 1, 0, 0])
    per_trial = (*batch[:2], np.array([[0, 1], [1, 1], [1, 0], [0, 0]]))  # another mask for each trial
    assert training.evaluate(Same(), [per_trial], "stepwise_cross_entropy").accuracy == pytest.approx(3 / 4)
    assert "of 6 steps" in plots.plot_confusion(by_step, ("a", "b")).axes[0].get_title(loc="left")
    task = tasks.Task("t", 2, ("a", "b"), 4, 2, tasks.Recipe(), iter, iter, iter, stepwise=True)
    assert task.loss == "stepwise_cross_entropy"


@pytest.mark.parametrize(
    "loss", networks.thorough(["stepwise_cross_entropy", "cross_entropy"], "stepwise_cross_entropy")
)
def test_training_counts_as_evaluation_does(loss):
    xs, _ = next(trained.validation())
    ys = np.random.default_rng(1).integers(0, 2, xs.shape[:2])
    batch = (xs, ys, np.arange(trained.T) >= 2)
    learner = busy(etrax.D_RTRL)
    before = training.evaluate(learner.model, [batch], loss)
    result = etrax.train(learner, [batch], loss=loss)
    assert result.history[0]["train_accuracy"] == pytest.approx(before.accuracy)
    assert result.history[0]["train_loss"] == pytest.approx(before.loss)
    assert before.rate > 0


def test_the_label_is_that_of_the_last_step_that_counts():
    xs = jnp.asarray(np.eye(2)[np.ones((4, 3), int)])
    ys = np.array([[0], [1], [1], [0]]) * np.ones(3, int)
    evaluation = training.evaluate(Same(), [(xs, ys, np.array([0.0, 1.0, 1.0, 0.0]))])
    assert evaluation.accuracy == 1.0
    np.testing.assert_array_equal(evaluation.labels, [1, 1, 1])


# -- feedback ------------------------------------------------------------------------------


def feedback_of(learner):
    return [np.asarray(leaf) for s in learner.feedback_weights.values() for leaf in jax.tree.leaves(s.value)]


@pytest.mark.slow
@pytest.mark.parametrize("feedback", ["random", "adaptive"])
def test_feedback_is_saved_and_comes_back(feedback, tmp_path):
    def run(learner, batches, **options):
        adam = braintools.optim.Adam(lr=1e-2)
        etrax.train(learner, trained.Stream(), etrax.TrainOptions(max_batches=batches), optimizer=adam, **options)
        return [*trained.weights(learner), *feedback_of(learner)]

    def eprop(seed=0):
        return busy(etrax.EProp, feedback=feedback, feedback_seed=seed)

    brainstate.random.seed(3)
    first = eprop()
    start = feedback_of(first)
    whole = run(first, 2)
    assert np.array_equal(start[0], feedback_of(first)[0]) == (feedback == "random")

    brainstate.random.seed(3)
    run(eprop(), 1, folder=tmp_path)
    assert "feedback_weights.neu" in checkpoint.Checkpoints(tmp_path).latest()["states"]
    # other feedback at first: it must come from the checkpoint
    resumed = run(eprop(seed=5), 2, folder=tmp_path, resume=True)
    for ours, theirs in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_the_methods_of_the_command_line():
    assert {"eprop", "eprop_random", "eprop_adaptive", "es_d_rtrl", "d_rtrl_depth"} < set(experiment.METHODS)
    task = tasks.get("patterns", duration=20 * u.ms)
    recipe = tasks.Recipe(n_rec=4, batch_size=512, epochs=1)
    one, same, other = (experiment.fit(task, recipe, method="eprop_random", seed=s).learner for s in (1, 1, 2))
    np.testing.assert_array_equal(feedback_of(one)[0], feedback_of(same)[0])
    assert not np.array_equal(feedback_of(one)[0], feedback_of(other)[0])
