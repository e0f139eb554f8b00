"""Every synapse, output and presynaptic filter: values of `brainpy.state`, registered Jacobian, exact gradients."""

import dataclasses
import inspect
from collections.abc import Callable

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import etrax
from etrax.neurons import ALIF, LIF
from etrax.synapses import (
    AMPA,
    COBA,
    CUBA,
    STD,
    STP,
    AlignPostProj,
    BioNMDA,
    CurrentProj,
    DualExpon,
    Expon,
    GABAa,
)

T, B, N_IN, N, N_OUT = 24, 2, 5, 4, 3
TAUS = np.array([6.0, 10.0, 15.0, 20.0]) * u.ms
PER_NEURON = np.array([0.0, 1.0, 3.0, 2.0, 1.0, 0.0, 4.0, 2.0, 1.0])  # of the spikes of input and population


@pytest.fixture(scope="module")
def reference():
    return pytest.importorskip("brainpy.state", reason="comes with the extra `test`")


class Mine:
    """The modules of this package under the names that a row uses."""

    def __getattr__(self, name):
        return getattr(etrax.synapses, name)


@dataclasses.dataclass(frozen=True)
class Row:
    """One way from spikes to current.

    Parameters
    ----------
    module : callable
        ``(library, n, **kwargs) -> synapse or presynaptic filter``.
    scale : float
        Size of the weights, in mS where they weigh spikes.
    out : callable
        ``library -> output``.
    delay : Quantity, optional
        Of the projection.
    """

    module: Callable
    scale: float
    out: Callable = lambda lib: lib.CUBA()
    delay: object = None

    def kind(self):
        """The class of the module."""
        return type(self.module(Mine(), N))

    def filters(self):
        """Whether the module stands before the weights."""
        return issubclass(self.kind(), etrax.Filter)

    def gives_conductance(self):
        """Whether it gives a conductance to the weights, so that these have no unit."""
        return self.filters() and not issubclass(self.kind(), STP | STD)


def mg_block(lib):
    return lib.MgBlock(E=3.0 * u.mV, cc_Mg=1.2 * u.mM, alpha=0.7 / u.mV, beta=3.57 * u.mM, V_offset=0.4 * u.mV)


def expon(lib, n, **kwargs):
    return lib.Expon(n, tau=5.0 * u.ms)


SYNAPSES = {
    "DualExpon": Row(lambda lib, n: lib.DualExpon(n), 3.0),
    "DualExpon per neuron": Row(
        lambda lib, n: lib.DualExpon(n, tau_decay=TAUS, tau_rise=2.0 * u.ms, amplitude=2.0, normalize=False), 3.0
    ),
    "Alpha": Row(lambda lib, n: lib.Alpha(n), 12.0),
    "Alpha per neuron": Row(lambda lib, n: lib.Alpha(n, tau=TAUS / 2), 10.0),
    "AMPA": Row(lambda lib, n, **k: lib.AMPA(n, **k), 5.0),
    "AMPA long pulse": Row(lambda lib, n, **k: lib.AMPA(n, T_dur=3.0 * u.ms, alpha=0.3 / (u.ms * u.mM), **k), 5.0),
    "GABAa": Row(lambda lib, n, **k: lib.GABAa(n, **k), 4.0),
    "BioNMDA": Row(lambda lib, n, **k: lib.BioNMDA(n, **k), 2.0),
    "BioNMDA long pulse": Row(lambda lib, n, **k: lib.BioNMDA(n, beta1=0.05 / u.ms, T_dur=2.0 * u.ms, **k), 2.0),
    "BioNMDA MgBlock": Row(lambda lib, n, **k: lib.BioNMDA(n, **k), 1500.0, mg_block),
    "STP": Row(lambda lib, n, **k: lib.STP(n, U=0.3, tau_f=50.0 * u.ms, tau_d=20.0 * u.ms, **k), 12.0),
    "STD": Row(lambda lib, n, **k: lib.STD(n, tau=20.0 * u.ms, U=0.4, **k), 6.0),
    "MgBlock": Row(expon, 1500.0, mg_block),
    "COBA": Row(lambda lib, n: lib.DualExpon(n), 700.0, lambda lib: lib.COBA(E=4.0 * u.mV)),
    "delay": Row(expon, 5.0, delay=3.0 * u.ms),
    "delay per neuron": Row(expon, 5.0, delay=PER_NEURON * u.ms),
    "delay of conductances": Row(lambda lib, n, **k: lib.AMPA(n, **k), 5.0, delay=2.0 * u.ms),
}
FILTERS = [name for name, row in SYNAPSES.items() if row.filters() and row.delay is None]


