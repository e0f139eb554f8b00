"""Calls of constructors that are right, and calls that are refused: by Python, and by a type checker.

`make types` checks this file by itself, with the types of brainstate: a call that a checker wrongly refuses is an error,
and so is a comment that ignores an error where there is none any more. `test_arguments.py` makes the calls.
"""

from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit

import etrax
from etrax.neurons import ALIF, BRF, LIF, Gif, LeakyReadout
from etrax.synapses import AMPA, COBA, CUBA, STP, DualExpon, Expon, GABAa, MgBlock

u: Any = brainunit  # units are made when it is imported, so no checker sees them


class Slow(LIF):
    """A neuron of this package with one more constant."""

    tau_slow: Any = etrax.Constant(default=100.0 * u.ms, above=0, doc="Another time constant.")


ACCEPTED: list[Callable[[], object]] = [
    lambda: LIF(3),
    lambda: LIF((2, 3), 1.0 * u.ohm, 5.0 * u.ms, 1.0 * u.mV, 0.0 * u.mV, 0.0 * u.mV),
    lambda: LIF(in_size=3, tau=5.0 * u.ms, spk_fun=braintools.surrogate.Sigmoid(), spk_reset="hard", name="a"),
    lambda: LIF(3, detach_reset=True),
    lambda: LIF(3, tau=brainstate.nn.Param(5.0 * u.ms, t=brainstate.nn.SoftplusT(0.0 * u.ms))),
    lambda: ALIF(3, 1.0 * u.ohm, 5.0 * u.ms, 100.0 * u.ms, beta=0.2 * u.mV, name=None),
    lambda: BRF(3, omega=10.0 / u.second, gamma=0.5),
    lambda: Gif(3, V_th_initializer=braintools.init.Constant(-50.0 * u.mV)),
    lambda: Expon(3, "a", 5.0 * u.ms),
    lambda: DualExpon(3, normalize=False),
    lambda: AMPA(3, None, 1.0 / (u.ms * u.mM), pre=LIF(3)),
    lambda: GABAa(3, "a", T=1.0 * u.mM),
    lambda: STP(3, U=0.2, pre=LIF(3)),
    lambda: LeakyReadout(3, 2, 5.0 * u.ms, braintools.init.KaimingNormal(), "a", pre=LIF(3)),
    lambda: CUBA(),
    lambda: CUBA(u.volt),
    lambda: COBA(0.0 * u.mV),
    lambda: MgBlock(0.0 * u.mV, beta=2.0),
    lambda: Slow(3, tau=5.0 * u.ms, tau_slow=50.0 * u.ms),
]

REFUSED: list[Callable[[], object]] = [
    lambda: LIF(),  # type: ignore[call-arg]
    lambda: LIF(3, taux=5.0 * u.ms),  # type: ignore[call-arg]
    lambda: LIF(3, 1.0 * u.ohm, R=1.0 * u.ohm),  # type: ignore[misc]
    lambda: LIF(3, 1.0, 5.0, 1.0, 0.0, 0.0, print, print, "soft", "a", True),  # type: ignore[call-arg]
    lambda: BRF(3, spk_reset="soft"),  # type: ignore[call-arg]
    lambda: Expon(3, pre=LIF(3)),  # type: ignore[call-arg]
    lambda: Expon(3, tau_rise=5.0 * u.ms),  # type: ignore[call-arg]
    lambda: STP(3, None, 0.15, 1.0 * u.ms, 1.0 * u.ms, LIF(3)),  # type: ignore[call-arg]
    lambda: LeakyReadout(3),  # type: ignore[call-arg]
    lambda: COBA(),  # type: ignore[call-arg]
    lambda: CUBA(E=0.0 * u.mV),  # type: ignore[call-arg]
    lambda: Slow(3, 1.0, 5.0, tau_fast=50.0 * u.ms),  # type: ignore[call-arg]
]
