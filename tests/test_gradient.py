"""Online gradients equal an independent per-step reference, for every network of the table, in chunks of every length."""

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import networks
import numpy as np
import oracle
import pytest
from networks import N_IN, B, T

import etrax

LIB = networks.package(etrax.neurons, etrax.synapses, etrax.neurons.LeakyReadout)
CHUNKS = (1, 7, T)  # 7 leaves a ragged last chunk
ALL_CHUNKS = (1, 2, 3, 7, T // 2, T)
IN_ALL_CHUNKS = ("recurrent alif heterogeneous", "recurrent lif detached", "recurrent shared synapse")
QUICK = ("feed-forward lif hard", "recurrent alif detached leaky", "layered two lif")


class Run:
    """One network of the table, compiled."""

    def __init__(self, name, algorithm=etrax.D_RTRL, batch_size=B, built=networks.Built):
        self.case = networks.case(name)
        self.net = built(LIB, self.case.net, self.case.params)
        self.xs, self.ys = (self.case.xs, self.case.ys) if batch_size else (self.case.xs[:, 0], self.case.ys[:, 0])
        self.learner = etrax.compile(self.net, algorithm, self.xs[0], batch_size=batch_size)

    def step(self, x, y):
        return networks.loss(self.learner(x), y)

    def grad(self, chunk_size=None, **options):
        self.learner.reset_state()
        options = {"reduction": "sum"} | options
        grads = self.learner.etrace_grad(self.xs, self.ys, step_fn=self.step, chunk_size=chunk_size, **options)
        return self.named(grads)

    def named(self, by_path):
        """Mantissas under the oracle's names."""
        return networks.named(by_path)

    def traces(self):
        """Final traces of every projection: ``{(population, projection): {state: {"weight": ..., "bias": ...}}}``."""
        found = {}
        for k, states in enumerate(self.net.hidden()):
            for j in range(len(self.case.net.populations[k].projections)):
                by_path = self.learner.get_etrace_of(self.net.parameter(k, j))
                by_id = {id(self.learner.hidden_states[path]): networks.mantissas(v) for path, v in by_path.items()}
                found[k, j] = {s: by_id.get(id(state)) for s, state in states.items()}
        return found


def close(got, expected, rtol=1e-10):
    """Equal in every entry, relative to the largest one; and not zero."""
    flat = jax.tree.leaves(expected)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for g, e in zip(jax.tree.leaves(got), flat, strict=True):
        np.testing.assert_allclose(g, e, rtol=rtol, atol=rtol * float(np.abs(e).max()))
    assert all(float(np.abs(e).max()) > 1e-6 for e in flat)


def error(got, expected):
    """Relative difference of two gradients of the weights of projections."""
    pairs = [(got[k][j]["weight"], expected[k][j]["weight"]) for k in expected if k != "readout" for j in expected[k]]
    return max(float(np.linalg.norm(g - e) / np.linalg.norm(e)) for g, e in pairs)


def reference(case, **options):
    return oracle.drtrl_grad(case.net, case.params, case.xs, case.ys, networks.loss, **options)


@pytest.mark.parametrize(
    ("name", "chunks"),
    [pytest.param(name, CHUNKS, id=name) for name in QUICK]
    + [
        pytest.param(
            name,
            ALL_CHUNKS if name in IN_ALL_CHUNKS else (T // 3,),
            id=f"{name}, optimized",
            marks=[pytest.mark.optimized, pytest.mark.slow],
        )
        for name in networks.NETWORKS
    ],
)
def test_gradient_and_trace_equal_the_references_for_every_chunk_length(name, chunks, hurried):
    """The reference step by step; and backpropagation where that is the same: without recurrence, or cut at projections."""
    run = Run(name)
    case = run.case
    with hurried():
        expected, eps, _ = reference(case)
        check_reference(name, case, expected)
    for chunk in chunks:
        close(run.grad(chunk), expected)
        for (k, j), by_state in run.traces().items():
            for state, value in by_state.items():
                for p, e in eps[f"pop{k}"][state][f"proj{j}"].items():
                    mine = 0.0 if value is None else value[p]
                    np.testing.assert_allclose(mine, e, rtol=1e-9, atol=1e-10 * (1 + np.abs(e).max()))


def check_reference(name, case, expected):
    """The reference is backpropagation where it should be, and differs from it where it should."""
    if name in networks.FEED_FORWARD_NAMES:
        close(expected, oracle.bptt_grad(case.net, case.params, case.xs, case.ys, networks.loss))
    if name in networks.RECURRENT_NAMES:
        close(expected, oracle.bptt_stopped_grad(case.net, case.params, case.xs, case.ys, networks.loss))
        full = oracle.bptt_grad(case.net, case.params, case.xs, case.ys, networks.loss)
        if case.net.populations[0].reset == "soft":
            assert error(expected, full) > 1e-3  # the two differ: the comparison above is about something


def test_a_conductance_counted_twice_does_not_match():
    """Taking the learning signal of g before V is computed from it counts the path g -> V twice."""
    run = Run("feed-forward lif")
    case = run.case
    wrong, _, _ = reference(case, count_g_twice=True)
    right = oracle.bptt_grad(case.net, case.params, case.xs, case.ys, networks.loss)
    assert error(run.grad(), right) < 1e-10
    assert error(wrong, right) > 0.1


@pytest.mark.parametrize(
    "name", networks.thorough(["recurrent alif detached leaky", "layered two leaky"], "recurrent alif detached leaky")
)
def test_bptt_with_the_same_interface(name):
    run = Run(name, etrax.BPTT)
    case = run.case
    close(run.grad(), oracle.bptt_grad(case.net, case.params, case.xs, case.ys, networks.loss))


@pytest.mark.filterwarnings("ignore:.* is trained and must be:UserWarning")  # the reference takes the number itself
@pytest.mark.slow
def test_trained_constants_equal_the_reference():
    case = networks.case("recurrent alif heterogeneous")
    constants = {"V_th": jnp.asarray(networks.THRESHOLDS), "tau": jnp.full(4, 11.0), "tau_a": jnp.full(4, 35.0)}
    params = case.params | {"pop0": case.params["pop0"] | {"neuron": constants}}
    expected, _, _ = oracle.drtrl_grad(case.net, params, case.xs, case.ys, networks.loss)
    learner = etrax.compile(networks.Built(LIB, case.net, params), etrax.D_RTRL, case.xs[0], batch_size=B)
    grads = learner.etrace_grad(
        case.xs, case.ys, step_fn=lambda x, y: networks.loss(learner(x), y), chunk_size=8, reduction="sum"
    )
    mine = {path[1]: networks.mantissas(grad) for path, grad in grads.items() if path[0] == "neu0"}
    close(mine, expected["pop0"]["neuron"])


@pytest.mark.parametrize("reduction", networks.thorough(["sum", "mean"], "mean"))
def test_mask_and_reduction(reduction):
    run = Run("recurrent alif")
    mask = jnp.where(jnp.arange(T) < 9, 0.0, jnp.linspace(0.5, 2.0, T))
    expected, _, _ = reference(run.case, mask=mask, reduction=reduction)
    close(run.grad(8, mask=mask, reduction=reduction), expected)


@pytest.mark.parametrize(
    "name",
    networks.thorough(["recurrent alif", "layered three", "recurrent shared synapse"], "recurrent shared synapse"),
)
def test_single_steps_under_grad(name):
    """The online gradient of one step, summed, is that of the sequence; the traces are the same."""
    step_by_step(Run(name))


class Bounded(networks.Built):
    """Keeps potentials below threshold between steps: what a step gives is not what the next one begins with."""

    def update(self, x):
        out = super().update(x)
        for population in self.hidden():
            population["V"].value = jax.tree.map(lambda v: jnp.minimum(v, 0.4), population["V"].value)
        return out


@pytest.mark.slow
def test_a_state_that_the_model_writes_after_its_step():
    step_by_step(Run("feed-forward alif leaky", built=Bounded), chunk_size=8)


def step_by_step(run, **options):
    """Compare the gradient of a sequence with that of each step under `brainstate.transform.grad`."""
    expected = run.grad(**options)
    traces = run.traces()
    run.learner.reset_state()

    @brainstate.transform.jit
    def online(x, y):
        return brainstate.transform.grad(lambda: run.step(x, y), run.learner.param_states)()

    total = None
    for x, y in zip(run.xs, run.ys, strict=True):
        grads = run.named(online(x, y))
        total = grads if total is None else jax.tree.map(jnp.add, total, grads)
    close(total, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), run.traces(), traces)


@pytest.mark.parametrize(
    ("name", "every"),
    networks.thorough([("recurrent alif", 12), ("recurrent alif", 1), ("layered two lif", 5)], ("recurrent alif", 12)),
)
def test_weights_may_change_while_the_trace_goes_on(name, every):
    run = Run(name)
    rate = 0.05

    def descend(params, grads):
        return jax.tree.map(lambda p, g: p - rate * g, params, grads)

    _, _, expected = reference(run.case, update=descend, every=every)
    for start in range(0, T, every):
        part = slice(start, start + every)
        grads = run.learner.etrace_grad(run.xs[part], run.ys[part], step_fn=run.step, reduction="sum", chunk_size=3)
        for path, state in run.learner.param_states.items():
            state.value = jax.tree.map(lambda p, g: p - rate * g, state.value, grads[path])
    close(run.named({path: s.value for path, s in run.learner.param_states.items()}), expected)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), expected, run.case.params)
    assert min(jax.tree.leaves(moved)) > 1e-4


