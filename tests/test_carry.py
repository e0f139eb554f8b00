"""What is kept between chunks, and what happens inside one: exact where it says so, and by how much it is not elsewhere."""

import re

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import layers
import networks
import numpy as np
import oracle
import pytest
from networks import T
from test_gradient import Run, close, error, reference

import etrax
from etrax.engine.planning import Limits
from etrax.neurons import ALIF
from etrax.synapses import CUBA, AlignPostProj, Expon

NAMES = ["recurrent alif", "recurrent shared synapse", "layered two leaky", "recurrent lif heterogeneous"]


SMALL = "layered two lif"


def run_with(name, limits=None, **options):
    run, learner = Run(name), etrax.D_RTRL
    if limits is not None:
        learner = type("Limited", (etrax.D_RTRL,), {"limits": limits})
    run.learner = etrax.compile(run.net, learner, run.xs[0], batch_size=networks.B, **options)
    return run


@pytest.mark.parametrize("name", networks.thorough(NAMES, "recurrent lif heterogeneous"))
def test_multi_step_is_d_rtrl_at_one_step_and_backpropagation_at_all(name):
    run = run_with(name, vjp_method="multi-step")
    case = run.case
    close(run.grad(1), reference(case)[0])
    full = oracle.bptt_grad(case.net, case.params, case.xs, case.ys, networks.loss)
    close(run.grad(T), full)
    between = error(run.grad(T // 3), full)
    assert 1e-6 < between < error(run.grad(1), full) * 1.5


@pytest.mark.slow
def test_multi_step_is_exact_on_a_feed_forward_network_for_every_chunk_length():
    run = run_with("feed-forward alif leaky", vjp_method="multi-step")
    case = run.case
    for chunk in (2, 7):
        close(run.grad(chunk), oracle.bptt_grad(case.net, case.params, case.xs, case.ys, networks.loss))


@pytest.mark.parametrize("name", networks.thorough(NAMES, "recurrent alif"))
def test_a_window_as_long_as_the_sequence_is_exact(name):
    run = run_with(name, carry="window", window=T)
    dense = Run(name)
    for chunk in (1, 8):
        close(run.grad(chunk), reference(run.case)[0])
        dense.grad(chunk)
        mine, theirs = run.traces(), dense.traces()
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), mine, theirs)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    networks.thorough(
        [
            ("recurrent alif", 1e-2),
            ("recurrent alif", 1e-1),
            ("recurrent lif detached", 1e-1),
            ("recurrent coba", 1e-2),
        ],
        ("recurrent alif", 1e-2),
    ),
)
def test_the_error_of_a_window_is_within_its_tolerance(name, tolerance):
    """The slowest state has decayed to the tolerance when a step leaves; here over a sequence ten times as long as the others."""
    case = networks.case(name)
    xs, ys = jnp.tile(case.xs, (10, 1, 1)), jnp.tile(case.ys, (10, 1, 1))
    grads = {}
    for carry in ("dense", "window"):
        run = run_with(name, carry=carry, tolerance=tolerance)
        run.xs, run.ys = xs, ys
        grads[carry] = run.grad(5)
        if carry == "window":
            lengths = {len(state.value["x"][0]) for state in run.learner.traces.values()}
            assert max(lengths) < len(xs)
    assert error(grads["window"], grads["dense"]) <= 3 * tolerance


def test_without_carry_the_chunk_is_exact_and_its_past_is_cut():
    run = run_with("recurrent alif", carry="none")
    exact, _, _ = reference(run.case)
    close(run.grad(T), exact)
    assert error(run.grad(6), exact) > 0.05
    assert run.learner.report().trace_bytes == 0


OPTIONS = {
    "dense": {},
    "window": {"carry": "window"},
    "rank one": {"carry": "rank1"},
    "none": {"carry": "none"},
    "multi-step": {"vjp_method": "multi-step"},
    "through depth": {"through_depth": True},
}


