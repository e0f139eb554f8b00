"""The account of credit: what it calls followed is exact, what it calls lost is missing, and every remedy that it names works."""

import warnings

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from plainly import (
    B,
    N,
    One,
    T,
    by_autodiff,
    by_learner,
    by_single_steps,
    error,
    flat,
    inputs,
    linear,
    loss,
    neurons,
    projection,
    readout,
)

import etrax
from etrax.neurons import LeakyReadout
from etrax.synapses import CUBA, AlignPostProj, Expon

SLOW = pytest.mark.slow


class Leak(brainstate.nn.Module):
    """A leak of one's own behind a layer or in front of one."""

    def __init__(self, size, kind=brainstate.HiddenState, unit=u.UNITLESS, layer=None):
        super().__init__()
        self.size, self.kind, self.unit, self.layer = size, kind, unit, layer
        self.in_size = self.out_size = (size,)

    def init_state(self, batch_size=None, **kwargs):
        self.m = self.kind(u.maybe_decimal(jnp.zeros((B, self.size)) * self.unit))

    def reset_state(self, batch_size=None, **kwargs):
        self.m.value = u.maybe_decimal(jnp.zeros((B, self.size)) * self.unit)

    def update(self, x):
        self.m.value = 0.9 * self.m.value + (x if self.layer is None else self.layer(x))
        return self.m.value


class LeakBehind(One):
    def __init__(self, kind=brainstate.HiddenState):
        super().__init__()
        self.leak = Leak(2, kind)

    def update(self, x):
        return self.leak(super().update(x))


class RecurrentReadout(One):
    def __init__(self):
        super().__init__()
        self.leak, self.back = Leak(2), linear(5, 2, 2, 0.3, u.UNITLESS)

    def update(self, x):
        return self.leak(super().update(x) + self.back(self.leak.m.value))


class SpikesOfBefore(One):
    def update(self, x):
        before = self.neu.get_spike()
        self.syn(x)
        return self.out(self.neu() + before)


class Encoded(One):
    def __init__(self):
        super().__init__()
        self.encoder = linear(6, scale=0.5, unit=u.UNITLESS)

    def update(self, x):
        return super().update(self.encoder(x))


class Foreign(One):
    """Neurons that feed others beside every projection."""

    def __init__(self):
        super().__init__()
        self.upper, self.way = neurons(), linear(8, scale=20.0, unit=u.mA)

    def update(self, x):
        self.syn(x)
        return self.out(self.upper(self.way(self.neu())))


class FedBack(One):
    """The output comes back as an input, one step late, through a state of nobody."""

    def __init__(self):
        super().__init__()
        self.back = projection(self.neu, linear(7, n_in=2, scale=5.0))

    def init_state(self, batch_size=None, **kwargs):
        self.last = brainstate.HiddenState(jnp.zeros((B, 2)))

    def reset_state(self, batch_size=None, **kwargs):
        self.last.value = jnp.zeros((B, 2))

    def update(self, x):
        self.back(self.last.value)
        self.last.value = super().update(x)
        return self.last.value


UNTOLD = "a filter that does not know whose spikes it takes"
# name -> network, who loses credit, where
LOST = {
    "a leak behind the readout": (LeakBehind, r"out\.weight, syn\.comm\.weight is lost: leak\.m \(HiddenState\)"),
    "a short-term state": (lambda: LeakBehind(brainstate.ShortTermState), r"lost: leak\.m \(ShortTermState\)"),
    "a recurrent readout": (RecurrentReadout, r"back\.weight, out\.weight, syn\.comm\.weight is lost: leak\.m"),
    "a layer with a memory": (
        lambda: One(Leak(N, unit=u.mS, layer=linear())),
        r"syn\.comm\.layer\.weight is lost: syn\.comm\.m \(HiddenState\) in `comm` of syn",
    ),
    "spikes of the step before": (
        SpikesOfBefore,
        r"syn\.comm\.weight is lost: the loss reads neu\.V of the step before",
    ),
    "a layer ahead of the projection": (
        Encoded,
        r"encoder\.weight is lost: it acts on neu\.V, syn\.syn\.g outside a projection",
    ),
    "an output that is fed back": (
        FedBack,
        r"back\.comm\.weight, out\.weight, syn\.comm\.weight is lost: last \(HiddenState\)",
    ),
    UNTOLD: (lambda: leaky(False), r"syn\.comm\.weight is lost: out\.s \(HiddenState\)"),
    "a layer beside the projections": (Foreign, r"way\.weight is lost: it acts on upper\.V outside a projection"),
}