def test_a_state_of_lower_precision_than_the_step():
    class Coarse(etrax.neurons.LeakyReadout):
        def initial(self, batch_size=None):
            return {name: value.astype(jnp.float32) for name, value in super().initial(batch_size).items()}

    class Mixed(networks.Built):
        def __init__(self, lib, net, params):
            super().__init__(lib, net, params)
            self.readout = Coarse(4, networks.N_OUT, tau=15 * u.ms, w_init=params["readout"]["weight"], pre=self.neu0)

    run = Run("recurrent lif", built=Mixed)
    by_step, whole = run.grad(1), run.grad(8)
    assert run.net.readout.s.value.dtype == jnp.float32
    close(whole, by_step, rtol=1e-5)


def test_without_a_batch_axis():
    run = Run("recurrent alif detached leaky", batch_size=None)
    case = run.case
    expected, _, _ = oracle.drtrl_grad(case.net, case.params, case.xs[:, :1], case.ys[:, :1], networks.loss)
    close(run.grad(8), expected)
    by_state = run.learner.get_etrace_of(("proj0_0", "comm", "weight"))
    n = case.net.populations[0].n
    assert all(u.math.shape(v["weight"]) == (N_IN + n, n) for v in by_state.values())


def test_evolve_advances_as_the_gradient_does():
    run = Run("recurrent alif detached leaky")
    run.grad(6)
    traces, states = run.traces(), {p: s.value for p, s in run.learner.hidden_states.items()}
    run.learner.reset_state()
    outputs = run.learner.etrace_evolve(run.xs, chunk_size=6, return_outputs=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), run.traces(), traces)
    for path, state in run.learner.hidden_states.items():
        np.testing.assert_allclose(u.get_mantissa(state.value), u.get_mantissa(states[path]), rtol=1e-12)
    r = oracle.simulate(run.case.net, run.case.params, run.case.xs)[2]
    np.testing.assert_allclose(outputs, r, rtol=1e-10, atol=1e-12)