class Stopped(brainstate.nn.Module):
    """A layer out of reach of gradients of its input."""

    def __init__(self, comm):
        super().__init__()
        self.comm, self.in_size = comm, comm.in_size

    def update(self, x):
        return self.comm(jax.lax.stop_gradient(x))


def linear(n_in, n_out, scale, unit, seed):
    weight = scale / np.sqrt(n_in) * (0.4 + np.random.default_rng(seed).normal(size=(n_in, n_out)))
    return brainstate.nn.Linear(n_in, n_out, w_init=weight * unit, b_init=None)


class Net(brainstate.nn.Module):
    """One population behind one synapse, with a linear readout of its spikes; input and own spikes enter together."""

    def __init__(self, row, lib=Mine(), lif=LIF, recurrent=True, stopped=False, seed=0):
        super().__init__()
        self.neu = lif(N, tau=10.0 * u.ms, R=1.0 * u.ohm, spk_fun=braintools.surrogate.ReluGrad())
        comm = linear(N_IN + N, N, row.scale, u.UNITLESS if row.gives_conductance() else u.mS, seed)
        comm = Stopped(comm) if stopped else comm
        self.recurrent, self.filter, out = recurrent, None, row.out(lib)
        options = {} if row.delay is None else {"delay": row.delay}
        if not row.filters():
            self.syn = row.module(lib, N)
            self.proj = lib.AlignPostProj(comm=comm, syn=self.syn, out=out, post=self.neu, **options)
            return
        self.filter = row.module(lib, N_IN + N)
        if row.gives_conductance():
            self.proj = lib.CurrentProj(comm=comm, out=out, post=self.neu, **options)
        else:
            self.proj = lib.AlignPostProj(comm=comm, syn=expon(lib, N), out=out, post=self.neu, **options)

    def add_readout(self):
        self.readout = linear(N, N_OUT, 1.0, u.UNITLESS, 7)
        return self

    def update(self, x):
        own = self.neu.get_spike()
        z = jnp.concatenate([x, own if self.recurrent else jnp.zeros_like(own)], axis=-1)
        self.proj(z if self.filter is None else self.filter(z))
        z = self.neu(0.0 * u.mA)
        return self.readout(z) if hasattr(self, "readout") else z


def data(batch=(B,), seed=3):
    rng = np.random.default_rng(seed)
    return jnp.asarray((rng.random((T, *batch, N_IN)) < 0.25) * 1.0), jnp.asarray(rng.normal(size=(T, *batch, N_OUT)))


def loss(r, y):
    return jnp.mean((r - y) ** 2)


def close(got, expected, rtol=1e-9):
    assert set(got) == set(expected)
    for path, e in expected.items():
        np.testing.assert_allclose(got[path], e, rtol=rtol, atol=rtol * np.abs(e).max(), err_msg=path)
        assert np.abs(e).max() > 1e-7, path


def online(net, xs, ys, chunk_size=7):
    learner = etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=B)
    grads = learner.etrace_grad(
        xs, ys, step_fn=lambda x, y: loss(learner(x), y), chunk_size=chunk_size, reduction="sum"
    )
    return mantissas(grads)


def mantissas(grads):
    """Gradients by the names of their layers (a stopped layer adds a level to the path)."""
    return {
        ".".join(p for p in map(str, path[:-1]) if p != "comm"): jax.tree.leaves(value)[0]
        for path, value in grads.items()
    }


def backpropagated(net, xs, ys):
    """The gradient through time of the plain model."""
    brainstate.nn.init_all_states(net, batch_size=B)
    params = net.states(brainstate.ParamState)

    def total():
        return brainstate.transform.for_loop(lambda x, y: loss(net(x), y), xs, ys).sum()

    return mantissas(brainstate.transform.grad(total, params)())


@pytest.mark.parametrize("name", [n for n in SYNAPSES if n != "delay of conductances"])  # the reference: numbers only
def test_values_equal_the_reference(name, reference):
    row = SYNAPSES[name]
    batch = () if row.delay is not None else (B,)  # the reference's delay line has no batch axis
    xs, _ = data(batch)

    def run(net):
        brainstate.nn.init_all_states(net, batch_size=batch[0] if batch else None)
        part = net.syn if net.filter is None else net.filter
        names = [k for k in ("g", "h", "g_rise", "g_decay", "x", "u") if hasattr(part, k)]

        def step(i, x):
            with brainstate.environ.context(i=i, t=i * brainstate.environ.get_dt()):
                z = net(x)
            return [z, *(u.get_mantissa(state.value) for state in (net.neu.V, *(getattr(part, k) for k in names)))]

        return names, brainstate.transform.for_loop(step, jnp.arange(T), xs)

    names, mine = run(Net(row))
    other, theirs = run(Net(row, reference, reference.LIF))
    assert names == other
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    assert 0.02 < mine[0].mean() < 0.6, mine[0].mean()


