"""Simulated values equal those of `brainpy.state`, and a few numbers that can be redone on paper."""

import inspect

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest

import etrax
from etrax.neurons import (
    ALIF,
    BRF,
    IF,
    LIF,
    AdExIF,
    AdQuaIF,
    CubaLIF,
    ExpIF,
    Gif,
    Izhikevich,
    LeakyReadout,
    LIFRef,
    QuaIF,
    SEadLIF,
)
from etrax.synapses import COBA, CUBA, STD, STP, AlignPostProj, DeltaProj, DualExpon, Expon

MINE = networks.package(etrax.neurons, etrax.synapses, etrax.neurons.LeakyReadout)


@pytest.fixture(scope="module")
def reference():
    return pytest.importorskip("brainpy.state", reason="comes with the extra `test`")


def run(net, xs):
    """States and spikes of all populations at every step."""
    brainstate.nn.init_all_states(net, batch_size=xs.shape[1])

    def step(x):
        out = net(x)
        neurons = [getattr(net, f"neu{k}") for k in range(len(net.description.populations))]
        states = [{name: state.value for name, state in found.items()} for found in net.hidden()]
        return out, states, [n.get_spike() for n in neurons]

    return brainstate.transform.for_loop(step, xs)


class LeakThenWeigh(brainstate.nn.Module):
    """The reference's leaky readout under the arguments of ours."""

    def __init__(self, reference, in_size, out_size, tau, w_init, pre):
        super().__init__()
        self.readout = reference.LeakyRateReadout(in_size, out_size, tau=tau, w_init=lambda shape: w_init)

    def update(self, x):
        return self.readout(x)


DETACHED = [name for name in networks.NETWORKS if "detached" in name]  # the reference has no such option; same values


@pytest.mark.parametrize("name", networks.thorough(networks.NETWORKS, *list(networks.NETWORKS)[::4]))
def test_equal_step_for_step(name, reference):
    case = networks.case(name)
    lib = networks.package(reference, reference, lambda *args, **kwargs: LeakThenWeigh(reference, *args, **kwargs))
    lib.detaches = False
    mine = run(networks.Built(MINE, case.net, case.params), case.xs)
    theirs = run(networks.Built(lib, case.net, case.params), case.xs)
    assert jax.tree.structure(mine[1:]) == jax.tree.structure(theirs[1:])
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    rates = [float(z.mean()) for z in mine[2]]
    assert all(0.02 < rate < 0.5 for rate in rates)


@pytest.mark.parametrize("name", ["AlignPostProj", "DeltaProj"])  # the contract has the others
def test_same_arguments_and_defaults(name, reference):
    def arguments(cls):
        named = inspect.signature(cls.__init__).parameters
        return {k: p.default for k, p in named.items() if p.kind is not p.VAR_POSITIONAL and k != "self"}

    theirs = arguments(getattr(reference, name))
    mine = arguments(getattr(etrax.neurons, name, None) or getattr(etrax.synapses, name))
    added = {"detach_reset", "delay"}
    assert [k for k in mine if k not in added] == [k for k in theirs if k not in added]
    for key in set(mine) & set(theirs):
        if isinstance(mine[key], u.Quantity | float | str | None):
            assert mine[key] == theirs[key]
        else:
            assert repr(mine[key]) == repr(theirs[key])


# ------------------------------------------------------------------------------------------------- on paper

# dt = 1 ms and tau = 1 / ln 2 ms: everything halves in a step.
HALF = 1.0 / np.log(2.0) * u.ms


def trajectory(module, inputs, *states):
    module.init_state()
    rows = []
    for x in inputs:
        out = module(x)
        values = [out, *(getattr(module, s).value for s in states)]
        rows.append([u.get_mantissa(v).item() for v in values])
    return np.array(rows)


def test_lif_by_hand():
    """V' = V/2 + I/2 with I = 3 mA at R = 1 ohm; a spike (V >= 1) takes 1 off before the next step."""
    got = trajectory(LIF(1, tau=HALF), [3.0 * u.mA, 3.0 * u.mA, 0.0 * u.mA, 0.0 * u.mA, 0.0 * u.mA], "V")
    np.testing.assert_allclose(got[:, 1], [1.5, 1.75, 0.375, 0.1875, 0.09375], rtol=1e-12)
    np.testing.assert_array_equal(got[:, 0], [1.0, 1.0, 0.0, 0.0, 0.0])


