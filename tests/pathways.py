"""Networks of the contract: every neuron behind ways from spikes to current, and their gradients by two methods."""

from collections.abc import Sequence

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from contract import FILTERS, NEURONS, OUTPUTS, SYNAPSES, FilterRow, N, OutputRow, SynapseRow, T, primary

import etrax
from etrax import neurons, synapses

N_IN, B = 5, 2

POPULATIONS = primary(NEURONS)
WAYS = [*primary(SYNAPSES), *primary(FILTERS), *primary(OUTPUTS)]  # a row of each stands for a way into a population


def ways_of(row, count):
    """``count`` ways for a neuron: in turn, so that all meet several neurons."""
    first = count * POPULATIONS.index(row)
    return [WAYS[(first + k) % len(WAYS)] for k in range(count)]


def projection(way, row, post, n_in, comm):
    """The projection onto a neuron of ``row`` in which the module of ``way`` takes part; ``comm`` makes a layer of a scale."""
    span = row.E - row.rest
    scale = 0.3 * row.gain * way.gain * row.drive / span
    unit = u.get_unit(scale)
    if isinstance(way, SynapseRow):
        syn, out = way.build(unit), synapses.CUBA(span)
        return synapses.AlignPostProj(comm=comm(scale), syn=syn, out=out, post=post)
    if isinstance(way, OutputRow):
        syn, out = SYNAPSES[0].build(unit), way.build(row.rest, row.E)
        return synapses.AlignPostProj(comm=comm(scale), syn=syn, out=out, post=post)
    module = way.build(n_in)
    if way.conducts:
        scale = u.maybe_decimal(scale / u.mS)
        return synapses.CurrentProj(module, comm=comm(scale), out=synapses.COBA(row.E), post=post)
    syn, out = SYNAPSES[0].build(unit), synapses.CUBA(span)
    return synapses.AlignPostProj(module, comm=comm(scale), syn=syn, out=out, post=post)


class Net(brainstate.nn.Module):
    """A population behind ways (each with its own weights), or a delta projection if there are none, and a readout.

    The readout is a leaky one; where ``behind`` names filters, it is the sum of these filters of the population's spikes,
    each with plain weights after it. ``pre`` says whether what filters the spikes is told whose they are; "ahead", that it also steps
    ahead of the neurons, on the spikes of the step before.
    """

    def __init__(self, row, neuron, ways, *, recurrent=False, behind: Sequence[FilterRow] = (), pre=True):
        super().__init__()
        self.neu = neuron
        self.recurrent = recurrent
        self.ahead = pre == "ahead"
        rng = np.random.default_rng(3)
        n_in = N_IN + (N if recurrent else 0)

        def comm(scale):
            weight = scale / max(len(ways), 1) * jnp.asarray(0.3 + rng.normal(size=(n_in, N)))
            return brainstate.nn.Linear(n_in, N, w_init=weight, b_init=None)

        self.projections = [f"proj{k}" for k in range(max(len(ways), 1))]
        for name, way in zip(self.projections, ways or [None], strict=True):
            if way is None:
                made = synapses.DeltaProj(comm=comm(row.jump), post=neuron)
            else:
                made = projection(way, row, neuron, n_in, comm)
            setattr(self, name, made)
        told = neuron if pre else None
        self.filters = [f"filter{k}" for k in range(len(behind))]
        for name, filter_row in zip(self.filters, behind, strict=True):
            setattr(self, name, filter_row.build(pre=told))
            weight = jnp.asarray(rng.normal(size=(N, 3)))
            setattr(self, f"{name}_out", brainstate.nn.Linear(N, 3, w_init=weight, b_init=None))
        if not behind:
            weight = jnp.asarray(rng.normal(size=(N, 3)))
            self.out = neurons.LeakyReadout(N, 3, tau=10.0 * row.dt, pre=told, w_init=weight)

    def update(self, x):
        if self.recurrent:  # D-RTRL drops what passes through the inputs of projections; so must its reference
            x = jnp.concatenate([x, jax.lax.stop_gradient(self.neu.get_spike())], axis=-1)
        for name in self.projections:
            getattr(self, name)(x)
        z = self.neu.get_spike() if self.ahead else self.neu()
        if not self.filters:
            return self.out(z)
        out = sum(getattr(self, f"{name}_out")(u.get_mantissa(getattr(self, name)(z))) for name in self.filters)
        if self.ahead:
            self.neu()
        return out


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
    return mantissas(grads), float(spikes.mean())


def drtrl(net, xs, ys):
    """The same by D-RTRL, in four chunks."""
    learner = etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=xs.shape[1])
    grads = learner.etrace_grad(xs, ys, step_fn=lambda x, y: loss(learner(x), y), chunk_size=7, reduction="sum")
    return mantissas(grads)


def mantissas(grads):
    """The weights' gradients as arrays, by path."""
    return {path: jax.tree.leaves(value)[0] for path, value in grads.items()}


def compare(row, neuron, ways, **kwargs):
    """D-RTRL equals backpropagation; every parameter is reached, and the network spikes."""
    xs, ys = data()
    net = Net(row, neuron, ways, **kwargs)
    expected, rate = bptt(net, xs, ys)
    assert 0.01 < rate < 0.8, rate
    got = drtrl(net, xs, ys)
    assert set(got) == set(expected)
    for path, b in expected.items():
        assert np.abs(b).max() > 0, path
        np.testing.assert_allclose(got[path], b, rtol=1e-9, atol=1e-9 * float(np.abs(b).max()), err_msg=str(path))
