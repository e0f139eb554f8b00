"""NIR: the network that comes back spikes as the one that was written; what cannot be written is named."""

import itertools

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest

import etrax
from etrax import neurons, synapses

nir = pytest.importorskip("nir")

LIB = networks.package(neurons, synapses, neurons.LeakyReadout)
T, B = networks.T, networks.B

TABLE = (
    [name for name in ("lif", "lif no bias", "lif hard", "lif delta") for name in [f"feed-forward {name}"]]
    + [f"recurrent {name}" for name in ("lif", "lif hard", "lif heterogeneous")]
    + ["layered two lif"]
)


class Layered(brainstate.nn.Module):
    """Two populations; the second hears the first's spikes of this step and of the one before, late feedback, CubaLIF."""

    def __init__(self, rng):
        super().__init__()
        self.one = neurons.LIF(4, tau=10.0 * u.ms, V_initializer=braintools.init.Constant(0.4 * u.mV))
        self.two = neurons.CubaLIF(3, tau=8.0 * u.ms, tau_syn=6.0 * u.ms, spk_reset="hard", V_reset=-0.2 * u.mV)
        self.to_one = synapses.CurrentProj(comm=linear(rng, 5 + 3, 4, 6.0, u.mS), out=synapses.CUBA(), post=self.one)
        self.to_two = synapses.DeltaProj(comm=linear(rng, 4 + 4 + 5, 3, 1.0, u.mA), post=self.two)
        self.out = neurons.LeakyReadout(3, 2, tau=9.0 * u.ms, w_init=jnp.asarray(rng.normal(size=(3, 2))), pre=self.two)

    def update(self, x):
        late = self.one.get_spike()
        self.to_one(jnp.concatenate([self.two.get_spike(), x], axis=-1))
        z = self.one()
        self.to_two(jnp.concatenate([z, late, x[..., ::-1]], axis=-1))
        return self.out(self.two())


class Shared(brainstate.nn.Module):
    """Two projections onto one shared synapse."""

    def __init__(self, rng):
        super().__init__()
        self.one = neurons.LIF(3, tau=10.0 * u.ms)
        kinds = {"syn": synapses.Expon.desc(3, tau=5.0 * u.ms), "out": synapses.CUBA.desc(), "post": self.one}
        self.first = synapses.AlignPostProj(comm=linear(rng, 5, 3, 4.0, u.mS), **kinds)
        self.second = synapses.AlignPostProj(comm=linear(rng, 3, 3, 1.0, u.mS), **kinds)

    def update(self, x):
        self.first(x)
        self.second(self.one.get_spike())
        return self.one()


class Delayed(brainstate.nn.Module):
    """A projection with axonal delays."""

    def __init__(self, rng):
        super().__init__()
        self.one = neurons.LIF(3, tau=10.0 * u.ms)
        delay = np.array([0.0, 1.0, 2.0, 3.0, 4.0]) * u.ms
        self.proj = synapses.AlignPostProj(
            comm=linear(rng, 5, 3, 4.0, u.mS),
            syn=synapses.Expon(3, tau=5.0 * u.ms),
            out=synapses.CUBA(),
            post=self.one,
            delay=delay,
        )

    def update(self, x):
        self.proj(x)
        return self.one()


class Image(brainstate.nn.Module):
    """A convolution, neurons with channels, a layer on all of them."""

    def __init__(self, rng):
        super().__init__()
        self.one = neurons.LIF((5, 4, 2), tau=10.0 * u.ms)
        conv = brainstate.nn.Conv2d((5, 4, 3), 2, 3, w_init=rng.normal(0.5, 1.0, (3, 3, 3, 2)))
        self.conv = synapses.CurrentProj(comm=conv, out=synapses.CUBA(1.0 * u.mA), post=self.one)
        self.out = brainstate.nn.Linear(40, 2, w_init=jnp.asarray(rng.normal(size=(40, 2))), b_init=None)

    def update(self, x):
        self.conv(x)
        z = self.one()
        return self.out(z.reshape(*z.shape[:-3], -1))


