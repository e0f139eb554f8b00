"""Chunks that wait for the credit of later ones: the same gradient and trace, whatever has been forgotten when they leave."""

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from networks import T
from test_gradient import Run, close, reference

import etrax
import etrax.engine.waiting.pending
import etrax.engine.waiting.tail

NAMES = [
    "feed-forward alif leaky",
    *(f"recurrent {n}" for n in ("lif", "lif hard", "lif heterogeneous", "alif", "alif heterogeneous", "alif delta")),
    *(f"recurrent {n}" for n in ("two synapses and delta", "shared synapse", "coba", "coba and cuba")),
    "layered two leaky",
    "layered three",
]
LEADS = {"nothing": (), "adaptation": ("a",), "conductance": ("g", "g0")}


@pytest.fixture
def pretend(monkeypatch, heavy):
    """Let states be taken to forget within some steps, those of the names given never, so that chunks leave early."""

    def be(*slow, steps=2):
        def forgetting(graph, connection, state, tolerance):
            return (np.inf, np.inf) if state.rpartition(".")[-1] in slow else (steps, steps)

        monkeypatch.setattr(etrax.engine.waiting.tail, "forgetting", forgetting)

    return be


@pytest.fixture
def heavy(monkeypatch):
    """Let chunks wait that weigh many times the small trace of a small network."""
    monkeypatch.setattr(etrax.engine.waiting.pending, "HEAVIEST", np.inf)


@pytest.fixture
def made(monkeypatch):
    """Every `Pending` that is made."""
    found, begin = [], etrax.engine.waiting.pending.Pending.__init__

    def init(self, *args):
        begin(self, *args)
        found.append(self)

    monkeypatch.setattr(etrax.engine.waiting.pending.Pending, "__init__", init)
    return found


def same(mine, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), mine, theirs)


QUICK = {("recurrent alif heterogeneous", "adaptation")}


@pytest.mark.parametrize(
    ("name", "lead"),
    networks.thorough([(name, lead) for name in NAMES for lead in LEADS], *QUICK),
)
def test_a_chunk_that_is_not_forgotten_when_it_leaves_joins_the_trace(name, lead, pretend, made):
    expected, _, _ = reference(networks.case(name))
    plain = Run(name)
    plain.grad(T)
    pretend(*LEADS[lead])
    run = Run(name)
    close(run.grad(5), expected)  # four chunks and a ragged rest
    same(run.traces(), plain.traces())
    close(run.grad(3, trial=True), expected)
    assert all(not np.any(leaf) for trace in run.learner.traces.values() for leaf in jax.tree.leaves(trace.value))
    if lead == "nothing":
        assert {(p.slots, p.chunks) for p in made if p.tails} == {(2, 8), (2, 4)}


@pytest.mark.parametrize("lead", networks.thorough(["nothing", "adaptation"], "adaptation"))
def test_a_sequence_goes_on_with_the_trace_of_the_one_before(lead, pretend):
    pretend(*LEADS[lead])
    run, half = Run("recurrent alif"), T // 2
    expected = run.grad(3)
    traces = run.traces()
    run.learner.reset_state()
    parts = [
        run.learner.etrace_grad(run.xs[part], run.ys[part], step_fn=run.step, chunk_size=3, reduction="sum")
        for part in (slice(half), slice(half, None))
    ]
    close(jax.tree.map(jnp.add, *map(run.named, parts)), expected)
    same(run.traces(), traces)


