"""Relatives of D-RTRL: broadcast errors (e-prop), and credit that goes down through the memory of upper populations."""

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import networks
import numpy as np
import oracle
import pytest
from networks import B, T
from test_gradient import LIB, Run, close, error, reference

import etrax
from etrax.learners.feedback import Feedback
from etrax.learners.online import Composition, OnlineLearner


class Relative(Run):
    """A network of the table, compiled by one of the relatives."""

    def __init__(self, name, algorithm, **options):
        self.case = networks.case(name)
        self.net = networks.Built(LIB, self.case.net, self.case.params)
        self.xs, self.ys = self.case.xs, self.case.ys
        self.learner = etrax.compile(self.net, algorithm, self.xs[0], batch_size=B, **options)

    def feedback(self):
        """``B`` by population, (neurons, outputs)."""
        return {k: state.value["output"] for k, state in self.learner.feedback_weights.items()}

    def named(self, by_path):
        """Without the gradient of feedback."""
        return super().named({path: value for path, value in by_path.items() if path[0] != "feedback_weights"})


def bptt(case):
    return oracle.bptt_grad(case.net, case.params, case.xs, case.ys, networks.loss)


# ---------------------------------------------------------------------------------------------------------- e-prop


def broadcast_gradient(case, feedback):
    """e-prop, step by step: the error at the output times ``feedback`` (n, n_out), times ds/dh, times the trace.

    Feedback None stands for the weights of the readout.
    """
    net, params = case.net, case.params
    start = oracle.initial(net, B), oracle.no_trace(net, params, B), jax.tree.map(jnp.zeros_like, params)

    def step(carry, at):
        (hs, eps, total), (x, y) = carry, at
        hs, eps, _, _ = oracle.drtrl_step(net, params, hs, eps, x, y, networks.loss)
        s = oracle.seen(net.populations[-1], {}, hs[-1])
        r, pullback = jax.vjp(lambda p: oracle.linear(p, s), params["readout"])
        e = jax.grad(networks.loss)(r, y)
        grads = {"readout": pullback(e)[0]}
        for k, pop in enumerate(net.populations):
            name = f"pop{k}"
            weights = params["readout"]["weight"] if feedback[k] is None else feedback[k]
            (L,) = jax.vjp(lambda h, pop=pop: oracle.seen(pop, {}, h), hs[k])[1](e @ weights.T)
            grads[name] = oracle.credit(L, eps[name], params[name])
        return (hs, eps, jax.tree.map(jnp.add, total, grads)), None

    return jax.lax.scan(step, start, (case.xs, case.ys))[0][-1]


EPROP = (
    ("layered two lif", "random"),
    ("layered two lif", "symmetric"),
    ("layered three", "random"),
    ("layered three", "adaptive"),
    ("recurrent alif heterogeneous", "adaptive"),
    ("recurrent alif detached leaky", "symmetric"),
)


@pytest.mark.parametrize(
    "name", networks.thorough(["recurrent lif", "recurrent alif detached leaky", "recurrent coba"], "recurrent lif")
)
def test_symmetric_feedback_of_one_population_is_d_rtrl(name):
    run = Relative(name, etrax.EProp)
    assert not run.learner.feedback_weights
    close(run.grad(8), Relative(name, etrax.D_RTRL).grad(8), rtol=1e-12)


@pytest.mark.parametrize(("name", "feedback"), networks.thorough(EPROP, ("layered two lif", "random")))
def test_eprop_equals_its_sum_for_every_chunk_length(name, feedback):
    run = Relative(name, "eprop", feedback=feedback, feedback_seed=3)
    weights = run.feedback()
    last = len(run.case.net.populations) - 1
    assert set(weights) == {f"neu{k}" for k in range(last + (feedback != "symmetric"))}
    expected = broadcast_gradient(run.case, [weights.get(f"neu{k}") for k in range(last + 1)])
    for chunk in (1, 8) if feedback == "symmetric" else (8,):
        close(run.grad(chunk), expected)
    if feedback != "symmetric" or last:
        assert error(expected, reference(run.case)[0]) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("feedback", ["symmetric", "random", "adaptive"])