ways = pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param("recurrent alif", {}, id="dense, small")]
    + [
        pytest.param(
            "layered two leaky" if way in ("dense", "multi-step", "through depth") else "recurrent alif",
            options,
            id=way,
            marks=pytest.mark.slow,
        )
        for way, options in OPTIONS.items()
    ],
)


@ways
def test_a_whole_trial_reads_no_trace_and_leaves_none(name, options):
    run = run_with(name, **options)
    for chunk in (7 if name == "recurrent alif" else T // 3, T):
        expected = run.grad(chunk)
        for trace in run.learner.traces.values():
            trace.value = jax.tree.map(jnp.ones_like, trace.value)
        brainstate.nn.reset_all_states(run.net, batch_size=networks.B)
        grads = run.learner.etrace_grad(run.xs, run.ys, step_fn=run.step, chunk_size=chunk, trial=True, reduction="sum")
        close(run.named(grads), expected)
        assert all(not np.any(leaf) for trace in run.learner.traces.values() for leaf in jax.tree.leaves(trace.value))


@ways
def test_a_long_chunk_in_blocks_its_jacobians_kept_or_looked_at_again(name, options):
    """In blocks of one length, or with fewer steps in the first one; no fair block divides 23."""

    def evaluated(steps, limits):
        run = run_with(name, limits, **options)
        run.xs, run.ys = run.xs[:steps], run.ys[:steps]
        return run.grad(), {k: trace.value for k, trace in run.learner.traces.items()}

    for steps, limits in ((T - 1, Limits(block=16, entries=0)), (T, Limits(block=T // 3, entries=100))):
        (mine, traces), (expected, theirs) = evaluated(steps, limits), evaluated(steps, None)
        close(mine, expected)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), traces, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_what_one_compiled_function_leaves_behind_serves_in_another(name):
    run = run_with(SMALL if name == "through depth" else "recurrent alif", Limits(entries=0), **OPTIONS[name])
    first, second = (
        brainstate.transform.jit(lambda scale=scale: run.grad(8, mask=jnp.full(T, scale))) for scale in (1.0, 2.0)
    )
    close(second(), jax.tree.map(lambda g: 2 * g, first()))


def test_the_memory_divides_a_sequence_and_changes_no_gradient():
    run = run_with(SMALL)
    expected = run.grad()
    assert f"; the last, {T} steps, was one chunk" in str(run.learner.report())
    small = run_with(SMALL, memory=4_500)  # bytes; some three steps
    close(small.grad(), expected)
    (line,) = (line for line in small.learner.report().lines if line.startswith("chunks"))
    longest = int(line.split()[4])
    assert 1 < longest < T // 2
    assert f"`memory` of 4.4 KiB; the last, {T} steps, was" in line
    run_with(SMALL, memory=1.0).grad()  # one step is always possible


@pytest.mark.parametrize("name", ["through depth", "multi-step", "rank one", "none"])
def test_a_gradient_that_depends_on_the_chunk_needs_one_that_fits(name):
    run = run_with(SMALL, memory=4_500, **OPTIONS[name])
    with pytest.raises(ValueError, match=f"{T} steps in one chunk.*depends on where chunks end"):
        run.grad()
    assert "longer ones need `chunk_size`" in str(run.learner.report())


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.parametrize("name", ["recurrent alif detached leaky", "layered two leaky"])
def test_a_step_of_a_chunk_takes_the_memory_that_is_estimated(name):
    """Of the temporary memory of the program, what a longer sequence adds; some of it is used twice, none is forgotten."""
    run, taken = run_with(name), []
    for steps in (256, 512):
        data = jnp.zeros((steps, *run.xs.shape[1:])), jnp.zeros((steps, *run.ys.shape[1:]))
        gradient = brainstate.transform.StatefulFunction(
            lambda *data: run.learner.etrace_grad(*data, step_fn=run.step, chunk_size=len(data[0]))
        )
        states = [state.value for state in gradient.get_states(*data)]
        program = jax.jit(gradient.jaxpr_call).lower(states, *data).compile()
        taken.append(program.memory_analysis().temp_size_in_bytes)
    (line,) = (line for line in run.learner.report().lines if line.startswith("chunks"))
    longest = int(line.split()[4])
    assert 0.4 < (taken[1] - taken[0]) / 256 * longest / 2**30 < 1.15


@pytest.mark.parametrize("memory", [0, -1, 2.5, "1 GiB", None])
def test_a_memory_that_is_none(memory):
    with pytest.raises(ValueError, match="`memory` must be a whole number above 0, got"):
        run_with("recurrent lif", memory=memory)


@pytest.mark.slow
def test_a_gradient_over_chunks_may_be_differentiated():
    """By the weights of the readout, which it depends on smoothly: the derivative is that of its numbers."""
    run = run_with("feed-forward lif")
    weight = run.net.readout.weight
    start = weight.value

    def squared():
        return jnp.sum(run.grad(5)["pop0"]["proj0"]["weight"] ** 2)

    found = brainstate.transform.grad(squared, {"weight": weight})()["weight"]
    derivative = sum(float(jnp.sum(u.get_mantissa(leaf))) for leaf in jax.tree.leaves(found))
    moved = []
    for h in (1e-6, -1e-6):
        weight.value = jax.tree.map(lambda w, h=h: w + h, start)
        moved.append(squared())
    assert abs(derivative) > 1e-2
    np.testing.assert_allclose(derivative, (moved[0] - moved[1]) / 2e-6, rtol=1e-6)


def rank_one(case, decay):
    """ES-D-RTRL step by step for one population and one projection, from the oracle's transition."""
    pop, params = case.net.populations[0], case.params
    theta, dt = params["pop0"], case.net.dt
    (h,) = oracle.initial(case.net, case.xs.shape[1])
    f_bar = {s: jnp.zeros_like(v) for s, v in h.items()}
    x_bar = jnp.zeros((case.xs.shape[1], theta["proj0"]["weight"].shape[0]))

    def step(carry, at):
        h, f_bar, x_bar, grad = carry
        t, x, y = at
        entered = jnp.concatenate([x, oracle.emit(pop, theta, h)], axis=-1)
        arriving = oracle.arrivals(theta, [entered])
        D, (f,), _ = oracle.jacobian(pop, theta, h, arriving, dt)
        f_bar = {s: decay * sum(D[r][s] * f_bar[r] for r in h) + (1 - decay) * f[s] for s in h}
        x_bar = decay * x_bar + entered
        h = oracle.transition(pop, theta, h, arriving, dt)

        def loss_of(h):
            return networks.loss(oracle.linear(params["readout"], oracle.seen(pop, theta, h)), y)

        L = jax.grad(loss_of)(h)
        grad = grad + x_bar.T @ sum(L[s] * f_bar[s] for s in h) / (1 - decay ** (t + 1))
        return (h, f_bar, x_bar, grad), None

    start = (h, f_bar, x_bar, jnp.zeros_like(theta["proj0"]["weight"]))
    return jax.lax.scan(step, start, (jnp.arange(T), case.xs, case.ys))[0][-1]


@pytest.mark.parametrize(
    "name", networks.thorough(["recurrent alif", "recurrent lif", "recurrent alif detached leaky"], "recurrent alif")
)
def test_rank_one_equals_its_step_by_step_form(name):
    run = run_with(name, carry="rank1", decay=0.9)
    expected = rank_one(run.case, 0.9)
    for chunk in (1, 7):
        got = run.grad(chunk)["pop0"]["proj0"]["weight"]
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10 * np.abs(expected).max())
    exact, _, _ = reference(run.case)
    a, b = got.ravel(), exact["pop0"]["proj0"]["weight"].ravel()
    assert 0.2 < float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) < 0.9999


@pytest.mark.parametrize("carry", networks.thorough(["window", "rank1", "none"], "window"))
def test_single_steps_give_what_chunks_of_one_step_give(carry):
    run = run_with("recurrent alif", carry=carry)
    expected = run.grad(1)
    run.learner.reset_state()

    @brainstate.transform.jit
    def online(x, y):
        return brainstate.transform.grad(lambda: run.step(x, y), run.learner.param_states)()

    steps = [run.named(online(x, y)) for x, y in zip(run.xs, run.ys, strict=True)]
    close(jax.tree.map(lambda *g: sum(g), *steps), expected)


def test_a_trace_in_bfloat16():
    """Half the memory of float32 at an error of the size of its rounding, 2**-8."""
    run = run_with("recurrent alif", trace_dtype=jnp.bfloat16)
    exact, _, _ = reference(run.case)
    assert 0 < error(run.grad(6), exact) < 2.0**-6
    leaves = jax.tree.leaves([t.value for t in run.learner.traces.values()])
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.bfloat16)}


