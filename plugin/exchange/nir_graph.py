"""A NIR graph as etrax reads it: opened, unfolded, with sizes and time constants in place."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax.numpy as jnp
import numpy as np

from etrax.files import as_path

__all__ = [
    "check_discretization",
    "check_reach",
    "constant",
    "discretized",
    "initializer",
    "last",
    "opened",
    "plain",
    "sized",
    "turned",
    "unfolded",
]

_OF_NEURONS = ("tau", "tau_mem", "tau_syn", "r", "v_leak", "v_threshold", "v_reset", "w_in")
_TOO_MANY = 100  # steps from rest to threshold
_NO_LEAK = 1e9  # steps in the time constant of neurons that have none


def check_discretization(discretization: str) -> str:
    """A ValueError unless it is one that is known."""
    if discretization not in ("exact", "euler"):
        raise ValueError(f"`discretization` must be 'exact' or 'euler', got {discretization!r}.")
    return discretization


def opened(nir: Any, path: str | os.PathLike) -> Any:
    """The graph in a file; other simulators write inputs with an axis of time or batches, which NIR's own check refuses."""
    if not as_path(path, "graph").is_file():
        raise ValueError(f"`graph` {os.fspath(path)!r} is not a file: give a file that NIR has written.")
    try:
        return nir.read(os.fspath(path), type_check=False)
    except OSError as error:
        raise ValueError(
            f"`graph` {os.fspath(path)!r} cannot be read ({error}): give a file that NIR has written."
        ) from error


def sized(nodes: dict[str, Any], edges: list[tuple[str, str]]) -> dict[str, Any]:
    """The nodes, with constants of one number spread over as many neurons as what is before them reaches."""
    found = dict(nodes)
    for name, node in nodes.items():
        constants = [key for key in _OF_NEURONS if hasattr(node, key)]
        if not constants or any(np.size(getattr(node, key)) > 1 for key in constants):
            continue
        shapes = {shape for a, b in edges if b == name if (shape := _reached(nodes[a])) is not None}
        shape = shapes.pop() if len(shapes) == 1 else np.shape(np.atleast_1d(getattr(node, constants[0])))
        found[name] = copy.copy(node)
        for key in constants:
            setattr(found[name], key, np.broadcast_to(np.reshape(getattr(node, key), -1), shape))
    return found


def _reached(node: Any) -> tuple[int, ...] | None:
    """The shape of what a node gives, as far as it can be told; that of an input may have axes of time or batches too."""
    weighs = hasattr(node, "weight")
    if weighs and np.ndim(node.weight) == 2:
        return (np.shape(node.weight)[0],)
    stated = (
        node.output_type["output"] if weighs else node.input_type["input"] if type(node).__name__ == "Input" else ()
    )
    known = stated is not None and len(stated) and (weighs or len(stated) == 1)
    return tuple(int(n) for n in stated) if known else None


def check_reach(nodes: dict[str, Any], edges: list[tuple[str, str]], dt: float) -> None:
    """Warn of neurons without leak that hardly move in a step: their graph may count time in steps."""
    for name, node in nodes.items():
        if type(node).__name__ != "IF":
            continue
        weights = [np.asarray(nodes[a].weight) for a, b in edges if b == name and hasattr(nodes[a], "weight")]
        most = max((np.abs(w).reshape(len(w), -1).sum(1).max() for w in weights), default=1.0)
        steps = np.min(np.asarray(node.v_threshold) / np.asarray(node.r)) / (dt * max(most, 1e-300))
        if steps > _TOO_MANY:
            warnings.warn(
                f"`{name}` has no leak and reaches its threshold after {steps:.2g} steps at the earliest, if every input is 1 in each, as "
                f"`dt` is {dt:g} s: a graph that counts time in steps, as sinabs writes it, is read with a `dt` of 1 s.",
                stacklevel=4,
            )


