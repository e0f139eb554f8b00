"""Constants of neurons and synapses that learn: through the trace, equal to backpropagation where D-RTRL is exact."""

import copy

import brainstate
import brainunit as u
import contract
import jax
import jax.numpy as jnp
import numpy as np
import pathways
import pytest
from networks import thorough

import etrax
from etrax.contract.constant import declared
from etrax.neurons import ALIF, LIF, LeakyReadout
from etrax.synapses import COBA, CUBA, AlignPostProj, DeltaProj, Expon

# Gradients are compared by the number itself, and none of it is updated.
pytestmark = pytest.mark.filterwarnings("ignore:.* is trained and must be:UserWarning")

N, N_IN, N_OUT, B, T = 4, 5, 3, 2, 24
STATE, PARAM = brainstate.ParamState, brainstate.nn.Param
SPREAD = np.linspace(0.8, 1.3, N)


def positive(value):
    """A parameter that a transform keeps positive."""
    return PARAM(value, t=brainstate.nn.SoftplusT(0.0 * u.get_unit(value)))


class Net(brainstate.nn.Module):
    """One population, recurrent or not, with two synapses, a jump and a readout."""

    def __init__(self, neuron, tau_syn=6.0 * u.ms, tau_out=9.0 * u.ms, conductances=False, recurrent=False, stop=False):
        super().__init__()
        rng = np.random.default_rng(3)
        self.neu, self.recurrent, self.stop = neuron, recurrent, stop

        def comm(n_in, unit, scale):
            return brainstate.nn.Linear(n_in, N, w_init=scale * (0.3 + rng.normal(size=(n_in, N))) * unit, b_init=None)

        first = COBA(5.0 * u.mV) if conductances else CUBA()
        scale = 100.0 if conductances else 2.0
        self.exc = AlignPostProj(comm=comm(N_IN, u.mS, scale), syn=Expon(N, tau=tau_syn), out=first, post=neuron)
        self.rec = AlignPostProj(
            comm=comm(N, u.mS, 1.0), syn=Expon(N, tau=8.0 * u.ms), out=CUBA(), post=neuron, label="rec"
        )
        self.jump = DeltaProj(comm=comm(N_IN, u.mV, 0.2), post=neuron)
        self.out = LeakyReadout(N, N_OUT, tau=tau_out, w_init=rng.normal(size=(N, N_OUT)), pre=neuron)

    def update(self, x):
        z = self.neu.get_spike() if self.recurrent else x[..., :N]
        if self.stop:
            z = jax.lax.stop_gradient(z)
        self.exc(x)
        self.rec(z)
        self.jump(x)
        return self.out(self.neu())


def loss(r, y):
    return jnp.mean((r - y) ** 2)


def data(batch):
    rng = np.random.default_rng(5)
    shape = (T,) if batch is None else (T, batch)
    return jnp.asarray(rng.random((*shape, N_IN)) < 0.25, float), jnp.asarray(rng.normal(size=(*shape, N_OUT)))


def gradients(make, algorithm, chunks=(None,), batch=B):
    """The gradient in chunks of each length, by one learner; the network spikes."""
    net = make()
    xs, ys = data(batch)
    learner = etrax.compile(net, algorithm, xs[0], batch_size=batch)

    def step(x, y):
        r = learner(x)
        return loss(r, y), net.neu.get_spike()

    for chunk in chunks:
        learner.reset_state()
        grads, spikes = learner.etrace_grad(xs, ys, step_fn=step, reduction="sum", chunk_size=chunk, has_aux=True)
        assert 0.02 < float(spikes.mean()) < 0.6
        yield grads


def gradient(*args, **options):
    (grads,) = gradients(*args, **options)
    return grads


def same(got, expected, rtol=1e-10):
    assert got.keys() == expected.keys()
    for path, value in expected.items():
        mine, theirs = (np.asarray(jax.tree.leaves(g)[0]) for g in (got[path], value))
        assert np.abs(theirs).max() > 1e-8, path
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max(), err_msg=str(path))


