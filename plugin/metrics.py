r"""The complexity figures of NeuroBench for a network: footprint, sparsities and synaptic operations.

Yik et al. 2025, Nature Communications 16, 1545, "The NeuroBench framework for benchmarking neuromorphic computing
algorithms and systems", section "Algorithm track: metrics"; counted as its harness does (package ``neurobench``):

* *footprint*: bytes of parameters and of what a running network keeps (states of one copy, constants).
* *connection sparsity*: share of the weights that are zero, over all layers; a connection that is masked out or left
  out counts as one of weight zero.
* *activation sparsity*: share of zeros in the output of all neurons, over all steps and samples.
* *synaptic operations* of a sample: for an input :math:`x` and weights :math:`W` of a layer, dense
  :math:`\sum_{ij} 1`, effective :math:`\sum_{ij} [x_i \neq 0][W_{ij} \neq 0]`; summed over the steps of the sample and
  averaged over samples. Effective operations of a step whose inputs are all -1, 0 or 1 are accumulates (ACs), the
  others multiply-accumulates (MACs). Biases are no synaptic operations.

A `LeakyReadout` filters the spikes before it weighs them, which gives what weights before the filter would give: it is
counted as that, on the spikes that enter it.
"""

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

from .constant import declared, is_trained, read
from .module import check_dt
from .neurons import LeakyReadout
from .pattern import pattern_of
from .sequence import check_sequences

__all__ = ["BenchmarkFigures", "Probe", "benchmark_figures", "effective_weight", "spiking_modules", "watched"]

_CONVOLUTIONS = (brainstate.nn.Conv1d, brainstate.nn.Conv2d, brainstate.nn.Conv3d)
_LAYERS = (brainstate.nn.Linear, brainstate.nn.SparseLinear, LeakyReadout, *_CONVOLUTIONS)
_ACTIVATIONS = (brainstate.nn.ReLU, brainstate.nn.Sigmoid)


