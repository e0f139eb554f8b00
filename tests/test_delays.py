"""Axonal delays: values, credit, errors; their values and gradients in networks are rows of `test_synapses`."""

import dataclasses

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from test_synapses import N_IN, N_OUT, N, Net, Row, data, expon, linear, online

from etrax.neurons import LIF
from etrax.synapses import CUBA, AlignPostProj, Expon, InputDelay


@pytest.mark.parametrize("delay", [0.0, np.zeros(N_IN + N)])
def test_no_delay_is_a_delay_of_zero(delay):
    row, (xs, ys) = Row(expon, 5.0), data()
    net = Net(dataclasses.replace(row, delay=delay * u.ms)).add_readout()
    mine, expected = online(net, xs, ys), online(Net(row).add_readout(), xs, ys)
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
        brainstate.nn.init_all_states(Net(Row(expon, 5.0, delay=delay)))


def test_wrong_uses_are_named():
    neuron, comm = LIF(N), linear(N_IN, N, 1.0, u.mS, 0)
    with pytest.raises(ValueError, match="has no `in_size`, which `delay` needs"):
        AlignPostProj(comm=lambda x: x, syn=Expon(N), out=CUBA(), post=neuron, delay=1.0 * u.ms)
    late = AlignPostProj(comm=comm, syn=Expon(N), out=CUBA(), post=neuron, delay=1.0 * u.ms)
    with pytest.raises(RuntimeError, match="with `delay=` has no states yet"):
        late(jnp.ones(N_IN))