@pytest.mark.parametrize(
    ("K", "trial", "slots", "whole"),
    networks.thorough(
        [(5, False, 4, False), (4, True, 4, False), (8, False, 0, True), (5, True, 0, True), (T // 2, False, 0, False)],
        (4, True, 4, False),
        (8, False, 0, True),
    ),
)
def test_a_sequence_no_longer_than_what_waits_is_one_chunk(K, trial, slots, whole, pretend, made):
    """Nor does a chunk wait in a stream of only two."""
    expected, _, _ = reference(networks.case("recurrent alif"))
    plain, run = Run("recurrent alif"), Run("recurrent alif")
    plain.grad(T)
    pretend("a", steps=11)
    close(run.grad(K, trial=trial), expected)
    assert (made[-1].slots, made[-1].whole) == (slots, whole)
    if not trial:
        same(run.traces(), plain.traces())


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "slots"), [(2, 2), (11, 3)])
def test_credit_through_depth(steps, slots, pretend, made):
    """It depends on the length of a chunk, so a short sequence stays as it is."""
    run, waits = (Run("layered two leaky", lambda m: etrax.D_RTRL(m, through_depth=True)) for _ in range(2))
    expected = run.grad(T // 3)
    pretend(steps=steps)
    close(waits.grad(T // 3), expected)
    assert made[-1].tails
    assert (made[-1].slots, made[-1].whole) == (slots, False)


class Net(brainstate.nn.Module):
    """A recurrent population that forgets fast, or all but its adaptation."""

    def __init__(self, adapts=False, **options):
        super().__init__()
        constants = dict(tau=2 * u.ms) | options
        make = etrax.neurons.ALIF if adapts else etrax.neurons.LIF
        self.neu = make(6, **constants, **({"tau_a": 400 * u.ms, "beta": 0.3 * u.mV} if adapts else {}))
        rng = np.random.default_rng(3)
        weight = rng.normal(0.4, 1.0, (11, 6)) * np.where(np.arange(11) < 5, 1.0, 0.2)[:, None]
        self.syn = etrax.synapses.AlignPostProj(
            comm=brainstate.nn.Linear(11, 6, w_init=2.5 * weight * u.mS, b_init=None),
            syn=etrax.synapses.Expon(6, tau=2 * u.ms),
            out=etrax.synapses.CUBA(),
            post=self.neu,
        )
        self.out = brainstate.nn.Linear(6, 2, w_init=rng.normal(size=(6, 2)), b_init=None)

    def update(self, x):
        self.syn(u.math.concatenate([x, self.neu.get_spike()], axis=-1))
        spikes = self.neu()
        return self.out(self.neu.V.value / u.mV + spikes)


def gradient(net, xs, mask=None, reads=lambda out: out, of=("syn", "comm", "weight"), options=None, **kwargs):
    """Gradient of a mean square over time, and the learner."""
    learner = etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=xs.shape[1], **(options or {}))
    kwargs = {"chunk_size": 25, "reduction": "sum"} | kwargs
    grads = learner.etrace_grad(xs, step_fn=lambda x: jnp.mean((reads(learner(x)) - 0.3) ** 2), mask=mask, **kwargs)
    return np.asarray(u.get_mantissa(grads[of]["weight"])), learner


def spikes(steps, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((steps, 3, 5)) < 0.3, brainstate.environ.dftype())


def without(monkeypatch, *args, **options):
    """The same with no chunk waiting."""
    with monkeypatch.context() as patch:
        patch.setattr(etrax.engine.waiting.pending, "MOST_CHUNKS", 0)
        return gradient(*args, **options)


@pytest.mark.parametrize(
    ("precision", "adapts"),
    networks.thorough([(32, False), (32, True), (64, False), (64, True)], (32, False)),
)
def test_what_is_forgotten_adds_nothing(precision, adapts, made, monkeypatch, heavy):
    """Of all states or, where one is slow, of the others."""
    with brainstate.environ.context(precision=precision):
        xs, net = spikes(400), Net(adapts)
        mine, learner = gradient(net, xs)
        alone, _ = gradient(net, xs, trial=True)
        (tail,) = made[-1].tails.values()
        assert tail.lead == ("neu.a" if adapts else None)
        assert made[-1].slots < made[-1].chunks
        monkeypatch.setattr(etrax.engine.waiting.tail.Tail, "join", lambda self, tail, *args: tail)
        left_out, _ = gradient(net, xs, trial=True)
        theirs, other = without(monkeypatch, net, xs)
    near = dict(rtol=0, atol=300 * np.finfo(mine.dtype).eps * np.abs(theirs).max())
    np.testing.assert_allclose(alone, left_out, **near)
    assert np.abs(theirs).max() > 1e-3
    np.testing.assert_allclose(mine, theirs, **near)
    np.testing.assert_allclose(alone, theirs, **near)
    for name, trace in learner.traces.items():
        for state, item in trace.value.items():
            expected = other.traces[name].value[state]["x"]
            assert np.abs(expected).max() > 1e-3
            np.testing.assert_allclose(item["x"], expected, rtol=0, atol=near["atol"] * np.abs(expected).max())


@pytest.mark.parametrize("trial", [False, True])
def test_what_came_before_a_long_silence_counts_to_the_last_digit(trial, made, monkeypatch, heavy):
    """Nothing newer hides it, however small it has become: rounding is relative to what there is."""
    xs, mask = spikes(400).at[60:].set(0.0), jnp.arange(400.0) >= 390
    mine, _ = gradient(Net(), xs, mask, trial=trial)
    assert made[-1].slots < made[-1].chunks
    monkeypatch.setattr(etrax.engine.waiting.tail.Tail, "join", lambda self, tail, *args: tail)
    lost, _ = gradient(Net(), xs, mask, trial=True)
    theirs, _ = without(monkeypatch, Net(), xs, mask)
    assert not np.any(lost)
    assert 0 < np.abs(theirs).max() < 1e-40
    np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12 * np.abs(theirs).max())


@pytest.mark.parametrize("trial", [False, True])
def test_a_sample_that_falls_silent_is_not_hidden_by_the_others(trial, monkeypatch, heavy):
    """The loss reads that sample only."""
    xs, mask = spikes(300).at[60:, 0].set(0.0), jnp.arange(300.0) >= 200
    options = dict(mask=mask, trial=trial, reads=lambda out: out[0])
    mine, _ = gradient(Net(), xs, **options)
    theirs, _ = without(monkeypatch, Net(), xs, **options)
    assert 0 < np.abs(theirs).max() < 1e-20
    np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12 * np.abs(theirs).max())


