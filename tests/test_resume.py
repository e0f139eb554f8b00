"""A training that is stopped, by hand, by a fault or by a kill, goes on as if it had not been."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import brainstate
import braintools
import numpy as np
import pytest
import trained
from trained import rows, same

import etrax
from etrax.training import checkpoint


class Interrupted(trained.Stream):
    def __next__(self):
        if self.count == 16:
            signal.raise_signal(signal.SIGINT)
        return super().__next__()


def test_ctrl_c_saves_and_the_rest_is_the_same(whole, tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
    try:
        _stop_and_go_on(whole, tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)


def _stop_and_go_on(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt, match="batch 17, which is saved"):
        trained.short(tmp_path, stream=Interrupted())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    brainstate.random.seed(99)
    same(trained.short(tmp_path, resume=True), whole[1])
    assert (tmp_path / "log.csv").read_bytes() == (whole[0] / "log.csv").read_bytes()
    same(trained.short(tmp_path, resume=True), whole[1])  # it is finished: nothing happens
    assert len(rows(tmp_path)) == len({row["batch"] for row in rows(tmp_path)})


def test_a_wrong_argument_leaves_what_is_finished(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="'nothing', which fits no parameter"):
        trained.short(tmp_path, resume=True, constraints={"nothing": etrax.Clamp(low=0.0)})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    with pytest.raises(
        ValueError, match=r"holds a training that is finished \(40 batches, stopped by 'max_batches'\): go on with"
    ):
        trained.short(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


@pytest.mark.slow
def test_a_first_batch_that_fails_leaves_room_for_another_training(whole, tmp_path):
    with pytest.raises(FloatingPointError, match="batch 1 "):
        trained.short(tmp_path, stream=trained.Stream(bad_at=1))
    same(trained.short(tmp_path), whole[1])


@pytest.mark.slow
def test_a_batch_is_validated_once(tmp_path):
    data = [*trained.validation()] * 2
    calls = []

    def go_on(batches):
        def validation():
            calls.append(batches)
            return data

        options = etrax.TrainOptions(epochs=3, max_batches=batches, patience=5, min_delta=100.0)
        etrax.train(trained.learner(), data, options, validation=validation, folder=tmp_path, resume=True)

    for batches in (2, 4, 5):  # the first two end with an epoch
        go_on(batches)
    assert calls == [2, 4, 5]
    assert checkpoint.Checkpoints(tmp_path).latest()["position"]["since_best"] == 2  # the first one is the lowest


def test_other_options_do_not_resume(whole):
    with pytest.raises(ValueError, match="`clip_norm` is 2.0 but the training to resume was begun with 1.0"):
        trained.short(whole[0], resume=True, clip_norm=2.0)
    slow = braintools.optim.StepLR(base_lr=1e-3, step_size=7, gamma=0.7)
    begun = braintools.optim.StepLR(base_lr=3e-2, step_size=7, gamma=0.7)
    for changes, message in (
        ({"optimizer": braintools.optim.Adam(lr=slow)}, "is Adam with the learning rate 0.001 but .* rate 0.03"),
        ({"loss": "stepwise_cross_entropy"}, "`loss` is stepwise_cross_entropy but .*begun with cross_entropy"),
    ):
        given = {"optimizer": braintools.optim.Adam(lr=begun), **changes}
        with pytest.raises(ValueError, match=message):
            etrax.train(trained.learner(), trained.Stream(), trained.options(), folder=whole[0], resume=True, **given)


@pytest.mark.slow
def test_a_longer_training_goes_on(whole, tmp_path):
    trained.short(tmp_path, max_batches=20)
    same(trained.short(tmp_path, resume=True), whole[1])


@pytest.mark.slow
def test_a_damaged_checkpoint_is_not_taken(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained.short(tmp_path, stream=Interrupted())
    newest = checkpoint.Checkpoints(tmp_path).paths()[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=f"{newest.name}.*damaged or cut off.*Going on from .*000015"):
        same(trained.short(tmp_path, resume=True), whole[1])
    assert (tmp_path / "log.csv").read_bytes() == (whole[0] / "log.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_killed_at_any_moment_and_resumed(whole, tmp_path):
    """Bit for bit the same weights and log as in one piece."""
    script = [sys.executable, str(Path(trained.__file__)), str(tmp_path)]
    cache = {"JAX_COMPILATION_CACHE_DIR": f"{tmp_path}-jax", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    chance = random.Random()
    moments = sorted(chance.uniform(0, 0.9) for _ in range(3))
    total = (whole[0] / "log.csv").stat().st_size
    for moment in moments:
        process = subprocess.Popen(script, env={**os.environ, **cache}, stderr=subprocess.PIPE)
        while process.poll() is None and _size(tmp_path / "log.csv") <= moment * total:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0), moments  # on a busy machine it may be done by then
    done = subprocess.run(script, env={**os.environ, **cache}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "weights.npz") as ours:
        same(ours.values(), whole[1])
    assert (tmp_path / "log.csv").read_bytes() == (whole[0] / "log.csv").read_bytes(), moments
    assert not list(tmp_path.glob(".*")), "drafts are left"


def _size(path):
    return path.stat().st_size if path.exists() else 0


@pytest.mark.slow
def test_curves_for_tensorboard_have_no_point_twice(tmp_path, whole):
    pytest.importorskip("tensorboardX")
    with pytest.raises(KeyboardInterrupt):
        trained.short(tmp_path, stream=Interrupted(), tensorboard=True)
    trained.short(tmp_path, resume=True, tensorboard=True)
    assert (tmp_path / "log.csv").read_bytes() == (whole[0] / "log.csv").read_bytes()
    files = [path for path in (tmp_path / "tensorboard").rglob("*") if path.is_file()]
    assert len(files) == 1
    assert files[0].read_bytes().count(b"validation_loss") == trained.BATCHES // 5