def test_hard_reset_by_hand():
    """A hard reset puts V to -1 mV before the next step, wherever it was."""
    neuron = LIF(1, tau=HALF, V_reset=-1.0 * u.mV, spk_reset="hard")
    got = trajectory(neuron, [3.0 * u.mA, 0.0 * u.mA, 5.0 * u.mA, 0.0 * u.mA, 0.0 * u.mA], "V")
    np.testing.assert_allclose(got[:, 1], [1.5, -0.5, 2.25, -0.5, -0.25], rtol=1e-12)


def test_alif_by_hand():
    """a' = (a + z)/2; the threshold is 1 + a: V = 1.25 is a spike at a = 0 and none at a = 0.5."""
    neuron = ALIF(1, tau=HALF, tau_a=HALF, beta=1.0 * u.mV)
    got = trajectory(neuron, [2.5 * u.mA, 2.25 * u.mA, 0.0 * u.mA, 0.0 * u.mA, 0.0 * u.mA], "V", "a")
    np.testing.assert_allclose(got[:, 1], [1.25, 1.25, 0.625, 0.3125, 0.15625], rtol=1e-12)
    np.testing.assert_allclose(got[:, 2], [0.0, 0.5, 0.25, 0.125, 0.0625], rtol=1e-12)
    np.testing.assert_array_equal(got[:, 0], [1.0, 0.0, 0.0, 0.0, 0.0])


def test_if_by_hand():
    """The LIF above; a spike takes V_th = 1 off."""
    got = trajectory(IF(1, tau=HALF), [3.0 * u.mA, 3.0 * u.mA, 0.0 * u.mA, 0.0 * u.mA], "V")
    np.testing.assert_allclose(got[:, 1], [1.5, 1.75, 0.375, 0.1875], rtol=1e-12)


def test_cuba_by_hand():
    """g' = g/2, then V' = V/2 + g'/2; the spike at 1.25 takes 1 off."""
    neuron = CubaLIF(1, tau=HALF, tau_syn=HALF)
    neuron.init_state()
    neuron.g.value = jnp.full(1, 5.0) * u.mA
    got = []
    for _ in range(3):
        neuron(0.0 * u.mA)
        got.append((neuron.g.value.mantissa.item(), neuron.V.value.mantissa.item()))
    np.testing.assert_allclose(got, [(2.5, 1.25), (1.25, 0.75), (0.625, 0.6875)], rtol=1e-12)


LN2, ROOT = np.log(2.0), np.sqrt(0.5)
QUADRATIC = dict(tau=1 * u.ms, V_rest=0 * u.mV, V_reset=0 * u.mV, V_th=5 * u.mV, V_c=4 * u.mV, c=LN2 / 4 / u.mV)
EXPONENTIAL = dict(tau=1 * u.ms, V_rest=0 * u.mV, V_reset=0.5 * u.mV, V_th=3 * u.mV, V_T=1 * u.mV, delta_T=0.5 * u.mV)
ADAPTATION = dict(tau_w=HALF, a=1.0 * u.siemens, b=2.0 * u.mA)


def test_quadratic_by_hand():
    """f = ln2/4 V (V - 4). At V = 0, f' = -ln2: a step of I/(2 ln2). At 2, f' = 0: a plain Euler step, f = -ln2. At 1, z = -ln2/2.

    w' = (w + V')/2 with 2 added at a spike, and takes off the current what it has.
    """
    rest = braintools.init.Constant(0.0 * u.mV)
    inputs = [4 * LN2 * u.mA, (LN2 + 4) * u.mA, 0.0 * u.mA]
    V = [2.0, 6.0, 1.0 - 1.5 * (1 - ROOT)]
    got = trajectory(QuaIF(1, **QUADRATIC, V_initializer=rest), inputs, "V")
    np.testing.assert_allclose(got[:, 1], V, rtol=1e-12)
    inputs = [4 * LN2 * u.mA, (LN2 + 5) * u.mA, 5.5 * u.mA]
    got = trajectory(AdQuaIF(1, **QUADRATIC, **ADAPTATION, V_initializer=rest), inputs, "V", "w")
    np.testing.assert_allclose(got[:, 1], V, rtol=1e-12)
    np.testing.assert_allclose(got[:, 2], [1.0, 3.5, (5.5 + V[2]) / 2], rtol=1e-12)


