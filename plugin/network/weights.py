"""Weights of a network on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp

from etrax import storage
from etrax.checks import check_model
from etrax.files import as_path

__all__ = ["load_weights", "param_states", "save_weights"]


def save_weights(path: str | os.PathLike, network: brainstate.nn.Module) -> None:
    """Write the trainable parameters of a network with their units; the file is there in full or not at all.

    Parameters
    ----------
    path : path
        Of a file in the format of checkpoints, by custom ``.npz``.
    network : brainstate.nn.Module
        Any model.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import tempfile
    >>> task, path = etrax.tasks.get("dms", delay=20.0 * u.ms), tempfile.mkdtemp() + "/weights.npz"
    >>> one, other = (etrax.network.build(task, seed=seed) for seed in (1, 2))
    >>> etrax.network.save_weights(path, one)
    >>> etrax.network.load_weights(path, other)
    >>> bool((one.readout.weight.value == other.readout.weight.value).all())
    True
    """
    check_model(network, "network")
    if not param_states(network):
        raise ValueError(
            f"`network` {type(network).__name__} has no trainable parameters, so there is nothing to save."
        )
    storage.save(path, {"weights": storage.pack_states(param_states(network))})


def load_weights(path: str | os.PathLike, network: brainstate.nn.Module) -> None:
    """Set the trainable parameters of a network to those of a file.

    Parameters
    ----------
    path : path
        What :func:`save_weights` wrote, or a checkpoint of a training, ``best.npz`` for instance. The msgpack files of
        earlier versions are read too.
    network : brainstate.nn.Module
        Built with the sizes and units of the one that was saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or holds other parameters, or some of another shape or unit.
    """
    path = as_path(path)
    check_model(network, "network")
    if not path.is_file():
        raise FileNotFoundError(
            f"`path` {str(path)!r} is not a file: give the weights that `save_weights` wrote, or a checkpoint."
        )
    states = param_states(network)
    with open(path, "rb") as file:
        zipped = file.read(2) == b"PK"
    packed = _of_npz(path, network) if zipped else _of_msgpack(path, states)
    if wrong := storage.misfit(states, packed):
        raise ValueError(
            f"the weights in {str(path)!r} do not fit the network ({wrong}): build it with the task and sizes it was trained with."
        )
    for name, state in states.items():
        leaves, structure = jax.tree.flatten(state.value)
        new = [jnp.asarray(leaf, old.dtype) for leaf, old in zip(packed[name]["leaves"], leaves, strict=True)]
        state.value = jax.tree.unflatten(structure, new)


def param_states(network: brainstate.nn.Module) -> dict[str, brainstate.State]:
    """The trainable parameters of a network, by dotted name."""
    return {".".join(map(str, path)): state for path, state in network.states(brainstate.ParamState).items()}


def _of_npz(path: Path, network: brainstate.nn.Module) -> dict[str, Any]:
    """The packed weights of a file of weights, or those of the model in a checkpoint, which holds much else."""
    content = storage.load(path)
    if "weights" in content:
        return content["weights"]
    packed, states = {}, content.get("states", {})
    for key in network.states(brainstate.ParamState):
        name = ".".join(map(str, key))
        for there in (f"model.{name}", f"_params.{key}"):  # the learner's names; BPTT gives the second
            if there in states:
                packed[name] = states[there]
    return packed


def _of_msgpack(path: Path, states: dict[str, brainstate.State]) -> dict[str, Any]:
    """The packed weights of a file that `braintools.file.msgpack_save` wrote.

    They are read bare: with a target, braintools takes arrays of any shape and drops those that have no place.
    """
    try:
        bare = braintools.file.msgpack_load(os.fspath(path))
    except (ValueError, braintools.file.InvalidCheckpointPath) as error:
        raise ValueError(
            f"`path` {str(path)!r} holds no weights ({error}): give a file that `save_weights` wrote, or a checkpoint."
        ) from error
    here = [unit for state in states.values() for unit in _units(state.value)]
    packed = {}
    for name, value in bare.items() if isinstance(bare, dict) else ():
        leaves = jax.tree.leaves(value, is_leaf=_is_quantity)
        units = [_unit(leaf) if _is_quantity(leaf) else u.UNITLESS for leaf in leaves]
        packed[name] = {
            "leaves": [leaf["mantissa"] if _is_quantity(leaf) else leaf for leaf in leaves],
            "units": [str(next((own for own in here if own == unit), unit)) for unit in units],  # under the same name
        }
    return packed


def _is_quantity(bare: Any) -> bool:
    return isinstance(bare, dict) and "mantissa" in bare


def _unit(bare: dict[str, Any]) -> u.Unit:
    return u.Unit(dim=u.Dimension(bare["dim"]), **{name: bare[name] for name in ("scale", "base", "factor")})


def _units(value: Any) -> list[u.Unit]:
    return [u.get_unit(leaf) for leaf in jax.tree.leaves(value, is_leaf=lambda leaf: isinstance(leaf, u.Quantity))]
