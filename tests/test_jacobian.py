"""Registered Jacobians equal automatic differentiation, part by part and composed; their kinds are true."""

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import thorough

import etrax
from etrax.contract.jacobian import Kind
from etrax.engine.names import Drive
from etrax.neurons import ALIF, LIF, LeakyReadout
from etrax.synapses import COBA, CUBA, AlignPostProj, DeltaProj, Expon

N = 4
TAUS = np.array([6.0, 10.0, 15.0, 20.0]) * u.ms
THRESHOLDS = np.array([0.8, 1.0, 1.3, 0.9]) * u.mV


class TenLines(etrax.Neuron):
    """A neuron as the README writes one: no Jacobian registered."""

    def __init__(self, in_size, tau=10.0 * u.ms, V_th=1.0 * u.mV):
        super().__init__(in_size)
        self.tau, self.V_th, self.V_reset = tau, V_th, 0.0 * u.mV

    def initial(self, batch_size=None):
        return {"V": braintools.init.param(braintools.init.Constant(0.0 * u.mV), self.varshape, batch_size)}

    def get_spike(self, V=None):
        return self.spk_fun(((self.V.value if V is None else V) - self.V_th) / self.V_th)

    def transition(self, V, *, current, delta):
        V = self.reset(V, self.get_spike(V))
        return {"V": V + (-V + 1.0 * u.ohm * current(V)) * brainstate.environ.get_dt() / self.tau + delta}


MODULES = {  # beside those of the contract
    "LIF per neuron": lambda: LIF(N, tau=TAUS, V_th=THRESHOLDS, V_reset=-0.2 * u.mV, V_rest=0.1 * u.mV),
    "LIF of two dimensions": lambda: LIF((2, 3), tau=np.array([[5.0], [9.0]]) * u.ms),
    "ALIF per neuron": lambda: ALIF(N, tau=TAUS, tau_a=3 * TAUS, V_th=THRESHOLDS, beta=np.linspace(0.1, 0.4, N) * u.mV),
    "LeakyReadout": lambda: LeakyReadout(N, 2),
    "Expon per neuron": lambda: Expon(N, tau=TAUS),
    "user's own": lambda: TenLines(N),
}


@pytest.mark.parametrize("name", MODULES)
def test_registered_equals_automatic(name):
    check = etrax.check_jacobian(MODULES[name](), rtol=1e-10)
    assert check.errors
    assert max(check.errors.values()) <= 1e-10


@pytest.mark.parametrize("dt", [pytest.param(0.01, marks=pytest.mark.slow), 20.0])
@pytest.mark.parametrize("name", ["LIF per neuron", "ALIF per neuron", "Expon per neuron"])
def test_any_time_step(name, dt):
    with brainstate.environ.context(dt=dt * u.ms):
        etrax.check_jacobian(MODULES[name](), rtol=1e-9)


def altered(base, change):
    """A neuron whose registered Jacobian is changed."""

    class Altered(base):
        def jacobian(self, **inputs):
            return change(super().jacobian(**inputs))

    return Altered(N)


def without(key):
    return lambda entries: {k: v for k, v in entries.items() if k != key}


WRONG = [
    (
        altered(LIF, lambda e: {**e, ("V", "V"): 1.001 * e["V", "V"]}),
        r"d V / d V of Altered is wrong: .* instead of .* at V=",
    ),
    (altered(ALIF, without(("a", "V"))), r"d a / d V of Altered is wrong \(it is missing from `jacobian`\)"),
    (altered(LIF, lambda e: {**e, ("V", "current"): 1.0 * u.mV}), r"d V / d current has unit mV, but .* has unit"),
]


@pytest.mark.parametrize(("module", "message"), WRONG)
def test_a_wrong_entry_is_named(module, message):
    with pytest.raises(ValueError, match=message):
        etrax.check_jacobian(module)


class Pooled(TenLines):
    """Not element-wise: every neuron sees the mean potential."""

    def transition(self, V, *, current, delta):
        return {"V": super().transition(V, current=current, delta=delta)["V"] + 0.1 * u.math.mean(V)}


def test_mixed_neurons_are_refused():
    with pytest.raises(ValueError, match="`transition` of Pooled mixes neurons"):
        etrax.check_jacobian(Pooled(N))


# ------------------------------------------------------------------------------------------- composed populations


class Net(brainstate.nn.Module):
    """One population with two synapses, a delta projection and a filter of its spikes."""

    def __init__(self, neuron, outputs, taus):
        super().__init__()
        self.neu = neuron

        def comm(unit):
            return brainstate.nn.Linear(3, N, w_init=braintools.init.Normal(0.0 * unit, 1.0 * unit), b_init=None)

        self.exc = AlignPostProj(comm=comm(u.mS), syn=Expon(N, tau=taus), out=outputs[0], post=self.neu)
        self.inh = AlignPostProj(comm=comm(u.mS), syn=Expon(N, tau=5.0 * u.ms), out=outputs[1], post=self.neu)
        self.jump = DeltaProj(comm=comm(u.mV), post=self.neu)
        self.out = LeakyReadout(N, 2, pre=self.neu)

    def update(self, x):
        self.exc(x)
        self.inh(x)
        self.jump(x)
        return self.out(self.neu())


