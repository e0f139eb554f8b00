"""A network of etrax as a model that NeuroBench's own harness scores.

The harness (package ``neurobench``; Yik et al. 2025, Nature Communications 16, 1545) counts on PyTorch modules by
hooks. The model made here runs the network in JAX and then plays what entered every layer and what every population
emitted through torch modules of the same weights, so that every metric of the harness sees them.
Needs the extra ``neurobench``, which brings torch, torchaudio and snntorch; nothing else in etrax does.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.analysis.probe import Probe, effective_weight
from etrax.neurons import LeakyReadout

__all__ = ["neurobench_model"]


def neurobench_model(model: brainstate.nn.Module) -> Any:
    """A ``neurobench.models.NeuroBenchModel`` of a network, for ``neurobench.benchmarks.Benchmark``.

    It takes torch tensors ``(batch, time, ...)``, starts every batch from the initial states and returns the outputs of
    the network, ``(batch, time, n_out)``. States of the network are left as they were.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network; its layers are `Linear`, `Conv2d` or `LeakyReadout`.

    Raises
    ------
    ModuleNotFoundError
        If the extra is not installed.
    ValueError
        If a layer has no counterpart in torch here; it is named.
    """
    return _Mirror.of(_extra(), model)


def _extra() -> SimpleNamespace:
    """torch and the harness; a ModuleNotFoundError says what to install."""
    try:
        import torch
        from neurobench.models import TorchModel
    except ImportError as error:
        raise ModuleNotFoundError(
            f"`neurobench_model` needs torch, torchaudio, snntorch and neurobench ({error}): pip install 'etrax[neurobench]'. "
            "`etrax.benchmark_figures` counts the same figures without them."
        ) from error
    return SimpleNamespace(torch=torch, TorchModel=TorchModel)


class _Mirror:
    """Makes the torch module that stands for a network."""

    @staticmethod
    def of(extra: SimpleNamespace, model: brainstate.nn.Module) -> Any:
        torch: Any = extra.torch
        base: Any = torch.nn.Module
        probe = Probe(model)
        if probe.uncounted:
            raise ValueError(
                f"the parameters {', '.join(probe.uncounted)} belong to layers that have no counterpart in torch here: use "
                "`brainstate.nn.Linear`, `brainstate.nn.Conv2d` or `etrax.neurons.LeakyReadout`."
            )

        class Neurons(base):
            """What a population emits, as it is."""

            def forward(self, x):
                return x

        class Net(base):
            """Layers and populations of the network under the names of their paths."""

            def __init__(self):
                super().__init__()
                self.layers = torch.nn.ModuleDict({_name(n): _layer(torch, n, m) for n, m in probe.layers.items()})
                self.neurons = torch.nn.ModuleDict({_name(n): Neurons() for n in (*probe.neurons, *probe.functions)})
                inside = sum(p.numel() * p.element_size() for p in self.parameters())
                left = sum(probe.memory()[:2]) - inside
                self.register_buffer(
                    "rest", torch.zeros(left, dtype=torch.uint8)
                )  # states, constants, other parameters

            def forward(self, batch):
                xs = jax.tree.map(lambda a: jnp.asarray(a.detach().cpu().numpy().swapaxes(0, 1)), batch)
                run = probe(xs)
                for t in range(jnp.shape(xs)[0]):
                    for name, calls in run.inputs.items():
                        for x in calls:
                            self.layers[_name(name)](self._tensor(_channels_first(probe.layers[name], x[t]), name))
                    for name, z in run.activations.items():
                        self.neurons[_name(name)](torch.from_numpy(np.array(z[t])))
                return torch.from_numpy(np.array(u.get_mantissa(run.outputs)).swapaxes(0, 1))

            def _tensor(self, x, name):
                return torch.from_numpy(np.array(x)).to(self.layers[_name(name)].weight.dtype)

        wrapped = extra.TorchModel(Net())
        wrapped.add_activation_module(Neurons)
        return wrapped


def _name(path: str) -> str:
    return path.replace(".", "_")


def _channels_first(layer, x):
    x = np.asarray(x)
    if isinstance(layer, brainstate.nn.Conv2d):
        return x if layer.channel_first else np.moveaxis(x, -1, 1)
    return x.reshape(len(x), -1) if isinstance(layer, LeakyReadout) else x


def _layer(torch, name: str, layer) -> Any:
    """The torch layer of the same weights."""
    weight = np.asarray(effective_weight(layer))
    value = layer.weight.value
    bias = value.get("bias") if isinstance(value, dict) else None
    bias = None if bias is None else np.asarray(u.get_mantissa(bias)).reshape(-1)
    if isinstance(layer, brainstate.nn.Conv2d):
        padding = layer.padding
        if isinstance(padding, str):
            padding = padding.lower()
        elif all(low == high for low, high in padding):
            padding = tuple(low for low, _ in padding)
        same_with_stride = padding == "same" and tuple(layer.stride) != (1, 1)
        if same_with_stride or (not isinstance(padding, str) and not isinstance(padding[0], int)):
            raise ValueError(f"the padding {layer.padding!r} of the layer {name} has no counterpart in torch.")
        twin = torch.nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            tuple(layer.kernel_size),
            stride=tuple(layer.stride),
            padding=padding,
            dilation=tuple(layer.rhs_dilation),
            groups=layer.groups,
            bias=bias is not None,
        )
        weight = weight.transpose(3, 2, 0, 1)
    elif isinstance(layer, brainstate.nn.Linear | brainstate.nn.SparseLinear | LeakyReadout):
        twin = torch.nn.Linear(*weight.shape, bias=bias is not None)
        weight = weight.T
    else:
        raise ValueError(f"the layer {name} ({type(layer).__name__}) has no counterpart in torch here.")
    twin.weight = torch.nn.Parameter(torch.from_numpy(np.array(weight)))
    if bias is not None:
        twin.bias = torch.nn.Parameter(torch.from_numpy(np.array(bias)))
    return twin
