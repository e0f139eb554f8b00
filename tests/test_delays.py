"""Axonal delays: values of `brainpy.state`, credit, errors."""

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from test_synapses import N_IN, N_OUT, N, Stopped, T, backpropagated, close, data, linear, online

import etrax
from etrax.neurons import LIF
from etrax.synapses import AMPA, COBA, CUBA, AlignPostProj, CurrentProj, DeltaProj, Expon, InputDelay

PER_NEURON = np.array([0.0, 1.0, 3.0, 2.0, 1.0, 0.0, 4.0, 2.0, 1.0])  # of the spikes of input and population


class Net(brainstate.nn.Module):
    """A population behind a projection of input and own spikes, which come late, and a linear readout of its spikes."""

    def __init__(self, delay, lib=etrax.synapses, lif=LIF, onto="synapses", stopped=False):
        super().__init__()
        self.neu = lif(N, tau=10.0 * u.ms, R=1.0 * u.ohm)
        options = {} if delay is None else {"delay": delay}
        scale, unit = {"synapses": (5.0, u.mS), "conductances": (900.0, u.UNITLESS), "potentials": (1.5, u.mV)}[onto]
        comm = linear(N_IN + N, N, scale, unit, 0)
        comm = Stopped(comm) if stopped else comm
        self.filter = AMPA(N_IN + N) if onto == "conductances" else None
        if onto == "potentials":
            self.proj = DeltaProj(comm=comm, post=self.neu, **options)
        elif onto == "conductances":
            self.proj = CurrentProj(comm=comm, out=COBA(E=4.0 * u.mV), post=self.neu, **options)
        else:
            syn = lib.Expon(N, tau=5.0 * u.ms)
            self.proj = lib.AlignPostProj(comm=comm, syn=syn, out=lib.CUBA(), post=self.neu, **options)
        self.readout = linear(N, N_OUT, 1.0, u.UNITLESS, 7)

    def update(self, x):
        z = jnp.concatenate([x, self.neu.get_spike()], axis=-1)
        self.proj(z if self.filter is None else self.filter(z))
        return self.readout(self.neu(0.0 * u.mA))


@pytest.mark.parametrize("delay", [3.0, PER_NEURON], ids=["one", "per neuron"])
def test_values_equal_the_reference(delay):
    library = pytest.importorskip("brainpy.state", reason="comes with the extra `test`")
    xs = data()[0][:, 0]  # the reference's delay line has no batch axis
    found = []
    for net in (Net(delay * u.ms), Net(delay * u.ms, library, library.LIF)):
        brainstate.nn.init_all_states(net)

        def step(i, x, net=net):
            with brainstate.environ.context(i=i, t=i * brainstate.environ.get_dt()):
                r = net(x)
            return r, net.neu.get_spike(), u.get_mantissa(net.neu.V.value), u.get_mantissa(net.proj.syn.g.value)

        found.append(brainstate.transform.for_loop(step, jnp.arange(T), xs))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    assert 0.02 < float(found[0][1].mean()) < 0.8


@pytest.mark.parametrize(
    ("delay", "onto"),
    [
        pytest.param(2.0, "conductances", id="one", marks=pytest.mark.slow),
        pytest.param(PER_NEURON, "synapses", id="per neuron"),
        pytest.param(PER_NEURON, "potentials", id="jumps"),
    ],
)
def test_gradients(delay, onto):
    """Those of backpropagation through time, stopped where spikes enter the projection."""
    xs, ys = data()
    mine = online(Net(delay * u.ms, onto=onto), xs, ys)
    close(mine, backpropagated(Net(delay * u.ms, onto=onto, stopped=True), xs, ys))


@pytest.mark.parametrize("delay", [pytest.param(0.0, marks=pytest.mark.slow), np.zeros(N_IN + N)])
def test_no_delay_is_a_delay_of_zero(delay):
    xs, ys = data()
    net = Net(delay * u.ms)
    mine, expected = online(net, xs, ys), online(Net(None), xs, ys)
    assert net.proj.delay_line.past.value.size == 0
    for name, value in expected.items():
        np.testing.assert_array_equal(mine[name], value)


