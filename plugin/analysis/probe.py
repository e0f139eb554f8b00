"""Runs a model and keeps what enters its layers and what its neurons emit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.checks import check_dt, check_sequences, check_values
from etrax.contract import Dynamics
from etrax.contract.constant import declared, is_trained, read
from etrax.contract.pattern import pattern_of
from etrax.neurons import LeakyReadout
from etrax.text import dotted

__all__ = ["ACTIVATIONS", "CONVOLUTIONS", "LAYERS", "Probe", "effective_weight", "spiking_modules", "watched"]

CONVOLUTIONS = (brainstate.nn.Conv1d, brainstate.nn.Conv2d, brainstate.nn.Conv3d)
LAYERS = (brainstate.nn.Linear, brainstate.nn.SparseLinear, LeakyReadout, *CONVOLUTIONS)
ACTIVATIONS = (brainstate.nn.ReLU, brainstate.nn.Sigmoid)


@contextmanager
def watched(changes: list[tuple[Any, str, Callable]]) -> Iterator[None]:
    """Let functions take the place of methods inside the block: ``(module, name of the method, function)`` each."""
    before = [vars(module).get(name) for module, name, _ in changes]
    try:
        for module, name, function in changes:
            vars(module)[name] = function
        yield
    finally:
        for (module, name, _), old in zip(changes, before, strict=True):
            if old is None:
                vars(module).pop(name, None)
            else:
                vars(module)[name] = old


@dataclasses.dataclass(frozen=True)
class Recorded:
    """Outputs (T, B, ...) of a run; inputs of every layer, one array per call in a step; activations by module."""

    outputs: Any
    inputs: dict[str, list]
    activations: dict[str, Any]


class Probe:
    """Runs a model over sequences and keeps what enters its layers and what its neurons emit.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network.
    """

    def __init__(self, model: brainstate.nn.Module):
        check_dt()
        nodes = {dotted(path): node for path, node in model.nodes().items()}
        self.model = model
        self.layers: dict[str, Any] = {name: node for name, node in nodes.items() if isinstance(node, LAYERS)}
        self.neurons = spiking_modules(model)
        self.functions = {name: node for name, node in nodes.items() if isinstance(node, ACTIVATIONS)}
        counted = {id(s) for layer in self.layers.values() for s in layer.states().values()}
        paths = {
            path: state
            for path, state in model.states(brainstate.ParamState).items()
            if any(jnp.ndim(leaf) > 1 for leaf in jax.tree.leaves(state.value))
        }
        self.uncounted = [dotted(path) for path, state in paths.items() if id(state) not in counted]
        self._run = brainstate.transform.jit(self._loop)

    def __call__(self, xs: Any) -> Recorded:
        """Run from the initial states over ``xs`` (T, B, ...); the states are afterwards what they were."""
        check_sequences((xs,))
        check_values((xs,))
        if any(jnp.ndim(leaf) < 2 for leaf in jax.tree.leaves(xs)):
            raise ValueError(f"`xs` must have axes for time and samples, (T, B, ...), got shape {jnp.shape(xs)}.")
        batch = jnp.shape(jax.tree.leaves(xs)[0])[1]
        with self._kept():
            brainstate.nn.reset_all_states(self.model, batch_size=batch)
            return Recorded(*self._run(xs))

    def memory(self) -> tuple[int, int, int]:
        """Bytes of parameters, bytes of the states of one copy and of constants, number of trainable values."""
        with self._kept():
            brainstate.nn.reset_all_states(self.model, batch_size=1)
            states = list(self.model.states().values())
            params = [leaf for s in states if isinstance(s, brainstate.ParamState) for leaf in jax.tree.leaves(s.value)]
            others = [leaf for s in states if not _is_kept(s) for leaf in jax.tree.leaves(s.value)]
        for node in self.model.nodes().values():
            if not isinstance(node, Dynamics):
                continue  # the constants of outputs are few, and no arrays
            given = {name: vars(node).get(name) for name in declared(type(node))}
            others += [
                leaf for value in given.values() if not is_trained(value) for leaf in jax.tree.leaves(read(value))
            ]
        return sum(map(_nbytes, params)), sum(map(_nbytes, others)), sum(int(np.size(leaf)) for leaf in params)

    @contextmanager
    def _kept(self):
        if not self.model.states(brainstate.HiddenState):
            brainstate.nn.init_all_states(self.model)
        states = [*self.model.states().values(), brainstate.random.DEFAULT]
        before = [state.value for state in states]
        try:
            yield
        finally:
            for state, value in zip(states, before, strict=True):
                state.value = value

    def _loop(self, xs):
        inputs: dict[str, list] = {}
        outputs: dict[str, Any] = {}

        def layer(name, update):
            def call(x):
                inputs[name].append(u.get_mantissa(x))
                return update(x)

            return call

        def function(name, update):
            def call(x):
                outputs[name] = update(x)
                return outputs[name]

            return call

        changes = [(m, "update", layer(name, m.update)) for name, m in self.layers.items()]
        changes += [(m, "update", function(name, m.update)) for name, m in self.functions.items()]

        def step(x):
            inputs.update({name: [] for name in self.layers})
            outputs.clear()
            out = self.model(x)
            spikes = {name: neuron.get_spike() for name, neuron in self.neurons.items()}
            return out, dict(inputs), {**spikes, **outputs}

        with watched(changes):
            return brainstate.transform.for_loop(step, xs)


def _is_kept(state) -> bool:
    return isinstance(state, brainstate.ParamState | brainstate.random.RandomState)


def _nbytes(leaf) -> int:
    leaf = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
    return int(np.size(leaf)) * leaf.dtype.itemsize


def spiking_modules(model: brainstate.nn.Module) -> dict[str, Any]:
    """Everything in a model that emits spikes, by dotted path; of an adapted neuron the adapter, not what is inside."""
    found = {path: n for path, n in model.nodes().items() if hasattr(n, "get_spike") and hasattr(n, "varshape")}
    outer = {path: n for path, n in found.items() if not any(path[:k] in found for k in range(len(path)))}
    return {dotted(path): node for path, node in outer.items()}


def effective_weight(layer) -> Any:
    """The weights of a layer as it uses them, dense: ``(n_in, n_out)``, or the kernel of a convolution."""
    pattern = pattern_of(layer)
    if pattern is None:  # a convolution or a leaky readout
        value = layer.weight.value
        return u.get_mantissa(value["weight"] if isinstance(value, dict) else value)
    weight = u.get_mantissa(pattern.weights())
    if pattern.pre is None:
        return weight
    shape = (math.prod(layer.in_size), math.prod(layer.out_size))
    return jnp.zeros(shape, weight.dtype).at[pattern.pre, pattern.post].add(weight)
