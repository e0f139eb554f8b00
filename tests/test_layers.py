"""Layers other than a plain `Linear`, and populations of several dimensions: exact on feed-forward networks, in any chunk."""

import functools
import json
import pathlib
import re
import subprocess
import sys

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layers import LAYERS, SQUARE, B, Banded, I, N, Net, Positive, Squared, T, data, fixed, linear, weights
from networks import thorough

import etrax
from etrax.neurons import ALIF, LIF

# brainstate calls brainevent by names that it has renamed
pytestmark = pytest.mark.filterwarnings("ignore:brainevent.* is deprecated:DeprecationWarning")

COMPILED = {"EventLinear", "event CSR", "EventFixedNumConn", "EventFixedNumConn, one weight", "FixedNumConn of some"}


@functools.cache
def missing():
    """The compiler that some layers of brainstate need for the CPU in some releases, if it is not installed."""
    try:
        jax.block_until_ready(brainstate.nn.EventLinear(2, 2, jnp.ones((2, 2)))(jnp.ones(2)))
    except Exception as error:
        if "numba" not in str(error):
            raise
        return "numba"
    return None


@functools.cache
def differentiable(kind):
    """Whether the reference's own derivative of a sparse product is right: in some releases it is not."""
    weight, x = jnp.arange(1.0, 5.0), jnp.array([[1.0, 10.0, 100.0]])
    row, column = np.array([0, 1, 1, 2]), np.array([2, 0, 1, 0])
    index = (column, np.array([0, 1, 3, 4])) if kind == "CSR" else (row, column)
    make = getattr(u.sparse, kind)

    def product(weight):
        return jnp.sum((x @ make((weight, *index), shape=(3, 3))) * jnp.array([1.0, 2.0, 3.0]))

    return np.allclose(jax.grad(product)(weight), x[0, row] * (column + 1.0))


def available(names):
    """Those that the installed releases of brainstate and brainunit can do; the test is skipped if there is none."""
    wrong = {kind for kind in ("CSR", "COO") if not differentiable(kind)}
    found = [name for name in names if not (name in COMPILED and missing()) and name not in wrong]
    if not found:
        pytest.skip(f"these releases of brainstate and brainunit cannot do {', '.join(names)}")
    return found


def train(net, algorithm, sequences, batch=True, chunk_size=None, penalty=None, **options):
    learner = etrax.compile(net, algorithm, sequences[0][0], batch_size=B if batch else None, **options)

    def step(x, y):
        return jnp.mean((learner(x) - y) ** 2) + (0.0 if penalty is None else penalty())

    more = {} if chunk_size is None else {"chunk_size": chunk_size}
    grads = learner.etrace_grad(*sequences, step_fn=step, **more)
    return jax.tree.map(u.get_mantissa, grads, is_leaf=lambda v: isinstance(v, u.Quantity)), learner


def gradient(algorithm, name, batch, **options):
    in_size, out_size, make = LAYERS[name]
    return train(Net(make(), out_size), algorithm, data(in_size, batch), batch, **options)


def close(grads, expected, tolerance=1e-9):
    for got, exact in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, exact, rtol=tolerance, atol=tolerance * np.abs(exact).max())


def groups(names, quick):
    """The layers ``quick`` side by side in one network; and in the slow run the others, six by six."""
    rest = [name for name in names if name not in quick]
    slow = [tuple(rest[k : k + 6]) for k in range(0, len(rest), 6)]
    return [pytest.param(quick, id="some"), *(pytest.param(g, id=", ".join(g), marks=pytest.mark.slow) for g in slow)]


VECTORS = [name for name in LAYERS if name in SQUARE]
SHAPED = [name for name in LAYERS if name not in SQUARE]
UNBATCHED = ("Linear over an axis", "to two dimensions", "Conv2d")
FEED_FORWARD = ("CSR", "LoRA", "SoftplusT", "user's own", "not affine", "AllToAll, one weight for itself too")
RECURRENT = ("CSR", "OneToOne", "SignedWLinear", "FixedNumConn")


