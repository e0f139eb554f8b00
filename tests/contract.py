"""The contract of modules as a table: one row per module; `test_contract.py` puts every row through every property.

To add a module, add a row to ``NEURONS``, ``SYNAPSES`` or ``OUTPUTS``. A row names the class and the constants with which
it is tried; the reference is the class of the same name in `brainpy.state` (see `reference_of`), or a function in NumPy.
A synapse that has a row feeds, at once, every neuron that has one.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import etrax
from etrax import neurons, synapses
from etrax.module import Current

N, N_IN, B, T = 4, 5, 2, 28  # T is a multiple of the chunk length: one compilation


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
    rtol : float
        Of the simulated values.
    hidden : tuple of str
        States that the reference does not have.
    """

    cls: type
    constants: dict = dataclasses.field(default_factory=dict)
    name: str = ""
    reference: Callable | None = None
    rtol: float = 1e-12
    hidden: tuple = ()

    def __str__(self):
        return self.name or self.cls.__name__


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
    linear : bool
        Whether every entry of the Jacobian but those of the spike is constant where the reset is detached.
    dt : Quantity
        Time step.
    gain : float
        Factor of the weights where gradients are compared.
    """

    drive: Any = dataclasses.field(default_factory=lambda: 2.0 * u.mA)
    strengths: tuple = (0.7, 1.5, 3.0)
    rest: Any = dataclasses.field(default_factory=lambda: 0.0 * u.mV)
    E: Any = dataclasses.field(default_factory=lambda: 6.0 * u.mV)
    jump: Any = dataclasses.field(default_factory=lambda: 0.4 * u.mV)
    resets: tuple = ("soft", "hard")
    linear: bool = False
    dt: Any = dataclasses.field(default_factory=lambda: 1.0 * u.ms)
    gain: float = 1.0

    def build(self, **options):
        """The neuron, ``N`` of them."""
        return self.cls(N, **self.constants, **options)

    def options(self):
        """Every combination of reset and ``detach_reset``."""
        resets = [{"spk_reset": r} for r in self.resets] or [{}]
        return [{**r, "detach_reset": detach} for r in resets for detach in (False, True)]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SynapseRow(Row):
    """A synapse; its constructor takes ``g_initializer``, whose unit is that of the weights."""

    g_initializer: str = "g_initializer"

    def build(self, unit=u.mS, size=N):
        """The synapse, with conductances in ``unit``."""
        return self.cls(size, **self.constants, **{self.g_initializer: braintools.init.Constant(0.0 * unit)})


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class OutputRow(Row):
    """A synaptic output; ``build`` gives one that makes ``(E - rest) g`` of a conductance at rest."""

    build: Callable


# ----------------------------------------------------------------------------------------------- references in NumPy


def seadlif(constants, dt, xs, options):
    """Baronig et al. 2024, eq. 6a, 6b; V_rest = 0 and R = 1 as there. Kept: the potential before the reset, the w it saw."""
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
    """Higuchi et al. 2024, section 3, in complex numbers and seconds; theta_c = 1. Kept: the q that V was compared with."""
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
    NeuronRow(cls=neurons.LIFRef, constants=dict(tau_ref=3.0 * ms), hidden=("refractory",)),
    NeuronRow(cls=neurons.LIFRef, name="LIFRef of no period", constants=dict(tau_ref=0.0 * ms), hidden=("refractory",)),
    NeuronRow(cls=neurons.CubaLIF, jump=1.0 * mA, linear=True),
    NeuronRow(
        cls=neurons.ExpIF,
        constants=dict(V_th=-50.0 * mV, V_T=-55.0 * mV, delta_T=5.0 * mV),
        rtol=1e-10,
        strengths=(0.6, 1.0, 1.5),
        **COLD,
    ),
    NeuronRow(cls=neurons.AdExIF, constants=dict(a=0.5 * u.siemens), rtol=1e-10, **COLD),
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
        drive=8.0 * mA,
    ),
    NeuronRow(
        cls=neurons.BRF,
        constants=dict(omega=10.0 / u.second, b_offset=1.0 / u.second),
        reference=brf,
        drive=30.0 * mA,
        resets=(),
        dt=10.0 * ms,
        gain=2.0,
    ),
]

SYNAPSES = [SynapseRow(cls=synapses.Expon, constants=dict(tau=8.0 * ms))]

OUTPUTS = [
    OutputRow(cls=synapses.CUBA, build=lambda rest, E: synapses.CUBA(E - rest)),
    OutputRow(cls=synapses.COBA, build=lambda rest, E: synapses.COBA(E)),
]


def reference_of(row, library, **options):
    """The module of the reference library, under the same arguments; None where it has none (or not yet)."""
    cls = getattr(library, row.cls.__name__, None)
    return None if cls is None else cls(N, **row.constants, **options)


# ------------------------------------------------------------------------------------------------------- simulations


def simulate(module, xs, dt):
    """States (mantissas, by name) and spikes of a neuron of any library at every step, for inputs (T, ..., N)."""
    names = sorted(k for k, v in vars(module).items() if isinstance(v, brainstate.HiddenState))

    def step(i, x):
        with brainstate.environ.context(i=i, t=i * dt):
            z = module.update(x)
            return {k: getattr(module, k).value for k in names}, z

    states, spikes = brainstate.transform.for_loop(step, jnp.arange(len(xs)), xs)
    return states, spikes


def currents(row, strength, steps=T, seed=0):
    """Random currents (steps, N) of a strength."""
    rng = np.random.default_rng(seed)
    return strength * row.drive * jnp.asarray(rng.uniform(0.0, 2.0, (steps, N)))


# ------------------------------------------------------------------------------------------------- operating points


@functools.cache
def points(row, reset, slope):
    """States and drives at which Jacobians are compared: live, at rest, at threshold, far away; arrays of (points, N)."""
    rng = np.random.default_rng(1)
    module = row.build(**({} if reset is None else {"spk_reset": reset}))
    module.init_state()
    rest = {k: s.value for k, s in module.hidden.items()}
    live, spikes = simulate(module, currents(row, row.strengths[-1], 40), row.dt)
    assert 0 < float(spikes.mean()) < 1
    states = {}
    for name, initial in rest.items():
        values, start = live[name][10:], initial[None]
        level = start
        if name == "V":
            threshold = module.V_th.value if isinstance(module.V_th, brainstate.State) else module.V_th
            level = threshold + 0.0 * start
        low, high = values.min() + 0.0 * start, values.max() + 0.0 * start
        far = [low - 0.5 * (high - low), high + 0.2 * (high - low)]
        states[name] = u.math.concatenate([values, start, level, *far])
    shape = next(iter(states.values())).shape
    current = row.drive * rng.uniform(-1.0, 3.0, shape)
    first = u.get_unit(next(iter(rest.values())))
    delta = u.maybe_decimal(u.Quantity(rng.uniform(-0.1, 0.1, shape), unit=first))
    point = {**states, "current": current, "delta": delta}
    if slope:
        point["slope"] = -row.drive / (row.E - row.rest) * rng.uniform(0.0, 1.0, shape)
    return point


def arguments(point):
    """A point as the arguments of a neuron's transition and Jacobian."""
    terms = [] if "slope" not in point else [(synapses.COBA(0.0 * mV), -point["slope"])]
    states = {k: v for k, v in point.items() if k not in ("current", "slope")}
    return {**states, "current": Current(point["current"], terms)}