def test_single_steps_of_eprop_under_grad(feedback):
    run = Relative("layered two lif", etrax.EProp, feedback=feedback, feedback_seed=0)
    run.learner.reset_state()
    expected = run.learner.etrace_grad(run.xs, run.ys, step_fn=run.step, reduction="sum")
    run.learner.reset_state()

    @brainstate.transform.jit
    def online(x, y):
        return brainstate.transform.grad(lambda: run.step(x, y), run.learner.param_states)()

    steps = [online(x, y) for x, y in zip(run.xs, run.ys, strict=True)]
    close(*(networks.mantissas(g) for g in (jax.tree.map(lambda *g: sum(g), *steps), expected)))


@pytest.mark.parametrize("options", [{"carry": "window", "window": T}, {"carry": "none"}], ids=lambda o: o["carry"])
def test_eprop_with_other_carries(options):
    """The window holds all steps here; with no carry one chunk is still exact."""
    run = Relative("recurrent alif", etrax.EProp, feedback="random", feedback_seed=1, **options)
    expected = broadcast_gradient(run.case, [run.feedback()["neu0"]])
    close(run.grad(T if options["carry"] == "none" else 6), expected)


@pytest.mark.slow
def test_eprop_without_a_trace():
    """Relatives are compositions: e-prop with D = 0."""

    class Both(OnlineLearner):
        def __init__(self, model, mode):
            super().__init__(model, Composition(error=Feedback(mode, seed=2), diagonal=False))

    symmetric = Relative("recurrent alif", Both, mode="symmetric")
    close(symmetric.grad(8), Relative("recurrent alif", etrax.NoTrace).grad(8), rtol=1e-12)
    run = Relative("recurrent alif", Both, mode="random")
    full = broadcast_gradient(run.case, [run.feedback()["neu0"]])
    assert error(run.grad(8), full) > 0.1