def test_a_delay_starts_empty_after_a_reset():
    line = InputDelay(3, np.array([0.0, 1.0, 2.0]) * u.ms)
    line.init_state()
    sequence = jnp.arange(1.0, 13.0).reshape(4, 3) * u.mS
    expected = np.array([[1.0, 0.0, 0.0], [4.0, 2.0, 0.0], [7.0, 5.0, 3.0], [10.0, 8.0, 6.0]])
    for _ in range(2):
        np.testing.assert_array_equal(u.get_mantissa(u.math.stack([line(x) for x in sequence])), expected)
        line.reset_state()


def test_credit_passes_a_delay_line_only_where_it_delays_nothing():
    """Two layers: the lower one learns through the neurons without delay."""

    class Stack(brainstate.nn.Module):
        def __init__(self, delay):
            super().__init__()
            self.low, self.high = LIF(N, tau=10.0 * u.ms), LIF(N, tau=10.0 * u.ms)
            self.first = AlignPostProj(comm=linear(N_IN, N, 5.0, u.mS, 0), syn=Expon(N), out=CUBA(), post=self.low)
            self.second = AlignPostProj(
                comm=linear(N, N, 9.0, u.mS, 1), syn=Expon(N), out=CUBA(), post=self.high, delay=delay
            )
            self.readout = linear(N, N_OUT, 1.0, u.UNITLESS, 7)

        def update(self, x):
            self.first(x)
            self.second(self.low())
            return self.readout(self.high())

    xs, ys = data()
    grad = online(Stack(np.array([0.0, 2.0, 0.0, 1.0]) * u.ms), xs, ys)["first"]
    assert np.all(grad[:, [1, 3]] == 0.0)
    assert np.all(np.abs(grad[:, [0, 2]]).max(axis=0) > 0.0)


WRONG_DELAYS = [
    (2.0, r"`delay` is in no unit but must be a time"),
    (-1.0 * u.ms, r"`delay` must be finite and not negative, got -1.0 ms"),
    (np.nan * u.ms, r"`delay` must be finite"),
    (np.zeros(3) * u.ms, r"`delay` has shape \(3,\) but must be a scalar or fit the input \(9,\) of `comm`"),
    (np.zeros(0) * u.ms, r"`delay` has shape \(0,\)"),
    (1.5 * u.ms, r"`delay` must be a multiple of `dt` = 1.0 ms, got 1.5 ms"),
]


@pytest.mark.parametrize(("delay", "message"), WRONG_DELAYS)
def test_a_wrong_delay_is_named(delay, message):
    with pytest.raises(ValueError, match=message):
        brainstate.nn.init_all_states(Net(delay))


def test_wrong_uses_are_named():
    neuron, comm = LIF(N), linear(N_IN, N, 1.0, u.mS, 0)
    with pytest.raises(ValueError, match="has no `in_size`, which `delay` needs"):
        AlignPostProj(comm=lambda x: x, syn=Expon(N), out=CUBA(), post=neuron, delay=1.0 * u.ms)
    late = AlignPostProj(comm=comm, syn=Expon(N), out=CUBA(), post=neuron, delay=1.0 * u.ms)
    with pytest.raises(RuntimeError, match="with `delay=` has no states yet"):
        late(jnp.ones(N_IN))


def test_a_jump_may_be_late():
    """The spike of a step moves the potential two steps later."""
    neuron = LIF(1, tau=1e9 * u.ms)
    comm = brainstate.nn.Linear(1, 1, w_init=jnp.full((1, 1), 0.5) * u.mV, b_init=None)
    projection = DeltaProj(comm=comm, post=neuron, delay=2.0 * u.ms)
    brainstate.nn.init_all_states(projection)
    neuron.init_state()
    V = []
    for x in (1.0, 0.0, 0.0, 0.0):
        projection(jnp.full(1, x))
        neuron()
        V.append(float(neuron.V.value.to_decimal(u.mV)[0]))
    np.testing.assert_allclose(V, [0.0, 0.0, 0.5, 0.5], rtol=1e-6)
