"""The network that `etrax.training` trains, its weights on disk, and what it does in one trial."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import numpy as np

from .files import atomic
from .learner import D_RTRL, compile
from .neurons import ALIF, LeakyReadout
from .synapses import CUBA, AlignPostProj, Expon
from .tasks import Recipe, Task

__all__ = [
    "RecurrentALIF",
    "TraceRecording",
    "Trial",
    "build",
    "load_weights",
    "record_trace",
    "record_trial",
    "save_weights",
]


class RecurrentALIF(brainstate.nn.Module):
    """Recurrent adaptive neurons with a leaky readout.

    Input spikes and the neurons' own spikes of the step before reach all neurons through one weight matrix and an
    exponential synapse; the readout weighs low-passed spikes.

    Parameters
    ----------
    n_in, n_out : int
        Input channels and outputs.
    recipe : Recipe
        Sizes, time constants and the scale of the initial weights.
    """

    def __init__(self, n_in: int, n_out: int, recipe: Recipe):
        super().__init__()
        n_rec, fan_in = recipe.n_rec, n_in + recipe.n_rec
        self.neurons = ALIF(n_rec, tau=recipe.tau, tau_a=recipe.tau_a, beta=recipe.beta)
        scale = float(recipe.weight_scale.to_decimal(u.mS)) / fan_in**0.5
        self.projection = AlignPostProj(
            comm=brainstate.nn.Linear(
                fan_in, n_rec, w_init=braintools.init.Normal(0.0 * u.mS, scale * u.mS), b_init=None
            ),
            syn=Expon(n_rec, tau=recipe.tau_syn),
            out=CUBA(),
            post=self.neurons,
        )
        w_out = braintools.init.Normal(0.0, n_rec**-0.5)
        self.readout = LeakyReadout(n_rec, n_out, tau=recipe.tau_out, w_init=w_out, pre=self.neurons)

    def update(self, x):
        """One step: spikes ``(B, n_in)`` to outputs ``(B, n_out)``."""
        self.projection(u.math.concatenate([x, self.neurons.get_spike()], axis=-1))
        return self.readout(self.neurons())

    def rates(self):
        """Firing rates of the neurons, low-passed by the readout's filter, shape ``(B, n_rec)``, in Hz."""
        dt = brainstate.environ.get_dt()
        decay = u.math.exp(-dt / self.readout.tau)
        return self.readout.s.value * (1.0 - decay) / float(dt.to_decimal(u.second))


def build(task: Task, recipe: Recipe | None = None, *, seed: int = 0) -> RecurrentALIF:
    """A network for a task, with initial weights drawn from ``seed`` (the task's recipe if none is given)."""
    with brainstate.random.seed_context(seed):
        return RecurrentALIF(task.n_in, task.n_out, task.recipe if recipe is None else recipe)


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
    states = _param_states(network)
    try:
        loaded = braintools.file.msgpack_load(os.fspath(path), target=_weights(network))
    except ValueError as error:
        raise ValueError(
            f"the weights in {str(path)!r} do not fit the network ({error}): build it with the task and sizes it was trained with."
        ) from error
    for name, state in states.items():
        state.value = loaded[name]


def _param_states(network: brainstate.nn.Module) -> dict[str, brainstate.State]:
    return {".".join(map(str, path)): state for path, state in network.states(brainstate.ParamState).items()}


def _weights(network: brainstate.nn.Module) -> dict[str, Any]:
    return {name: state.value for name, state in _param_states(network).items()}


def copy_of(network: RecurrentALIF, task: Task, recipe: Recipe) -> RecurrentALIF:
    """A network with the same weights and states of its own."""
    copy = build(task, recipe)
    for name, state in _param_states(copy).items():
        state.value = _param_states(network)[name].value
    return copy