def alif(kind, per_neuron, **options):
    """An ALIF all of whose constants learn."""
    scale = SPREAD if per_neuron else 1.0
    values = dict(tau=8.0 * u.ms, tau_a=30.0 * u.ms, V_th=1.0 * u.mV, beta=0.3 * u.mV, R=1.0 * u.ohm)
    return ALIF(N, **{k: kind(scale * v) for k, v in values.items()}, **options)


NETS = {
    "scalars": lambda **o: Net(alif(STATE, False), tau_syn=STATE(6.0 * u.ms), tau_out=STATE(9.0 * u.ms), **o),
    "per neuron": lambda **o: Net(alif(STATE, True), tau_syn=STATE(6.0 * SPREAD * u.ms), **o),
    "kept positive": lambda **o: Net(alif(positive, True), tau_syn=positive(6.0 * u.ms), **o),
    "hard reset": lambda **o: Net(alif(STATE, True, spk_reset="hard"), **o),
    "detached reset": lambda **o: Net(
        LIF(N, tau=positive(8.0 * u.ms), V_th=STATE(SPREAD * u.mV), V_reset=STATE(-0.1 * u.mV), detach_reset=True), **o
    ),
    "conductances": lambda **o: Net(
        LIF(N, tau=STATE(8.0 * SPREAD * u.ms), R=STATE(1.0 * u.ohm)), tau_syn=STATE(6.0 * u.ms), conductances=True, **o
    ),
}


@pytest.mark.parametrize(
    ("name", "chunks"),
    thorough([*((name, (8,)) for name in NETS), ("detached reset", (1, 7))], ("conductances", (8,))),
)
def test_feed_forward_equals_backpropagation(name, chunks):
    expected = gradient(NETS[name], etrax.BPTT)
    for got in gradients(NETS[name], etrax.D_RTRL, chunks):
        same(got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["per neuron", "hard reset", "conductances"])
def test_recurrent_equals_backpropagation_stopped_at_the_projections(name):
    expected = gradient(lambda: NETS[name](recurrent=True, stop=True), etrax.BPTT)
    same(gradient(lambda: NETS[name](recurrent=True), etrax.D_RTRL, chunks=(8,)), expected)


@pytest.mark.slow
def test_without_a_batch():
    same(gradient(NETS["per neuron"], etrax.D_RTRL, batch=None), gradient(NETS["per neuron"], etrax.BPTT, batch=None))


@pytest.mark.parametrize("single", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_without_a_carry_constants_are_cut_at_the_border_of_a_chunk_too(single):
    """A cut is a chunk whose trace starts at zero, from the states that are."""
    xs, ys = data(B)
    cut, whole = (
        etrax.compile(NETS["per neuron"](), etrax.D_RTRL, xs[0], batch_size=B, carry=carry)
        for carry in ("none", "dense")
    )
    chunk, options = (1 if single else 6), {"reduction": "sum"}
    expected: dict = {}

    def step(x, y):
        return loss(whole(x), y)

    for start in range(0, len(xs), chunk):
        part = slice(start, start + chunk)
        grads = whole.etrace_grad(xs[part], ys[part], step_fn=step, trial=True, **options)
        expected = jax.tree.map(jnp.add, expected, grads) if expected else grads
    if single:
        grad = brainstate.transform.grad(lambda x, y: loss(cut(x), y), cut.param_states)
        got = jax.tree.map(lambda g: g.sum(0), brainstate.transform.for_loop(lambda x, y: grad(x, y), xs, ys))
    else:
        got = cut.etrace_grad(xs, ys, step_fn=lambda x, y: loss(cut(x), y), chunk_size=chunk, **options)
    assert sum(path[0] == "neu" for path in expected) == 5
    same(got, expected)


@pytest.mark.slow
def test_single_steps_give_the_same_gradient():
    expected = gradient(NETS["kept positive"], etrax.D_RTRL)
    net = NETS["kept positive"]()
    xs, ys = data(B)
    learner = etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=B)
    grad = brainstate.transform.grad(lambda x, y: loss(learner(x), y), learner.param_states)
    total = brainstate.transform.for_loop(lambda x, y: grad(x, y), xs, ys)
    same(jax.tree.map(lambda g: g.sum(0), total), expected)