def compiled(make, algorithm="d_rtrl", **options):
    return etrax.compile(make(), algorithm, inputs()[0][0], batch_size=B, **options)


@pytest.mark.parametrize(
    "name",
    [n if n in ("a recurrent readout", "spikes of the step before") else pytest.param(n, marks=SLOW) for n in LOST],
)
def test_what_nobody_follows_is_a_warning_or_an_error_and_its_remedy_is_exact(name):
    make, message = LOST[name]
    with pytest.raises(ValueError, match=f"(?s){message}.*strict=True"):
        compiled(make, strict=True)
    with pytest.warns(UserWarning, match=f"part of the credit of .*{message}.*`vjp_method='multi-step'`.*`etrax.BPTT`"):
        learner = compiled(make)
    assert "part of the credit of" in str(learner.report())
    right, losses = by_autodiff(make)
    grads, same = by_learner(learner)
    np.testing.assert_allclose(same, losses, rtol=1e-9)
    assert error(grads, right) > 1e-6  # it is lost indeed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for remedy in (compiled(make, vjp_method="multi-step"), compiled(make, "bptt")):
            assert error(by_learner(remedy)[0], right) < 1e-10


def leaky(told):
    """One layer behind a leaky readout of its spikes."""
    net = One()
    options = {"pre": net.neu} if told else {}
    net.out = LeakyReadout(N, 2, tau=10 * u.ms, w_init=np.random.default_rng(4).normal(size=(N, 2)), **options)
    return net


def test_a_filter_of_the_population_in_place_of_a_leak_is_exact():
    learner = compiled(lambda: leaky(True), strict=True)
    assert error(by_learner(learner, 3)[0], by_autodiff(lambda: leaky(True))[0]) < 1e-10
    with pytest.raises(ValueError, match=LOST[UNTOLD][1]):
        compiled(lambda: leaky(False), strict=True)


def test_a_memory_of_the_step_function_is_found_with_it():
    leak, learner = Leak(2), compiled(One)
    leak.init_state()

    def remembered(out, y):
        return loss(leak(out), y)

    with pytest.warns(UserWarning, match=r"out\.weight, syn\.comm\.weight is lost: .*HiddenState"):
        by_learner(learner, loss=remembered)
    leak.reset_state()
    with pytest.raises(ValueError, match="strict=True"):
        by_learner(compiled(One, strict=True), loss=remembered)


def test_what_is_remembered_and_never_read_is_no_loss():
    class Monitored(One):
        def __init__(self):
            super().__init__()
            self.monitor = Leak(2)

        def update(self, x):
            out = super().update(x)
            self.monitor(out)
            return out

    learner = compiled(Monitored, strict=True)
    assert error(by_learner(learner, 3)[0], by_autodiff(Monitored)[0]) < 1e-10


class EI(brainstate.nn.Module):
    """x -> E, x -> I, I -> E; a readout of E. Without ``ahead``, E gets the spikes of I of the step before."""

    def __init__(self, ahead=False, loop=False):
        super().__init__()
        self.ahead = ahead
        self.E, self.I = neurons(), neurons()
        self.inE, self.inI = projection(self.E, linear(1, scale=30.0)), projection(self.I, linear(2, scale=30.0))
        self.IE = projection(self.E, linear(5, scale=-8.0))
        self.EI = projection(self.I, linear(6, scale=5.0)) if loop else None
        self.out = readout()

    def update(self, x):
        z = None if self.ahead else self.I.get_spike()
        if self.EI is not None:
            self.EI(self.E.get_spike())
        self.inI(x)
        if self.ahead:
            z = self.I()
        self.inE(x)
        self.IE(z)
        if not self.ahead:
            self.I()
        return self.out(self.E())