@pytest.mark.parametrize(
    ("names", "batch"),
    [
        *(pytest.param(*group.values, True, id=group.id, marks=group.marks) for group in groups(VECTORS, FEED_FORWARD)),
        *(pytest.param((n,), True, id=n, marks=[] if n == "Conv2d" else pytest.mark.slow) for n in SHAPED),
        *(
            pytest.param(names, False, id=f"{', '.join(names)}, no batch", marks=pytest.mark.slow)
            for names in [
                FEED_FORWARD,
                ("Linear", "FixedNumConn", "FixedNumConn, one weight", "AllToAll, one weight for itself too"),
                *zip(UNBATCHED),
            ]
        ),
    ],
)
def test_exact_on_a_feed_forward_network(names, batch):
    in_size, out_size, _ = LAYERS[names[0]]

    def run(algorithm, **options):
        net = Net([LAYERS[name][2]() for name in available(names)], out_size)
        return train(net, algorithm, data(in_size, batch), batch, **options)[0]

    expected = run(etrax.BPTT)
    assert all(float(np.abs(g).max()) > 1e-6 for g in jax.tree.leaves(expected))
    close(run(etrax.D_RTRL, chunk_size=7), expected)


@pytest.mark.parametrize(
    ("carry", "chunk"), thorough([("dense", 7), ("dense", 1), ("window", 7), ("window", T)], ("dense", 7))
)
def test_weights_and_inputs_of_less_precision_than_the_states(carry, chunk):
    xs, ys = data(I, True)
    low = linear(I, N, b_init=braintools.init.ZeroInit(unit=u.mS))
    low.weight.value = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), low.weight.value)
    expected, _ = train(Net(low, N), etrax.BPTT, (xs, ys))
    grads, learner = train(Net(low, N), etrax.D_RTRL, (xs.astype(jnp.float32), ys), chunk_size=chunk, carry=carry)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(grads["syn", "comm", "weight"]))
    assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(learner.traces["syn"].value))
    close(grads, expected, 1e-6)


@pytest.mark.parametrize(
    ("names", "chunks"),
    [
        *(pytest.param(*group.values, (7,), id=group.id, marks=group.marks) for group in groups(SQUARE, RECURRENT)),
        pytest.param(("Linear", *RECURRENT), (1, T), id="some, in other chunks", marks=pytest.mark.slow),
    ],
)
def test_exact_on_a_recurrent_network(names, chunks):
    """The gradient is that of BPTT with stopped gradients at the inputs of projections, in any chunk."""
    names = available(names)

    def net(stop):
        return Net(linear(N, N, b_init=None), N, loops=[SQUARE[name][1](N, N) for name in names], stop=stop)

    (xs, ys), losses = data(N, True), lambda learner: lambda x, y: jnp.mean((learner(x) - y) ** 2)
    expected, _ = train(net(True), etrax.BPTT, (xs, ys))
    assert all(float(np.abs(g).max()) > 1e-6 for g in jax.tree.leaves(expected))
    learner = etrax.compile(net(False), etrax.D_RTRL, xs[0], batch_size=B)
    step = losses(learner)
    for chunk in chunks:
        learner.reset_state()
        grads = learner.etrace_grad(xs, ys, step_fn=step, chunk_size=chunk)
        close(jax.tree.map(u.get_mantissa, grads, is_leaf=lambda v: isinstance(v, u.Quantity)), expected)
    report = learner.report().lines
    for k, name in enumerate(names):
        line = next(line for line in report if f"trace through loop{k or ''} " in line)
        assert SQUARE[name][0] in line, line


@pytest.mark.parametrize("name", thorough(["Conv1d", "not affine"], "not affine"))
def test_a_window_is_exact_in_the_chunk_and_within_tolerance_across(name):
    in_size, out_size, make = LAYERS[name]
    xs, ys = data(in_size, True, n_steps=60)

    def net():
        return Net(make(), out_size, neuron=LIF(out_size, tau=10 * u.ms))

    expected, _ = train(net(), etrax.BPTT, (xs, ys))
    grads, learner = train(net(), etrax.D_RTRL, (xs, ys), chunk_size=60, tolerance=0.1)
    close(grads, expected)
    assert re.search(r"window of \d+ steps \(", str(learner.report()))
    for tolerance in (0.1, 0.01):
        grads, _ = train(net(), etrax.D_RTRL, (xs, ys), chunk_size=4, tolerance=tolerance)
        for got, exact in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
            assert np.linalg.norm(got - exact) < 3 * tolerance * np.linalg.norm(
                exact
            )  # of the state that decays slowest


def test_a_state_that_does_not_decay_has_no_window():
    net = Net(Squared(I, N), N, neuron=ALIF(N, tau=10 * u.ms, tau_a=1e30 * u.ms))
    with pytest.raises(ValueError, match="pass `window=` as a number of steps"):
        etrax.compile(net, etrax.D_RTRL, jnp.ones((B, I)), batch_size=B)


