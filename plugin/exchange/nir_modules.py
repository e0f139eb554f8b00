"""What stands for the nodes of a NIR graph that are no neurons."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from .nir_graph import constant, last, turned

__all__ = ["CONVOLUTIONS", "MILLI", "ChannelsFirst", "LeakyIntegrator", "Pass", "layer_of", "leak_of"]

CONVOLUTIONS = ("Conv1d", "Conv2d")
MILLI = 1e3  # from SI to mS, mA, mV


class Pass(brainstate.nn.Module):
    """Hands a signal to neurons without weights: 1 becomes 1 A."""

    def update(self, x):
        """The signal as a conductance."""
        return x * (MILLI * u.mS)


class LeakyIntegrator(brainstate.nn.Module):
    """``v <- decay v + (1 - decay) rest + gain x``, one step of a state that nothing resets; no unit.

    Credit through its memory is not in a learner's trace; a `LeakyReadout` takes its place where it can.
    """

    def __init__(self, shape: tuple[int, ...], decay, gain, rest=0.0):
        super().__init__()
        self.shape, self.decay, self.gain, self.rest = shape, decay, gain, rest

    def init_state(self, batch_size: int | None = None, **kwargs) -> None:
        """Start at rest."""
        self.v = brainstate.HiddenState(self._start(batch_size))

    def reset_state(self, batch_size: int | None = None, **kwargs) -> None:
        """Go back to rest."""
        self.v.value = self._start(batch_size)

    def _start(self, batch_size: int | None):
        shape = self.shape if batch_size is None else (batch_size, *self.shape)
        return jnp.broadcast_to(jnp.asarray(self.rest, brainstate.environ.dftype()), shape)

    def update(self, x):
        """One step; returns ``v``."""
        self.v.value = self.v.value * self.decay + (1.0 - self.decay) * self.rest + self.gain * x
        return self.v.value


def leak_of(kind: str, node: Any, dt: float) -> Any:
    """What stands for an ``LI``, ``I`` or ``CubaLI``, integrated exactly for a current that is constant within a step."""
    shape = last(np.shape(node.r))
    r = turned(node.r, shape)
    if kind == "I":
        return LeakyIntegrator(shape, 1.0, r * dt)
    decay = np.exp(-dt / turned(node.tau_mem if kind == "CubaLI" else node.tau, shape))
    leak = LeakyIntegrator(shape, decay, (1.0 - decay) * r, turned(node.v_leak, shape))
    if kind == "LI":
        return leak
    written = turned(getattr(node, "written_tau_syn", node.tau_syn), shape)
    synapse = LeakyIntegrator(shape, np.exp(-dt / turned(node.tau_syn, shape)), turned(node.w_in, shape) * dt / written)
    return brainstate.nn.Sequential(synapse, leak)


class ChannelsFirst(brainstate.nn.Module):
    """A `brainstate.nn.Conv1d` of ``(channels, places)``, the order of NIR."""

    def __init__(self, layer: brainstate.nn.Conv1d):
        super().__init__()
        self.layer = layer
        self.in_size, self.out_size = layer.in_size[::-1], layer.out_size[::-1]

    def update(self, x):
        """What the layer gives, in the same order."""
        return u.math.swapaxes(self.layer(jnp.swapaxes(x, -1, -2)), -1, -2)


def layer_of(name: str, node: Any, factor: float, unit: u.Unit) -> Any:
    """The layer with the weights of a node, times a factor, in a unit."""
    if type(node).__name__ in CONVOLUTIONS:
        return _convolution(name, node, factor, unit)
    if np.ndim(node.weight) != 2:
        raise ValueError(f"the weights of `{name}` have {np.ndim(node.weight)} axes; etrax reads matrices only.")
    bias = getattr(node, "bias", None)
    return brainstate.nn.Linear(
        np.shape(node.weight)[1],
        np.shape(node.weight)[0],
        w_init=constant(np.asarray(node.weight).T * factor, unit),
        b_init=None if bias is None else constant(np.asarray(bias) * factor, unit),
    )


def _convolution(name: str, node: Any, factor: float, unit: u.Unit) -> Any:
    kernel = np.asarray(node.weight)
    axes = kernel.ndim - 2
    size = node.input_type["input"] if node.input_type["input"] is not None else (None,)
    if any(n is None for n in size):
        raise ValueError(f"the convolution `{name}` has no `input_shape`, which etrax needs: give it.")
    bias = None if node.bias is None or not np.any(node.bias) else np.asarray(node.bias).reshape(*[1] * axes, -1)
    layer = (brainstate.nn.Conv1d if axes == 1 else brainstate.nn.Conv2d)(
        (*(int(n) for n in size[1:]), kernel.shape[1] * int(node.groups)),
        kernel.shape[0],
        kernel.shape[2:],
        stride=_each(node.stride, axes),
        padding=node.padding.upper() if isinstance(node.padding, str) else [(n, n) for n in _each(node.padding, axes)],
        rhs_dilation=_each(node.dilation, axes),
        groups=int(node.groups),
        w_init=constant(np.moveaxis(kernel, (0, 1), (-1, -2)) * factor, unit),
        b_init=None if bias is None else constant(bias * factor, unit),
    )
    return ChannelsFirst(layer) if axes == 1 else layer


def _each(value: Any, axes: int) -> tuple[int, ...]:
    """One number for each axis."""
    return tuple(int(n) for n in np.broadcast_to(np.asarray(value), (axes,)))
