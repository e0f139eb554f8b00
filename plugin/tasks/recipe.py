"""A network and how long to train it.

The metadata of a field is its option of the command line: see `etrax.cli.options`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import brainunit as u

from etrax.checks import check_array, positive

__all__ = ["Recipe"]


@dataclass(frozen=True)
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

    n_rec: int = field(default=100, metadata={"name": "neurons", "help": "recurrent neurons"})
    tau: u.Quantity = field(
        default_factory=lambda: 20.0 * u.ms, metadata={"unit": u.ms, "help": "time constant of the membrane"}
    )
    tau_a: u.Quantity = field(
        default_factory=lambda: 200.0 * u.ms, metadata={"unit": u.ms, "help": "time constant of the adaptation"}
    )
    tau_syn: u.Quantity = field(
        default_factory=lambda: 10.0 * u.ms, metadata={"unit": u.ms, "help": "time constant of the synapses"}
    )
    tau_out: u.Quantity = field(
        default_factory=lambda: 40.0 * u.ms, metadata={"unit": u.ms, "help": "time constant of the readout"}
    )
    beta: u.Quantity = field(
        default_factory=lambda: 0.5 * u.mV, metadata={"unit": u.mV, "help": "rise of the threshold per spike"}
    )
    weight_scale: u.Quantity = field(
        default_factory=lambda: 3.0 * u.mS,
        metadata={"unit": u.mS, "help": "spread of the initial weights times the root of the number of inputs"},
    )
    rate_limit: u.Quantity = field(default_factory=lambda: 100.0 * u.Hz, metadata={"unit": u.Hz})
    rate_cost: float = 0.1
    batch_size: int = 32
    epochs: int = 30
    learning_rate: float = 1e-2

    def __post_init__(self):
        for name in ("n_rec", "batch_size", "epochs"):
            positive(name, getattr(self, name), whole=True)
        for each in fields(self):
            if "unit" in each.metadata:
                positive(each.name, getattr(self, each.name), unit=each.metadata["unit"])
        positive("learning_rate", self.learning_rate)
        check_array("rate_cost", self.rate_cost, u.UNITLESS)
        if not self.rate_cost >= 0:
            raise ValueError(f"`rate_cost` must be a number from 0 on, got {self.rate_cost!r}.")