def discretized(name: str, node: Any, dt: float, *, euler: bool) -> Any:
    """A node with the time constants that give its decay with an exact step; a warning where ``dt`` passes over them.

    A step of Euler decays by ``1 - dt / tau``, an exact one by ``exp(-dt / tau')``: equal for ``tau' = -dt / log(1 - dt / tau)``,
    and so is what a current adds.
    """
    kind = type(node).__name__
    if kind == "IF":
        steps = _NO_LEAK * dt
        more = {"tau": np.full(np.shape(node.r), steps), "r": np.asarray(node.r, float) * steps, "v_leak": 0.0 * node.r}
        return SimpleNamespace(**{**vars(node), **more, "metadata": node.metadata})
    if kind not in ("LIF", "CubaLIF", "LI", "CubaLI"):
        return node
    held = {key: np.asarray(getattr(node, key), float) for key in ("tau", "tau_mem", "tau_syn") if hasattr(node, key)}
    shortest = min(float(tau.min()) for tau in held.values())
    if euler and shortest <= dt:
        raise ValueError(
            f"`discretization` is 'euler', but `{name}` has a time constant of {shortest:g} s and `dt` is {dt:g} s: a step of Euler must "
            "be shorter; use the `dt` that the graph was trained with."
        )
    if shortest < dt:
        warnings.warn(
            f"`{name}` has a time constant of {shortest:g} s but `dt` is {dt:g} s, so it forgets within a step: use the `dt` that the "
            "graph was trained with.",
            stacklevel=4,
        )
    if not euler:
        return node
    node = copy.copy(node)
    for key, tau in held.items():
        setattr(node, key, -dt / np.log1p(-dt / tau))
    if "tau_syn" in held:  # what a spike adds to the synapse is that of the graph
        node.written_tau_syn = held["tau_syn"]
    return node


def unfolded(graph, prefix: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Nodes and edges with the graphs inside put in their place; the inputs and outputs of those vanish."""
    nodes: dict[str, Any] = {}
    edges = [(f"{prefix}{a}", f"{prefix}{b}") for a, b in graph.edges]
    for key, node in graph.nodes.items():
        name = f"{prefix}{key}"
        if type(node).__name__ != "NIRGraph":
            nodes[name] = node
            continue
        inner, more = unfolded(node, f"{name}.")
        ports = {kind: [k for k, n in inner.items() if type(n).__name__ == kind] for kind in ("Input", "Output")}
        edges = [(a, c) for a, b in edges for c in (ports["Input"] if b == name else [b])]
        edges = [(c, b) for a, b in edges for c in (ports["Output"] if a == name else [a])] + more
        nodes.update(inner)
        for port in (*ports["Input"], *ports["Output"]):
            edges = _without(port, edges)
            del nodes[port]
    return nodes, edges


def _without(port: str, edges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Edges past a node that hands on what it gets."""
    before = [a for a, b in edges if b == port]
    after = [b for a, b in edges if a == port]
    return [(a, b) for a, b in edges if port not in (a, b)] + [(a, b) for a in before for b in after]


def last(shape: Any) -> tuple[int, ...]:
    """A shape of NIR with the channels of an image last."""
    return (shape[1], shape[2], shape[0]) if len(shape) == 3 else tuple(shape)


def turned(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Values in that shape."""
    values = np.asarray(values, float)
    values = values.transpose(1, 2, 0) if values.ndim == 3 else values
    return plain(np.broadcast_to(values, shape))


def plain(values: Any) -> Any:
    """One number in place of an array of equal ones: it makes a smaller trace."""
    values = np.asarray(values, float)
    return float(values.flat[0]) if values.size and np.all(values == values.flat[0]) else np.array(values)


def constant(value: np.ndarray, unit: u.Unit) -> Any:
    return u.maybe_decimal(u.Quantity(jnp.asarray(value, brainstate.environ.dftype()), unit=unit))


def initializer(value: Any) -> Callable:
    return braintools.init.Constant(value) if u.math.ndim(value) == 0 else value
