"""Modules of `brainpy.state` and a user's own join a network: same values, exact gradients, or a refusal."""

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest

import etrax
from etrax.neurons import LeakyReadout
from etrax.synapses import COBA, CUBA, AlignPostProj, DeltaProj, Expon

bp = pytest.importorskip("brainpy.state", reason="comes with the extra `test`")
T, B, N_IN, N = 28, 2, 5, 4


class Mine(brainstate.nn.Dynamics):
    """A user's own neuron in ten lines, with a place where a test can mix neurons."""

    def __init__(self, in_size=N, mix=lambda V, spike: V, normalise=lambda z: z):
        super().__init__(in_size)
        self.mix, self.normalise = mix, normalise

    def init_state(self, batch_size=None, **kwargs):
        self.V = brainstate.HiddenState(
            braintools.init.param(braintools.init.Constant(0.0 * u.mV), self.varshape, batch_size)
        )

    def get_spike(self):
        return self.normalise(braintools.surrogate.ReluGrad()(self.V.value / u.mV - 1.0))

    def update(self, x=0.0 * u.mA):
        spike = self.get_spike()
        V = self.mix(self.V.value, spike) - spike * u.mV
        self.V.value = V + (-V + x * u.ohm) * 0.1
        return self.get_spike()


class Rate(brainstate.nn.Dynamics):
    """Emits a function of its state, and has no `get_spike`."""

    def init_state(self, batch_size=None, **kwargs):
        self.h = brainstate.HiddenState(
            jnp.zeros(self.varshape if batch_size is None else (batch_size, *self.varshape))
        )

    def update(self, x=0.0 * u.mA):
        self.h.value = 0.9 * self.h.value + 0.1 * x / u.mA
        return jnp.tanh(self.h.value)


class Noisy(Mine):
    """Draws random numbers in its update."""

    def update(self, x=0.0 * u.mA):
        spike = super().update(x)
        self.V.value = self.V.value * (1.0 + 0.3 * brainstate.random.randn(*self.V.value.shape)) + 0.1 * u.mV
        return self.get_spike() + 0.0 * spike


MA, PER_MS = u.mA / u.mS, u.mV / u.ms / u.mS
NEURONS = {  # how to make it, unit of its current per mS, size of the weights
    "LIF": (lambda: bp.LIF(N, tau=10 * u.ms), MA, 5.0),
    "ALIF": (lambda: bp.ALIF(N, tau=10 * u.ms, beta=0.4 * u.mV, spk_reset="hard"), MA, 6.0),
    "ExpIF": (lambda: bp.ExpIF(N, V_th=-50 * u.mV, spk_reset="hard"), MA, 40.0),
    "AdExIF": (lambda: bp.AdExIF(N, spk_reset="hard"), MA, 60.0),
    "Izhikevich": (lambda: bp.Izhikevich(N), PER_MS, 30.0),
    "Gif": (lambda: bp.Gif(N), MA, 10.0),
    "HH": (lambda: bp.HH(N, V_initializer=braintools.init.Constant(-65.0 * u.mV)), u.uA / u.mS, 60.0),
    "user's own": (Mine, MA, 5.0),
    "rate": (lambda: Rate(N), MA, 5.0),
}
SYNAPSES = {
    "Expon": lambda: bp.Expon(N, tau=5 * u.ms),
    "DualExpon": lambda: bp.DualExpon(N, tau_decay=8 * u.ms, tau_rise=2 * u.ms),
    "Alpha": lambda: bp.Alpha(N, tau=4 * u.ms),
}


