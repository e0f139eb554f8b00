"""NeuroBench's figures: by hand for tiny networks, and equal to those of its own harness where that is installed."""

import csv

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import etrax
from etrax import benchmark_figures, cli

T, B, N_IN, N, N_OUT = 12, 3, 5, 4, 2


class Net(brainstate.nn.Module):
    """Delta synapses onto LIF neurons, then a plain or a leaky readout."""

    def __init__(self, rng, leaky=False):
        super().__init__()
        w = rng.normal(size=(N_IN, N)) * (rng.random((N_IN, N)) < 0.6)
        out = rng.normal(size=(N, N_OUT))
        self.neu = etrax.neurons.LIF(N, tau=10.0 * u.ms)
        comm = brainstate.nn.Linear(N_IN, N, w_init=w * u.mV, b_init=0.05 * np.ones(N) * u.mV)
        self.proj = etrax.synapses.DeltaProj(comm=comm, post=self.neu)
        if leaky:
            self.out = etrax.neurons.LeakyReadout(N, N_OUT, tau=9.0 * u.ms, w_init=jnp.asarray(out), pre=self.neu)
        else:
            self.out = brainstate.nn.Linear(N, N_OUT, w_init=out, b_init=None)

    def update(self, x):
        self.proj(x)
        return self.out(self.neu())


def inputs(rng):
    return jnp.asarray((rng.random((T, B, N_IN)) < 0.4).astype(float))


@pytest.mark.parametrize("leaky", [False, True])
def test_figures_by_hand(leaky):
    rng = np.random.default_rng(0)
    net, xs = Net(rng, leaky), inputs(rng)
    figures = benchmark_figures(net, xs)
    brainstate.nn.init_all_states(net, batch_size=B)
    z = np.asarray(brainstate.transform.for_loop(lambda x: (net(x), net.neu.get_spike())[1], xs))
    w = np.asarray(u.get_mantissa(net.proj.comm.weight.value["weight"]))
    spikes = int(z.sum())
    assert 0 < spikes < z.size
    assert figures.effective_macs == 0
    pairs = np.einsum("tbi,ij->", np.asarray(xs), (w != 0).astype(float)) + spikes * N_OUT
    np.testing.assert_allclose(figures.effective_acs, pairs / B)
    np.testing.assert_allclose(figures.dense, T * (N_IN * N + N * N_OUT))
    np.testing.assert_allclose(figures.connection_sparsity, np.sum(w == 0) / (w.size + N * N_OUT))
    np.testing.assert_allclose(figures.activation_sparsity, 1 - spikes / z.size)
    values = N_IN * N + N + N * N_OUT
    assert figures.parameters == values
    constants, states = 5 + leaky, N + N * leaky
    assert figures.footprint == 8 * (values + states + constants)
    assert set(figures.row()) <= set(dir(figures)) | {"footprint_bytes"}
    assert "effective ACs" in str(figures)


def test_graded_input_needs_multiplications_and_states_are_left_alone():
    rng = np.random.default_rng(1)
    net = Net(rng)
    brainstate.nn.init_all_states(net, batch_size=7)
    before = net.neu.V.value
    figures = benchmark_figures(net, 0.3 * inputs(rng))
    assert net.neu.V.value is before
    assert "update" not in vars(net.out)
    layer = figures.layers["proj.comm"]
    assert layer["effective_macs"] > 0 == layer["effective_acs"]


class Image(brainstate.nn.Module):
    """A convolution with a border, then a readout; and a layer that the definitions do not cover."""

    def __init__(self, extra=False):
        super().__init__()
        self.neu = etrax.neurons.LIF((4, 4, 2), tau=10.0 * u.ms)
        kernel = braintools.init.Normal(1.0, 1.0)((3, 3, 1, 2))
        conv = brainstate.nn.Conv2d((4, 4, 1), 2, 3, padding=1, w_init=kernel)
        self.conv = conv
        self.proj = etrax.synapses.DeltaProj(comm=lambda x: conv(x) * u.mV, post=self.neu)
        self.out = brainstate.nn.Linear(32, 2)
        self.extra = brainstate.nn.LoRA(2, 1, 2) if extra else None

    def update(self, x):
        self.proj(x)
        z = self.out(self.neu().reshape(x.shape[0], -1))
        return z if self.extra is None else self.extra(z)


def test_a_convolution_counts_no_connection_to_its_border():
    figures = benchmark_figures(Image(), jnp.ones((1, 1, 4, 4, 1)))
    assert figures.layers["conv"]["effective_acs"] == figures.layers["conv"]["dense"] == 2 * (3 * 4 - 2) ** 2


def test_what_is_not_counted_is_named():
    assert benchmark_figures(Image(extra=True), jnp.ones((1, 1, 4, 4, 1))).uncounted == ["extra.weight"]


def test_an_input_without_samples_is_named():
    with pytest.raises(ValueError, match=r"`xs` must have axes for time and samples"):
        benchmark_figures(Net(np.random.default_rng(0)), jnp.ones(3))