def test_losses_and_aux_come_back_per_step():
    run = Run("recurrent lif")

    def step(x, y):
        out = run.learner(x)
        return networks.loss(out, y), out

    mask = (jnp.arange(T) > 3).astype(float)
    options = dict(step_fn=step, has_aux=True, return_value=True, mask=mask, chunk_size=8)
    grads, losses, aux = run.learner.etrace_grad(run.xs, run.ys, **options)
    r = oracle.simulate(run.case.net, run.case.params, run.case.xs)[2]
    np.testing.assert_allclose(aux, r, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(losses, jax.vmap(networks.loss)(r, run.ys), rtol=1e-10)
    run.learner.reset_state()
    _, reduced, _ = run.learner.etrace_grad(run.xs, run.ys, loss_output="scalar", **options)
    np.testing.assert_allclose(reduced, (losses * mask).sum() / mask.sum(), rtol=1e-12)
    assert set(grads) == set(run.learner.param_states)


def test_gradients_have_the_structure_and_unit_of_their_parameters():
    run = Run("recurrent two synapses and delta")
    grads = run.learner.etrace_grad(run.xs, run.ys, step_fn=run.step)
    for path, state in run.learner.param_states.items():
        assert jax.tree.structure(grads[path]) == jax.tree.structure(state.value)
        jax.tree.map(lambda g, p: np.testing.assert_equal(g.shape, p.shape), grads[path], state.value)


def test_without_a_trace_only_the_newest_step_counts():
    """`NoTrace` is D-RTRL with D = 0: its trace is f x of the last step, and its gradient another one."""
    run = Run("recurrent alif", etrax.NoTrace)
    mine = run.grad(8)
    expected, _, _ = reference(run.case)
    assert error(mine, expected) > 0.1
    trace = run.learner.get_etrace_of(("proj0_0", "comm", "weight"))["proj0_0", "syn", "g"]
    newest = trace["weight"][:, :N_IN]
    np.testing.assert_array_equal(newest, np.broadcast_to(run.xs[-1][:, :, None], newest.shape))


def test_a_saved_trace_continues_in_a_fresh_model():
    """Traces are keyed by the state paths of the model: loaded into a new one, the run goes on bit for bit."""
    first, second = Run("recurrent alif"), Run("recurrent alif")
    half = T // 2
    first.learner.etrace_evolve(first.xs[:half])
    saved = {path: jax.tree.map(np.asarray, state.value) for path, state in first.learner.states().items()}
    for path, state in second.learner.states().items():
        state.value = saved[path]
    a, b = (r.learner.etrace_grad(r.xs[half:], r.ys[half:], step_fn=r.step, reduction="sum") for r in (first, second))
    jax.tree.map(np.testing.assert_array_equal, networks.mantissas(a), networks.mantissas(b))


def test_the_same_step_function_is_compiled_once():
    run = Run("recurrent lif")
    calls = []

    def step(x, y):
        calls.append(1)
        return run.step(x, y)

    for _ in range(3):
        run.learner.etrace_grad(run.xs, run.ys, step_fn=step)
        before = len(calls)
    run.learner.etrace_grad(run.xs, run.ys, step_fn=step)
    assert len(calls) == before


def test_uniform_traces_are_stored_without_the_neuron_axis():
    run = Run("recurrent lif detached")
    shapes = {s: v["x"].shape for s, v in run.learner.traces["proj0_0"].value.items()}
    assert set(shapes.values()) == {(B, N_IN + run.case.net.populations[0].n)}
    dense = Run("recurrent lif").learner.traces["proj0_0"].value
    assert dense["neu0.V"]["x"].ndim == 3
    assert dense["proj0_0.syn.g"]["x"].ndim == 2