@pytest.mark.slow
def test_a_prior_of_the_weights_adds_its_gradient():
    def result(algorithm, **options):
        comm = Positive(I, N, brainstate.nn.SoftplusT(0.0))
        return train(Net(comm, N), algorithm, data(I, True), penalty=comm.w.reg_loss, **options)[0]

    expected = result(etrax.BPTT)
    close(result(etrax.D_RTRL, chunk_size=6), expected)
    plain, _ = gradient(etrax.BPTT, "SoftplusT", True)
    assert not np.allclose(jax.tree.leaves(plain)[-1], jax.tree.leaves(expected)[-1], rtol=1e-3)


@pytest.mark.parametrize("carry", thorough(["dense", "window", "rank1", "none"], "none"))
@pytest.mark.parametrize(
    "name", thorough(["CSR", "FixedNumConn, one weight", "user's own sparse"], "user's own sparse")
)
def test_sparse_layers_have_every_carry(name, carry):
    """Within one chunk all but an outer product are exact; a trace is as long as the parameter."""
    available([name])
    grads, _ = gradient(etrax.D_RTRL, name, True, chunk_size=T, carry=carry)
    if carry == "rank1":
        close(grads, gradient(etrax.D_RTRL, name, True, chunk_size=7, carry=carry)[0])
    else:
        close(grads, gradient(etrax.BPTT, name, True)[0])
    learner = etrax.compile(Net(LAYERS[name][2](), N), etrax.D_RTRL, jnp.ones((B, I)), batch_size=B, carry=carry)
    for _ in range(3):
        learner(jnp.ones((B, I)))
    path = next(p for p in learner.param_states if p[0] == "syn")
    rows = (B, N) if "one weight" in name else (B,)
    for trace in learner.get_etrace_of(path).values():
        for got, leaf in zip(jax.tree.leaves(trace), jax.tree.leaves(learner.param_states[path].value), strict=True):
            assert got.shape == (*rows, *leaf.shape)


@pytest.mark.parametrize(
    "name",
    thorough(
        ["CSR", "OneToOne", "SignedWLinear", "user's own sparse", "FixedNumConn, one weight"], "SignedWLinear", "CSR"
    ),
)
def test_the_trace_is_the_derivative_of_the_state(name):
    """In a network without spikes: by the weights themselves, per sample, in units."""
    available([name])
    xs = data(N, True)[0][:6]

    def net():
        return Net(SQUARE[name][1](N, N), N, neuron=LIF(N, tau=10 * u.ms, V_th=1e6 * u.mV))

    model = net()
    learner = etrax.compile(model, etrax.D_RTRL, xs[0], batch_size=B)
    for x in xs:
        learner(x)
    state = next(s for p, s in learner.param_states.items() if p[0] == "syn")
    trace = learner.get_etrace_of(state)["neu", "V"]
    start = state.value

    def potential():
        for x in xs:
            model(x)
        return model.neu.V.value.mantissa

    brainstate.nn.reset_all_states(model, batch_size=B)
    exact = brainstate.transform.jacrev(potential, state)()
    is_quantity = dict(is_leaf=lambda v: isinstance(v, u.Quantity))
    for got, leaf, full in zip(*(jax.tree.leaves(t, **is_quantity) for t in (trace, start, exact)), strict=True):
        full = u.get_mantissa(full)  # (B, N, *leaf.shape)
        summed = full if "one weight" in name else full.sum(1)  # every weight acts on one neuron
        np.testing.assert_allclose(u.get_mantissa(got), summed, rtol=1e-9, atol=1e-12)
        assert u.get_unit(got).has_same_dim(u.mV / u.get_unit(leaf))


def test_one_weight_for_all_in_float32():
    with brainstate.environ.context(precision=32):
        net = Net(brainstate.nn.OneToOne(N, jnp.float32(3.0) * u.mS), N)
        xs = jnp.ones((T, N), jnp.float32)
        learner = etrax.compile(net, etrax.D_RTRL, xs[0])
        grads = learner.etrace_grad(xs, step_fn=lambda x: jnp.sum(learner(x) ** 2), chunk_size=3)
    assert np.abs(u.get_mantissa(jax.tree.leaves(grads["syn", "comm", "weight"])[0])).max() > 0


