"""Synapses, filters and outputs together, and wrong uses of them; each one alone is a row of the contract."""

import inspect

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
    MgBlock,
)

T, B, N_IN, N, N_OUT = 24, 2, 5, 4, 3


def mg_block():
    return MgBlock(E=3.0 * u.mV, cc_Mg=1.2 * u.mM, alpha=0.7 / u.mV, beta=3.57 * u.mM, V_offset=0.4 * u.mV)


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


def data(seed=3):
    rng = np.random.default_rng(seed)
    return jnp.asarray((rng.random((T, B, N_IN)) < 0.25) * 1.0), jnp.asarray(rng.normal(size=(T, B, N_OUT)))


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


class Receptors(brainstate.nn.Module):
    """A population behind fast, slow blocked and inhibitory receptors, an aligned synapse and a jump."""

    def __init__(self, neuron, stopped=False):
        super().__init__()
        self.neu = neuron

        def comm(scale, seed, unit=u.UNITLESS):
            made = linear(N_IN + N, N, scale, unit, seed)
            return Stopped(made) if stopped else made

        self.ampa = CurrentProj(AMPA(N_IN + N), comm=comm(900.0, 0), out=COBA(E=4.0 * u.mV), post=self.neu)
        self.nmda = CurrentProj(BioNMDA(N_IN + N), comm=comm(400.0, 1), out=mg_block(), post=self.neu)
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


@pytest.mark.slow
def test_all_kinds_of_receptors_together():
    xs, ys = data()
    mine = online(Receptors(ALIF(N, tau=10.0 * u.ms)), xs, ys)
    close(mine, backpropagated(Receptors(ALIF(N, tau=10.0 * u.ms), stopped=True), xs, ys))


class Layers(brainstate.nn.Module):
    """A population, receptors of its spikes, and a population behind them."""

    def __init__(self):
        super().__init__()
        self.low, self.high = LIF(N, tau=10.0 * u.ms), LIF(N, tau=10.0 * u.ms)
        self.first = AlignPostProj(
            STD(N_IN), comm=linear(N_IN, N, 5.0, u.mS, 0), syn=Expon(N), out=CUBA(), post=self.low
        )
        self.second = CurrentProj(
            BioNMDA(N, pre=self.low), comm=linear(N, N, 900.0, u.UNITLESS, 1), out=mg_block(), post=self.high
        )
        self.readout = linear(N, N_OUT, 1.0, u.UNITLESS, 7)

    def update(self, x):
        self.first(x)
        self.second(self.low())
        return self.readout(self.high())


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_a_projection_has_the_arguments_of_the_reference():
    library = pytest.importorskip("brainpy.state", reason="comes with the extra `test`")
    mine, theirs = (inspect.signature(lib.CurrentProj.__init__).parameters for lib in (etrax.synapses, library))
    assert {k: repr(p.default) for k, p in mine.items()} == {k: repr(p.default) for k, p in theirs.items()}


def test_wrong_uses_are_named():
    neuron = LIF(N)
    comm = linear(N_IN, N, 1.0, u.mS, 0)
    with pytest.raises(TypeError, match="`syn` AMPA is driven by presynaptic spikes: put it before `comm`"):
        AlignPostProj(comm=comm, syn=AMPA(N), out=CUBA(), post=neuron)
    with pytest.raises(TypeError, match="`out` must be an etrax.SynOut"):
        CurrentProj(comm=comm, out=3.0, post=neuron)
    with pytest.raises(ValueError, match=r"`in_size` is \(5,\) but `pre` has shape \(4,\)"):
        STP(5, pre=neuron)
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


@pytest.mark.slow
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

    @brainstate.transform.jit
    def update():
        learner.reset_state()
        grads, value = learner.etrace_grad(xs, ys, step_fn=step, return_value=True)
        optimizer.update(grads)
        return value.mean()

    losses = [float(update()) for _ in range(60)]
    assert losses[-1] < 0.7 * losses[0]
    brainstate.nn.reset_all_states(net, batch_size=B)

    def conductances(x):
        net(x)
        return net.exc.syn.g.value, net.inh.syn.g.value

    for g in brainstate.transform.for_loop(conductances, xs):
        assert float(u.get_mantissa(g).min()) >= 0.0  # the driving force alone gives the sign
