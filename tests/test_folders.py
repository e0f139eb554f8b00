"""Folders of trainings: what is there stays, one process writes at a time, and a disk that fails costs one batch."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import brainstate
import brainunit as u
import networks
import numpy as np
import pytest
import trained

import etrax
from etrax import cli
from etrax.training import checkpoint
from etrax.training.folder import begun, claimed

HOLD = "import sys; from etrax.training.folder import claimed\nwith claimed(sys.argv[1]): print('held', flush=True); sys.stdin.read()"


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def data():
    """A batch of trials, the same each time."""
    return list(trained.validation())


def train(folder, epochs=1, *, task=None, **given):
    """A training of an epoch or more on one batch."""
    options = etrax.TrainOptions(epochs=epochs, checkpoint_every=1, log_every=1, batch_size=8)
    return etrax.train(trained.learner(), data() if task is None else task, options, folder=folder, **given)


# -- one process at a time -----------------------------------------------------------------
@pytest.mark.skipif(os.name != "posix", reason="locks and SIGKILL are of POSIX")
def test_one_process_at_a_time(tmp_path, capsys):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    (tmp_path / f".checkpoint-000000001.{holder.pid}.npz").write_bytes(b"half")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"`folder` .* is in use by process {holder.pid}: wait until it ends"):
        train(tmp_path)
    with pytest.raises(SystemExit):
        cli.main(["train", "patterns", "--out", str(tmp_path), "--restart"])
    assert f"`out` {str(tmp_path)!r} is in use by process {holder.pid}" in capsys.readouterr().err
    assert not begun(tmp_path)
    assert contents(tmp_path) == before  # nor is anything deleted that the other one is about to rename
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert train(tmp_path).batches == 1
    assert not list(tmp_path.glob(".*"))


def test_a_folder_is_let_go_of(tmp_path):
    for _ in range(2):
        with claimed(tmp_path), pytest.raises(ValueError, match="is in use"), claimed(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


# -- what is there stays -------------------------------------------------------------------
@pytest.mark.parametrize("kind", networks.thorough(["task", "list", "function", "generators"], "task"))
def test_more_epochs_are_those_of_one_training(kind, tmp_path):
    def small():
        return etrax.tasks.get("patterns", duration=20.0 * u.ms)

    def generators(epoch):
        yield from data()

    def go(folder, epochs, resume=False):
        task = {"task": small(), "list": data(), "function": lambda epoch: data(), "generators": generators}[kind]
        brainstate.random.seed(0)
        net = etrax.network.build(small(), etrax.tasks.Recipe(n_rec=4)) if kind == "task" else trained.learner()
        options = etrax.TrainOptions(epochs=epochs, batch_size=512, log_every=1)
        result = etrax.train(net, task, options, folder=folder, resume=resume)
        return result, trained.weights(result.learner)

    whole, weights = go(tmp_path / "whole", 2)
    go(tmp_path / "parts", 1)
    result, ours = go(tmp_path / "parts", 2, resume=True)
    assert (result.stopped, result.batches) == ("epochs", whole.batches)
    assert result.batches == 2
    assert [row["epoch"] for row in result.history] == [1, 2]
    for a, b in zip(ours, weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (tmp_path / "parts" / "log.csv").read_bytes() == (tmp_path / "whole" / "log.csv").read_bytes()


def test_nothing_is_written_over(tmp_path):
    train(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(
        ValueError, match=r"a training that is finished \(1 batches, stopped by 'epochs'\): .*more `epochs`"
    ):
        train(tmp_path)
    for path in tmp_path.glob("*.npz"):
        path.unlink()
    with pytest.raises(ValueError, match="holds a log.csv without checkpoints"):
        train(tmp_path)
    assert (tmp_path / "log.csv").read_bytes() == next(v for k, v in before.items() if k.name == "log.csv")


def test_a_mistyped_folder_is_not_resumed(tmp_path):
    with pytest.raises(ValueError, match="`folder` .*typo' does not exist, so there is nothing to resume"):
        train(tmp_path / "typo", resume=True)
    assert not list(tmp_path.iterdir())
    (tmp_path / "letter.txt").write_text("hello")
    with pytest.raises(ValueError, match="holds no checkpoint, so there is nothing to resume: check its name"):
        train(tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_folder_in_place_of_a_file(tmp_path):
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(ValueError, match="log.csv' cannot be written .*directory.*move away"):
        train(tmp_path)


# -- a disk that fails ---------------------------------------------------------------------
class Breaks:
    """An epoch of equal batches, before one of which something happens."""

    def __init__(self, at, what):
        self.at, self.what = at, what

    def __call__(self, epoch):
        for number in range(4):
            if number == self.at:
                self.what()
            yield from data()


def test_a_full_disk(tmp_path, monkeypatch):
    def full(*names):
        raise OSError(errno.ENOSPC, "No space left on device")

    for place in ("whole", "parts"):
        (tmp_path / place).mkdir()
    train(tmp_path / "whole", task=Breaks(9, full))
    with pytest.raises(
        OSError,
        match=r"^the checkpoint of batch 3 cannot be written to .*parts' \(No space left on device\); the last good checkpoint is "
        r".*000002.npz'. Make room there, .* `resume=True`.$",
    ) as told:
        train(tmp_path / "parts", task=Breaks(2, lambda: monkeypatch.setattr(os, "replace", full)))
    assert told.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert checkpoint.Checkpoints(tmp_path / "parts").latest()["position"]["count"] == 2
    assert train(tmp_path / "parts", task=Breaks(9, full), resume=True).batches == 4
    assert (tmp_path / "parts" / "log.csv").read_bytes() == (tmp_path / "whole" / "log.csv").read_bytes()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is full, as Linux has one")
def test_a_log_that_cannot_be_written(tmp_path):
    (tmp_path / "log.csv").symlink_to("/dev/full")
    with pytest.raises(
        OSError, match="of batch 0 cannot be written .*No space left on device.; there is no checkpoint"
    ):
        train(tmp_path)


@pytest.mark.parametrize("instead", [False, True], ids=["", "a file in its place"])
def test_a_folder_that_goes(instead, tmp_path):
    folder = tmp_path / "run"

    def gone():
        shutil.rmtree(folder)
        if instead:
            folder.touch()

    with pytest.raises(OSError, match="of batch 3 cannot be written to .*run' .*there is no checkpoint. Make room"):
        train(folder, task=Breaks(2, gone))


# -- the command line ----------------------------------------------------------------------
SMALL = ["patterns", "--neurons", "4", "--batch-size", "512", "--no-controls"]


def run(*words):
    """The exit status of the command."""
    with brainstate.environ.context(precision=32):
        try:
            return cli.main(["train", *words])
        except SystemExit as stop:
            return stop.code


def test_a_command_does_not_wipe_what_it_made(tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    assert run(*SMALL, "--epochs", "1", *out) == 0
    before = contents(tmp_path)
    capsys.readouterr()
    assert run(*SMALL, "--epochs", "1", *out) == 2
    told = capsys.readouterr().err
    assert "holds a training that is finished (1 batches, stopped by 'epochs'): go on with `--resume" in told
    assert told.count("\n") == 1
    assert contents(tmp_path) == before
    shutil.move(tmp_path / "runs", tmp_path / "elsewhere")
    assert run(*SMALL, *out) == 2
    assert "holds the weights of a training" in capsys.readouterr().err
    shutil.move(tmp_path / "elsewhere", tmp_path / "runs")

    assert run("patterns", "--resume", str(tmp_path), "--epochs", "2") == 0
    assert json.loads((tmp_path / "arguments.json").read_text())["epochs"] == 2
    assert checkpoint.Checkpoints(tmp_path / "runs" / "d_rtrl").latest()["position"]["count"] == 2
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 3
    assert run(*SMALL, "--epochs", "1", "--restart", *out) == 0
    assert checkpoint.Checkpoints(tmp_path / "runs" / "d_rtrl").latest()["position"]["count"] == 1


@pytest.mark.parametrize("text", ["[]", "{", "\xff"])
def test_arguments_that_are_none(text, tmp_path, capsys):
    (tmp_path / "arguments.json").write_bytes(text.encode("latin-1"))
    assert run("patterns", "--resume", str(tmp_path)) == 2
    told = capsys.readouterr().err
    assert "holds no training (arguments.json: " in told
    assert told.count("\n") == 1


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
    from etrax.cli import train as command

    def full(*names):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr(command, "save_weights", full)
    assert run(*SMALL, "--epochs", "1", "--out", str(tmp_path)) == 1
    told = capsys.readouterr().err
    assert "error: [Errno 28] No space left on device" in told
    assert f"to go on: etrax train patterns --resume {tmp_path}" in told
    monkeypatch.undo()
    assert run("patterns", "--resume", str(tmp_path)) == 0


def test_figures_are_no_folder(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["figures", "patterns", "--neurons", "4", "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert f"`out` {str(tmp_path)!r} is a folder: name a file in it" in capsys.readouterr().err