CLASSES = ["Alpha", "AMPA", "BioNMDA", "CurrentProj", "DualExpon", "GABAa", "MgBlock", "STD", "STP"]


@pytest.mark.parametrize("name", CLASSES)
def test_same_arguments_and_defaults(name, reference):
    def arguments(lib):
        named = inspect.signature(getattr(lib, name).__init__).parameters
        return {k: repr(p.default) for k, p in named.items() if k not in ("self", "pre")}

    assert list(arguments(Mine()).items()) == list(arguments(reference).items())


@pytest.mark.parametrize("name", SYNAPSES)
def test_registered_equals_automatic(name):
    row = SYNAPSES[name]
    check = etrax.check_jacobian(row.module(Mine(), N), points=40, rtol=1e-9)
    assert max(check.errors.values()) <= 1e-9
    etrax.check_jacobian(row.out(Mine()))


@pytest.mark.parametrize("name", SYNAPSES)
def test_gradients(name):
    """Feed-forward: backpropagation through time. Recurrent: the same, stopped where spikes enter the projection."""
    row, (xs, ys) = SYNAPSES[name], data()
    feed = online(Net(row, recurrent=False).add_readout(), xs, ys)
    close(feed, backpropagated(Net(row, recurrent=False).add_readout(), xs, ys))
    mine = online(Net(row).add_readout(), xs, ys)
    close(mine, backpropagated(Net(row, stopped=True).add_readout(), xs, ys))


class Chain(brainstate.nn.Module):
    """A population, a filter of its spikes and a readout of the filter."""

    def __init__(self, row, pre):
        super().__init__()
        self.neu = LIF(N, tau=10.0 * u.ms)
        self.proj = AlignPostProj(comm=linear(N_IN, N, 5.0, u.mS, 0), syn=Expon(N), out=CUBA(), post=self.neu)
        self.filter = row.module(Mine(), N, **({"pre": self.neu} if pre else {}))
        self.readout = linear(N, N_OUT, 1.0, u.UNITLESS, 7)

    def update(self, x):
        self.proj(x)
        return self.readout(u.get_mantissa(self.filter(self.neu())))


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_with_pre_carries_credit_exactly(name):
    row, (xs, ys) = SYNAPSES[name], data()
    expected = backpropagated(Chain(row, pre=False), xs, ys)
    close(online(Chain(row, pre=True), xs, ys), expected)
    without = online(Chain(row, pre=False), xs, ys)
    assert np.abs(without["proj"] - expected["proj"]).max() > 1e-3 * np.abs(expected["proj"]).max()


class Receptors(brainstate.nn.Module):
    """A population behind fast, slow blocked and inhibitory receptors, an aligned synapse and a jump."""

    def __init__(self, neuron, stopped=False):
        super().__init__()
        self.neu = neuron

        def comm(scale, seed, unit=u.UNITLESS):
            made = linear(N_IN + N, N, scale, unit, seed)
            return Stopped(made) if stopped else made

        self.ampa = CurrentProj(AMPA(N_IN + N), comm=comm(900.0, 0), out=COBA(E=4.0 * u.mV), post=self.neu)
        self.nmda = CurrentProj(BioNMDA(N_IN + N), comm=comm(400.0, 1), out=mg_block(Mine()), post=self.neu)
        self.gaba = CurrentProj(GABAa(N_IN + N), comm=comm(200.0, 2), out=COBA(E=-1.0 * u.mV), post=self.neu)
        self.syn = AlignPostProj(
            STP(N_IN + N), comm=comm(2.0, 3, u.mS), syn=DualExpon(N), out=CUBA(), post=self.neu, delay=1.0 * u.ms
        )
        self.readout = linear(N, N_OUT, 1.0, u.UNITLESS, 7)

    def update(self, x):
        z = jnp.concatenate([x, self.neu.get_spike()], axis=-1)
        for projection in (self.ampa, self.nmda, self.gaba, self.syn):
            projection(z)
        return self.readout(self.neu())


@pytest.mark.parametrize("neuron", [LIF, ALIF])
def test_all_kinds_of_receptors_together(neuron):
    xs, ys = data()
    net = Receptors(neuron(N, tau=10.0 * u.ms))
    mine = online(net, xs, ys)
    close(mine, backpropagated(Receptors(neuron(N, tau=10.0 * u.ms), stopped=True), xs, ys))