def test_a_trace_too_coarse_for_its_decay_is_warned_of():
    """In steps of one it is off by more than 1 %, in chunks as long as the warning says by less."""
    xs = jnp.asarray((np.random.default_rng(5).random((400, 1, 3)) < 0.3).astype(float)).at[100:350].set(0.0)
    mask = (jnp.arange(400) >= 350).astype(float)

    class Slow(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.neu = ALIF(3, tau=20 * u.ms, tau_a=2000 * u.ms, beta=0.3 * u.mV)
            comm = brainstate.nn.Linear(
                3, 3, w_init=np.random.default_rng(1).normal(1.6, 4, (3, 3)) * u.mS, b_init=None
            )
            self.syn = AlignPostProj(comm=comm, syn=Expon(3, tau=10 * u.ms), out=CUBA(), post=self.neu)

        def update(self, x):
            self.syn(x)
            return self.neu()

    with pytest.warns(
        UserWarning, match="`trace_dtype` bfloat16 is too coarse for the trace of syn: neu.a decays by"
    ) as told:
        coarse = etrax.compile(Slow(), etrax.D_RTRL, xs[0], batch_size=1, trace_dtype=jnp.bfloat16)
    least = int(re.search(r"`chunk_size` of (\d+) or more", str(told[0].message)).group(1))
    exact, found = etrax.compile(Slow(), etrax.D_RTRL, xs[0], batch_size=1), []
    for learner, chunk in ((exact, None), (coarse, 1), (coarse, least)):
        learner.reset_state()
        grads = learner.etrace_grad(xs, step_fn=lambda x, run=learner: jnp.sum(run(x)), mask=mask, chunk_size=chunk)
        found.append(u.get_mantissa(grads["syn", "comm", "weight"]["weight"]))
    assert np.linalg.norm(found[0]) > 1e-6
    wrong = [np.linalg.norm(g - found[0]) / np.linalg.norm(found[0]) for g in found[1:]]
    assert wrong[0] > 0.01 > wrong[1]


@pytest.mark.slow
def test_a_window_carries_any_layer():
    xs = jnp.asarray((np.random.default_rng(0).random((T, layers.I)) < 0.3).astype(float))
    grads = {}
    for algorithm, options in ((etrax.BPTT, {}), (etrax.D_RTRL, {"carry": "window", "window": T})):
        learner = etrax.compile(layers.Net(layers.Squared(layers.I, 5), 5), algorithm, xs[0], **options)
        grads[algorithm] = learner.etrace_grad(xs, step_fn=lambda x, run=learner: jnp.sum(run(x) ** 2), chunk_size=5)
    a, b = (u.get_mantissa(g["syn", "comm", "weight"]) for g in grads.values())
    assert np.abs(a).max() > 1e-6
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10 * np.abs(a).max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"carry": "sparse"}, "`carry` must be one of dense, window, rank1, none, got 'sparse'"),
        ({"vjp_method": "both"}, "`vjp_method` must be 'single-step' or 'multi-step', got 'both'"),
        ({"carry": "window", "window": 0}, "`window` must be a number of steps, at least 1, got 0"),
        ({"carry": "window", "tolerance": 2.0}, "`tolerance` must be between 0 and 1, got 2.0"),
        ({"carry": "rank1", "decay": 1.0}, "`decay` must be at least 0 and below 1, got 1.0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        run_with("recurrent lif", **options)