def test_a_loss_of_states_is_not_broadcast():
    """What the loss reads of states beside the output keeps its exact derivative, also with random feedback."""

    grads = []
    for algorithm, options in ((etrax.EProp, {"feedback": "random"}), (etrax.D_RTRL, {})):
        run = Relative("recurrent alif", algorithm, **options)

        def step(x, y, run=run):
            run.learner(x)
            return jnp.sum(run.net.neu0.get_spike() * y[:, :1])

        weights = {p: s for p, s in run.learner.param_states.items() if p[0] == "proj0_0"}
        grads.append(run.learner.etrace_grad(run.xs, run.ys, step_fn=step, weights=weights))
    close(*(networks.mantissas(g) for g in grads), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recurrent alif", "recurrent alif detached leaky"])
def test_adaptive_feedback_gets_the_gradient_of_the_readout(name):
    run = Relative(name, etrax.EProp, feedback="adaptive")
    grads = run.learner.etrace_grad(run.xs, run.ys, step_fn=run.step, chunk_size=6)
    readout = next(value for path, value in grads.items() if path[0] == "readout")
    weight = readout["weight"] if isinstance(readout, dict) else readout
    np.testing.assert_allclose(grads["feedback_weights", "neu0"]["output"], weight, rtol=1e-12)


def test_adaptive_feedback_aligns_with_the_readout():
    """With one weight decay the two differ less by the same factor in every update, and the same gradient joins both."""
    run = Relative("recurrent alif detached leaky", etrax.EProp, feedback="adaptive", feedback_seed=0)
    learner, rate, decay, n = run.learner, 0.05, 0.5, 15
    is_output = {path: path[0] in ("readout", "feedback_weights") for path in learner.param_states}
    optimizers = {True: braintools.optim.SGD(rate, weight_decay=decay), False: braintools.optim.SGD(rate)}
    for kind, optimizer in optimizers.items():
        optimizer.register_trainable_weights({p: s for p, s in learner.param_states.items() if is_output[p] is kind})

    def apart():
        W, back = (np.ravel(v) for v in (run.net.readout.weight.value, run.feedback()["neu0"]))
        return float(np.linalg.norm(W - back)), float(W @ back / np.linalg.norm(W) / np.linalg.norm(back))

    history = [apart()]
    for _ in range(7):
        for _ in range(n):
            learner.reset_state()
            grads = learner.etrace_grad(run.xs, run.ys, step_fn=run.step)
            for kind, optimizer in optimizers.items():
                optimizer.update({p: g for p, g in grads.items() if is_output[p] is kind})
        history.append(apart())
    distances, cosines = np.transpose(history)
    np.testing.assert_allclose(distances[1:] / distances[:-1], (1 - rate * decay) ** n, rtol=1e-6)
    assert cosines[0] < 0.2
    assert cosines[-1] > 0.7
    assert np.all(np.diff(cosines) > 0)


def test_random_feedback_is_drawn_from_its_seed_and_kept():
    first, same, other = (
        Relative("layered two lif", etrax.EProp, feedback="random", feedback_seed=s) for s in (5, 5, 6)
    )
    a, b, c = (run.feedback() for run in (first, same, other))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert not np.allclose(a["neu0"], c["neu0"])
    assert {p for p in first.learner.states() if p[0] == "feedback_weights"} == {
        ("feedback_weights", "neu0"),
        ("feedback_weights", "neu1"),
    }
    assert not any(p[0] == "feedback_weights" for p in first.learner.param_states)
    saved = {path: jax.tree.map(np.asarray, state.value) for path, state in first.learner.states().items()}
    for path, state in other.learner.states().items():
        state.value = saved[path]
    close(other.grad(), first.grad(), rtol=1e-12)


class Parts(brainstate.nn.Module):
    """A recurrent population with two outputs: one in mV and one of low-passed spikes, or what ``output`` makes of it."""

    def __init__(self, output=None):
        super().__init__()
        self.neu = etrax.neurons.LIF(4, tau=10 * u.ms)
        self.proj = LIB.AlignPostProj(
            comm=brainstate.nn.Linear(9, 4, w_init=braintools.init.Normal(1.5 * u.mS, 1.5 * u.mS), b_init=None),
            syn=LIB.Expon(4),
            out=LIB.CUBA(),
            post=self.neu,
        )
        if output is None:
            self.plain = brainstate.nn.Linear(4, 2, w_init=braintools.init.Normal(0 * u.mV, 1 * u.mV), b_init=None)
            self.leaky = etrax.neurons.LeakyReadout(4, 3, pre=self.neu)
        self.output = output

    def update(self, x):
        self.proj(jnp.concatenate([x, self.neu.get_spike()], -1))
        z = self.neu()
        return {"plain": self.plain(z), "leaky": self.leaky(z)} if self.output is None else self.output(self)


@pytest.mark.slow
def test_several_outputs_with_units():
    """Each output has its feedback, in its unit; given the weights of the readouts, it is D-RTRL again."""
    xs = networks.case("recurrent lif").xs
    grads = []
    for algorithm, options in ((etrax.D_RTRL, {}), (etrax.EProp, {"feedback": "adaptive"})):
        with brainstate.random.seed_context(4):
            net = Parts()
        learner = etrax.compile(net, algorithm, xs[0], batch_size=B, **options)
        if options:
            state = learner.feedback_weights["neu"]
            assert {k: u.get_unit(v) for k, v in state.value.items()} == {"['plain']": u.mV, "['leaky']": u.UNITLESS}
            state.value = {"['plain']": net.plain.weight.value["weight"], "['leaky']": net.leaky.weight.value}

        def step(x, learner=learner):
            out = learner(x)
            return jnp.sum(out["plain"].to_decimal(u.mV) ** 2) + jnp.sum((out["leaky"] - 1) ** 2)

        got = learner.etrace_grad(xs, step_fn=step)
        grads.append({path: got[path] for path in got if path[0] != "feedback_weights"})
    close(*(networks.mantissas(g) for g in reversed(grads)), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:.* is trained and must be:UserWarning")  # two gradients of the number itself
@pytest.mark.slow
@pytest.mark.parametrize("feedback", ["symmetric", "random"])
def test_trained_constants_learn_by_the_feedback(feedback):
    """Given the weights of the readout as feedback, constants of the spike and of the dynamics learn as by D-RTRL."""
    case = networks.case("recurrent alif")
    n = case.net.populations[0].n
    constants = {"V_th": jnp.full(n, 1.0), "tau": jnp.full(n, 10.0)}
    params = case.params | {"pop0": case.params["pop0"] | {"neuron": constants}}
    grads = []
    for algorithm, options in ((etrax.D_RTRL, {}), (etrax.EProp, {"feedback": feedback})):
        net = networks.Built(LIB, case.net, params)
        learner = etrax.compile(net, algorithm, case.xs[0], batch_size=B, **options)
        for state in getattr(learner, "feedback_weights", {}).values():
            state.value = {"output": net.readout.weight.value["weight"]}

        def step(x, y, learner=learner):
            return networks.loss(learner(x), y)

        grads.append(networks.mantissas(learner.etrace_grad(case.xs, case.ys, step_fn=step, chunk_size=8)))
    assert {path[1] for path in grads[0] if path[0] == "neu0"} == {"V_th", "tau"}
    close(*reversed(grads), rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feedback": "fixed"}, "`feedback` must be one of symmetric, random, adaptive, got 'fixed'"),
        ({"feedback_scale": 0.0}, "`feedback_scale` must be a number above 0"),
        ({"vjp_method": "multi-step"}, "`vjp_method` is not read by EProp, but by D_RTRL"),
        ({"through_depth": True}, "`through_depth` is not read by EProp, but by D_RTRL"),
    ],
)
def test_options_that_eprop_refuses(options, message):
    with pytest.raises(TypeError if "not read" in message else ValueError, match=message):
        Relative("recurrent lif", etrax.EProp, **options)


def test_networks_that_eprop_refuses():
    xs = networks.case("recurrent lif").xs
    with pytest.raises(ValueError, match="the output of the model has none"):
        etrax.compile(Parts(lambda net: net.neu.get_spike()), "eprop", xs[0], batch_size=B, feedback="random")
    etrax.compile(Parts(lambda net: net.neu.get_spike()), "eprop", xs[0], batch_size=B)

    class Summed(Parts):
        def update(self, x):
            return jax.tree.map(lambda out: jnp.sum(out, 0), super().update(x))

    with pytest.raises(ValueError, match="the output must begin with the batch axis"):
        etrax.compile(Summed(), "eprop", xs[0], batch_size=B, feedback="random")

    class Encoded(networks.Built):
        def __init__(self, *args):
            super().__init__(*args)
            self.encoder = brainstate.nn.Linear(networks.N_IN, networks.N_IN)

        def update(self, x):
            return super().update(self.encoder(x))

    case = networks.case("layered two lif")
    with pytest.raises(ValueError, match="so encoder.weight would"):
        etrax.compile(Encoded(LIB, case.net, case.params), "eprop", xs[0], batch_size=B)


# --------------------------------------------------------------------------------------------------- through depth


@pytest.mark.parametrize("name", networks.thorough(networks.STACKS, "stack two"))
def test_a_stack_without_loops_is_exact_in_one_chunk_and_longer_chunks_carry_more_credit_down(name):
    """The gradient depends on the chunk length here; only the layers below the last one gain."""
    run = Relative(name, etrax.D_RTRL, through_depth=True)
    expected = bptt(run.case)
    last = f"pop{len(run.case.net.populations) - 1}"
    grads = [run.grad(chunk) for chunk in (1, T // 4, T)]
    close(grads[-1], expected)
    close(grads[1][last], expected[last])
    errors = [first_layer_error(grad, expected) for grad in grads]
    assert errors[0] > errors[1] > errors[2]
    assert error(grads[0], expected) > 0.05


def first_layer_error(got, expected):
    pairs = [(got["pop0"][j]["weight"], expected["pop0"][j]["weight"]) for j in expected["pop0"]]
    return max(float(np.linalg.norm(g - e) / np.linalg.norm(e)) for g, e in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stack two", "stack three", "layered three"])
def test_chunks_of_one_step_are_d_rtrl(name):
    close(Relative(name, etrax.D_RTRL, through_depth=True).grad(1), Relative(name, etrax.D_RTRL).grad(1), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recurrent alif", "recurrent shared synapse"])
def test_depth_does_not_matter_to_one_population(name):
    close(Relative(name, etrax.D_RTRL, through_depth=True).grad(8), Relative(name, etrax.D_RTRL).grad(8), rtol=1e-12)


@pytest.mark.slow
def test_depth_with_a_window_and_a_mask():
    """A ragged last chunk, a carry that is no matrix, steps without a loss."""
    mask = jnp.where(jnp.arange(T) < 9, 0.0, jnp.linspace(0.5, 2.0, T))
    dense, window = (
        Relative("layered two leaky", etrax.D_RTRL, through_depth=True, **options)
        for options in ({}, {"carry": "window", "window": T})
    )
    close(window.grad(7, mask=mask), dense.grad(7, mask=mask))
    stack = Relative("stack two", etrax.D_RTRL, through_depth=True)
    case = stack.case
    expected = oracle.bptt_grad(case.net, case.params, case.xs, case.ys, networks.loss, mask=mask)
    close(stack.grad(T, mask=mask), expected)


@pytest.mark.slow
def test_depth_without_a_trace():
    run = Relative("stack three", etrax.NoTrace, through_depth=True)
    close(run.grad(5), Relative("stack three", etrax.NoTrace).grad(5), rtol=1e-12)


@pytest.mark.slow
def test_a_layer_between_populations_gets_its_credit_through_depth():
    """A parameter outside projections, between two populations, is trained by what the upper one sends down."""

    class Gain(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            case = networks.case("stack two")
            self.net = networks.Built(LIB, case.net, case.params)
            self.gain = brainstate.ParamState(jnp.ones(4))

        def update(self, x):
            net = self.net
            net.proj0_0(x)
            net.proj1_0(net.neu0() * self.gain.value)
            return net.readout(net.neu1())

    case, grads = networks.case("stack two"), []
    for algorithm, options in ((etrax.BPTT, {}), (etrax.D_RTRL, {"through_depth": True})):
        learner = (
            etrax.compile(Gain(), algorithm, case.xs[0], batch_size=B)
            if not options
            else _warned(lambda: etrax.compile(Gain(), etrax.D_RTRL, case.xs[0], batch_size=B, through_depth=True))
        )
        grads.append(
            learner.etrace_grad(case.xs, case.ys, step_fn=lambda x, y, f=learner: networks.loss(f(x), y), chunk_size=T)
        )
    close(*(networks.mantissas(g) for g in reversed(grads)))


@pytest.mark.slow
def test_depth_over_a_population_without_a_projection():
    """Neurons that encode a current: nothing of theirs is trained, and nothing is sent down to them."""

    class Encoding(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            case = networks.case("feed-forward lif")
            self.encoder = etrax.neurons.LIF(networks.N_IN, tau=5 * u.ms)
            self.net = networks.Built(LIB, case.net, case.params)

        def update(self, x):
            return self.net(self.encoder((1.0 + 3.0 * x) * u.mA))

    case, grads = networks.case("feed-forward lif"), []
    for algorithm, options in ((etrax.BPTT, {}), (etrax.D_RTRL, {"through_depth": True})):
        learner = etrax.compile(Encoding(), algorithm, case.xs[0], batch_size=B, **options)
        grads.append(
            learner.etrace_grad(case.xs, case.ys, step_fn=lambda x, y, f=learner: networks.loss(f(x), y), chunk_size=T)
        )
    close(*(networks.mantissas(g) for g in reversed(grads)))


def _warned(make):
    with pytest.warns(UserWarning, match="outside a projection"):
        return make()


@pytest.mark.parametrize("options", [{"vjp_method": "multi-step"}, {"carry": "rank1"}])
def test_options_that_depth_refuses(options):
    with pytest.raises(ValueError, match="`through_depth` with `"):
        Relative("stack two", etrax.D_RTRL, through_depth=True, **options)
