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
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.checks import check_array, check_model
from etrax.neurons import LeakyReadout
from etrax.text import Printed, Table

from .probe import CONVOLUTIONS, Probe, effective_weight

__all__ = ["BenchmarkFigures", "benchmark_figures"]


@dataclasses.dataclass(frozen=True, repr=False)
class BenchmarkFigures(Printed):
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

    def _parts(self):
        per_sample = f"per sample of {self.steps} steps"
        parts = f"(parameters {self.parameter_bytes:,}, states and constants {self.buffer_bytes:,})"
        rows = [
            ("footprint", f"{self.footprint:,} B {parts}"),
            ("connection sparsity", f"{self.connection_sparsity:.4f}"),
            ("activation sparsity", f"{self.activation_sparsity:.4f}"),
            ("effective MACs", f"{self.effective_macs:,.1f} {per_sample}"),
            ("effective ACs", f"{self.effective_acs:,.1f} {per_sample}"),
            ("dense operations", f"{self.dense:,.1f} {per_sample}"),
        ]
        yield Table(rows, ruled=False, indent=0, header=False)
        for name, layer in self.layers.items():
            yield f"  {name}: {layer['effective_macs']:,.1f} MACs, {layer['effective_acs']:,.1f} ACs of {layer['dense']:,.1f}"
        yield from (f"  not counted: {name}" for name in self.uncounted)


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

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> task = etrax.tasks.get("patterns", duration=50.0 * u.ms)
    >>> net, batch = etrax.network.build(task, etrax.tasks.Recipe(n_rec=6)), next(task.train(batch_size=2))
    >>> figures = etrax.benchmark_figures(net, batch.xs)
    >>> figures.row()["footprint_bytes"], 0.9 < figures.activation_sparsity < 1.0
    (828, True)
    """
    check_model(model)
    if isinstance(xs, tuple):
        raise TypeError("`xs` must be the inputs of a batch, got a tuple: write `batch.xs`.")
    for leaf in jax.tree.leaves(xs, is_leaf=u.math.is_quantity):
        check_array("xs", leaf)
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


def _operations(layer, present: np.ndarray, x) -> tuple[float, float, float]:
    """MACs, ACs and dense operations for inputs (T, B, ...) of one layer."""
    x = np.asarray(x)
    spiking = np.all((x == 0) | (np.abs(x) == 1), axis=tuple(range(1, x.ndim)))
    if isinstance(layer, CONVOLUTIONS):
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