def linear(rng, n_in, n_out, scale, unit):
    weight = scale / np.sqrt(n_in) * (0.3 + rng.normal(size=(n_in, n_out)))
    return brainstate.nn.Linear(n_in, n_out, w_init=weight * unit, b_init=0.02 * np.ones(n_out) * unit)


def run(net, xs):
    """Outputs and the spikes of all populations, by name."""
    brainstate.nn.init_all_states(net, batch_size=xs.shape[1])
    populations = {".".join(map(str, p)): n for p, n in net.nodes().items() if isinstance(n, etrax.Neuron)}

    def step(x):
        return net(x), {name: n.get_spike() for name, n in populations.items()}

    return brainstate.transform.for_loop(step, xs)


def same(net, xs, tmp_path):
    """Write, read, compare."""
    path = tmp_path / "net.nir"
    etrax.to_nir(net, xs[0], batch_size=xs.shape[1], path=path)
    back = etrax.from_nir(path)
    out, spikes = run(net, xs)
    again, others = run(back, xs)
    assert spikes.keys() == others.keys()
    for name, z in spikes.items():
        assert 0 < z.mean() < 1
        np.testing.assert_array_equal(z, others[name])
    np.testing.assert_allclose(again, out, rtol=1e-9, atol=1e-12)
    return back


@pytest.mark.parametrize("name", networks.thorough(TABLE, *TABLE[2::3]))
def test_round_trip_of_the_networks_of_the_table(name, tmp_path):
    case = networks.case(name)
    same(networks.Built(LIB, case.net, case.params), case.xs, tmp_path)


@pytest.mark.parametrize("make", [Layered, Shared, Delayed])
def test_round_trip(make, tmp_path):
    rng = np.random.default_rng(3)
    back = same(make(rng), jnp.asarray((rng.random((T, B, 5)) < 0.4).astype(float)), tmp_path)
    if make is Layered:
        assert isinstance(back.out_leak, neurons.LeakyReadout)
        assert back.out_leak.pre is back.two


def test_round_trip_of_images(tmp_path):
    rng = np.random.default_rng(4)
    same(Image(rng), jnp.asarray((rng.random((T, B, 5, 4, 3)) < 0.4).astype(float)), tmp_path)


@pytest.mark.slow
def test_a_network_that_came_back_can_be_trained(tmp_path):
    rng = np.random.default_rng(3)
    xs = jnp.asarray((rng.random((T, B, 5)) < 0.4).astype(float))
    back = etrax.from_nir(etrax.to_nir(Layered(rng), xs[0], batch_size=B))
    learner = etrax.compile(back, etrax.D_RTRL, xs[0], batch_size=B)
    grads = learner.etrace_grad(xs, step_fn=lambda x: jnp.mean(learner(x) ** 2))
    assert len(grads) == 6
    assert all(np.any(leaf != 0) for g in grads.values() for leaf in jax.tree.leaves(networks.mantissas(g)))


# -- graphs of other simulators ------------------------------------------------------------


def foreign():
    """What e.g. snnTorch writes: unitless, the recurrent part a graph of its own."""
    rng = np.random.default_rng(5)
    ones = np.ones(4)
    lif = nir.LIF(tau=0.01 * ones, r=ones, v_leak=0 * ones, v_threshold=ones)
    inner = nir.NIRGraph(
        nodes={
            "input": nir.Input(input_type=np.array([4])),
            "lif": lif,
            "back": nir.Linear(weight=rng.normal(size=(4, 4))),
            "output": nir.Output(output_type=np.array([4])),
        },
        edges=[("input", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "output")],
    )
    li = nir.LI(tau=0.02 * np.ones(2), r=np.ones(2), v_leak=0.1 * np.ones(2))
    nodes = {
        "input": nir.Input(input_type=np.array([3])),
        "0": nir.Affine(weight=6 * rng.random((4, 3)), bias=np.ones(4)),
        "rnn": inner,
        "read": nir.Affine(weight=rng.normal(size=(2, 4)), bias=np.ones(2)),
        "li": li,
        "output": nir.Output(output_type=np.array([2])),
    }
    names = ["input", "0", "rnn", "read", "li", "output"]
    return nir.NIRGraph(nodes=nodes, edges=list(itertools.pairwise(names))), nodes, inner.nodes


