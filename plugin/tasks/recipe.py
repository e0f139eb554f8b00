"""A network and how long to train it."""

from __future__ import annotations

import dataclasses

import brainunit as u

from etrax.checks import positive

__all__ = ["Recipe"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A network and how long to train it.

    Attributes
    ----------
    n_rec : int
        Recurrent ALIF neurons.
    tau, tau_a, tau_syn, tau_out : Quantity
        Time constants of membrane, adaptation, synapse and readout.
    beta : Quantity
        Rise of the threshold per spike; the resting threshold is 1 mV.
    weight_scale : Quantity
        Standard deviation of the initial weights times the square root of the number of inputs.
    rate_limit : Quantity
        Firing rate, low-passed by the readout's filter, up to which a neuron may fire at no cost.
    rate_cost : float
        Weight of the cost ``mean(max(0, rate / rate_limit - 1)^2)`` beside the cross-entropy; 0 leaves it out.
    batch_size, epochs : int
        Trials per update, and passes over the training trials.
    learning_rate : float
        Of Adam at the start; falls to a twentieth along half a cosine.

    Raises
    ------
    ValueError
        If a number is not positive, or a whole number where one is needed.
    """

    n_rec: int = 100
    tau: u.Quantity = dataclasses.field(default_factory=lambda: 20.0 * u.ms)
    tau_a: u.Quantity = dataclasses.field(default_factory=lambda: 200.0 * u.ms)
    tau_syn: u.Quantity = dataclasses.field(default_factory=lambda: 10.0 * u.ms)
    tau_out: u.Quantity = dataclasses.field(default_factory=lambda: 40.0 * u.ms)
    beta: u.Quantity = dataclasses.field(default_factory=lambda: 0.5 * u.mV)
    weight_scale: u.Quantity = dataclasses.field(default_factory=lambda: 3.0 * u.mS)
    rate_limit: u.Quantity = dataclasses.field(default_factory=lambda: 100.0 * u.Hz)
    rate_cost: float = 0.1
    batch_size: int = 32
    epochs: int = 30
    learning_rate: float = 1e-2

    def __post_init__(self):
        for name in ("n_rec", "batch_size", "epochs"):
            positive(name, getattr(self, name), whole=True)
        for name in ("tau", "tau_a", "tau_syn", "tau_out"):
            positive(name, getattr(self, name), unit=u.ms)
        positive("beta", self.beta, unit=u.mV)
        positive("weight_scale", self.weight_scale, unit=u.mS)
        positive("rate_limit", self.rate_limit, unit=u.Hz)
        positive("learning_rate", self.learning_rate)
        if not self.rate_cost >= 0:
            raise ValueError(f"`rate_cost` must be a number from 0 on, got {self.rate_cost!r}.")
