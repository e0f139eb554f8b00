"""Firing rates of a model, and what high ones cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.contract import Neuron

from .options import TrainOptions

__all__ = ["dt_seconds", "mean_spikes", "rate_cost", "spiking"]


def rate_cost(model, options: TrainOptions) -> Callable[[], Any]:
    """The cost of high rates in the present step: of each neuron where the model has ``rates()``, else of populations."""
    if not options.rate_cost:
        return lambda: 0.0
    limit = float(options.rate_limit.to_decimal(u.Hz))
    if not hasattr(model, "rates") and not spiking(model):
        raise ValueError(
            "`rate_cost` needs neurons that spike, or a model with a method `rates()` in Hz; there are none."
        )

    def cost():
        if hasattr(model, "rates"):
            rates = model.rates()
            rates = rates.to_decimal(u.Hz) if isinstance(rates, u.Quantity) else rates
            return options.rate_cost * jnp.mean(jnp.square(jax.nn.relu(rates / limit - 1.0)))
        rates = [jnp.mean(neuron.get_spike()) / dt_seconds() for neuron in spiking(model)]
        return options.rate_cost * sum(jnp.square(jax.nn.relu(rate / limit - 1.0)) for rate in rates)

    return cost


def spiking(model: brainstate.nn.Module) -> list[Neuron]:
    """The populations of a model that spike."""
    return list(model.nodes(Neuron).values())


def mean_spikes(model, axis: int | None = None):
    """Spikes per neuron in the present step, of each trial if ``axis`` is 0."""
    spikes = [neuron.get_spike() for neuron in spiking(model)]
    if not spikes:
        return jnp.zeros(())
    keep = (lambda s: s.reshape(s.shape[0], -1)) if axis == 0 else jnp.ravel
    return jnp.mean(jnp.concatenate([keep(s) for s in spikes], axis=-1), axis=-1)


def dt_seconds() -> float:
    """The time step of the environment in seconds."""
    return float(brainstate.environ.get_dt().to_decimal(u.second))