class Driven(brainstate.nn.Module):
    """Neurons whose potential is prescribed, but for what their few small weights add to it."""

    def __init__(self, make, n, **constants):
        super().__init__()
        self.neu = make(n, tau=10 * u.ms, **constants)
        weight = 1e-9 * np.random.default_rng(0).normal(1.0, 0.3, (3, n)) * u.mS
        self.syn = self.projection(brainstate.nn.Linear(3, n, w_init=weight, b_init=None), 2.0)
        self.push = self.projection(lambda x: x * u.mS, 1e-2)

    def projection(self, comm, tau):
        syn, out = etrax.synapses.Expon(self.neu.varshape, tau=tau * u.ms), etrax.synapses.CUBA()
        return etrax.synapses.AlignPostProj(comm=comm, syn=syn, out=out, post=self.neu)

    def update(self, x):
        self.syn(x[..., :3])
        self.push(x[..., 3:])
        spikes = self.neu()
        return self.neu.V.value / u.mV + spikes


def driven(V):
    """Inputs for `Driven` that lead to potentials ``(T, n)``, alike in three samples."""
    kept = np.exp(-0.1)
    drive = (V - kept * np.concatenate([np.zeros((1, V.shape[1])), V[:-1]])) / (1 - kept)
    drive = np.repeat(drive[:, None], 3, 1)
    return jnp.asarray(np.concatenate([spikes(len(V))[..., :3], drive], -1), brainstate.environ.dftype())


@pytest.mark.parametrize("trial", [False, True])
def test_a_neuron_with_a_large_trace_does_not_hide_what_another_remembers(trial, made, monkeypatch, heavy):
    """Both traces grow for a while, that of the neuron which the loss reads early, and of the other one at the end."""
    V = np.full((640, 2), [1 / 3, -0.1])
    V[386:, 0] = V[60:164, 1] = 0.95
    surrogate = braintools.surrogate.ReluGrad(alpha=3.0, width=1.0)
    mask = jnp.asarray((np.arange(640) >= 512) & (np.arange(640) < 522))
    options = dict(mask=mask, reads=lambda out: out[:, 1], chunk_size=128, trial=trial)
    mine, _ = gradient(Driven(etrax.neurons.LIF, 2, spk_fun=surrogate), driven(V), **options)
    assert made[-1].slots < made[-1].chunks
    theirs, _ = without(monkeypatch, Driven(etrax.neurons.LIF, 2, spk_fun=surrogate), driven(V), **options)
    assert np.abs(theirs[:, 1]).min() > 1e6
    np.testing.assert_allclose(mine, theirs, rtol=1e-10)