class TestAParameterWithoutCredit:
    """E/I in two populations: nothing of what the input does to I is followed, in whatever way the learner is called."""

    message = r"no path that is followed leads from the parameter inI\.comm\.weight to the loss within one step, so its gradient is always zero"

    @pytest.mark.parametrize("call", [by_learner, by_single_steps])
    def test_it_is_an_error_in_every_way_of_calling(self, call):
        with pytest.raises(ValueError, match=self.message):
            call(compiled(EI))

    def test_training_says_so_ahead_of_any_step(self):
        xs, ys = inputs()
        before = (net := EI()).out.weight.value
        with pytest.raises(ValueError, match=self.message):
            etrax.train(net, [(xs, ys, None)], loss="mse")
        assert net.out.weight.value is before or np.array_equal(net.out.weight.value["weight"], before["weight"])

    def test_the_report_says_so(self):
        row = next(line for line in str(compiled(EI).report()).splitlines() if "its gradient is zero" in line)
        assert "inI.comm.weight" in row
        assert "spikes into IE at later steps" in row

    def test_left_out_by_weights(self):
        learner = compiled(EI)
        some = {path: s for path, s in learner.param_states.items() if path[0] != "inI"}
        assert set(by_learner(learner, weights=some)[0]) == set(some)
        xs, ys = inputs()
        brainstate.transform.grad(lambda: loss(learner(xs[0]), ys[0]), some)()

    def test_a_hop_multi_step_and_backpropagation(self):
        right, _ = by_autodiff(EI)
        for learner in (compiled(EI, hops=1), compiled(EI, vjp_method="multi-step"), compiled(EI, "bptt")):
            assert error(by_learner(learner)[0], right) < 1e-10

    def test_called_ahead_with_credit_through_depth(self):
        def make():
            return EI(ahead=True)

        right, losses = by_autodiff(make)
        grads, same = by_learner(compiled(make, through_depth=True))
        assert error(grads, right) < 1e-10
        np.testing.assert_allclose(same, losses, rtol=1e-9)
        assert not np.allclose(losses, by_autodiff(EI)[1])  # another model, as the message says

    def test_each_remedy_is_named_where_it_works(self):
        with pytest.raises(
            ValueError,
            match="`hops=1` of `etrax.D_RTRL`.*call its neurons ahead of IE.*`through_depth=True`.*changes the model.*`vjp_method='multi-step'`",
        ):
            by_learner(compiled(EI))
        with pytest.raises(ValueError, match=r"What gives it one: let the loss read"):  # nothing else would
            by_learner(compiled(One), loss=lambda out, y: jnp.mean((jnp.argmax(out, -1) - y[:, 0]) ** 2))

    @SLOW
    def test_in_a_loop_the_remedies_give_credit_too(self):
        learner = compiled(lambda: EI(ahead=True, loop=True), through_depth=True)
        assert np.linalg.norm(flat(by_learner(learner)[0]["inI", "comm", "weight"])) > 1e-8


def test_the_account_of_a_stack():
    class Stack(One):
        def __init__(self):
            super().__init__()
            self.upper = neurons()
            self.up, self.loop = projection(self.upper, linear(8)), projection(self.neu, linear(9, scale=3.0))

        def update(self, x):
            self.loop(self.neu.get_spike())
            self.syn(x)
            self.up(self.neu())
            return self.out(self.upper())

    rows = {line.split()[0]: line for line in str(compiled(Stack).report()).splitlines() if "later steps" in line}
    assert set(rows) == {"syn.comm.weight", "loop.comm.weight"}
    assert "later steps of what up enters (`through_depth`)" in rows["syn.comm.weight"]
    assert "spikes into loop at later steps" in rows["loop.comm.weight"]
    assert T == 8


def test_spikes_in_a_delay_line_are_dropped_by_definition():
    class Delayed(One):
        def __init__(self):
            super().__init__()
            layer = linear(9, scale=3.0)
            self.loop = AlignPostProj(comm=layer, syn=Expon(N), out=CUBA(), post=self.neu, delay=2 * u.ms)

        def update(self, x):
            self.loop(self.neu.get_spike())
            self.syn(x)
            return self.out(self.neu())

    report = str(compiled(Delayed, strict=True).report())
    assert "spikes into loop at later steps" in report