class Net(brainstate.nn.Module):
    """Weights, synapse, neuron and a leaky readout; adapted, or (`plain`) called by hand without this package."""

    def __init__(self, neuron, synapse, unit, scale, *, plain=False, recurrent=False, seed=0):  # noqa: PLR0913 - parts, and how they are used
        super().__init__()
        rng = np.random.default_rng(seed)
        self.plain, self.recurrent, self.unit = plain, recurrent, unit
        kind = None if hasattr(neuron, "get_spike") else "neuron"
        self.neu = neuron if plain else etrax.adapt(neuron, kind)
        self.syn = synapse if plain else etrax.adapt(synapse)
        n_in = N_IN + N * recurrent
        w = scale / np.sqrt(n_in) * (0.4 + rng.normal(size=(n_in, N))) * u.mS
        self.comm = brainstate.nn.Linear(n_in, N, w_init=w, b_init=None)
        if not plain:
            self.proj = AlignPostProj(comm=self.comm, syn=self.syn, out=CUBA(scale=unit), post=self.neu)
        self.out = LeakyReadout(N, 3, tau=8 * u.ms, w_init=rng.normal(size=(N, 3)), pre=None if plain else self.neu)

    def update(self, x):
        if self.recurrent:
            x = jnp.concatenate([x, self.neu.get_spike()], axis=-1)
        if not self.plain:
            self.proj(x)
            return self.out(self.neu())
        g = self.syn.update(self.comm(jax.lax.stop_gradient(x) if self.recurrent else x))
        return self.out(self.neu.update(g * self.unit))


def data():
    rng = np.random.default_rng(3)
    return jnp.asarray(rng.random((T, B, N_IN)) < 0.3, float), jnp.asarray(rng.normal(size=(T, B, 3)))


def named(grads):
    """Gradients by the last part of the path of their layer."""
    return {"out" if path[0] == "out" else "comm": networks.mantissas(value) for path, value in grads.items()}


def both(build, **options):
    """Readouts and gradients of a network made twice: adapted under D-RTRL, plain under backpropagation."""
    xs, ys = data()
    found = []
    for plain, algorithm in ((False, etrax.D_RTRL), (True, etrax.BPTT)):
        learner = etrax.compile(build(plain=plain), algorithm, xs[0], batch_size=B)

        def step(x, y, learner=learner):
            r = learner(x)
            return jnp.mean((r - y) ** 2), r

        brainstate.random.seed(1)
        grads, r = learner.etrace_grad(xs, ys, step_fn=step, has_aux=True, **options)
        found.append((named(grads), r))
    (mine, r), (theirs, expected) = found
    np.testing.assert_allclose(r, expected, rtol=1e-11, atol=1e-12)
    assert float(jnp.abs(expected).max()) > 1e-3
    close(mine, theirs, 1e-9)


def close(got, expected, rtol):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for g, e in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert float(np.abs(e).max()) > 1e-9
        np.testing.assert_allclose(g, e, rtol=rtol, atol=rtol * float(np.abs(e).max()))


@pytest.mark.slow
@pytest.mark.parametrize("name", NEURONS)
def test_feed_forward_neurons_equal_backpropagation(name):
    neuron, unit, scale = NEURONS[name]
    with brainstate.environ.context(dt=(0.1 if name == "HH" else 1.0) * u.ms):
        both(lambda plain: Net(neuron(), SYNAPSES["Expon"](), unit, scale, plain=plain), chunk_size=7)


@pytest.mark.slow
@pytest.mark.parametrize("name", SYNAPSES)
def test_feed_forward_synapses_equal_backpropagation(name):
    neuron, unit, scale = NEURONS["LIF"]
    both(lambda plain: Net(neuron(), SYNAPSES[name](), unit, 3 * scale, plain=plain), chunk_size=7)


@pytest.mark.parametrize("name", networks.thorough(["ALIF", "AdExIF", "user's own"], "ALIF"))
def test_recurrent_equal_backpropagation_stopped_at_projections(name):
    neuron, unit, scale = NEURONS[name]
    both(
        lambda plain: Net(neuron(), SYNAPSES["DualExpon"](), unit, 2 * scale, plain=plain, recurrent=True), chunk_size=7
    )