def test_a_graph_with_a_recurrent_graph_inside_follows_its_equations():
    graph, nodes, inner = foreign()
    xs = (np.random.default_rng(0).random((T, 1, 3)) < 0.5).astype(float)
    out, spikes = run(etrax.from_nir(graph), jnp.asarray(xs))
    v, z, y, a, b = np.zeros(4), np.zeros(4), 0.1 * np.ones(2), np.exp(-1 / 10), np.exp(-1 / 20)
    for t, x in enumerate(xs[:, 0]):
        v = np.where(z > 0, 0.0, v)
        v = a * v + (1 - a) * (nodes["0"].weight @ x + nodes["0"].bias + inner["back"].weight @ z)
        z = (v >= 1).astype(float)
        y = b * y + (1 - b) * (0.1 + nodes["read"].weight @ z + nodes["read"].bias)
        np.testing.assert_array_equal(spikes["rnn_lif"][t, 0], z)
        np.testing.assert_allclose(out[t, 0], y, rtol=1e-9)
    assert 0 < spikes["rnn_lif"].mean() < 1


def test_a_node_that_is_not_read_is_named():
    graph = nir.NIRGraph.from_list(nir.Input(input_type=np.array([2])), nir.Scale(scale=np.ones(2)))
    with pytest.raises(ValueError, match="`scale` of the graph is of the kind Scale;"):
        etrax.from_nir(graph)


def chain(size, *nodes):
    """A graph of nodes one behind the other."""
    named = {
        "input": nir.Input(input_type={"input": np.array(size)}),
        **{f"n{i}": node for i, node in enumerate(nodes)},
        "output": nir.Output(output_type={"output": None}),
    }
    return nir.NIRGraph(nodes=named, edges=list(itertools.pairwise(named)), type_check=False)


def outputs(graph, xs, **options):
    net = etrax.from_nir(graph, **options)
    brainstate.nn.init_all_states(net)
    return np.asarray(brainstate.transform.for_loop(net, jnp.asarray(xs)))


W = np.random.default_rng(6).normal(size=(2, 3))
XS = np.random.default_rng(7).random((15, 3))


@pytest.mark.parametrize("shape", [(2,), (), (1,)])  # constants of one number are those of all
def test_integrators_follow_their_equations(shape):
    """In steps of 1 ms, of Euler for `CubaLI`."""
    total = outputs(chain([3], nir.Linear(W), nir.I(r=np.full(shape, 2.0))), XS)
    np.testing.assert_allclose(total, 2e-3 * np.cumsum(XS @ W.T, axis=0), rtol=1e-12)
    constants = {"tau_syn": 0.005, "tau_mem": 0.01, "r": 3.0, "v_leak": 0.1, "w_in": 4.0}
    leaky = nir.CubaLI(**{name: np.full(shape, value) for name, value in constants.items()})
    found = outputs(chain([3], nir.Linear(W), leaky), XS, discretization="euler")
    current, v = np.zeros(2), np.full(2, 0.1)
    for x, right in zip(XS, found, strict=True):
        current = current + (1e-3 / 0.005) * (4.0 * W @ x - current)
        v = v + (1e-3 / 0.01) * (0.1 - v + 3.0 * current)
        np.testing.assert_allclose(right, v, rtol=1e-9)


