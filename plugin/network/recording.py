"""What a network does in one trial."""

from __future__ import annotations

import dataclasses
from typing import Any

import brainstate
import brainunit as u
import jax
import numpy as np

from etrax.checks import check_kind, whole_number
from etrax.learners.compilation import compile
from etrax.learners.d_rtrl import D_RTRL
from etrax.tasks import Recipe, Task

from .model import RecurrentALIF, copy_of

__all__ = ["TraceRecording", "Trial", "record_trace", "record_trial"]


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

    @property
    def n_steps(self) -> int:
        """Steps of the trial."""
        return len(self.spikes)

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

    @property
    def n_steps(self) -> int:
        """Steps of the trial."""
        return len(self.postsynaptic)


def record_trial(network: RecurrentALIF, task: Task, recipe: Recipe, *, index: int = 0) -> Trial:
    """Run one validation trial and keep what the network did; the network itself is left as it is."""
    whole_number("index", index, least=0)
    network = copy_of(network, task, recipe)
    batch = next(iter(task.validation(index + 1)))
    whole_number("index", index, least=0, most=batch.xs.shape[1] - 1)
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
    check_kind("trial", trial, Trial, "a Trial", "give what `record_trial` returned")
    neuron = trial.ranked(0.25) if neuron is None else neuron
    whole_number("neuron", neuron, least=0, most=recipe.n_rec - 1)
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