def test_trace_is_the_derivative_of_the_states():
    """Feed-forward, so that the trace of a constant is the whole derivative of the states with respect to it."""
    net = NETS["scalars"]()
    xs, _ = data(B)
    learner = etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=B)

    def states():
        brainstate.transform.for_loop(lambda x: net(x), xs)
        return jnp.stack([u.get_mantissa(state.value) for state in learner.hidden_states.values()])

    tau = net.states()["neu", "tau"]
    expected = dict(zip(learner.hidden_states, u.get_mantissa(brainstate.transform.jacfwd(states, tau)()), strict=True))
    learner.reset_state()
    learner.etrace_evolve(xs, chunk_size=8)
    trace = learner.get_etrace_of("neu.tau")
    assert {".".join(path) for path in trace} == {"neu.V", "neu.a", "out.s"}
    for path, value in trace.items():
        assert u.get_unit(value) == u.get_unit(learner.hidden_states[path].value) / u.ms
        np.testing.assert_allclose(u.get_mantissa(value), expected[path], rtol=1e-10, atol=1e-12)
        assert np.abs(expected[path]).max() > 1e-4
    report = str(learner.report())
    assert "neu.tau" in report
    assert "trace through neu.tau" in report
    assert "one per neuron" in report


def test_constants_of_outputs_are_not_trained():
    with pytest.raises(TypeError, match="`E` of COBA is a ParamState, but constants of outputs are not trained"):
        COBA(E=STATE(5.0 * u.mV))


DISCRETE = {"tau_ref"}  # counted in whole steps, so that no derivative passes


@pytest.mark.slow
@pytest.mark.parametrize("row", pathways.POPULATIONS, ids=str)
def test_all_constants_of_every_neuron(row):
    """One value per neuron of each, all at once, in a recurrent network; equal to backpropagation stopped at projections."""
    with brainstate.environ.context(dt=row.dt):
        values = {name: getattr(row.build(), name) for name in declared(row.cls) if name not in DISCRETE}
        inexact = {k: v for k, v in values.items() if v is not None and jnp.issubdtype(jnp.result_type(v), jnp.inexact)}

        def net():
            spread = {k: STATE(u.math.ones(contract.N) * v) for k, v in inexact.items()}
            return pathways.Net(
                row, row.cls(contract.N, **{**row.constants, **spread}), pathways.WAYS[:1], recurrent=True
            )

        xs, ys = pathways.data()
        expected, rate = pathways.bptt(net(), xs, ys)
        assert 0.01 < rate < 0.8
        got = pathways.drtrl(net(), xs, ys)
        reached = [path for path, value in expected.items() if path[0] == "neu" and np.abs(value).max() > 0]
        assert len(reached) >= len(inexact) - 1
        for path, value in expected.items():
            np.testing.assert_allclose(
                got[path], value, rtol=1e-9, atol=1e-9 * float(np.abs(value).max()), err_msg=str(path)
            )


def test_networks_can_be_copied_and_taken_apart():
    """Copies have constants and states of their own; what is put together again is what was taken apart."""
    net = etrax.neurons.LIF(3, tau=brainstate.ParamState(jnp.array([5.0, 6.0, 7.0]) * u.ms), V_th=2 * u.mV)
    brainstate.nn.init_all_states(net, batch_size=2)
    definition, states = brainstate.graph.treefy_split(net)
    for other in (copy.deepcopy(net), brainstate.graph.treefy_merge(definition, states)):
        assert other.V.value.shape == (2, 3)
        assert other.V is not net.V
        np.testing.assert_array_equal(other.tau.to_decimal(u.ms), net.tau.to_decimal(u.ms))
        assert other.V_th == net.V_th
        assert set(other.states()) == set(net.states())
    with pytest.raises(ValueError, match="`tau` must be a scalar or fit the shape"):
        etrax.neurons.LIF(3, tau=jnp.ones(4) * u.ms)