@pytest.mark.slow
def test_the_command_prints_and_writes(tmp_path, capsys):
    pytest.importorskip("sklearn")
    with brainstate.environ.context(precision=32):
        out = tmp_path / "figures.csv"
        assert cli.main(["figures", "digits", "--neurons", "8", "--trials", "4", "--out", str(out)]) == 0
        assert "activation sparsity" in capsys.readouterr().out
        with open(out) as file:
            assert float(next(csv.DictReader(file))["effective_acs"]) > 0
        with pytest.raises(SystemExit, match="2"):
            cli.main(["figures", "digits", "--weights", str(tmp_path / "none")])


# -- against the harness -------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch_lif():
    """torch, the harness, and a LIF layer of torch with the equations of ours."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch", exc_type=ImportError)
        benchmarks = pytest.importorskip("neurobench.benchmarks", exc_type=ImportError)
        from neurobench import models
        from neurobench.metrics import static, workload

    class Leaky(torch.nn.Module):
        def reset(self):
            self.V = self.z = 0.0

        def forward(self, jump):
            self.V = np.exp(-1.0 / 10.0) * (self.V - self.z) + jump
            self.z = (self.V >= 1.0).to(jump.dtype)
            return self.z

    class Twin(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            params = net.proj.comm.weight.value
            weights = [u.get_mantissa(params["weight"]), net.out.weight.value["weight"]]
            self.first, self.second = (torch.nn.Linear(*w.shape, bias=i == 0) for i, w in enumerate(weights))
            self.neurons = Leaky()
            for layer, w in zip((self.first, self.second), weights, strict=True):
                layer.weight = torch.nn.Parameter(torch.from_numpy(np.array(w).T.copy()))
            self.first.bias = torch.nn.Parameter(torch.from_numpy(np.array(u.get_mantissa(params["bias"]))))

        def forward(self, batch):
            self.neurons.reset()
            return torch.stack([self.second(self.neurons(self.first(x))) for x in batch.unbind(1)], 1)

    def score(model, xs):
        data = torch.from_numpy(np.array(xs).swapaxes(0, 1).copy())
        dataset = torch.utils.data.TensorDataset(data, torch.zeros(len(data)))
        loader = torch.utils.data.DataLoader(dataset, batch_size=len(data))
        metrics = [
            [static.Footprint, static.ConnectionSparsity],
            [workload.ActivationSparsity, workload.SynapticOperations],
        ]
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return benchmarks.Benchmark(model, loader, [], [], metrics).run(quiet=True)

    def twin(net):
        model = models.TorchModel(Twin(net))
        model.add_activation_module(Leaky)
        return model

    return torch, twin, score


def agree(figures, theirs):
    operations = theirs["SynapticOperations"]
    np.testing.assert_allclose(operations["Effective_MACs"], figures.effective_macs)
    np.testing.assert_allclose(operations["Effective_ACs"], figures.effective_acs)
    np.testing.assert_allclose(operations["Dense"], figures.dense)
    np.testing.assert_allclose(theirs["ActivationSparsity"], figures.activation_sparsity)
    np.testing.assert_allclose(theirs["ConnectionSparsity"], figures.connection_sparsity, atol=5e-5)  # it rounds


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_an_equal_network_of_torch_gets_the_same_figures(torch_lif, scale):
    torch, twin, score = torch_lif
    rng = np.random.default_rng(0)
    net, xs = Net(rng), scale * inputs(rng)
    other = twin(net)
    figures = benchmark_figures(net, xs)
    assert figures.activation_sparsity < 1
    agree(figures, score(other, xs))
    brainstate.nn.init_all_states(net, batch_size=B)
    ours = brainstate.transform.for_loop(net, xs)
    theirs = other(torch.from_numpy(np.array(xs).swapaxes(0, 1).copy())).detach().numpy().swapaxes(0, 1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


@pytest.mark.parametrize("make", [lambda rng: Net(rng, leaky=True), lambda rng: Image()], ids=["leaky", "convolution"])
def test_the_harness_scores_our_model(torch_lif, make):
    torch, _, score = torch_lif
    rng = np.random.default_rng(0)
    net = make(rng)
    xs = inputs(rng) if isinstance(net, Net) else jnp.asarray((rng.random((T, B, 4, 4, 1)) < 0.4).astype(float))
    model = etrax.neurobench_model(net)
    figures = benchmark_figures(net, xs)
    theirs = score(model, xs)
    agree(figures, theirs)
    assert theirs["Footprint"] == figures.footprint
    out = model(torch.from_numpy(np.array(xs).swapaxes(0, 1).copy()))
    brainstate.nn.init_all_states(net, batch_size=B)
    expected = brainstate.transform.for_loop(net, xs)
    jax.tree.map(np.testing.assert_array_equal, np.asarray(expected), out.numpy().swapaxes(0, 1))


def test_a_missing_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError, match="pip install 'etrax\\[neurobench\\]'"):
        etrax.neurobench_model(Net(np.random.default_rng(0)))


def test_a_layer_without_counterpart_is_named(torch_lif):
    with pytest.raises(ValueError, match="extra.weight"):
        etrax.neurobench_model(Image(extra=True))