def test_exponential_by_hand():
    """f = -V + e^(2V - 2)/2. At V = 1, f' = 0: a plain Euler step, f = -1/2. A spike puts V to 0.5, where f = z/2 with

    z = 1/e - 1: V' = e^z/2.
    """
    start = braintools.init.Constant(1.0 * u.mV)
    V = [3.5, 0.5 * np.exp(np.exp(-1.0) - 1.0)]
    got = trajectory(ExpIF(1, **EXPONENTIAL, V_initializer=start), [3.0 * u.mA, 0.0 * u.mA], "V")
    np.testing.assert_allclose(got[:, 1], V, rtol=1e-12)
    got = trajectory(AdExIF(1, **EXPONENTIAL, **ADAPTATION, V_initializer=start), [3.0 * u.mA, 3.75 * u.mA], "V", "w")
    np.testing.assert_allclose(got[:, 1], V, rtol=1e-12)
    np.testing.assert_allclose(got[:, 2], [1.75, (3.75 + V[1]) / 2], rtol=1e-12)


def test_izhikevich_by_hand():
    """At V = -62.5 the drift is -16.25 with f' = 0: a plain Euler step. u' = u/2 + V'/10; a spike puts V to c and adds 8 to u."""
    start, none = braintools.init.Constant(-62.5 * u.mV), braintools.init.Constant(0.0 * u.mV / u.ms)
    neuron = Izhikevich(1, a=LN2 / u.ms, c=-62.5 * u.mV, V_initializer=start, u_initializer=none)
    got = trajectory(neuron, [116.25 * u.mV / u.ms, 28.0 * u.mV / u.ms], "V", "u")
    np.testing.assert_allclose(got[:, 1], [37.5, -62.5], rtol=1e-12)
    np.testing.assert_allclose(got[:, 2], [3.75, -0.375], rtol=1e-12)


def test_gif_by_hand():
    """A spike sets I1 to 4, adds -2 to I2 and lifts the threshold to 2; I1, I2 halve, the threshold halves its way to 1."""
    none, one = braintools.init.Constant(0.0 * u.mA), braintools.init.Constant(1.0 * u.mV)
    neuron = Gif(
        *(1, 1.0 * u.ohm, HALF),
        **dict(V_rest=0 * u.mV, V_reset=0 * u.mV, V_th_inf=1 * u.mV, V_th_reset=2 * u.mV),
        **dict(a=0 / u.ms, b=LN2 / u.ms, k1=LN2 / u.ms, k2=LN2 / u.ms, R1=0.0, R2=1.0, A1=4 * u.mA, A2=-2 * u.mA),
        **dict(V_initializer=braintools.init.Constant(0.0 * u.mV), I1_initializer=none, I2_initializer=none),
        V_th_initializer=one,
    )
    got = trajectory(neuron, [3.0 * u.mA, 1.0 * u.mA, 0.0 * u.mA], "V", "I1", "I2", "V_th")
    np.testing.assert_allclose(got[:, 1], [1.5, 1.25, 0.875], rtol=1e-12)
    np.testing.assert_allclose(got[:, 2:], [(0, 0, 1), (2, -1, 1.5), (1, -0.5, 1.25)], rtol=1e-12)


def test_refractory_by_hand():
    """As above at I = 3 mA, but for tau_ref = 2 ms every other step only resets."""
    got = trajectory(LIFRef(1, tau=HALF, tau_ref=2.0 * u.ms), 5 * [3.0 * u.mA], "V")
    np.testing.assert_allclose(got[:, 1], [1.5, 0.5, 1.75, 0.75, 1.875], rtol=1e-12)
    np.testing.assert_array_equal(got[:, 0], [1.0, 0.0, 1.0, 0.0, 1.0])


