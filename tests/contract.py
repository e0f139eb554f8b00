"""The contract of modules as a table: one row per module; `test_contract.py` puts every row through every property.

To add a module, add a row to ``NEURONS``, ``SYNAPSES``, ``FILTERS``, ``READOUTS`` or ``OUTPUTS``. A row names the class
and the constants with which it is tried; the reference is the class of the same name in `brainpy.state`, or a function
in NumPy. Neurons and the ways into them (`pathways.py`) are paired in turn, so that a new row meets several of the others
at once; ``pytest -m slow`` tries every pair. The table of models in the README is made of these rows (`test_readme.py`).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax.numpy as jnp
import numpy as np

from etrax import neurons, synapses
from etrax.contract import Current

N, T = 4, 28  # T is a multiple of the chunk length: one compilation


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """How one module is tried.

    Attributes
    ----------
    cls : type
        The class under test.
    constants : dict
        Arguments of its constructor, those of the reference too.
    name : str
        The row's name, if a class has several.
    reference : callable, optional
        ``(constants, dt, xs, options) -> {state: values (T, N)}, spikes (T, N)`` in NumPy, in place of `brainpy.state`.
    twin : str
        Name of the class in `brainpy.state`, if it has another one there.
    source : str
        Where the model is from, if `brainpy.state` does not have it.
    rtol : float
        Of the simulated values.
    hidden : tuple of str
        States that the reference does not have.
    differs : tuple of str
        Arguments whose defaults are not those of the reference, for a reason that docs/models.md gives.
    linear : bool
        Whether every entry of the Jacobian is constant; of a neuron, every one but those of the spike where the reset is
        detached.
    dt : Quantity
        Time step.
    gain : float
        Factor of the weights where gradients are compared.
    """

    kind = ""
    cls: type
    constants: dict = dataclasses.field(default_factory=dict)
    name: str = ""
    reference: Callable | None = None
    twin: str = ""
    source: str = ""
    rtol: float = 1e-12
    hidden: tuple = ()
    differs: tuple = ()
    linear: bool = False
    dt: Any = dataclasses.field(default_factory=lambda: 1.0 * u.ms)
    gain: float = 1.0

    def __str__(self):
        return self.name or self.cls.__name__

    def options(self):
        """Combinations of options under which the row is tried."""
        return [{}]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class NeuronRow(Row):
    """A neuron.

    Attributes
    ----------
    drive : Quantity
        A current at which it spikes, in the unit of its input.
    strengths : tuple of float
        Multiples of ``drive`` at which values are compared.
    rest, E : Quantity
        Typical potential, and the reversal potential of what excites it.
    jump : Quantity
        A delta input that matters.
    resets : tuple of str
        Kinds of reset; empty if it has no such option.
    """

    kind = "neuron"
    drive: Any = dataclasses.field(default_factory=lambda: 2.0 * u.mA)
    strengths: tuple = (0.7, 1.5, 3.0)
    rest: Any = dataclasses.field(default_factory=lambda: 0.0 * u.mV)
    E: Any = dataclasses.field(default_factory=lambda: 6.0 * u.mV)
    jump: Any = dataclasses.field(default_factory=lambda: 0.4 * u.mV)
    resets: tuple = ("soft", "hard")

    def build(self, **options):
        """The neuron, ``N`` of them."""
        return self.cls(N, **self.constants, **options)

    def inputs(self, steps=T, seed=0, strength=None):
        """Random currents (steps, N), ``strength`` times the drive."""
        rng = np.random.default_rng(seed)
        strength = self.strengths[-1] if strength is None else strength
        return strength * self.drive * jnp.asarray(rng.uniform(0.0, 2.0, (steps, N)))

    def options(self):
        """Every combination of reset and ``detach_reset``."""
        resets = [{"spk_reset": r} for r in self.resets] or [{}]
        return [{**r, "detach_reset": detach} for r in resets for detach in (False, True)]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SynapseRow(Row):
    """A synapse aligned with the neurons that it feeds; its constructor takes ``g_initializer``."""

    kind = "synapse"

    def build(self, unit=u.mS, size=N):
        """The synapse, with conductances in ``unit``."""
        return self.cls(size, **self.constants, g_initializer=braintools.init.Constant(0.0 * unit))

    def inputs(self, steps=T, seed=0):
        """Weighted spikes (steps, N)."""
        rng = np.random.default_rng(seed)
        return jnp.asarray(rng.random((steps, N)) < 0.2) * rng.uniform(0.0, 2.0, (steps, N)) * u.mS


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FilterRow(Row):
    """What spikes pass through before they are weighed; ``conducts`` if conductances come out, not spikes."""

    kind = "filter of spikes"
    conducts: bool = True

    def build(self, size=N, **options):
        """The filter; ``pre`` may be among the options."""
        return self.cls(size, **self.constants, **options)

    def inputs(self, steps=T, seed=0):
        """Spikes (steps, N)."""
        return jnp.asarray(np.random.default_rng(seed).random((steps, N)) < 0.2) * 1.0


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ReadoutRow(FilterRow):
    """A filter of spikes that weighs them as well."""

    kind = "readout"

    def build(self, size=N, **options):
        """The readout, of three outputs."""
        weight = np.random.default_rng(7).normal(size=(size, 3))
        return self.cls(size, 3, **self.constants, w_init=jnp.asarray(weight), **options)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class OutputRow(Row):
    """A synaptic output; ``build`` gives one that makes about ``(E - rest) g`` of a conductance at rest."""

    kind = "output"
    build: Callable


# ----------------------------------------------------------------------------------------------- references in NumPy


def seadlif(constants, dt, xs, options):
    """Baronig et al. 2024, arXiv 2408.07517; V_rest = 0 and R = 1 as there. Kept: the potential before the reset, the w it saw."""
    number = {k: u.get_mantissa(v) for k, v in constants.items()}
    alpha, beta = np.exp(-dt / number["tau"]), np.exp(-dt / number["tau_w"])
    V, w = np.zeros(xs.shape[1:]), np.zeros(xs.shape[1:])
    kept, spikes = {"V": [], "w": []}, []
    for I in xs:
        before = alpha * V + (1 - alpha) * (-w + I)
        z = (before >= number["V_th"]).astype(float)
        V = before - z * (number["V_th"] if options.get("spk_reset") == "soft" else before)
        kept["V"].append(before)
        kept["w"].append(w)
        spikes.append(z)
        w = beta * w + (1 - beta) * (number["a"] * V + number["b"] * z)
    return {k: np.array(v) for k, v in kept.items()}, np.array(spikes)


def brf(constants, dt, xs, options):
    """Higuchi et al. 2024, arXiv 2402.14603, in complex numbers and seconds; theta_c = 1. Kept: the q that V was compared with."""
    omega, b_offset = constants["omega"] * u.second, constants["b_offset"] * u.second
    dt, gamma = 1e-3 * dt, 0.9
    p = (-1 + np.sqrt(1 - (dt * omega) ** 2)) / dt
    x, q = np.zeros(xs.shape[1:], complex), np.zeros(xs.shape[1:])
    kept, spikes = {"V": [], "W": [], "q": []}, []
    for I in xs:
        b = p - b_offset - q
        x = x + dt * ((b + 1j * omega) * x + I)
        z = (x.real - 1.0 - q >= 0).astype(float)
        for name, value in (("V", x.real), ("W", x.imag), ("q", q)):
            kept[name].append(value)
        spikes.append(z)
        q = gamma * q + z
    return {k: np.array(v) for k, v in kept.items()}, np.array(spikes)


# ---------------------------------------------------------------------------------------------------------- the table

mV, mA, ms = u.mV, u.mA, u.ms
COLD = dict(rest=-65.0 * mV, E=0.0 * mV, drive=25.0 * mA, jump=3.0 * mV)  # potentials in tens of mV

NEURONS = [
    NeuronRow(cls=neurons.LIF, linear=True),
    NeuronRow(
        cls=neurons.LIF,
        name="LIF constants",
        linear=True,
        constants=dict(V_reset=-0.2 * mV, V_rest=0.1 * mV, R=1.5 * u.ohm),
    ),
    NeuronRow(cls=neurons.ALIF, constants=dict(tau_a=40.0 * ms, beta=0.4 * mV)),
    NeuronRow(cls=neurons.IF, linear=True),
    # under stronger drive a soft reset leaves it above threshold, and the reference fires within the period
    NeuronRow(cls=neurons.LIFRef, constants=dict(tau_ref=3.0 * ms), hidden=("refractory",), strengths=(0.4, 0.7, 1.5)),
    NeuronRow(cls=neurons.LIFRef, name="LIFRef of no period", constants=dict(tau_ref=0.0 * ms), hidden=("refractory",)),
    NeuronRow(cls=neurons.CubaLIF, jump=1.0 * mA, linear=True),
    NeuronRow(
        cls=neurons.ExpIF,
        constants=dict(V_th=-50.0 * mV, V_T=-55.0 * mV, delta_T=5.0 * mV),
        rtol=1e-10,
        strengths=(0.6, 1.0, 1.5),
        resets=("hard",),
        differs=("spk_reset",),
        **COLD,
    ),
    NeuronRow(
        cls=neurons.AdExIF,
        constants=dict(a=0.5 * u.siemens),
        rtol=1e-10,
        resets=("hard",),
        differs=("spk_reset",),
        **COLD,
    ),
    NeuronRow(cls=neurons.QuaIF, rtol=1e-10, **COLD),
    NeuronRow(cls=neurons.AdQuaIF, rtol=1e-10, **COLD),
    NeuronRow(
        cls=neurons.Izhikevich,
        rtol=1e-10,
        resets=("hard",),
        **COLD | dict(drive=15.0 * mV / ms, E=10.0 * mV, jump=12.0 * mV),
    ),
    NeuronRow(
        cls=neurons.Gif,
        constants=dict(a=0.005 / ms, R1=0.3, R2=0.9, A1=0.5 * mA, A2=-0.2 * mA, tau=10.0 * ms),
        rtol=1e-10,
        **COLD | dict(drive=2.0 * mA, rest=-70.0 * mV),
    ),
    NeuronRow(
        cls=neurons.SEadLIF,
        constants=dict(tau=10.0 * ms, tau_w=60.0 * ms, V_th=1.0 * mV, a=20.0 * u.siemens, b=30.0 * mA),
        reference=seadlif,
        source="Baronig et al. 2024",
        drive=8.0 * mA,
    ),
    NeuronRow(
        cls=neurons.BRF,
        constants=dict(omega=10.0 / u.second, b_offset=1.0 / u.second),
        reference=brf,
        source="Higuchi et al. 2024",
        drive=30.0 * mA,
        resets=(),
        dt=10.0 * ms,
        gain=2.0,
    ),
]

TAUS = np.array([6.0, 10.0, 15.0, 20.0]) * u.ms
PULSE = ("p", "since")

SYNAPSES = [
    SynapseRow(cls=synapses.Expon, constants=dict(tau=8.0 * ms), linear=True),
    SynapseRow(cls=synapses.DualExpon, linear=True, hidden=("g",)),
    SynapseRow(
        cls=synapses.DualExpon,
        name="DualExpon per neuron",
        constants=dict(tau_decay=TAUS, tau_rise=2.0 * ms, amplitude=2.0, normalize=False),
        linear=True,
        hidden=("g",),
    ),
    SynapseRow(cls=synapses.Alpha, constants=dict(tau=4.0 * ms), linear=True, gain=1.5),
    SynapseRow(cls=synapses.Alpha, name="Alpha per neuron", constants=dict(tau=TAUS / 2), linear=True),
]

FILTERS = [
    FilterRow(cls=synapses.AMPA, hidden=PULSE, gain=4.0),
    FilterRow(
        cls=synapses.AMPA,
        name="AMPA of a long pulse",
        hidden=PULSE,
        constants=dict(T_dur=3.0 * ms, alpha=0.3 / (ms * u.mM)),
    ),
    FilterRow(cls=synapses.GABAa, hidden=PULSE, gain=4.0),
    FilterRow(cls=synapses.BioNMDA, hidden=PULSE, gain=3.0),
    FilterRow(
        cls=synapses.BioNMDA,
        name="BioNMDA of a long pulse",
        hidden=PULSE,
        constants=dict(beta1=0.05 / ms, T_dur=2.0 * ms),
    ),
    FilterRow(
        cls=synapses.STP,
        constants=dict(U=0.3, tau_f=50.0 * ms, tau_d=20.0 * ms),
        conducts=False,
        hidden=("r",),
        gain=3.0,
    ),
    FilterRow(cls=synapses.STD, constants=dict(tau=20.0 * ms, U=0.4), conducts=False, hidden=("r",), gain=1.5),
]

READOUTS = [ReadoutRow(cls=neurons.LeakyReadout, twin="LeakyRateReadout", hidden=("s",), linear=True)]


def mg_block(rest, E):
    """About half open at rest."""
    span = E - rest
    return synapses.MgBlock(E=E, cc_Mg=1.2 * u.mM, alpha=2.0 / span, beta=3.57 * u.mM, V_offset=rest + 0.5 * span)


OUTPUTS = [
    OutputRow(cls=synapses.CUBA, build=lambda rest, E: synapses.CUBA(E - rest)),
    OutputRow(cls=synapses.COBA, build=lambda rest, E: synapses.COBA(E)),
    OutputRow(cls=synapses.MgBlock, build=mg_block, gain=2.0),
]

PARTS = [*SYNAPSES, *FILTERS, *READOUTS]
ROWS = [*NEURONS, *PARTS, *OUTPUTS]


def primary(rows):
    """One row for each class."""
    return [row for row in rows if not row.name]


def reference_of(row, library):
    """The class of the reference library; None where it has none (or not yet)."""
    return getattr(library, row.twin or row.cls.__name__, None)


# ------------------------------------------------------------------------------------------------------- simulations


def simulate(module, xs, dt):
    """States (by name) of a module of any library and what its updates return, at every step of inputs (T, ..., N)."""
    names = sorted(k for k, v in vars(module).items() if isinstance(v, brainstate.HiddenState))

    def step(i, x):
        with brainstate.environ.context(i=i, t=i * dt):
            z = module.update(x)
            return {k: getattr(module, k).value for k in names}, z

    return brainstate.transform.for_loop(step, jnp.arange(len(xs)), xs)


# ------------------------------------------------------------------------------------------------- operating points


@functools.cache
def visited(row, reset=None):
    """States where a row lives, at rest, and far away: ``name -> (points, N)``."""
    module = row.build(**({} if reset is None else {"spk_reset": reset}))
    module.init_state()
    rest = {k: s.value for k, s in module.hidden.items()}
    live, returned = simulate(module, row.inputs(40), row.dt)
    assert np.any(u.get_mantissa(returned))
    states = {}
    for name, initial in rest.items():
        values, start = live[name][10:], initial[None]
        level = start
        if name == "V":  # the potential exactly at threshold
            threshold = module.V_th.value if isinstance(module.V_th, brainstate.State) else module.V_th
            level = threshold + 0.0 * start
        low, high = values.min() + 0.0 * start, values.max() + 0.0 * start
        far = [low - 0.5 * (high - low), high + 0.2 * (high - low)]
        states[name] = u.math.concatenate([values, start, level, *far])
    return states


def points(row, reset=None, slope=False):
    """States and drives at which Jacobians are compared; arrays of (points, N)."""
    rng = np.random.default_rng(1)
    states = visited(row, reset)
    first = next(iter(states.values()))
    if not isinstance(row, NeuronRow):
        drive = "y" if isinstance(row, SynapseRow) else "z"
        return {**states, drive: row.inputs(len(first), seed=2)}
    current = row.drive * rng.uniform(-1.0, 3.0, first.shape)
    delta = u.maybe_decimal(u.Quantity(rng.uniform(-0.1, 0.1, first.shape), unit=u.get_unit(first)))
    point = {**states, "current": current, "delta": delta}
    if slope:
        point["slope"] = -row.drive / (row.E - row.rest) * rng.uniform(0.0, 1.0, first.shape)
    return point


def arguments(point):
    """A point as the arguments of a transition and of its Jacobian."""
    if "current" not in point:
        return point
    terms = [] if "slope" not in point else [(synapses.COBA(0.0 * mV), -point["slope"])]
    states = {k: v for k, v in point.items() if k not in ("current", "slope")}
    return {**states, "current": Current(point["current"], terms)}