class Layers(brainstate.nn.Module):
    """A population, receptors of its spikes, and a population behind them."""

    def __init__(self):
        super().__init__()
        self.low, self.high = LIF(N, tau=10.0 * u.ms), LIF(N, tau=10.0 * u.ms)
        self.first = AlignPostProj(
            STD(N_IN), comm=linear(N_IN, N, 5.0, u.mS, 0), syn=Expon(N), out=CUBA(), post=self.low
        )
        self.second = CurrentProj(
            BioNMDA(N, pre=self.low), comm=linear(N, N, 900.0, u.UNITLESS, 1), out=mg_block(Mine()), post=self.high
        )
        self.readout = linear(N, N_OUT, 1.0, u.UNITLESS, 7)

    def update(self, x):
        self.first(x)
        self.second(self.low())
        return self.readout(self.high())


def test_the_result_does_not_depend_on_how_it_is_computed():
    """Chunks of any length and single steps agree; backpropagation within one chunk is backpropagation."""
    xs, ys = data()
    net = Layers()
    learner = etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=B)
    assert "second" in str(learner.report())

    def step(x, y):
        return loss(learner(x), y)

    expected = mantissas(learner.etrace_grad(xs, ys, step_fn=step, chunk_size=7, reduction="sum"))
    learner.reset_state()
    close(mantissas(learner.etrace_grad(xs, ys, step_fn=step, chunk_size=1, reduction="sum")), expected)
    learner.reset_state()
    single = brainstate.transform.jit(
        lambda x, y: brainstate.transform.grad(lambda: step(x, y), learner.param_states)()
    )
    total = {name: 0.0 for name in expected}
    for x, y in zip(xs, ys, strict=True):
        total = {name: total[name] + g for name, g in mantissas(single(x, y)).items()}
    close(total, expected)
    whole = Layers()
    learner = etrax.compile(whole, etrax.D_RTRL, xs[0], batch_size=B, vjp_method="multi-step")
    close(
        mantissas(learner.etrace_grad(xs, ys, step_fn=step, chunk_size=T, reduction="sum")),
        backpropagated(Layers(), xs, ys),
    )


@pytest.mark.parametrize("carry", ["window", "rank1"])
def test_other_carries_take_them_in_single_precision(carry):
    with brainstate.environ.context(precision=32):
        xs, ys = (jnp.asarray(v, jnp.float32) for v in data())
        net = Receptors(LIF(N, tau=10.0 * u.ms))
        learner = etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=B, carry=carry)
        before = {
            path: jnp.result_type(s.value)
            for path, s in net.states().items()
            if not isinstance(s, brainstate.ParamState)
        }
        grads = learner.etrace_grad(xs, ys, step_fn=lambda x, y: loss(learner(x), y), chunk_size=5)
        assert all(np.all(np.isfinite(g)) for g in mantissas(grads).values())
        after = {path: jnp.result_type(s.value) for path, s in net.states().items() if path in before}
        assert after == before


def test_spikes_may_be_boolean():
    for cls in (AMPA, STP):
        floats, booleans = cls(N), cls(N)
        for module, z in ((floats, jnp.array([1.0, 0.0, 0.0, 1.0])), (booleans, jnp.array([True, False, False, True]))):
            module.init_state()
            module(z)
        out = floats.hidden[cls.output].value, booleans.hidden[cls.output].value
        np.testing.assert_array_equal(*(u.get_mantissa(v) for v in out))


def test_a_shared_synapse_of_two_states():
    xs, ys = data()

    class Shared(brainstate.nn.Module):
        def __init__(self, stopped=False):
            super().__init__()
            self.neu = LIF(N, tau=10.0 * u.ms)
            for i, scale in enumerate((4.0, 2.0)):
                comm = linear(N_IN, N, scale, u.mS, i)
                shared = dict(syn=DualExpon.desc(N), out=CUBA.desc(), post=self.neu)
                setattr(self, f"proj{i}", AlignPostProj(comm=Stopped(comm) if stopped else comm, **shared))
            self.readout = linear(N, N_OUT, 1.0, u.UNITLESS, 7)

        def update(self, x):
            self.proj0(x)
            self.proj1(1.0 - x)
            return self.readout(self.neu())

    close(online(Shared(), xs, ys), backpropagated(Shared(stopped=True), xs, ys))