NETS = {
    "LIF": (lambda: LIF(N), (CUBA(), CUBA()), 8.0 * u.ms),
    "LIF per neuron": (lambda: LIF(N, tau=TAUS, V_th=THRESHOLDS), (CUBA(), CUBA()), TAUS),
    "LIF detached": (lambda: LIF(N, detach_reset=True), (CUBA(), CUBA()), 8.0 * u.ms),
    "LIF conductances": (lambda: LIF(N), (COBA(5.0 * u.mV), COBA(-1.0 * u.mV)), 8.0 * u.ms),
    "ALIF": (lambda: ALIF(N), (CUBA(), CUBA()), 8.0 * u.ms),
    "ALIF conductances": (lambda: ALIF(N, spk_reset="hard"), (COBA(5.0 * u.mV), CUBA()), TAUS),
    "user's own": (lambda: TenLines(N), (COBA(5.0 * u.mV), CUBA()), 8.0 * u.ms),
}


def step_of(name):
    """A compiled network at a live operating point, and one step of it as a function of its states' mantissas."""
    neuron, outputs, taus = NETS[name]
    net = Net(neuron(), outputs, taus)
    x = jnp.array([1.0, 0.0, 1.0])
    learner = etrax.compile(net, etrax.D_RTRL, x)
    rng = np.random.default_rng(1)
    for hidden in learner.graph.hidden:
        hidden.state.value = u.maybe_decimal(u.Quantity(rng.permutation(np.linspace(0.3, 1.6, N)), unit=hidden.unit))
    spikes = net.neu.get_spike()
    assert 0 < spikes.sum() < N
    return learner, x


@pytest.mark.parametrize("name", thorough(NETS, "LIF per neuron", "ALIF conductances", "user's own"))
def test_composed_equals_automatic(name):
    learner, x = step_of(name)
    graph = learner.graph
    values = graph.states.read(range(len(graph.states.all)))
    _, out = graph.step(values, x)
    numbers = {h.name: graph.states.index(h.state) for h in graph.hidden}

    def step(mantissas):
        moved = {i: jax.tree.map(lambda _, m=m: m, values[i]) for i, m in mantissas.items()}
        new, _ = graph.step({**values, **moved}, x)
        return {i: u.get_mantissa(new[i]) for i in mantissas}

    full = jax.jacfwd(step)({i: u.get_mantissa(values[i]) for i in numbers.values()})
    for row, i in numbers.items():
        for column, j in numbers.items():
            block = np.asarray(full[i][j])
            diagonal = np.diagonal(block)
            np.testing.assert_allclose(block, np.diag(diagonal), atol=1e-12)
            registered = out.blocks.D.get((0, row, column), 0.0)
            np.testing.assert_allclose(np.broadcast_to(registered, (N,)), diagonal, rtol=1e-10, atol=1e-14)


def test_kinds_follow_from_the_parameters():
    def kinds(name):
        graph = step_of(name)[0].graph
        return graph.structures[0].D, graph.structures[0].trace

    D, _ = kinds("LIF")
    assert D["exc.syn.g", "exc.syn.g"] is Kind.UNIFORM
    assert D["neu.V", "exc.syn.g"] is Kind.UNIFORM
    assert D["neu.V", "neu.V"] is Kind.VARYING  # the reset
    assert ("exc.syn.g", "neu.V") not in D
    D, _ = kinds("LIF per neuron")
    assert D["exc.syn.g", "exc.syn.g"] is Kind.PER_NEURON
    assert D["inh.syn.g", "inh.syn.g"] is Kind.UNIFORM
    assert D["neu.V", "inh.syn.g"] is Kind.PER_NEURON
    D, trace = kinds("LIF detached")
    assert D["neu.V", "neu.V"] is Kind.UNIFORM
    assert trace[Drive("exc.syn.g", "input")]["neu.V"] is Kind.UNIFORM  # carried as the filtered input, (batch, n_in)
    D, _ = kinds("LIF conductances")
    assert D["neu.V", "exc.syn.g"] is Kind.VARYING
    D, _ = kinds("user's own")
    assert D["neu.V", "neu.V"] is Kind.VARYING


@pytest.mark.parametrize("name", NETS)
def test_constant_entries_are_constant(name):
    """An entry called uniform or per neuron has the same value wherever the states are."""
    learner, x = step_of(name)
    graph = learner.graph

    def entries(shift):
        values = graph.states.read(range(len(graph.states.all)))
        moved = {graph.states.index(h.state): h.state.value + shift * h.unit for h in graph.hidden}
        out = graph.step({**values, **moved}, 1.0 - x)[1]
        return {**out.blocks.D, **out.blocks.f}

    before, after = entries(0.0), entries(-0.37)
    kinds = {**graph.structures[0].D, **graph.structures[0].f}
    assert any(k is Kind.VARYING for k in kinds.values())
    for key, kind in kinds.items():
        if kind is not Kind.VARYING:
            np.testing.assert_array_equal(before[0, *key], after[0, *key])
        if kind is Kind.UNIFORM:
            assert np.size(before[0, *key]) == 1


def test_a_readout_that_is_replaced_is_no_part_of_the_population():
    class Net(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.neu = LIF(N)
            comm = brainstate.nn.Linear(2, N, w_init=jnp.ones((2, N)) * u.mV, b_init=None)
            self.syn = DeltaProj(comm=comm, post=self.neu)
            self.out = LeakyReadout(N, 2, pre=self.neu)

        def update(self, x):
            self.syn(x)
            return self.out(self.neu())

    net = Net()
    brainstate.nn.init_all_states(net)
    net.out = LeakyReadout(N, 3, pre=net.neu)
    learner = etrax.compile(net, etrax.D_RTRL, jnp.ones(2))
    assert set(learner.hidden_states) == {("neu", "V"), ("out", "s")}
