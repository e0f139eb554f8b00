"""Weights of a network on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import brainstate
import braintools

from etrax.files import atomic

__all__ = ["load_weights", "param_states", "save_weights"]


def save_weights(path: str | os.PathLike, network: brainstate.nn.Module) -> None:
    """Write the trainable parameters of a network as msgpack; the file is there in full or not at all."""
    with atomic(path) as draft:
        braintools.file.msgpack_save(os.fspath(draft), _weights(network))


def load_weights(path: str | os.PathLike, network: brainstate.nn.Module) -> None:
    """Set the trainable parameters of a network to those that :func:`save_weights` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file holds other parameters, or some of another shape or unit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` {str(path)!r} is not a file: give the weights that `save_weights` wrote.")
    states = param_states(network)
    try:
        loaded = braintools.file.msgpack_load(os.fspath(path), target=_weights(network))
    except ValueError as error:
        raise ValueError(
            f"the weights in {str(path)!r} do not fit the network ({error}): build it with the task and sizes it was trained with."
        ) from error
    for name, state in states.items():
        state.value = loaded[name]


def param_states(network: brainstate.nn.Module) -> dict[str, brainstate.State]:
    return {".".join(map(str, path)): state for path, state in network.states(brainstate.ParamState).items()}


def _weights(network: brainstate.nn.Module) -> dict[str, Any]:
    return {name: state.value for name, state in param_states(network).items()}