@pytest.mark.slow
def test_a_shared_synapse_is_described():
    """Two projections drive one adapted synapse: the same as one projection of both inputs."""

    class Shared(brainstate.nn.Module):
        def __init__(self, shared):
            super().__init__()
            self.neu, self.shared = etrax.adapt(bp.LIF(N)), shared
            w = np.random.default_rng(0).normal(size=(N_IN, N)) * 5.0 * u.mS
            for i in range(2):
                syn = etrax.adapt(bp.Expon.desc(N, tau=5 * u.ms)) if shared else etrax.adapt(bp.Expon(N, tau=5 * u.ms))
                out = CUBA.desc() if shared else CUBA()
                comm = brainstate.nn.Linear(N_IN, N, w_init=w, b_init=None)
                setattr(self, f"proj{i}", AlignPostProj(comm=comm, syn=syn, out=out, post=self.neu))
            assert (self.proj0.syn is self.proj1.syn) == shared

        def update(self, x):
            self.proj0(x)
            self.proj1(1.0 - x)
            return self.neu()

    xs, ys = data()
    found = []
    for shared in (True, False):
        learner = etrax.compile(Shared(shared), etrax.D_RTRL, xs[0], batch_size=B)
        grads = learner.etrace_grad(xs, ys[..., :1], step_fn=lambda x, y, f=learner: jnp.mean((f(x) - y) ** 2))
        found.append({path: networks.mantissas(value) for path, value in grads.items()})
    close(*found, 1e-10)


@pytest.mark.slow
def test_random_numbers_are_drawn_once_per_step():
    brainstate.random.DEFAULT.restore_value(np.array([3, 4], np.uint32))  # as in a program that has drawn none yet
    both(lambda plain: Net(Noisy(), SYNAPSES["Expon"](), MA, 5.0, plain=plain), chunk_size=7)


@pytest.mark.slow
def test_a_neuron_that_reads_the_clock():
    xs, ys = data()
    ts = jnp.arange(T) * u.ms
    found = []
    for plain, algorithm in ((False, etrax.D_RTRL), (True, etrax.BPTT)):
        net = Net(bp.LIFRef(N, tau_ref=4 * u.ms), SYNAPSES["Expon"](), MA, 6.0, plain=plain)
        with brainstate.environ.context(t=0.0 * u.ms):
            learner = etrax.compile(net, algorithm, xs[0], batch_size=B)

        def step(t, x, y, learner=learner):
            with brainstate.environ.context(t=t):
                return jnp.mean((learner(x) - y) ** 2)

        found.append(named(learner.etrace_grad(ts, xs, ys, step_fn=step, chunk_size=7)))
    close(*found, 1e-9)