def test_wrong_uses_are_named():
    neuron = LIF(N)
    comm = linear(N_IN, N, 1.0, u.mS, 0)
    with pytest.raises(TypeError, match="`syn` AMPA is driven by presynaptic spikes: put it before `comm`"):
        AlignPostProj(comm=comm, syn=AMPA(N), out=CUBA(), post=neuron)
    with pytest.raises(TypeError, match="`out` must be an etrax.SynOut"):
        CurrentProj(comm=comm, out=3.0, post=neuron)
    with pytest.raises(ValueError, match=r"`in_size` is \(5,\) but `pre` has shape \(4,\)"):
        STP(5, pre=neuron)
    with pytest.raises(ValueError, match="`tau_rise` equals `tau_decay`"):
        DualExpon(N, tau_rise=10.0 * u.ms)
    with pytest.raises(ValueError, match="`E` of MgBlock is in no unit but must be in units like mV"):
        etrax.synapses.MgBlock().update(1.0 * u.mS, -60.0 * u.mV)


@pytest.mark.parametrize("pulse", [0.5, 2.0])
def test_a_long_silence_and_a_long_train_stay_finite(pulse):
    receptor = BioNMDA(1, T_dur=pulse * u.ms)
    receptor.init_state()
    for z in (1.0, 0.0):
        g = brainstate.transform.for_loop(lambda _, z=z: receptor(jnp.full(1, z)), jnp.arange(3000))
        assert np.all(np.isfinite(u.get_mantissa(g)))
        assert np.all((u.get_mantissa(g) >= 0.0) & (u.get_mantissa(g) <= 1.0))
    assert float(u.get_mantissa(g)[-1, 0]) < 1e-9


# ------------------------------------------------------------------------------------------- excitation, inhibition


class Dale(brainstate.nn.Module):
    """Excitatory and inhibitory neurons: conductances whose weights keep their sign."""

    def __init__(self, n_exc=12, n_inh=4, stopped=False):
        super().__init__()
        self.n_exc, n = n_exc, n_exc + n_inh
        self.neu = LIF(n, tau=20.0 * u.ms, V_th=-50 * u.mV, V_reset=-60 * u.mV, V_rest=-60 * u.mV, R=1.0 * u.ohm,
                       V_initializer=braintools.init.Constant(-60.0 * u.mV))  # fmt: skip

        def comm(n_in, scale, seed):
            drawn = scale * np.abs(np.random.default_rng(seed).normal(size=(n_in, n))) / np.sqrt(n_in)
            layer = brainstate.nn.SignedWLinear((n_in,), (n,), w_init=jnp.asarray(drawn) * u.siemens)
            return Stopped(layer) if stopped else layer

        excites, inhibits = dict(E=0.0 * u.mV), dict(E=-80.0 * u.mV)
        g = braintools.init.Constant(0.0 * u.siemens)
        fast = Expon(n, tau=5.0 * u.ms, g_initializer=g)
        slow = Expon(n, tau=10.0 * u.ms, g_initializer=g)
        self.exc = AlignPostProj(comm=comm(N_IN + n_exc, 0.5, 1), syn=fast, out=COBA(**excites), post=self.neu)
        self.inh = AlignPostProj(comm=comm(n_inh, 0.4, 2), syn=slow, out=COBA(**inhibits), post=self.neu)
        self.readout = linear(n, N_OUT, 1.0, u.UNITLESS, 7)

    def update(self, x):
        z = self.neu.get_spike()
        self.exc(jnp.concatenate([x, z[..., : self.n_exc]], axis=-1))
        self.inh(z[..., self.n_exc :])
        return self.readout(self.neu(0.0 * u.mA))


def test_excitation_and_inhibition_under_dales_law():
    xs, ys = data()
    ys = 0.3 * ys[:1] * jnp.ones((T, 1, 1))
    close(online(Dale(), xs, ys), backpropagated(Dale(stopped=True), xs, ys))
    net = Dale()
    learner = etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=B)
    optimizer = braintools.optim.Adam(0.02)
    optimizer.register_trainable_weights(learner.param_states)

    def step(x, y):
        return loss(learner(x), y)

    losses = []
    for _ in range(60):
        learner.reset_state()
        grads, value = learner.etrace_grad(xs, ys, step_fn=step, return_value=True)
        optimizer.update(grads)
        losses.append(float(value.mean()))
    assert losses[-1] < 0.7 * losses[0]
    brainstate.nn.reset_all_states(net, batch_size=B)
    g = []
    for x in xs:
        net(x)
        g += [net.exc.syn.g.value, net.inh.syn.g.value]
    assert min(float(u.get_mantissa(v).min()) for v in g) >= 0.0  # the driving force alone gives the sign