@dataclasses.dataclass(frozen=True)
class BenchmarkFigures:
    """What :func:`benchmark_figures` counts; prints as a table.

    Attributes
    ----------
    footprint, parameter_bytes, buffer_bytes : int
        Bytes: all, those of parameters, those of states and constants.
    parameters : int
        Number of trainable values.
    connection_sparsity, activation_sparsity : float
        Between 0 and 1.
    effective_macs, effective_acs, dense : float
        Synaptic operations per sample.
    steps, samples : int
        Steps of a sample and samples that were run.
    layers : dict
        ``layer -> {"effective_macs", "effective_acs", "dense", "connection_sparsity"}``.
    rates : dict
        ``neurons -> share of non-zero outputs``.
    uncounted : list of str
        Layers with parameters that these definitions do not cover here: their operations are missing.
    """

    footprint: int
    parameter_bytes: int
    buffer_bytes: int
    parameters: int
    connection_sparsity: float
    activation_sparsity: float
    effective_macs: float
    effective_acs: float
    dense: float
    steps: int
    samples: int
    layers: dict[str, dict[str, float]]
    rates: dict[str, float]
    uncounted: list[str]

    def row(self) -> dict[str, float]:
        """The figures as columns of a table of experiments."""
        names = ("footprint", "connection_sparsity", "activation_sparsity", "effective_macs", "effective_acs", "dense")
        return {f"{name}_bytes" if name == "footprint" else name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        per_step = f"per sample of {self.steps} steps"
        lines = [
            f"footprint            {self.footprint:,} B (parameters {self.parameter_bytes:,}, states and constants "
            f"{self.buffer_bytes:,})",
            f"connection sparsity  {self.connection_sparsity:.4f}",
            f"activation sparsity  {self.activation_sparsity:.4f}",
            f"effective MACs       {self.effective_macs:,.1f} {per_step}",
            f"effective ACs        {self.effective_acs:,.1f} {per_step}",
            f"dense operations     {self.dense:,.1f} {per_step}",
        ]
        for name, layer in self.layers.items():
            lines.append(
                f"  {name}: {layer['effective_macs']:,.1f} MACs, {layer['effective_acs']:,.1f} ACs of {layer['dense']:,.1f}"
            )
        lines += [f"  not counted: {name}" for name in self.uncounted]
        return "\n".join(lines)

    __repr__ = __str__


def benchmark_figures(model: brainstate.nn.Module, xs: Any) -> BenchmarkFigures:
    """NeuroBench's complexity figures of a network on a batch of inputs.

    The model starts from its initial states; its states are afterwards what they were (they are created if it has none).

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network, of any neurons that have ``get_spike`` and of `brainstate.nn` layers.
    xs : array (T, B, ...)
        Time-major inputs of B samples.

    Returns
    -------
    BenchmarkFigures

    Raises
    ------
    ValueError
        If ``dt`` is not set or ``xs`` has no axes for time and samples.
    """
    probe = Probe(model)
    run = probe(xs)
    T, B = jnp.shape(xs)[:2]
    layers, zeros, weights = {}, 0, 0
    for name, layer in probe.layers.items():
        present = np.asarray(effective_weight(layer)) != 0
        missing, size = int(present.size - present.sum()), int(present.size)
        zeros, weights = zeros + missing, weights + size
        total = {"effective_macs": 0.0, "effective_acs": 0.0, "dense": 0.0}
        for x in run.inputs[name]:
            macs, acs, dense = _operations(layer, present, x)
            for key, value in zip(total, (macs, acs, dense), strict=True):
                total[key] += value / B
        layers[name] = {**total, "connection_sparsity": missing / size}
    active = {name: float(np.mean(np.asarray(z) != 0)) for name, z in run.activations.items()}
    sizes = {name: np.size(z) for name, z in run.activations.items()}
    outputs = max(1, sum(sizes.values()))
    parameter_bytes, buffer_bytes, parameters = probe.memory()
    return BenchmarkFigures(
        footprint=parameter_bytes + buffer_bytes,
        parameter_bytes=parameter_bytes,
        buffer_bytes=buffer_bytes,
        parameters=parameters,
        connection_sparsity=zeros / max(1, weights),
        activation_sparsity=1.0 - sum(active[n] * sizes[n] for n in active) / outputs if active else 0.0,
        effective_macs=sum(layer["effective_macs"] for layer in layers.values()),
        effective_acs=sum(layer["effective_acs"] for layer in layers.values()),
        dense=sum(layer["dense"] for layer in layers.values()),
        steps=T,
        samples=B,
        layers=layers,
        rates=active,
        uncounted=probe.uncounted,
    )


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
        nodes = {".".join(map(str, path)): node for path, node in model.nodes().items()}
        self.model = model
        self.layers: dict[str, Any] = {name: node for name, node in nodes.items() if isinstance(node, _LAYERS)}
        self.neurons = spiking_modules(model)
        self.functions = {name: node for name, node in nodes.items() if isinstance(node, _ACTIVATIONS)}
        counted = {id(s) for layer in self.layers.values() for s in layer.states().values()}
        paths = {
            path: state
            for path, state in model.states(brainstate.ParamState).items()
            if any(jnp.ndim(leaf) > 1 for leaf in jax.tree.leaves(state.value))
        }
        self.uncounted = [".".join(map(str, path)) for path, state in paths.items() if id(state) not in counted]
        self._run = brainstate.transform.jit(self._loop)

    def __call__(self, xs: Any) -> Recorded:
        """Run from the initial states over ``xs`` (T, B, ...); the states are afterwards what they were."""
        check_sequences((xs,))
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
    return {".".join(map(str, path)): node for path, node in outer.items()}


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


def _operations(layer, present: np.ndarray, x) -> tuple[float, float, float]:
    """MACs, ACs and dense operations for inputs (T, B, ...) of one layer."""
    x = np.asarray(x)
    spiking = np.all((x == 0) | (np.abs(x) == 1), axis=tuple(range(1, x.ndim)))
    if isinstance(layer, _CONVOLUTIONS):
        effective, dense = (
            _convolved(layer, x != 0, present),
            _convolved(layer, np.ones_like(x), np.ones_like(present)),
        )
    else:
        lead = 2 if isinstance(layer, LeakyReadout) else x.ndim - 1
        flat = (x != 0).reshape(*x.shape[:lead], -1)
        effective = (flat @ present.sum(axis=1, dtype=float)).reshape(len(x), -1).sum(axis=1)
        dense = np.full(len(x), flat[0].size * present.shape[1], float)
    return float(effective[~spiking].sum()), float(effective[spiking].sum()), float(dense.sum())


def _convolved(layer, x, kernel) -> np.ndarray:
    """Connections that meet an input, per step, for a convolution."""
    y = jax.lax.conv_general_dilated(
        jnp.asarray(x, jnp.float32).reshape(-1, *x.shape[2:]),
        jnp.asarray(kernel, jnp.float32),
        window_strides=layer.stride,
        padding=layer.padding,
        lhs_dilation=layer.lhs_dilation,
        rhs_dilation=layer.rhs_dilation,
        feature_group_count=layer.groups,
        dimension_numbers=layer.dimension_numbers,
    )
    return np.asarray(y, float).reshape(len(x), -1).sum(axis=1)