TWINS = [
    *(f"feed-forward {k}" for k in ("lif hard", "alif leaky", "coba")),
    *(f"recurrent {k}" for k in ("lif heterogeneous", "alif hard", "alif delta", "two synapses and delta")),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", TWINS)
def test_equal_to_the_twin_of_this_package(name):
    case = networks.case(name)
    lib = networks.package(etrax.neurons, etrax.synapses, LeakyReadout)
    adapted = networks.package(etrax.neurons, etrax.synapses, LeakyReadout)
    adapted.LIF, adapted.ALIF, adapted.Expon = (
        lambda *args, cls=cls, **kwargs: etrax.adapt(cls(*args, **kwargs)) for cls in (bp.LIF, bp.ALIF, bp.Expon)
    )
    adapted.detaches = False
    found = []
    for modules in (adapted, lib):
        net = networks.Built(modules, case.net, case.params)
        learner = etrax.compile(net, etrax.D_RTRL, case.xs[0], batch_size=networks.B)

        def step(x, y, learner=learner):
            r = learner(x)
            return networks.loss(r, y), r

        grads, r = learner.etrace_grad(case.xs, case.ys, step_fn=step, has_aux=True)
        found.append((networks.mantissas(grads), r))
    (mine, r), (theirs, expected) = found
    np.testing.assert_allclose(r, expected, rtol=1e-12, atol=1e-13)
    close(mine, theirs, 1e-10)


@pytest.mark.parametrize("batch", networks.thorough([None, 3], 3))
def test_states_are_found_in_the_model_and_reset(batch):
    net = brainstate.nn.Module()
    net.neu, net.syn = etrax.adapt(bp.AdExIF((2, 3))), etrax.adapt(bp.DualExpon((2, 3)))
    brainstate.nn.init_all_states(net, batch_size=batch)
    assert set(net.states()) == {
        ("neu", "module", "V"),
        ("neu", "module", "w"),
        ("syn", "module", "g_rise"),
        ("syn", "module", "g_decay"),
        ("syn", "output"),
    }
    assert net.neu.V is net.neu.module.V
    assert list(net.neu.hidden) == ["V", "w"]
    before = {path: state.value for path, state in net.states().items()}
    net.neu(50.0 * u.mA)
    net.syn(2.0 * u.mS)
    np.testing.assert_array_equal(net.syn.output.value.mantissa.shape, (2, 3) if batch is None else (batch, 2, 3))
    brainstate.nn.reset_all_states(net, batch_size=batch)
    for path, state in net.states().items():
        assert u.math.allclose(state.value, before[path])


def test_the_report_calls_them_derived_automatically():
    net = Net(bp.LIF(N), SYNAPSES["DualExpon"](), MA, 5.0)
    text = str(etrax.compile(net, etrax.D_RTRL, jnp.ones((B, N_IN)), batch_size=B).report())
    assert text.count("derived automatically") == 4
    assert "AdaptedNeuron" in text


@pytest.mark.parametrize(
    "module",
    [
        bp.LIF(N),
        *(pytest.param(made, marks=pytest.mark.slow) for made in (bp.ALIF(N), bp.Izhikevich(N), bp.HindmarshRose(N))),
        bp.DualExpon(N),
        Mine(),
    ],
    ids=lambda m: type(m).__name__,
)
def test_the_check_accepts_them(module):
    etrax.check_jacobian(etrax.adapt(module))


# ------------------------------------------------------------------------------------------------------- refusals

ORDER = np.array([1, 0, 3, 2])
MIXING = {
    "mean": (lambda V, z: V - 0.1 * u.math.mean(V, axis=-1, keepdims=True), "a sum or mean over an axis"),
    "mean over the batch": (lambda V, z: V - 0.1 * u.math.mean(V, axis=0, keepdims=True), "a sum or mean over an axis"),
    "roll at spikes": (lambda V, z: u.math.where(z > 0, u.math.roll(V, 1, axis=-1), V), "a shift"),
    "permutation above a threshold": (lambda V, z: u.math.where(V > 40 * u.mV, V[..., ORDER], V), "indexing"),
    "reversal": (lambda V, z: V + 0.1 * u.math.flip(V, axis=-1), "a reversal"),
    "matrix": (lambda V, z: V @ jnp.eye(N), "a matrix product"),
    "cumulative sum": (lambda V, z: V + 0.1 * u.math.cumsum(V, axis=-1), "a cumulative sum"),
    "sorting": (lambda V, z: u.math.sort(V, axis=-1), "sort|indexing"),
    "maximum": (lambda V, z: V - u.math.max(V), "maximum|sum|operation"),
    "a branch never taken": (
        lambda V, z: jax.lax.cond(jnp.all(V / u.mV > 1e9), lambda v: u.math.roll(v, 1, axis=-1), lambda v: v, V),
        "a shift",
    ),
    "a loop": (lambda V, z: jax.lax.fori_loop(0, 3, lambda i, v: 0.9 * u.math.roll(v, 1, axis=-1), V), "a shift"),
    "sum of spikes": (lambda V, z: V - jnp.sum(z, axis=-1, keepdims=True) * u.mV, "a sum or mean over an axis"),
}


def compile_mine(module):
    return etrax.compile(Net(module, bp.Expon(N), MA, 5.0), etrax.D_RTRL, jnp.ones((B, N_IN)), batch_size=B)


@pytest.mark.parametrize("name", MIXING)
def test_mixing_is_refused(name):
    mix, words = MIXING[name]
    with pytest.raises(
        ValueError, match=f"`update` of Mine is not element-wise: .*({words}).* acts on its states .* projection"
    ):
        compile_mine(Mine(mix=mix))


def test_a_spike_that_sees_other_neurons_is_refused():
    module = Mine(normalise=lambda z: z / (1.0 + jnp.sum(z, axis=-1, keepdims=True)))
    with pytest.raises(ValueError, match="of Mine is not element-wise"):
        compile_mine(module)


@pytest.mark.parametrize(
    "mix",
    [
        lambda V, z: u.math.where(u.math.any(z > 0, axis=-1, keepdims=True), 0.9 * V, V),
        pytest.param(
            lambda V, z: V - 0.1 * jax.lax.stop_gradient(u.math.mean(V, axis=-1, keepdims=True)), marks=pytest.mark.slow
        ),
        pytest.param(lambda V, z: jax.lax.fori_loop(0, 3, lambda i, v: 0.9 * v, V), marks=pytest.mark.slow),
        pytest.param(
            lambda V, z: jax.lax.cond(jnp.all(V / u.mV > 0.1), lambda v: 0.9 * v, lambda v: v, V),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["comparison", "stopped gradient", "loop", "branch"],
)
def test_what_no_gradient_mixes_is_exact(mix):
    both(lambda plain: Net(Mine(mix=mix), SYNAPSES["Expon"](), MA, 8.0, plain=plain), chunk_size=7)


class Leaking(Mine):
    """Remembers something differentiable outside its hidden states."""

    def init_state(self, batch_size=None, **kwargs):
        super().init_state(batch_size)
        self.slow = brainstate.ShortTermState(self.V.value)

    def update(self, x=0.0 * u.mA):
        self.slow.value = 0.9 * self.slow.value + 0.1 * self.V.value
        return super().update(x + 0.1 * self.slow.value / u.ohm)


class Stacked(Mine):
    """Keeps two variables in one state."""

    def init_state(self, batch_size=None, **kwargs):
        self.V = brainstate.HiddenState(jnp.zeros((*self.varshape, 2)) * u.mV)


@jax.custom_vjp
def backward_only(x):
    """A spike function without a forward derivative."""
    return (x > 0).astype(x.dtype)


backward_only.defvjp(lambda x: (backward_only(x), x), lambda x, g: (g / (1 + x**2),))


class BackwardOnly(Mine):
    """Its spike function has `jax.custom_vjp`."""

    def get_spike(self):
        return backward_only(self.V.value / u.mV - 1.0)


REFUSED = {
    "leak": (Leaking, r"writes slow, a ShortTermState, with a derivative that no trace .* `brainstate.HiddenState`"),
    "stacked": (Stacked, r"state V of Stacked has shape \(4, 2\) but must have \(2, 4\)"),
    "custom_vjp": (BackwardOnly, r"of BackwardOnly .* a function with `jax.custom_vjp`"),
    "clock": (lambda: bp.LIFRef(N), r"`update` of LIFRef reads a value .* `with brainstate.environ.context\(t=t\):`"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        compile_mine(make())


def test_inputs_attached_elsewhere_are_refused():
    neuron = bp.LIF(N)
    comm = brainstate.nn.Linear(N_IN, N, b_init=None)
    bp.AlignPostProj(comm=comm, syn=bp.Expon(N), out=bp.CUBA(), post=neuron)
    with pytest.raises(ValueError, match=r"LIF has inputs of its own attached .* `etrax.synapses`"):
        compile_mine(neuron)


def test_a_plain_current_takes_no_conductance():
    net = Net(Mine(), bp.Expon(N), MA, 5.0)
    net.neu.receivers.clear()
    net.proj = AlignPostProj(comm=net.comm, syn=Expon(N), out=COBA(3 * u.mV), post=net.neu)
    with pytest.raises(ValueError, match="Mine takes its current as a plain array, but an output like COBA"):
        etrax.compile(net, etrax.D_RTRL, jnp.ones((B, N_IN)), batch_size=B)


def test_a_synapse_of_spikes_is_refused():
    with pytest.raises(ValueError, match="`update` of AMPA does not run on one input in mS .* weighed"):
        etrax.adapt(bp.AMPA(N)).init_state()


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match="`module` LIF is an etrax module already"):
        etrax.adapt(etrax.neurons.LIF(N))
    with pytest.raises(TypeError, match="`module` must be a brainstate.nn.Module with a method `update`"):
        etrax.adapt(lambda x: x)
    with pytest.raises(ValueError, match="`kind` must be 'neuron' or 'synapse', got 'both'"):
        etrax.adapt(bp.LIF(N), "both")
    with pytest.raises(TypeError, match=r"`post` must be an etrax.Neuron"):
        DeltaProj(comm=brainstate.nn.Linear(N_IN, N), post=bp.LIF(N))


def test_a_reset_may_change_the_batch():
    """Of the states, and of what is returned."""
    syn = etrax.adapt(bp.DualExpon(3))
    syn.init_state(2)
    syn.reset_state(5)
    assert {state.value.shape for state in syn.hidden.values()} == {(5, 3)}
    assert syn(jnp.ones((5, 3)) * u.mS).shape == (5, 3)
