"""Checkpoints: what goes in comes out, and nothing that is damaged is taken for whole."""

import contextlib
import os

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from etrax import storage
from etrax.files import atomic
from etrax.training import checkpoint

CONTENT = {
    "text": "ü",
    "numbers": [1, 0.1, float("inf"), None, True],
    "deep": {"a": {"b": [np.arange(3), jnp.ones((2, 2), jnp.bfloat16)]}},
    "weak": jnp.asarray(0.5),
    "key": jax.random.key(3),
}


def test_what_goes_in_comes_out(tmp_path):
    storage.save(tmp_path / "c.npz", CONTENT)
    back = storage.load(tmp_path / "c.npz")
    assert back["text"] == "ü"
    assert back["numbers"] == CONTENT["numbers"]
    numpy, half = back["deep"]["a"]["b"]
    assert isinstance(numpy, np.ndarray)
    assert half.dtype == jnp.bfloat16
    assert back["weak"].weak_type
    assert jnp.array_equal(jax.random.key_data(back["key"]), jax.random.key_data(CONTENT["key"]))
    with pytest.raises(TypeError, match="holds numbers, texts and arrays, got set at 'a'"):
        storage.save(tmp_path / "d.npz", {"a": {1}})
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


def test_damage_is_noticed_wherever_it_is(tmp_path):
    path = tmp_path / "c.npz"
    storage.save(path, {"array": np.arange(50.0)})
    whole = path.read_bytes()
    before = storage.load(path)["array"]
    for i in range(0, len(whole), 7):
        path.write_bytes(whole[:i])
        with pytest.raises(ValueError, match="damaged or cut off"):
            storage.load(path)
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :])
        with contextlib.suppress(ValueError):  # else it is a bit that means nothing, such as a date
            np.testing.assert_array_equal(storage.load(path)["array"], before)
    with pytest.raises(ValueError, match="none.npz"):
        storage.load(tmp_path / "none.npz")


def numbered(number):
    """A checkpoint that holds nothing but its number."""
    return {**dict.fromkeys(checkpoint.PARTS), "number": number}


def test_the_newest_stay_and_the_best(tmp_path):
    store = checkpoint.Checkpoints(tmp_path, keep=2)
    for number in range(5):
        store.save(number, numbered(number), best=number == 1)
    assert [path.name for path in store.paths()] == ["checkpoint-000000003.npz", "checkpoint-000000004.npz"]
    assert storage.load(tmp_path / "best.npz")["number"] == 1
    for path in store.paths():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="no checkpoint in .* is whole"):
        store.latest()


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    store = checkpoint.Checkpoints(tmp_path)
    store.save(1, numbered(1))

    def full(*names):
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        store.save(1, numbered(2))
    monkeypatch.undo()
    assert store.latest()["number"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_killed_process_leaves_only_a_draft(tmp_path):
    with atomic(tmp_path / "checkpoint-000000001.npz") as draft:
        (tmp_path / f"{draft.name[:-4]}0.npz").write_bytes(b"half")  # what another process left
        draft.write_bytes(b"")
    (tmp_path / "checkpoint-000000001.npz").unlink()
    store = checkpoint.Checkpoints(tmp_path)
    assert store.latest() is None
    assert len(list(tmp_path.iterdir())) == 1  # whoever looks deletes nothing: it may be of a process that lives
    store.tidy()
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_version(tmp_path, monkeypatch):
    store = checkpoint.Checkpoints(tmp_path)
    store.save(1, numbered(1))
    assert store.latest()["number"] == 1  # without a number it is of the first version
    store.save(2, {**numbered(2), "layout": checkpoint.LAYOUT + 1})
    with pytest.raises(
        ValueError, match=r"000002.npz' is of another version of etrax \(layout 2, here 1\): go on with that version"
    ):
        store.latest()
    for form in (0, 2):
        monkeypatch.setattr(storage, "FORMAT", form)
        store.save(3, numbered(3))
        monkeypatch.undo()
        message = rf"000003.npz' is of another version of etrax \(format {form}, here 1\): read it with that version"
        with pytest.raises(storage.OtherVersion, match=message):  # though an older one is whole
            store.latest()
    store.save(3, {"weights": 1})
    with pytest.raises(ValueError, match="000003.npz' is no checkpoint of a training .it lacks identity"):
        store.latest()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"b": brainstate.State(1.0)}, "it lacks b and has a"),
        ({"a": brainstate.State(jnp.ones(3) * u.mV)}, r"a has shapes \[\[2\]\]"),
        ({"a": brainstate.State(jnp.ones(2) * u.mS)}, "units .*mV.* there and .*mS.* here"),
    ],
)
def test_states_that_do_not_fit(other, message):
    packed = storage.pack_states({"a": brainstate.State(jnp.ones(2) * u.mV)})
    with pytest.raises(ValueError, match=message):
        storage.unpack_states(other, packed)


def test_random_numbers_go_on():
    packed = checkpoint.pack_random()
    first = [float(brainstate.random.rand()), np.random.rand()]  # noqa: NPY002 - the global state is what is restored
    checkpoint.unpack_random(packed)
    assert first == [float(brainstate.random.rand()), np.random.rand()]  # noqa: NPY002 - the global state is what is restored