# -- one trial -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial of a network, step by step; ``dt`` is the step.

    Attributes
    ----------
    inputs, spikes : array (T, n_in), (T, n_rec)
        Spikes that went in and spikes of the neurons.
    V, threshold : Quantity (T, n_rec)
        Membrane potential after each step and the threshold it was compared with.
    a : array (T, n_rec)
        Adaptation, in spikes.
    output : array (T, n_out)
        The readout.
    label : int or None
        The right answer; None where there is not one for the whole trial.
    mask : array (T,)
        Steps at which the answer counts.
    target : array (T, n_out), optional
        What the outputs of a regression should be.
    """

    dt: u.Quantity
    inputs: Any
    spikes: Any
    V: Any
    threshold: Any
    a: Any
    output: Any
    label: int | None
    mask: Any
    target: Any = None

    def ranked(self, share: float) -> int:
        """The neuron at that share of the ranking by spikes in the trial: 0 is the busiest, 1 the quietest."""
        ranking = np.argsort(-self.spikes.sum(axis=0), kind="stable")
        return int(ranking[int(share * (len(ranking) - 1))])


@dataclasses.dataclass(frozen=True)
class TraceRecording:
    """Eligibility traces of the synapses onto one neuron over one trial.

    Attributes
    ----------
    neuron : int
        The postsynaptic neuron.
    n_in : int
        Input channels: they come first among the presynaptic ones, the neurons of the network after them.
    traces : dict
        State name -> Quantity (T, n_in + n_rec), ``d state / d weight`` for each presynaptic channel.
    presynaptic : array (T, n_in + n_rec)
        Spikes that entered the synapses.
    postsynaptic : array (T,)
        Spikes of the neuron.
    """

    dt: u.Quantity
    neuron: int
    n_in: int
    traces: dict[str, Any]
    presynaptic: Any
    postsynaptic: Any


def record_trial(network: RecurrentALIF, task: Task, recipe: Recipe, *, index: int = 0) -> Trial:
    """Run one validation trial and keep what the network did; the network itself is left as it is."""
    network = copy_of(network, task, recipe)
    batch = next(iter(task.validation(index + 1)))
    brainstate.nn.init_all_states(network, batch_size=1)
    neurons = network.neurons

    def step(x):
        out = network(x)
        threshold = neurons.V_th + neurons.beta * neurons.a.value
        return out, neurons.get_spike(), neurons.V.value, threshold, neurons.a.value

    xs = batch.xs[:, index : index + 1]
    recorded = brainstate.transform.for_loop(step, xs)
    output, spikes, V, threshold, a = jax.tree.map(lambda leaf: leaf[:, 0], recorded)
    asked, mask = np.asarray(batch.ys)[:, index], np.asarray(batch.mask)
    one = not (task.regression or task.stepwise)
    return Trial(
        dt=brainstate.environ.get_dt(),
        inputs=np.asarray(xs[:, 0]),
        spikes=np.asarray(spikes),
        V=V,
        threshold=threshold,
        a=np.asarray(a),
        output=np.asarray(output),
        label=int(asked[np.flatnonzero(mask)[-1]]) if one else None,
        mask=mask,
        target=asked if task.regression else None,
    )


def record_trace(
    network: RecurrentALIF, task: Task, recipe: Recipe, trial: Trial, *, neuron: int | None = None
) -> TraceRecording:
    """Eligibility traces at every step of a recorded trial, for the synapses onto one neuron.

    Without ``neuron``, one that spikes more than three quarters of all do is taken.
    """
    neuron = trial.ranked(0.25) if neuron is None else neuron
    network = copy_of(network, task, recipe)
    weight = network.projection.comm.weight
    xs = trial.inputs[:, None]
    learner = compile(network, D_RTRL, xs[0], batch_size=1)

    def step(x):
        before = network.neurons.get_spike()
        learner(x)
        traces = learner.get_etrace_of(weight)
        return before[0], {str(path[-1]): leaf["weight"][0, :, neuron] for path, leaf in traces.items()}

    recurrent, traces = brainstate.transform.for_loop(step, xs)
    return TraceRecording(
        dt=trial.dt,
        neuron=neuron,
        n_in=task.n_in,
        traces=traces,
        presynaptic=np.concatenate([trial.inputs, np.asarray(recurrent)], axis=1),
        postsynaptic=trial.spikes[:, neuron],
    )