def test_symplectic_by_hand():
    """w' = w/2 + (V + 2z)/2 with V after the reset to 0; then V' = V/2 + (I - w')/2."""
    neuron = SEadLIF(1, tau=HALF, tau_w=HALF, a=1.0 * u.siemens, b=2.0 * u.mA)
    got = trajectory(neuron, [3.0 * u.mA, 0.0 * u.mA, 0.0 * u.mA, 0.0 * u.mA], "V", "w")
    np.testing.assert_allclose(got[:, 1], [1.5, -0.5, -0.375, -0.15625], rtol=1e-12)
    np.testing.assert_allclose(got[:, 2], [0.0, 1.0, 0.25, -0.0625], rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(got[:, 0], [1.0, 0.0, 0.0, 0.0])


def test_resonator_by_hand():
    """dt omega = 0.6, so dt p = -0.2; with dt b_offset = 0.1, dt b is -0.3 - q/10. q' = q/2 + z. V' = (1 + dt b) V - 0.6 W + I/10."""
    constants = dict(omega=60.0 / u.second, b_offset=10.0 / u.second, tau=100.0 * u.ms, gamma=0.5)
    with brainstate.environ.context(dt=10.0 * u.ms):
        got = trajectory(BRF(1, **constants), [12.0 * u.mA, 0.0 * u.mA, 0.0 * u.mA], "V", "W", "q")
    np.testing.assert_allclose(got[:, 1], [1.2, 0.72, 0.036], rtol=1e-12)
    np.testing.assert_allclose(got[:, 2], [0.0, 0.72, 0.9], rtol=1e-12)
    np.testing.assert_allclose(got[:, 3], [0.0, 1.0, 0.5], rtol=1e-12)
    np.testing.assert_array_equal(got[:, 0], [1.0, 0.0, 0.0])


def test_expon_by_hand():
    """g' = g/2 + y."""
    got = trajectory(Expon(1, tau=HALF), [1.0 * u.mS, 0.0 * u.mS, 1.0 * u.mS, 0.0 * u.mS, 0.0 * u.mS], "g")
    np.testing.assert_allclose(got[:, 1], [1.0, 0.5, 1.25, 0.625, 0.3125], rtol=1e-12)


def test_leaky_readout_by_hand():
    """s' = s/2 + z, and the output is twice that."""
    readout = LeakyReadout(1, 1, tau=HALF, w_init=lambda shape: jnp.full(shape, 2.0))
    got = trajectory(readout, [jnp.ones(1), jnp.zeros(1), jnp.ones(1), jnp.zeros(1), jnp.zeros(1)], "s")
    np.testing.assert_allclose(got[:, 1], [1.0, 0.5, 1.25, 0.625, 0.3125], rtol=1e-12)
    np.testing.assert_allclose(got[:, 0], 2 * got[:, 1], rtol=1e-12)


def test_coba_by_hand():
    """At g = 1 S and R = 1 ohm the conductance equals the leak: V heads for E/2, at twice the rate (a quarter is left)."""
    net = brainstate.nn.Module()
    net.neu = LIF(1, tau=HALF, V_th=100.0 * u.mV)
    comm = brainstate.nn.Linear(1, 1, w_init=lambda shape: jnp.ones(shape) * u.siemens, b_init=None)
    forever = Expon(1, tau=1e12 * u.ms)
    net.syn = AlignPostProj(comm=comm, syn=forever, out=COBA(8.0 * u.mV), post=net.neu)
    brainstate.nn.init_all_states(net)
    V = []
    for x in [1.0, 0.0, 0.0]:
        net.syn(jnp.full(1, x))
        net.neu()
        V.append(float(net.neu.V.value.to_decimal(u.mV)[0]))
    np.testing.assert_allclose(V, [3.0, 3.75, 3.9375], rtol=1e-9)


def test_delta_by_hand():
    """A delta synapse adds its weight to V at the end of the step."""
    net = brainstate.nn.Module()
    net.neu = LIF(1, tau=HALF)
    comm = brainstate.nn.Linear(1, 1, w_init=lambda shape: jnp.full(shape, 0.8) * u.mV, b_init=None)
    net.jump = DeltaProj(comm=comm, post=net.neu)
    brainstate.nn.init_all_states(net)
    V = []
    for x in [1.0, 1.0, 0.0]:
        net.jump(jnp.full(1, x))
        net.neu()
        V.append(float(net.neu.V.value.to_decimal(u.mV)[0]))
    np.testing.assert_allclose(V, [0.8, 1.2, 0.1], rtol=1e-12)


@pytest.mark.parametrize("current", [3.0, 8.0, 20.0])
@pytest.mark.parametrize("spk_reset", ["soft", "hard"])
def test_refractory_neurons_never_fire_within_their_period(current, spk_reset):
    neuron = LIFRef(1, tau=5 * u.ms, tau_ref=5 * u.ms, spk_reset=spk_reset)
    spikes = trajectory(neuron, 30 * [current * u.mA])[:, 0]
    assert np.diff(np.nonzero(spikes)[0]).min() >= 5


@pytest.mark.parametrize(("dt", "count"), [(0.01, 12), (0.1, 11)])
def test_an_upstroke_of_any_length_is_one_spike(dt, count):
    """12 spikes in 100 ms at 0.002 ms; each is up to a step late, so that at 0.1 ms the twelfth comes after 100 ms."""
    with brainstate.environ.context(dt=dt * u.ms, precision=32):
        neuron = ExpIF(1)
        neuron.init_state()
        spikes = brainstate.transform.for_loop(lambda i: neuron(20.0 * u.mA), jnp.arange(round(100 / dt)))
    assert int(spikes.sum()) == count


@pytest.mark.parametrize("precision", [32, 64])
@pytest.mark.parametrize("ratio", [0.1, 0.99, 0.9999, 0.999999, 1.0, 1.000001, 2.0])
def test_dual_exponential_peaks_at_one_whatever_its_time_constants(ratio, precision):
    """Also where they are equal, and cross; and its scale has a derivative there."""
    with brainstate.environ.context(dt=0.1 * u.ms, precision=precision):
        syn = DualExpon(1, tau_rise=10 * ratio * u.ms, tau_decay=10 * u.ms)
        syn.init_state()
        pulse = jnp.zeros(400).at[0].set(1.0) * u.mS
        assert abs(float(brainstate.transform.for_loop(syn.advance, pulse).mantissa.max()) - 1.0) < 2e-4
        slope = jax.grad(lambda tau: syn.replaced(tau_rise=tau * u.ms).scale())(10.0 * ratio)
    log = np.log(ratio)  # r ** (r / (r - 1)) / 10, differentiated
    expected = (
        np.exp(1.0) / 2
        if abs(ratio - 1) < 1e-3
        else ratio ** (ratio / (ratio - 1)) * (ratio - 1 - log) / (ratio - 1) ** 2
    )
    np.testing.assert_allclose(10 * float(slope), expected, rtol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_spikes_of_one_step_follow_each_other(count):
    """STP and STD, without time to recover; and the Jacobian where counts come in."""
    stp, std = STP(1, tau_f=1e9 * u.ms, tau_d=1e9 * u.ms), STD(1, U=0.3, tau=1e9 * u.ms)
    for module in (stp, std):
        module.init_state()
    used, left = [0.15], [1.0]
    for _ in range(count):
        used.append(used[-1] + 0.15 * (1 - used[-1]))
        left.append(left[-1] * (1 - used[-1]))
    np.testing.assert_allclose(stp(jnp.full(1, float(count))), 1 - left[-1], rtol=1e-6)
    np.testing.assert_allclose((stp.u.value[0], stp.x.value[0]), (used[-1], left[-1]), rtol=1e-6)
    np.testing.assert_allclose(std(jnp.full(1, float(count))), sum(0.7**k for k in range(count)), rtol=1e-6)
    np.testing.assert_allclose(std.x.value, 0.7**count, rtol=1e-6)
    for module, states in (
        (stp, dict(u=0.3, x=0.7, r=0.2)),
        (std, dict(x=0.7, r=0.2)),
        (STP(1, U=1.0), dict(u=1.0, x=0.7, r=0.2)),
    ):
        point = {k: jnp.full(1, v) for k, v in states.items()} | {"z": jnp.full(1, float(count))}
        for source, value in point.items():
            by = jax.jvp(lambda v, s=source, m=module, p=point: m.transition(**{**p, s: v}), (value,), (jnp.ones(1),))[
                1
            ]
            for target, slope in by.items():
                entry = module.jacobian(**point).get((target, source), 0.0)
                if count > 1 or source != "z":  # at one spike the first ends and the next begins
                    np.testing.assert_allclose(entry, slope, rtol=1e-9, atol=1e-12)


def test_counts_never_release_more_than_there_is():
    """Five spikes in every tenth step."""
    counts = jnp.where(jnp.arange(300) % 10 == 0, 5.0, 0.0)[:, None]
    for module in (STP(1), STD(1, U=0.5)):
        module.init_state()
        released = brainstate.transform.for_loop(module.update, counts)
        assert released.min() >= 0
        assert released.max() < 5
        assert 0 <= module.x.value[0] <= 1


def test_a_layer_of_another_size_is_named_at_the_first_step():
    def stepped(comm):
        neuron = LIF(5)
        projection = DeltaProj(comm=comm, post=neuron)
        neuron.init_state(2)
        projection(jnp.ones((2, 3)))
        neuron()
        return neuron.V.value

    with pytest.raises(ValueError, match=r"`comm` of .* gives shape \(2, 1\), but `post` LIF has shape \(5,\)"):
        stepped(brainstate.nn.Linear(3, 1, w_init=jnp.ones((3, 1)) * u.mV, b_init=None))
    shared = stepped(brainstate.nn.AllToAll(3, 5, w_init=0.5 * u.mV))
    np.testing.assert_allclose(shared.to_decimal(u.mV), np.full((2, 5), 1.5))
    neuron = LIF(1)
    neuron.init_state()
    with pytest.raises(ValueError, match=r"state `V` of LIF has shape \(1,\), but its input has shape \(3,\)"):
        neuron(jnp.ones(3) * u.mA)


# ------------------------------------------------------------------------------------------------- use as modules


@pytest.mark.parametrize("batch", [None, 3])
def test_states_have_the_shape_of_batch_and_population_and_reset_to_what_they_were(batch):
    for module in (LIF((2, 3)), ALIF((2, 3)), Expon((2, 3)), LeakyReadout((2, 3), 4)):
        module.init_state(batch)
        first = {k: s.value for k, s in module.hidden.items()}
        assert all(u.math.shape(v) == ((2, 3) if batch is None else (3, 2, 3)) for v in first.values())
        for state in module.hidden.values():
            state.value = state.value + 1.0 * u.get_unit(state.value)
        module.reset_state(batch)
        for name, state in module.hidden.items():
            assert u.get_unit(state.value) == u.get_unit(first[name])
            np.testing.assert_array_equal(u.get_mantissa(state.value), u.get_mantissa(first[name]))


def test_synapses_of_one_description_are_shared():
    neu = LIF(2)

    def project(tau, label=None):
        comm = brainstate.nn.Linear(2, 2, w_init=braintools.init.KaimingNormal(unit=u.mS), b_init=None)
        return AlignPostProj(comm=comm, syn=Expon.desc(2, tau=tau), out=CUBA.desc(), post=neu, label=label)

    one, two, other, apart = project(5 * u.ms), project(5 * u.ms), project(6 * u.ms), project(5 * u.ms, "apart")
    assert one.syn is two.syn
    assert len({id(p.syn) for p in (one, other, apart)}) == 3
    assert len(neu.receivers) == 3


def test_a_shared_synapse_is_found_under_its_projection():
    net = brainstate.nn.Module()
    net.neu = LIF(2)
    comm = brainstate.nn.Linear(2, 2, w_init=braintools.init.KaimingNormal(unit=u.mS), b_init=None)
    net.syn = AlignPostProj(comm=comm, syn=Expon.desc(2, tau=5 * u.ms), out=CUBA.desc(), post=net.neu)
    brainstate.nn.init_all_states(net)
    assert set(net.states()) == {("neu", "V"), ("syn", "comm", "weight"), ("syn", "syn", "g")}


def test_prefetched_input():
    """Callables and States before `comm` are applied in turn."""
    net = brainstate.nn.Module()
    net.pre, net.post = LIF(2), LIF(2)
    comm = brainstate.nn.Linear(2, 2, w_init=lambda shape: jnp.eye(2) * u.mV, b_init=None)
    net.jump = DeltaProj(net.pre.prefetch("V"), lambda V: V / u.mV, comm=comm, post=net.post)
    brainstate.nn.init_all_states(net)
    net.pre.V.value = jnp.array([0.3, 0.4]) * u.mV
    net.jump()
    net.post()
    np.testing.assert_allclose(net.post.V.value.to_decimal(u.mV), [0.3, 0.4], rtol=1e-12)
