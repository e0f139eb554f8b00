"""Layers of many kinds, and a network with one of them as its projection."""

import brainevent
import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import etrax
from etrax.neurons import ALIF, LeakyReadout
from etrax.synapses import CUBA, AlignPostProj, Expon

T, B, I = 21, 3, 4


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


class InUnits(brainstate.nn.Module):
    """A layer without units, in mS."""

    def __init__(self, layer, scale=1.0):
        super().__init__()
        self.layer = layer
        self.scale = scale

    def update(self, x):
        return self.layer(x) * self.scale * u.mS


class Positive(brainstate.nn.Module):
    """Weights kept positive by a transform, with a prior, and a bias."""

    def __init__(self, n_in, n_out, transform):
        super().__init__()
        start = jnp.abs(u.get_mantissa(weights(n_in, n_out))) + 0.1
        self.w = brainstate.nn.Param(start, t=transform, reg=brainstate.nn.L2Reg(weight=0.01))
        self.b = brainstate.nn.Param(jnp.linspace(0.0, 0.1, n_out))

    def update(self, x):
        return (x @ self.w.value() + self.b.value()) * u.mS


class Banded(brainstate.nn.Module):
    """A user's own sparse layer: every input reaches the next two outputs, with positive weights."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.w = brainstate.nn.Param(jnp.linspace(1.0, 3.0, 2 * n_in), t=brainstate.nn.SoftplusT(0.0))
        self.b = brainstate.ParamState(jnp.linspace(0.0, 0.1, n_out) * u.mS)
        self.pre = np.repeat(np.arange(n_in), 2)
        self.post = (self.pre + np.tile([0, 1], n_in)) % n_out
        self.n_out = n_out

    def update(self, x):
        y = jnp.zeros((*x.shape[:-1], self.n_out)).at[..., self.post].add(x[..., self.pre] * self.w.value())
        return y * u.mS + self.b.value


etrax.register_pattern(Banded)(
    lambda layer: etrax.Pattern(
        lambda: layer.w.value() * u.mS, pre=layer.pre, post=layer.post, bias=lambda: layer.b.value
    )
)


class Squared(brainstate.nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = brainstate.ParamState(weights(n_in, n_out, scale=2.0))

    def update(self, x):
        return (x @ self.weight.value) ** 2 / u.mS


def linear(in_size, out_size, **options):
    w_init = weights(np.ravel(in_size)[-1], np.ravel(out_size)[-1])
    return brainstate.nn.Linear(in_size, out_size, w_init=w_init, **options)


def sparse(kind, **options):
    """A layer of two thirds of the weights."""

    def make(n_in, n_out):
        full = u.get_mantissa(weights(n_in, n_out, scale=5.0)) * mask(n_in, n_out)
        pre, post = np.nonzero(full)
        data, shape = jnp.asarray(full[pre, post]) * u.mS, (n_in, n_out)
        if kind.__name__ == "COO":
            return brainstate.nn.SparseLinear(kind((data, jnp.asarray(pre), jnp.asarray(post)), shape=shape), **options)
        return brainstate.nn.SparseLinear(kind.fromdense(jnp.asarray(full) * u.mS), **options)

    return make


def fixed(kind, weight=None, **options):
    def make(n_in, n_out):
        w = weight or (lambda shape: 5.0 * (0.4 + np.random.default_rng(0).normal(size=shape)) * u.mS)
        return kind(n_in, n_out, 2, w, seed=1, **options)

    return make


def mask(n_in, n_out):
    return (np.arange(n_in * n_out).reshape(n_in, n_out) % 3 > 0).astype(float)


def zero_bias(*shape):
    return jnp.zeros(shape) * u.mS


nn = brainstate.nn
N = 5

# name: (what the report says of the trace of V, layer of two sizes)
SQUARE = {
    "Linear": ("V dense", lambda i, n: linear(i, n, b_init=braintools.init.ZeroInit(unit=u.mS))),
    "Linear with a mask": ("V dense", lambda i, n: linear(i, n, b_init=None, w_mask=mask(i, n))),
    "SignedWLinear": ("V dense", lambda i, n: nn.SignedWLinear(i, n, w_init=weights(i, n), w_sign=2 * mask(i, n) - 1)),
    "AllToAll": ("V dense", lambda i, n: nn.AllToAll(i, n, weights(i, n), b_init=zero_bias(n))),
    "AllToAll but itself": ("V dense", lambda i, n: nn.AllToAll(i, n, weights(i, n), include_self=False)),
    "AllToAll, one weight": ("V per neuron", lambda i, n: nn.AllToAll(i, n, 1.5 * u.mS, include_self=False)),
    "AllToAll, one weight for itself too": ("V per neuron", lambda i, n: nn.AllToAll(i, n, 1.5 * u.mS)),
    "EventLinear": ("V dense", lambda i, n: nn.EventLinear(i, n, weights(i, n))),
    "CSR": ("V per synapse", sparse(u.sparse.CSR)),
    "CSC with a bias": ("V per synapse", sparse(u.sparse.CSC, b_init=zero_bias(N))),
    "COO": ("V per synapse", sparse(u.sparse.COO)),
    "event CSR": ("V per synapse", sparse(brainevent.CSR)),
    "FixedNumConn": ("V per synapse", fixed(nn.FixedNumConn)),
    "FixedNumConn of some": ("V per synapse", fixed(nn.FixedNumConn, afferent_ratio=0.7)),
    "FixedNumConn, one weight": ("V per neuron", fixed(nn.FixedNumConn, 3.0 * u.mS)),
    "EventFixedNumConn": ("V per synapse", fixed(nn.EventFixedNumConn)),
    "EventFixedNumConn, one weight": ("V per neuron", fixed(nn.EventFixedNumConn, 3.0 * u.mS)),
    "OneToOne": ("V per neuron", lambda i, n: nn.OneToOne(n, 3 * weights(n), b_init=zero_bias(n))),
    "OneToOne, one weight": ("V per neuron", lambda i, n: nn.OneToOne(n, 7.0 * u.mS)),
    "LoRA": ("V dense", lambda i, n: InUnits(nn.LoRA(i, 2, n, kernel_init=nn.init.Normal(1.0, seed=3)), 3.0)),
    "ScaledWSLinear": (
        "V dense",
        lambda i, n: InUnits(nn.ScaledWSLinear(i, n, w_init=nn.init.Normal(1.0, seed=5)), 4.0),
    ),
    "SoftplusT": ("V dense", lambda i, n: Positive(i, n, nn.SoftplusT(0.0))),
    "ExpT": ("V dense", lambda i, n: Positive(i, n, nn.ExpT(0.0))),
    "user's own": ("V dense", lambda i, n: Factors(i, n)),
    "user's own sparse": ("V per synapse", lambda i, n: Banded(i, n)),
    "not affine": ("window of 277 steps (not affine in its input)", lambda i, n: Squared(i, n)),
}
LAYERS = {  # not between vectors of one size
    "Linear over an axis": ((2, I), (2, 5), lambda: linear((2, I), (2, 5), b_init=braintools.init.ZeroInit(unit=u.mS))),
    "AllToAll over an axis": ((2, I), (2, 5), lambda: nn.AllToAll((2, I), (2, 5), weights(I, 5))),
    "to two dimensions": (I, (2, 3), lambda: Grid(I, (2, 3))),
    "OneToOne of two dimensions": ((2, 3), (2, 3), lambda: nn.OneToOne((2, 3), 3 * weights(2, 3))),
    "Conv1d": ((6, 1), (6, 2), lambda: InUnits(nn.Conv1d((6, 1), 2, 3, w_init=nn.init.Normal(1.0, seed=2)), 4.0)),
    "Conv2d": (
        (4, 4, 1),
        (4, 4, 2),
        lambda: InUnits(nn.Conv2d((4, 4, 1), 2, 3, w_init=nn.init.Normal(1.0, seed=2)), 4.0),
    ),
} | {
    name: (I, N, lambda make=make: make(I, N)) for name, (_, make) in SQUARE.items() if not name.startswith("OneToOne")
}


class Net(brainstate.nn.Module):
    """Feed-forward, through one layer or the mean of several; ``loops`` lead back from the spikes of the step before.

    The layers of each kind share a synapse: ``syn``, ``syn1``, ... and ``loop``, ``loop1``, ...
    """

    def __init__(self, comm, out_size, loops=(), stop=False, neuron=None):
        super().__init__()
        self.neu = neuron or ALIF(out_size, tau=10 * u.ms, tau_a=40 * u.ms)
        comms = comm if isinstance(comm, list) else [comm]
        self.forward, self.back = (
            [f"{name}{k or ''}" for k in range(n)] for name, n in (("syn", len(comms)), ("loop", len(loops)))
        )
        for names, layers, tau in ((self.forward, comms, 5 * u.ms), (self.back, loops, 8 * u.ms)):
            for name, layer in zip(names, layers, strict=True):
                out = CUBA.desc(u.volt / len(layers))
                made = AlignPostProj(
                    comm=layer, syn=Expon.desc(out_size, tau=tau), out=out, post=self.neu, label=name[:3]
                )
                setattr(self, name, made)
        n = int(np.prod(out_size))
        self.out = LeakyReadout(out_size, 2, tau=10 * u.ms, w_init=u.get_mantissa(weights(n, 2)), pre=self.neu)
        self.stop = stop

    def update(self, x):
        for name in self.forward:
            getattr(self, name)(x)
        z = jax.lax.stop_gradient(self.neu.get_spike()) if self.stop else self.neu.get_spike()
        for name in self.back:
            getattr(self, name)(z)
        return self.out(self.neu())


def data(in_size, batch, n_steps=T):
    rng = np.random.default_rng(0)
    rows = (B,) if batch else ()
    xs = jnp.asarray((rng.random((n_steps, *rows, *np.atleast_1d(in_size))) < 0.3).astype(float))
    return xs, jnp.asarray(rng.normal(size=(n_steps, *rows, 2)))
