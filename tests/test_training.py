"""Training and the command line: one small run end to end, what it writes, what bad input gets."""

import contextlib
import csv
import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import brainstate
import braintools
import brainunit as u
import jax
import networks
import numpy as np
import pytest

from etrax import cli, experiment, network, tasks, training
from etrax.cli import options, train
from etrax.training import trainer

SMALL = tasks.Recipe(n_rec=20, batch_size=64, epochs=2)
TINY = tasks.Recipe(n_rec=8, batch_size=64, epochs=2)


@pytest.fixture(autouse=True)
def single_precision():
    with brainstate.environ.context(precision=32):
        yield


@pytest.fixture(scope="module")
def digits():
    with brainstate.environ.context(dt=1.0 * u.ms, precision=32):
        return tasks.get("digits")


@pytest.mark.parametrize("method", networks.thorough(experiment.METHODS, "eprop_adaptive"))
def test_every_method_trains_what_it_says(digits, method):
    before = network.build(digits, TINY, seed=3)
    run = experiment.fit(digits, TINY, method=method, seed=3)
    losses = [row["train_loss"] for row in run.history]
    assert losses[1] < losses[0]
    moved = {
        path: any(
            np.any(np.asarray(u.get_mantissa(a)) != np.asarray(u.get_mantissa(b)))
            for a, b in zip(jax.tree.leaves(old.value), jax.tree.leaves(new.value), strict=True)
        )
        for (path, old), new in zip(
            before.states(brainstate.ParamState).items(),
            run.network.states(brainstate.ParamState).values(),
            strict=True,
        )
    }
    assert moved["readout", "weight"]
    assert moved["projection", "comm", "weight"] == (method != "readout")
    assert run.history[-1]["train_rate_hz"] > 0
    assert (run.trace_bytes > 0) == (method not in ("bptt", "dfa"))


@pytest.mark.slow
def test_the_chunk_size_changes_nothing(digits):
    one, other = (experiment.fit(digits, SMALL, seed=1, chunk_size=k).history[0]["train_loss"] for k in (10, 100))
    np.testing.assert_allclose(one, other, rtol=1e-3)


@pytest.mark.slow
def test_a_cost_of_high_rates_lowers_them(digits):
    free, dear = (
        experiment.fit(digits, tasks.Recipe(n_rec=20, batch_size=64, epochs=2, rate_limit=10.0 * u.Hz, rate_cost=cost))
        for cost in (0.0, 10.0)
    )
    assert 0 < dear.history[-1]["train_rate_hz"] < 0.8 * free.history[-1]["train_rate_hz"]


def test_weights_come_back(digits, tmp_path):
    path = tmp_path / "weights.npz"
    first, second = network.build(digits, SMALL, seed=1), network.build(digits, SMALL, seed=2)
    network.save_weights(path, first)
    network.load_weights(path, second)
    a, b = (training.evaluate(net, digits.validation(64)) for net in (first, second))
    assert a.loss == b.loss
    np.testing.assert_array_equal(a.predictions, b.predictions)
    assert [p.name for p in tmp_path.iterdir()] == ["weights.npz"]
    with pytest.raises(ValueError, match="do not fit the network"):
        network.load_weights(path, network.build(digits, tasks.Recipe(n_rec=21)))
    with pytest.raises(FileNotFoundError, match="is not a file"):
        network.load_weights(tmp_path / "none", second)


def weights_of(net):
    return [np.asarray(leaf) for s in net.states(brainstate.ParamState).values() for leaf in jax.tree.leaves(s.value)]


def as_before(path, net):
    """Weights as earlier versions wrote them."""
    states = net.states(brainstate.ParamState)
    braintools.file.msgpack_save(str(path), {".".join(key): state.value for key, state in states.items()})


def trained_for_a_batch(digits, folder, method="d_rtrl"):
    """A network with checkpoints in the folder, the last of which holds its weights."""
    return experiment.fit(digits, SMALL, method=method, seed=5, max_batches=1, folder=folder).network


@pytest.mark.parametrize("kind", networks.thorough(["npz", "msgpack", "checkpoint", "bptt"], "npz", "msgpack"))
def test_every_file_with_weights_is_read(digits, kind, tmp_path):
    path, first = tmp_path / "weights", network.build(digits, SMALL, seed=1)
    if kind == "npz":
        network.save_weights(path, first)
    elif kind == "msgpack":
        as_before(path, first)
    else:
        first = trained_for_a_batch(digits, tmp_path, "readout" if kind == "checkpoint" else kind)
        path = tmp_path / "best.npz"
    second = network.build(digits, SMALL, seed=2)
    network.load_weights(path, second)
    for ours, theirs in zip(weights_of(second), weights_of(first), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert u.get_unit(second.projection.comm.weight.value["weight"]) == u.mS


@pytest.mark.parametrize("write", [network.save_weights, as_before])
def test_weights_that_do_not_fit(digits, write, tmp_path):
    path, whole = tmp_path / "weights", network.build(digits, SMALL)
    write(path, whole)
    larger = network.build(digits, tasks.Recipe(n_rec=21))
    before = weights_of(larger)
    with pytest.raises(
        ValueError, match=r"do not fit the network .*has shapes \[\[84, 20\]\], .* and shapes \[\[85, 21\]\]"
    ):
        network.load_weights(path, larger)
    for ours, theirs in zip(weights_of(larger), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match=r"it lacks weight and has projection.comm.weight, readout.weight beside"):
        network.load_weights(path, brainstate.nn.Linear(2, 3))
    other = network.build(digits, SMALL)
    other.projection.comm.weight.value = {"weight": jax.numpy.zeros((84, 20)) * u.uS}
    with pytest.raises(ValueError, match=r"units \['.*'\] there and .* units \['uS'\] here"):
        network.load_weights(path, other)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="damaged or cut off|holds no weights"):
        network.load_weights(path, whole)