@pytest.mark.parametrize(("stride", "padding"), [(2, 1), (1, "same"), (1, "valid")])
def test_a_convolution_over_one_axis(stride, padding):
    rng = np.random.default_rng(8)
    kernel, bias, xs = rng.normal(size=(4, 2, 3)), rng.normal(size=4), rng.random((5, 2, 7))
    layer = nir.Conv1d(input_shape=7, weight=kernel, stride=stride, padding=padding, dilation=1, groups=1, bias=bias)
    padded = np.pad(xs, ((0, 0), (0, 0), (1, 1))) if padding != "valid" else xs
    places = range(0, padded.shape[2] - 2, stride)
    right = np.stack([np.einsum("tcp,kcp->tk", padded[:, :, p : p + 3], kernel) + bias for p in places], axis=-1)
    np.testing.assert_allclose(outputs(chain([2, 7], layer), xs), right, rtol=1e-12)
    one = np.ones(())
    spikes = outputs(chain([2, 7], layer, nir.LIF(tau=1e-2 * one, r=10 * one, v_leak=0 * one, v_threshold=one)), xs)
    assert spikes.shape == right.shape
    np.testing.assert_array_equal(spikes[0], 10 * (1 - np.exp(-0.1)) * right[0] >= 1)


def test_time_in_steps():
    """As sinabs writes it: `r` of 1, so that the potential rises by the whole input in a step."""
    graph, rng = (
        chain([3], nir.Linear(np.abs(W)), nir.IF(r=np.ones(2), v_threshold=np.ones(2))),
        np.random.default_rng(9),
    )
    xs, v, right = (rng.random((20, 3)) < 0.3).astype(float), np.zeros(2), []
    for x in xs:
        v = v + np.abs(W) @ x
        right.append(v >= 1)
        v = np.where(v >= 1, 0.0, v)
    with brainstate.environ.context(dt=1.0 * u.second):
        np.testing.assert_array_equal(outputs(graph, xs), right)
    with pytest.warns(
        UserWarning, match="`n1` has no leak and reaches its threshold after .* steps .* with a `dt` of 1 s"
    ):
        etrax.from_nir(graph)


