"""Layers other than a plain `Linear`, and populations of several dimensions: exact on feed-forward networks, in any chunk."""

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import etrax
from etrax.neurons import ALIF, LeakyReadout
from etrax.synapses import CUBA, AlignPostProj, Expon

T, B, I = 20, 3, 4


def weights(*shape, scale=4.0):
    rng = np.random.default_rng(sum(shape))
    return scale / np.sqrt(shape[0]) * (0.3 + rng.normal(size=shape)) * u.mS


class Factors(brainstate.nn.Module):
    """A user's own layer: two parameters, a product of low rank, a gain that is squared, and a bias."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.left = brainstate.ParamState(u.get_mantissa(weights(n_in, 2)))
        self.right = brainstate.ParamState(weights(2, n_out))
        self.gain = brainstate.ParamState(jnp.full(n_out, 1.2))
        self.bias = brainstate.ParamState(jnp.linspace(0.0, 0.1, n_out) * u.mS)

    def update(self, x):
        return x @ self.left.value @ self.right.value * self.gain.value**2 + self.bias.value


class Grid(brainstate.nn.Module):
    """From a vector to a population of two dimensions."""

    def __init__(self, n_in, shape):
        super().__init__()
        self.shape = shape
        self.weight = brainstate.ParamState(weights(n_in, int(np.prod(shape))))

    def update(self, x):
        return u.math.reshape(x @ self.weight.value, (*x.shape[:-1], *self.shape))


def linear(in_size, out_size, **options):
    w_init = weights(np.ravel(in_size)[-1], np.ravel(out_size)[-1])
    return brainstate.nn.Linear(in_size, out_size, w_init=w_init, **options)


MASK = (np.arange(I * 5).reshape(I, 5) % 3 > 0).astype(float)
LAYERS = {
    "Linear": (I, 5, lambda: linear(I, 5, b_init=braintools.init.ZeroInit(unit=u.mS))),
    "Linear with a mask": (I, 5, lambda: linear(I, 5, b_init=None, w_mask=MASK)),
    "Linear over an axis": ((2, I), (2, 5), lambda: linear((2, I), (2, 5), b_init=braintools.init.ZeroInit(unit=u.mS))),
    "SignedWLinear": (I, 5, lambda: brainstate.nn.SignedWLinear(I, 5, w_init=weights(I, 5))),
    "user's own": (I, 5, lambda: Factors(I, 5)),
    "to two dimensions": (I, (2, 3), lambda: Grid(I, (2, 3))),
}


class Net(brainstate.nn.Module):
    def __init__(self, comm, out_size):
        super().__init__()
        self.neu = ALIF(out_size, tau=10 * u.ms, tau_a=40 * u.ms)
        self.syn = AlignPostProj(comm=comm, syn=Expon(out_size, tau=5 * u.ms), out=CUBA(), post=self.neu)
        n = int(np.prod(out_size))
        self.out = LeakyReadout(out_size, 2, tau=10 * u.ms, w_init=u.get_mantissa(weights(n, 2)), pre=self.neu)

    def update(self, x):
        self.syn(x)
        return self.out(self.neu())


def gradient(algorithm, name, batch, **options):
    in_size, out_size, make = LAYERS[name]
    rng = np.random.default_rng(0)
    shape = (T, *([B] if batch else []), *np.atleast_1d(in_size))
    xs = jnp.asarray((rng.random(shape) < 0.3).astype(float))
    ys = jnp.asarray(rng.normal(size=(T, *([B] if batch else []), 2)))
    net = Net(make(), out_size)
    learner = etrax.compile(net, algorithm, xs[0], batch_size=B if batch else None)
    grads = learner.etrace_grad(xs, ys, step_fn=lambda x, y: jnp.mean((learner(x) - y) ** 2), **options)
    return jax.tree.map(u.get_mantissa, grads, is_leaf=lambda v: isinstance(v, u.Quantity)), learner


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_exact_on_a_feed_forward_network(name, batch):
    expected, _ = gradient(etrax.BPTT, name, batch)
    assert all(float(np.abs(g).max()) > 1e-6 for g in jax.tree.leaves(expected))
    for chunk in (1, 7):
        grads, _ = gradient(etrax.D_RTRL, name, batch, chunk_size=chunk)
        for got, exact in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(got, exact, rtol=1e-10, atol=1e-10 * np.abs(exact).max())


class Squared(brainstate.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = brainstate.ParamState(weights(I, 5))

    def update(self, x):
        return (x @ self.weight.value) ** 2 / u.mS


def test_a_layer_that_is_not_affine_is_refused():
    with pytest.raises(ValueError, match=r"`comm` of syn is not affine in its input"):
        etrax.compile(Net(Squared(), 5), etrax.D_RTRL, jnp.ones((B, I)), batch_size=B)


def test_weights_in_another_scale_of_the_unit():
    """Weights in uS instead of mS: the same network, gradients in the weights' own unit."""
    by_unit = {}
    for unit in (u.mS, u.uS):
        comm = brainstate.nn.Linear(I, 5, w_init=weights(I, 5).to_decimal(unit) * unit, b_init=None)
        learner = etrax.compile(Net(comm, 5), etrax.D_RTRL, jnp.ones((B, I)), batch_size=B)
        xs = jnp.asarray((np.random.default_rng(1).random((T, B, I)) < 0.3).astype(float))
        grads = learner.etrace_grad(xs, step_fn=lambda x, learner=learner: jnp.sum(learner(x) ** 2), chunk_size=6)
        by_unit[unit] = grads["syn", "comm", "weight"]["weight"]
    np.testing.assert_allclose(by_unit[u.mS].mantissa, 1000 * by_unit[u.uS].mantissa, rtol=1e-9)


def test_the_report_says_what_is_traced():
    _, learner = gradient(etrax.D_RTRL, "Linear", True)
    text = str(learner.report())
    for part in ("population neu: ALIF (5,), batch (3,)", "mV", "mS", "registered", "uniform", "varying", "input only"):
        assert part in text
    for part in ("syn.comm.weight", "trace through syn", "out.weight", "same-step gradient", "Mflop per step"):
        assert part in text
    assert learner.report().trace_bytes == sum(
        leaf.nbytes for trace in learner.traces.values() for leaf in jax.tree.leaves(trace.value)
    )