# ----------------------------------------------------------------------------------------------------------- networks


class Net(brainstate.nn.Module):
    """A population behind the given synapses (each with its own weights) or a delta projection, and a leaky readout."""

    def __init__(self, row, neuron, pairs, *, delta=True, recurrent=False):
        super().__init__()
        self.neu = neuron
        self.recurrent = recurrent
        rng = np.random.default_rng(3)
        n_in = N_IN + (N if recurrent else 0)
        self.projections = []

        def comm(scale):
            weight = scale * jnp.asarray(0.3 + rng.normal(size=(n_in, N)))
            return brainstate.nn.Linear(n_in, N, w_init=weight, b_init=None)

        for k, (s, o) in enumerate(pairs):
            scale = 0.3 * row.gain * row.drive / (row.E - row.rest) / len(pairs)
            unit = u.get_unit(scale)
            projection = synapses.AlignPostProj(
                comm=comm(scale), syn=s.build(unit), out=o.build(row.rest, row.E), post=neuron
            )
            setattr(self, f"proj{k}", projection)
            self.projections.append(f"proj{k}")
        if delta:
            self.jump = synapses.DeltaProj(comm=comm(row.jump * (1.0 if not pairs else 0.3)), post=neuron)
            self.projections.append("jump")
        self.out = neurons.LeakyReadout(
            N, 3, tau=10.0 * row.dt, pre=neuron, w_init=jnp.asarray(rng.normal(size=(N, 3)))
        )

    def update(self, x):
        if self.recurrent:  # D-RTRL drops what passes through the inputs of projections; so must its reference
            x = jnp.concatenate([x, jax.lax.stop_gradient(self.neu.get_spike())], axis=-1)
        for name in self.projections:
            getattr(self, name)(x)
        return self.out(self.neu())


def every_synapse():
    """Every synapse with an output, in turn; at least every output with a synapse."""
    count = max(len(SYNAPSES), len(OUTPUTS))
    return list(itertools.islice(zip(itertools.cycle(SYNAPSES), itertools.cycle(OUTPUTS), strict=True), count))


def data():
    """Inputs (T, B, N_IN) and targets (T, B, 3)."""
    rng = np.random.default_rng(5)
    xs = (rng.random((T, B, N_IN)) < 0.4).astype(float)
    return jnp.asarray(xs), jnp.asarray(rng.normal(size=(T, B, 3)))


def loss(r, y):
    """Loss of one step."""
    return jnp.mean((r - y) ** 2)


def bptt(net, xs, ys):
    """Gradient of the summed loss by plain differentiation of a loop over the model, and the rate of its spikes."""
    brainstate.nn.init_all_states(net, batch_size=xs.shape[1])

    def total():
        def step(x, y):
            value = loss(net(x), y)
            return value, net.neu.get_spike()

        values, spikes = brainstate.transform.for_loop(step, xs, ys)
        return values.sum(), spikes

    grads, spikes = brainstate.transform.grad(total, net.states(brainstate.ParamState), has_aux=True)()
    return grads, float(spikes.mean())


def drtrl(net, xs, ys):
    """The same by D-RTRL, in four chunks."""
    learner = etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=xs.shape[1])
    return learner.etrace_grad(xs, ys, step_fn=lambda x, y: loss(learner(x), y), chunk_size=7, reduction="sum")