def of_euler(graph_kind, n=(12, 20, 5), steps=80, decays=(0.9, 0.8)):
    """What a simulator with steps of Euler gives, ``v <- b v + W x`` and zero after a spike, and the graph that it writes."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(0.0, 0.6, (b, a)) for a, b in itertools.pairwise(n)]
    xs = (rng.random((steps, n[0])) < 0.4).astype(float)
    v, z, spikes = [np.zeros(k) for k in n[1:]], [np.zeros(k) for k in n[1:]], []
    taus = [1e-3 / (1 - b) for b in decays]
    for x in xs:
        for i, (w, b) in enumerate(zip(weights, decays, strict=True)):
            v[i] = (b if graph_kind == "LIF" else 1.0) * v[i] * (1 - z[i]) + w @ (x if i == 0 else z[0])
            z[i] = (v[i] >= 1).astype(float)
        spikes.append(z[1])
    nodes = {
        "input": nir.Input(input_type={"input": np.array([steps, n[0]])})
    }  # with an axis of time, as some write it
    for i, (w, tau) in enumerate(zip(weights, taus, strict=True)):
        nodes[f"w{i}"] = nir.Linear(weight=w)
        size = n[i + 1] if i else 1  # constants of one number for all
        one = np.ones(size)
        if graph_kind == "LIF":
            nodes[f"n{i}"] = nir.LIF(
                tau=tau * one, r=tau / 1e-3 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one
            )
        else:
            nodes[f"n{i}"] = nir.IF(r=1e3 * one, v_threshold=one, v_reset=0 * one)
    nodes["output"] = nir.Output(output_type={"output": np.array([steps, n[-1]])})
    edges = list(itertools.pairwise(nodes))
    return nir.NIRGraph(nodes=nodes, edges=edges, type_check=False), xs, np.array(spikes)


@pytest.mark.parametrize("kind", ["LIF", "IF"])
def test_steps_of_euler_give_the_spikes_of_their_simulator(kind, tmp_path):
    graph, xs, right = of_euler(kind)
    nir.write(tmp_path / "theirs.nir", graph)
    net = etrax.from_nir(tmp_path / "theirs.nir", discretization="euler")
    out, _ = run(net, jnp.asarray(xs)[:, None])
    assert 0 < right.mean() < 1
    np.testing.assert_array_equal(out[:, 0], right)
    if kind == "LIF":
        other, _ = run(etrax.from_nir(tmp_path / "theirs.nir"), jnp.asarray(xs)[:, None])
        assert np.any(other[:, 0] != right)


def test_written_for_steps_of_euler():
    rng = np.random.default_rng(3)
    xs = jnp.asarray(rng.random((T, B, 5)) < 0.5, float)
    net = Layered(rng)
    exact, euler = (etrax.to_nir(net, xs[0], batch_size=B, discretization=kind) for kind in ("exact", "euler"))
    tau = exact.nodes["one"].tau[0]
    assert 1 - 1e-3 / euler.nodes["one"].tau[0] == pytest.approx(np.exp(-1e-3 / tau), rel=1e-12)
    out, spikes = run(net, xs)
    again, others = run(etrax.from_nir(euler), xs)  # the graph says what it is for
    for name, z in spikes.items():
        np.testing.assert_array_equal(z, others[name])
    np.testing.assert_allclose(again, out, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="`discretization` must be 'exact' or 'euler', got 'heun'"):
        etrax.to_nir(net, xs[0], batch_size=B, discretization="heun")


def test_a_dt_above_a_time_constant():
    graph, _, _ = of_euler("LIF")
    with brainstate.environ.context(dt=20 * u.ms):
        told = "has a time constant of {} s but `dt` is 0.02 s, so it forgets within a step"
        first, second = (
            pytest.warns(UserWarning, match=f"`n{i}` {told.format(tau)}") for i, tau in enumerate((0.01, 0.005))
        )
        with first, second:
            etrax.from_nir(graph)
        with pytest.raises(
            ValueError, match="`n0` has a time constant of 0.01 s and `dt` is 0.02 s: a step of Euler must be shorter"
        ):
            etrax.from_nir(graph, discretization="euler")


def test_another_dt_is_named():
    rng = np.random.default_rng(3)
    graph = etrax.to_nir(Layered(rng), jnp.zeros((B, 5)), batch_size=B)
    with brainstate.environ.context(dt=0.5 * u.ms), pytest.raises(ValueError, match="`dt` is 0.0005 s.*0.001 s"):
        etrax.from_nir(graph)


# -- what NIR cannot express ---------------------------------------------------------------


class One(brainstate.nn.Module):
    """One population behind one projection, with parts to replace."""

    def __init__(self, neuron=neurons.LIF, syn=synapses.Expon, out=None, comm=None, times=1.0):
        super().__init__()
        self.neu = neuron(3)
        comm = linear(np.random.default_rng(0), 5, 3, 1.0, u.mS) if comm is None else comm
        out = synapses.CUBA() if out is None else out
        self.proj = synapses.AlignPostProj(comm=comm, syn=syn(3), out=out, post=self.neu)
        self.times = times

    def update(self, x):
        self.proj(self.times * x)
        return self.neu()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"neuron": neurons.ALIF}, r"`neu` \(ALIF\)"),
        ({"syn": synapses.Alpha}, "synapse Alpha of `proj`"),
        ({"out": synapses.COBA(E=1.0 * u.mV)}, "output COBA of `proj`"),
        ({"times": 0.5}, "input of `proj`, which is computed"),
    ],
)
def test_what_cannot_be_expressed_is_named(changes, words):
    with pytest.raises(ValueError, match=f"NIR cannot express .*{words}"):
        etrax.to_nir(One(**changes), jnp.zeros(5))


@pytest.mark.parametrize("comm", [lambda x: x, brainstate.nn.Conv1d((5, 1), 3, 1)])
def test_a_layer_that_is_not_written_is_named(comm):
    with pytest.raises(ValueError, match=rf"`comm` of `proj` \({type(comm).__name__}\) .* Linear and Conv2d only"):
        etrax.to_nir(One(comm=comm), jnp.zeros(5))


def test_the_missing_package_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ModuleNotFoundError, match="pip install 'etrax\\[nir\\]'"):
        etrax.to_nir(One(), jnp.zeros(5))