def test_the_trace_of_a_population_of_two_dimensions_begins_with_the_batch():
    net = Net(linear((2, I), (2, 5), b_init=None), (2, 5))
    learner = etrax.compile(net, etrax.D_RTRL, jnp.ones((B, 2, I)), batch_size=B)
    learner(jnp.ones((B, 2, I)))
    trace = learner.get_etrace_of("syn.comm.weight")["neu", "V"]["weight"]
    assert trace.shape == (B, 2, I, 5)
    alone = etrax.compile(Net(linear((2, I), (2, 5), b_init=None), (2, 5)), etrax.D_RTRL, jnp.ones((2, I)))
    assert alone.get_etrace_of("syn.comm.weight")["neu", "V"]["weight"].shape == (2, I, 5)


def test_a_convolution_is_carried_by_a_window():
    _, learner = gradient(etrax.D_RTRL, "Conv2d", True)
    assert "512 effective weights of 18 parameters" in str(learner.report())


def test_untrained_layers_have_no_trace():
    comm = fixed(brainstate.nn.FixedNumConn, 3.0 * u.mS, param_type=brainstate.FakeState)(I, N)
    learner = etrax.compile(Net(comm, N), etrax.D_RTRL, jnp.ones((B, I)), batch_size=B)
    assert learner.report().trace_bytes == 0


def test_patterns_that_do_not_fit_are_refused():
    class Wrong(Banded):
        pass

    def compiled(pattern):
        etrax.register_pattern(Wrong)(pattern)
        return etrax.compile(Net(Wrong(I, N), N), etrax.D_RTRL, jnp.ones((B, I)), batch_size=B)

    with pytest.raises(ValueError, match="has 8 entries for 3 synapses"):
        compiled(lambda c: etrax.Pattern(lambda: c.w.value(), c.pre[:3], c.post[:3], lambda: c.b.value))
    with pytest.raises(ValueError, match="reads only some of the layer's parameters"):
        compiled(lambda c: etrax.Pattern(lambda: c.w.value(), c.pre, c.post))
    with pytest.raises(ValueError, match=r"has shape \(8,\), but the layer leads from 4 to 5"):
        compiled(lambda c: etrax.Pattern(lambda: c.w.value(), bias=lambda: c.b.value))
    with pytest.raises(ValueError, match="`pre` and `post` of a Pattern go together"):
        etrax.Pattern(lambda: None, pre=[0])
    with pytest.raises(ValueError, match="have 1 and 2 entries"):
        etrax.Pattern(lambda: None, pre=[0], post=[0, 1])


def test_a_layer_that_is_not_affine_has_no_trace_of_one_outer_product():
    with pytest.raises(ValueError, match=r"`comm` of syn is not affine in its input"):
        etrax.compile(Net(Squared(I, N), N), etrax.D_RTRL, jnp.ones((B, I)), batch_size=B, carry="rank1")


@pytest.mark.slow
def test_weights_in_another_scale_of_the_unit():
    """Weights in uS instead of mS: the same network, gradients in the weights' own unit."""
    by_unit = {}
    for unit in (u.mS, u.uS):
        comm = brainstate.nn.Linear(I, 5, w_init=weights(I, 5).to_decimal(unit) * unit, b_init=None)
        learner = etrax.compile(Net(comm, 5), etrax.D_RTRL, jnp.ones((B, I)), batch_size=B)
        xs = jnp.asarray((np.random.default_rng(1).random((T, B, I)) < 0.3).astype(float))
        grads = learner.etrace_grad(xs, step_fn=lambda x, learner=learner: jnp.sum(learner(x) ** 2), chunk_size=7)
        by_unit[unit] = grads["syn", "comm", "weight"]["weight"]
    np.testing.assert_allclose(by_unit[u.mS].mantissa, 1000 * by_unit[u.uS].mantissa, rtol=1e-9)


def test_the_report_says_what_is_traced():
    _, learner = gradient(etrax.D_RTRL, "Linear", True)
    text = str(learner.report())
    for part in ("population neu: ALIF (5,), batch (3,)", "mV", "mS", "registered", "uniform", "varying", "input only"):
        assert part in text
    for part in ("syn.comm.weight", "trace through syn", "out.weight", "same-step gradient", "Mflop per step"):
        assert part in text
    assert learner.report().trace_bytes == sum(
        leaf.nbytes for trace in learner.traces.values() for leaf in jax.tree.leaves(trace.value)
    )


@pytest.mark.slow
def test_ten_million_synapses_fit_in_eight_gibibytes():
    script = pathlib.Path(__file__).with_name("large_layer.py")
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    result = json.loads(run.stdout.splitlines()[-1])
    assert 0.01 < result["rate"] < 0.5
    assert result["largest gradient"] > 0
    assert result["trace MiB"] < 100  # of two states, 4 bytes per synapse
    assert result["peak GiB"] < 8