def test_what_holds_no_weights(digits, tmp_path):
    (tmp_path / "text").write_text("hello")
    np.savez(tmp_path / "other.npz", spikes=np.zeros(3))
    for name, message in (("text", "`path` .*text' holds no weights"), ("other.npz", "no file of `etrax`")):
        with pytest.raises(ValueError, match=message):
            network.load_weights(tmp_path / name, network.build(digits, SMALL))


@pytest.mark.parametrize(
    ("controls", "methods", "titles"),
    [
        pytest.param(["--no-controls"], ["d_rtrl"], [], id="alone"),
        pytest.param(
            [], ["d_rtrl", "no_trace", "readout"], ["D = 0", "readout only"], id="controls", marks=pytest.mark.slow
        ),
    ],
)
def test_the_command_writes_what_it_names(controls, methods, titles, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    arguments = ["train", "digits", "--max-batches", "2", "--neurons", "8", "--batch-size", "64", "--chunk-size", "50"]
    assert cli.main([*arguments, *controls, "--out", str(out), "--seed", "4"]) == 0
    printed = capsys.readouterr().out
    for part in ("test accuracy", "trained in", "of traces at the peak", *titles, "spikes per neuron"):
        assert part in printed
    figures = {"rasters", "states", "eligibility_trace", "learning_curves", "confusion_matrix"}
    names = {f"{figure}.png" for figure in figures} | {"metrics.csv", "weights.npz", "runs"}
    assert {path.name for path in out.iterdir()} == names | {"arguments.json"}
    assert {path.name for path in (out / "runs").iterdir()} == {*methods}
    assert all(str(out / name) in printed for name in names)
    assert all((out / f"{figure}.png").read_bytes().startswith(b"\x89PNG") for figure in figures)
    with open(out / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == methods
    assert all(0 <= float(row["validation_accuracy"]) <= 1 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["mnist"],
            "`task` must be one of digits, dms, evidence, store_recall, patterns, cogtask:NAME, data:FILE; got 'mnist'",
        ),
        (["digits", "--method", "rtrl"], f"`method` must be one of {', '.join(experiment.METHODS)}; got 'rtrl'"),
        (["digits", "--epochs", "0"], "`epochs` must be a whole number above 0, got 0"),
        (["digits", "--chunk-size", "-1"], "`chunk_size` must be a whole number above 0, got -1"),
        (["digits", "--seed", "-1"], "`seed` must be a whole number from 0"),
        (["digits", "--batch-size", "9999"], "`batch_size` is 9999 but task 'digits' has 1078 training trials"),
        (["digits", "--delay", "100"], "task 'digits' has no option `delay`"),
        (["dms", "--delay", "-3"], "`delay` must be a number above 0"),
        (
            ["digits", "--update", "often"],
            "`update` must be one of step, chunk, trial, or a number of steps; got 'often'",
        ),
        (["digits", "--window", "200", "300"], "but a batch lasts 100"),
        (["digits", "--clamp", "1", "-1"], "`low` must not be above `high`"),
        (["digits", "--dale", "2"], "`inhibitory` must be a share from 0 to 1, got 2.0"),
        (["digits", "--schedule", "none"], "`schedule` must be one of cosine, exponential, constant; got 'none'"),
        (["digits", "--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", *arguments, "--out", str(tmp_path)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        cli.main(["train", "digits", "--out", str(tmp_path / "file")])
    assert "`out` " in (error := capsys.readouterr().err)
    assert "cannot be written" in error


@pytest.mark.slow
def test_a_stopped_command_is_resumed(tmp_path, capsys, monkeypatch):
    small = [
        "--epochs",
        "2",
        "--neurons",
        "12",
        "--batch-size",
        "128",
        "--no-controls",
        "--dale",
        "0.2",
        "--clamp",
        "-1",
        "1",
    ]
    assert cli.main(["train", "digits", *small, "--out", str(tmp_path / "whole")]) == 0

    validation = trainer.evaluate_with
    monkeypatch.setattr(trainer, "evaluate_with", lambda *a: (signal.raise_signal(signal.SIGINT), validation(*a))[1])
    stopped = tmp_path / "stopped"
    assert cli.main(["train", "digits", *small, "--out", str(stopped)]) == 130
    assert f"etrax train digits --resume {stopped}" in capsys.readouterr().err
    monkeypatch.undo()

    for wrong, message in (
        (["--out", str(stopped)], "holds a training that is not finished"),
        (["--resume", str(stopped), "--neurons", "3"], "`--neurons` is 3 but the training"),
        (["--resume", str(tmp_path)], "holds no training (arguments.json"),
    ):
        with pytest.raises(SystemExit):
            cli.main(["train", "digits", *wrong])
        assert message in capsys.readouterr().err

    assert cli.main(["train", "digits", "--resume", str(stopped)]) == 0
    for name in ("weights.npz", "runs/d_rtrl/log.csv"):
        assert (stopped / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_without_scikit_learn():
    code = "import sys; sys.modules['sklearn'] = None; from etrax.cli import main; main(['train', 'digits'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'etrax[demo]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ([], 0, "figures     complexity figures of a network"),
        (["--help"], 0, "train       train a recurrent network"),
        (["--version"], 0, "etrax "),
        (["nonsense"], 2, "etrax: error: `command` must be one of train, experiment, figures; got 'nonsense'.\n"),
        (["--nonsense", "train"], 2, "etrax: error: unrecognized arguments: --nonsense\n"),
    ],
)
def test_the_front_answers_without_jax(words, status, told):
    heavy = ("jax", "brainstate", "brainunit", "matplotlib", "numpy")
    code = (
        "import atexit, sys; from etrax.cli import main; "
        f"atexit.register(lambda: print('imported', [m for m in {heavy} if m in sys.modules])); sys.exit(main({words}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert told in (done.stderr if status else done.stdout)
    assert done.stderr.count("\n") == (status == 2)
    assert done.stdout.splitlines()[-1] == "imported []"


def test_options_are_those_of_the_fields():
    """Each is read in the unit that its help names, and means what the field means."""
    parser = train.make_parser()
    words = [
        "--neurons",
        "7",
        "--tau-a",
        "150",
        "--beta",
        "0.4",
        "--rate-limit",
        "20",
        "--rate-cost",
        "0.5",
        "--seed",
        "3",
    ]
    words += ["--update", "25", "--window", "10", "90", "--tensorboard", "--keep", "1", "--min-delta", "0.01"]
    args = parser.parse_args(["digits", *words, "--clamp", "-1", "1"])
    with contextlib.ExitStack() as opened:
        task, recipe, changes = options.settings_of(args, opened)
    own = {"n_rec": 7, "tau_a": 150.0 * u.ms, "beta": 0.4 * u.mV, "rate_limit": 20.0 * u.Hz, "rate_cost": 0.5}
    assert recipe == dataclasses.replace(task.recipe, **own)
    assert changes == {
        "update": 25,
        "seed": 3,
        "loss_window": (10.0 * u.ms, 90.0 * u.ms),
        "tensorboard": True,
        "keep": 1,
        "min_delta": 0.01,
        "constraints": {experiment.WEIGHTS: training.Clamp(-1.0 * u.mS, 1.0 * u.mS)},
    }
    told = " ".join(parser.format_help().split())
    assert "--tau-a ms time constant of the adaptation, in ms --" in told
    assert "--keep N newest checkpoints to keep, beside the best (default: 3) network" in told
    assert "--validate-every N batches between validations (default: each epoch) --" in told
    assert (
        "--update WHEN when weights change: trial, chunk, step, or a number of steps between updates (default: trial) --"
        in told
    )
    assert "--epochs N passes over the training trials --" in told  # each task has its own


def test_the_command_is_installed():
    done = subprocess.run(
        [Path(sys.executable).with_name("etrax"), "train", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    for option in ("--seed", "--chunk-size", "--out", "--epochs", "--method", "--delay", "--resume", "--update"):
        assert option in done.stdout


@pytest.mark.slow
@pytest.mark.optimized
def test_digits_are_learnt():
    """The demo's promise: 93 % on the held-out digits, above the readout alone."""
    with brainstate.environ.context(dt=1.0 * u.ms):
        task = tasks.get("digits")
        full, readout = (experiment.fit(task, method=method) for method in ("d_rtrl", "readout"))
        accuracy = {r.method: training.evaluate(r.network, task.test(60)).accuracy for r in (full, readout)}
    assert accuracy["d_rtrl"] >= 0.93
    assert accuracy["d_rtrl"] > accuracy["readout"]


@pytest.mark.slow
@pytest.mark.optimized
def test_dms_is_learnt_over_a_delay():
    """Chance is one half; the readout alone cannot bridge the delay."""
    with brainstate.environ.context(dt=1.0 * u.ms):
        task = tasks.get("dms", delay=300.0 * u.ms)
        run = experiment.fit(task)
        assert training.evaluate(run.network, task.test(64)).accuracy > 0.8
