"""The network that a recipe describes."""

from __future__ import annotations

from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.checks import check_kind, check_seed, whole_number
from etrax.neurons import ALIF, LeakyReadout
from etrax.synapses import CUBA, AlignPostProj, Expon
from etrax.tasks import Recipe, Task

from .weights import param_states

__all__ = ["RecurrentALIF", "build", "copy_of"]


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
        check_kind("recipe", recipe, Recipe, "an etrax.tasks.Recipe", "write e.g. `etrax.tasks.Recipe(n_rec=100)`")
        n_in, n_out = whole_number("n_in", n_in), whole_number("n_out", n_out)
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
    """A network for a task, with initial weights drawn from ``seed`` (the task's recipe if none is given).

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> task = etrax.tasks.get("dms", delay=20.0 * u.ms)
    >>> net = etrax.network.build(task, etrax.tasks.Recipe(n_rec=50), seed=1)
    >>> net.projection.comm.weight.value["weight"].shape  # inputs and spikes of the step before, neurons
    (86, 50)
    """
    check_kind("task", task, Task, "an etrax.tasks.Task", "write e.g. `etrax.tasks.get('dms')`")
    check_seed(seed)
    with brainstate.random.seed_context(seed):
        return RecurrentALIF(task.n_in, task.n_out, task.recipe if recipe is None else recipe)


def copy_of(network: RecurrentALIF, task: Task, recipe: Recipe) -> RecurrentALIF:
    """A network with the same weights and states of its own."""
    check_kind("network", network, brainstate.nn.Module, "a RecurrentALIF", "it comes first, then its task and recipe")
    copy = build(task, recipe)
    given, own = param_states(network), param_states(copy)
    wrong = [
        name for name, state in own.items() if name not in given or _sizes(given[name].value) != _sizes(state.value)
    ]
    if wrong:
        raise ValueError(
            f"`network` has no {wrong[0]} of the shape that task and recipe ask for: give the task and the recipe that it was built with, "
            "as `etrax.network.build` takes them."
        )
    for name, state in own.items():
        state.value = given[name].value
    return copy


def _sizes(value: Any) -> list[tuple[int, ...]]:
    return [jnp.shape(leaf) for leaf in jax.tree.leaves(value)]