def test_an_adaptation_that_is_forgotten_at_once_leads_nothing(made, monkeypatch, heavy):
    """In the last step, so that what waits would follow it by a large factor, and back again."""
    V = 0.3 + 0.6 * np.sin(np.arange(320) / 7.0)
    V[160:318] = -0.1
    V[318] = 0.6  # where the slope of a spike is 0.18 per mV
    with brainstate.environ.context(precision=32):
        xs = driven(np.repeat(V[:, None], 3, 1))

        def net():
            return Driven(etrax.neurons.ALIF, 3, tau_a=400 * u.ms, beta=(1 - 1e-7) / 0.18 * u.mV)

        _, learner = gradient(net(), xs, chunk_size=64)
        assert [tail.lead for tail in made[-1].tails.values()] == ["neu.a"]
        _, other = without(monkeypatch, net(), xs, chunk_size=64)
    for state, item in learner.traces["syn"].value.items():
        expected = other.traces["syn"].value[state]["x"]
        np.testing.assert_allclose(item["x"], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


TAUS = np.array([2.0, 5.0, 30.0, 300.0, 300.0, 300.0])


@pytest.mark.parametrize("precision", [32, 64])
def test_a_lead_that_is_not_the_slowest_state_of_every_neuron(precision, made, monkeypatch, heavy):
    """Such a state leads nothing; if it did (it may become so in training), the result would be the same."""
    real = etrax.engine.waiting.tail.forgetting

    def overlooked(*args):
        least, most = real(*args)
        return (np.inf if most > 640 else least), most

    def make():
        net = Net(tau=8 * u.ms, detach_reset=True)
        net.syn.syn.tau = TAUS * u.ms
        return net

    with brainstate.environ.context(precision=precision):
        xs = spikes(800)
        mine, _ = gradient(make(), xs)
        assert not made[-1].tails
        monkeypatch.setattr(etrax.engine.waiting.tail, "forgetting", overlooked)
        forced, _ = gradient(make(), xs)
        assert [tail.lead for tail in made[-1].tails.values()] == ["syn.syn.g"]
        theirs, _ = without(monkeypatch, make(), xs)
    largest = np.abs(theirs).max(0, keepdims=True)  # of each neuron
    assert largest.min() > 1e-3
    for one in (mine, forced):
        np.testing.assert_allclose(one / largest, theirs / largest, rtol=0, atol=300 * np.finfo(mine.dtype).eps)


def test_weights_wait_only_where_that_spares_a_trace(made, heavy):
    """A trace that is the filtered input costs nothing, and that of a neuron that never forgets has to be kept anyway."""
    xs = spikes(100)
    gradient(Net(detach_reset=True), xs)
    assert not made[-1].tails
    gradient(Net(tau=1e9 * u.ms), xs)
    assert not made[-1].tails
    gradient(Net(), xs)
    assert made[-1].tails
    etrax.engine.waiting.pending.HEAVIEST = 16
    gradient(Net(), xs)
    assert not made[-1].tails  # a small trace is not spared at the price of many times its memory


@pytest.mark.parametrize("others", [6, 60])
def test_a_large_population_that_does_not_wait_keeps_a_short_sequence_in_chunks(others, made, heavy):
    """Held at once, its steps would weigh more than those that wait."""

    class Beside(Net):
        def __init__(self):
            super().__init__()
            self.other, weight = (
                etrax.neurons.LIF(others),
                np.random.default_rng(5).normal(0.5, 1.0, (5, others)) * u.mS,
            )
            syn, out = etrax.synapses.Expon(others, tau=2 * u.ms), etrax.synapses.CUBA()
            self.aside = etrax.synapses.AlignPostProj(comm=lambda x: x @ weight, syn=syn, out=out, post=self.other)

        def update(self, x):
            self.aside(x)
            self.other()
            return super().update(x)

    mine, _ = gradient(Beside(), spikes(100))
    assert made[-1].whole == (others == 6)
    assert made[-1].slots == (0 if others == 6 else 4)
    theirs, _ = gradient(Net(), spikes(100), chunk_size=100)
    np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-12 * np.abs(theirs).max())


@pytest.mark.parametrize("through_depth", networks.thorough([False, True], True))
def test_a_projection_that_is_not_trained(through_depth, made, monkeypatch, heavy):
    """It leads from a population to another one, beside one that is trained."""

    class Stack(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.top = Net(), etrax.neurons.LIF(6, tau=3 * u.ms)
            rng = np.random.default_rng(4)
            fixed = rng.normal(0.5, 1.0, (6, 6)) * u.mS
            weight = rng.normal(0.5, 1.0, (5, 6)) * u.mS
            self.up = self.projection(lambda z: z @ fixed)
            self.skip = self.projection(brainstate.nn.Linear(5, 6, w_init=weight, b_init=None))
            self.out = brainstate.nn.Linear(6, 2, w_init=rng.normal(size=(6, 2)), b_init=None)

        def projection(self, comm):
            syn, out = etrax.synapses.Expon(6, tau=3 * u.ms), etrax.synapses.CUBA()
            return etrax.synapses.AlignPostProj(comm=comm, syn=syn, out=out, post=self.top)

        def update(self, x):
            read = self.low(x)
            self.up(self.low.neu.get_spike())
            self.skip(x)
            return read + self.out(self.top())

    xs, options = spikes(300), {"through_depth": through_depth}
    for path in (("low", "syn", "comm", "weight"), ("skip", "comm", "weight")):
        mine, _ = gradient(Stack(), xs, of=path, options=options)
        assert set(made[-1].tails) == {"low.syn", "skip"}
        theirs, _ = without(monkeypatch, Stack(), xs, of=path, options=options)
        assert np.abs(theirs).max() > 1e-6
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-12 * np.abs(theirs).max())
