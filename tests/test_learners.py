"""The contract of learners: one interface for all of them, whatever gives their gradient."""

import copy
import inspect
import warnings
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from test_gradient import LIB

import etrax
from etrax import learners
from etrax.learners import Learner

ROWS: dict[str, tuple[Any, dict[str, Any]]] = {
    "D-RTRL": (etrax.D_RTRL, {}),
    "window": (etrax.D_RTRL, {"carry": "window", "tolerance": 1e-2}),
    "rank 1": (etrax.D_RTRL, {"carry": "rank1", "decay": 0.9}),
    "no carry": (etrax.D_RTRL, {"carry": "none"}),
    "multi-step": (etrax.D_RTRL, {"vjp_method": "multi-step"}),
    "through depth": (etrax.D_RTRL, {"through_depth": True}),
    "no trace": (etrax.NoTrace, {}),
    "e-prop": (etrax.EProp, {"feedback": "symmetric"}),
    "e-prop, random": (etrax.EProp, {"feedback": "random", "feedback_seed": 1}),
    "e-prop, adaptive": (etrax.EProp, {"feedback": "adaptive", "feedback_seed": 1}),
    "DFA": (etrax.DFA, {"feedback_seed": 1}),
    "RTRL": (etrax.RTRL, {}),
    "BPTT": (etrax.BPTT, {}),
}
WEIGHT = "proj0_0.comm.weight"


def built(name):
    case = networks.case(name)
    return networks.Built(LIB, case.net, case.params)


class Case:
    """A learner of one row for a spiking network, and what is asked of it."""

    def __init__(self, row):
        algorithm, options = ROWS[row]
        case = networks.case("recurrent alif")
        self.xs, self.ys = case.xs, case.ys
        self.net = networks.Built(LIB, case.net, case.params)
        self.learner = etrax.compile(self.net, algorithm, self.xs[0], batch_size=networks.B, **options)

    def step(self, x, y):
        return networks.loss(self.learner(x), y)

    def grad(self, **options):
        self.learner.reset_state()
        return self.learner.etrace_grad(self.xs, self.ys, step_fn=self.step, **options)


QUICK = ("D-RTRL", "e-prop, adaptive", "DFA", "RTRL", "BPTT")


@pytest.fixture(params=networks.thorough(ROWS, *QUICK), scope="module")
def case(request):
    with brainstate.environ.context(dt=1 * u.ms):
        yield Case(request.param)


def test_every_learner_has_a_row():
    named = {kind for kind in vars(learners).values() if inspect.isclass(kind) and issubclass(kind, Learner)}
    assert named - {Learner} == {algorithm for algorithm, _ in ROWS.values()} == set(learners.LEARNERS.values())


def test_gradients_and_losses(case):
    mask = (jnp.arange(len(case.xs)) % 3 == 0).astype(float)
    grads, losses = case.grad(mask=mask, return_value=True, reduction="sum")
    assert set(grads) == set(case.learner.param_states)
    for path, state in case.learner.param_states.items():
        assert jax.tree.structure(grads[path]) == jax.tree.structure(state.value)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(grads[path]))
    assert all(np.any(leaf) for path, g in grads.items() if "proj" in path[0] for leaf in jax.tree.leaves(g))
    some = dict(list(case.learner.param_states.items())[:1])
    masked, total = case.grad(mask=mask, weights=some, return_value=True, loss_output="scalar")
    np.testing.assert_allclose(total, jnp.sum(mask * losses) / jnp.sum(mask), rtol=1e-12)
    for path in some:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(jnp.sum(mask) * a, b, rtol=1e-10, atol=1e-14),
            masked[path],
            grads[path],
        )


def test_evolving_is_stepping(case):
    learner = case.learner
    learner.reset_state()
    evolved = learner.etrace_evolve(case.xs, return_outputs=True)
    states = [u.get_mantissa(s.value) for s in learner.hidden_states.values()]
    learner.reset_state()
    assert learner.etrace_evolve(case.xs[:-3]) is None
    stepped = [learner(x) for x in case.xs[-3:]]
    for mine, theirs in zip(u.get_mantissa(evolved)[-3:], stepped, strict=True):
        np.testing.assert_allclose(mine, u.get_mantissa(theirs), rtol=1e-12)
    for before, state in zip(states, learner.hidden_states.values(), strict=True):
        np.testing.assert_allclose(before, u.get_mantissa(state.value), rtol=1e-12)


def test_the_gradient_of_a_step(case):
    """Without a past it is that of a sequence of one step; BPTT says what it is, once."""
    learner = case.learner
    expected = case.grad(chunk_size=1, weights=None, mask=jnp.eye(len(case.xs))[0], reduction="sum")
    learner.reset_state()
    params = learner.param_states
    fn = brainstate.transform.grad(lambda: case.step(case.xs[0], case.ys[0]), params)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        grads = fn()
        learner.reset_state()
        fn()
    assert len([w for w in said if "called step by step" in str(w.message)]) == isinstance(learner, etrax.BPTT)
    if type(learner) is not etrax.RTRL:  # whose step is a program of its own
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14), grads, expected)


def test_states_and_traces(case):
    learner = case.learner
    case.grad(chunk_size=8)
    assert {id(s) for s in learner.hidden_states.values()} >= {id(s) for s in case.net.hidden()[0].values()}
    assert any(np.any(u.get_mantissa(s.value)) for s in learner.hidden_states.values())
    learner.reset_state()
    assert not any(np.any(leaf) for trace in learner.traces.values() for leaf in jax.tree.leaves(trace.value))
    start = [u.get_mantissa(s.value) for s in learner.hidden_states.values()]
    brainstate.nn.reset_all_states(case.net, batch_size=networks.B)
    jax.tree.map(
        lambda a, s: np.testing.assert_array_equal(a, u.get_mantissa(s.value)),
        start,
        list(learner.hidden_states.values()),
    )
    with pytest.raises(ValueError, match="`weight` 'nothing' has no trace"):
        learner.get_etrace_of("nothing")


def test_the_report(case):
    report = case.learner.report()
    assert WEIGHT in str(report)
    assert report.trace_bytes >= 0
    assert str(report) == repr(report)


def test_the_influence_of_rtrl_holds_the_traces_of_d_rtrl():
    """Where no spike comes back, a weight acts on its own neuron only, and there the two are the same."""
    case, found = networks.case("feed-forward alif leaky"), {}
    for algorithm in ("rtrl", "d_rtrl"):
        learner = etrax.compile(built("feed-forward alif leaky"), algorithm, case.xs[0], batch_size=networks.B)
        learner.etrace_evolve(case.xs)
        found[algorithm] = learner.get_etrace_of(WEIGHT)
    assert set(found["d_rtrl"]) <= set(found["rtrl"])
    for path, trace in found["d_rtrl"].items():
        influence, trace = found["rtrl"][path]["weight"], trace["weight"]  # (B, N, I, N) and (B, I, N)
        assert u.get_unit(influence) == u.get_unit(trace)
        influence, trace = u.get_mantissa(influence), u.get_mantissa(trace)
        own = jnp.einsum("bnin->bin", influence)
        np.testing.assert_allclose(own, trace, rtol=1e-10, atol=1e-14)
        assert np.any(trace)
        np.testing.assert_allclose(jnp.sum(jnp.abs(influence)), jnp.sum(jnp.abs(own)), rtol=1e-12)


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        ("d_rtrl", {"decay": 0.5}, "`decay` is not read by carry='dense', but by carry='rank1'"),
        (
            "d_rtrl",
            {"carry": "rank1", "trace_dtype": jnp.bfloat16},
            "`trace_dtype` is not read by carry='rank1', but by",
        ),
        ("eprop", {"carry": "none", "window": 5}, "`window` is not read by carry='none', but by carry='dense' or"),
        ("d_rtrl", {"feedback": "random"}, "`feedback` is not read by D_RTRL, but by EProp"),
        ("eprop", {"vjp_method": "multi-step"}, "`vjp_method` is not read by EProp, but by D_RTRL: leave"),
        ("no_trace", {"carry": "rank1"}, "`carry` is not read by NoTrace, but by D_RTRL, EProp"),
        ("no_trace", {"vjp_method": "multi-step"}, "`vjp_method` is not read by NoTrace, but by D_RTRL: leave"),
        ("dfa", {"carry": "dense"}, "`carry` is not read by DFA, but by D_RTRL, EProp"),
        ("bptt", {"carry": "dense"}, "`carry` is not read by BPTT, but by"),
        ("rtrl", {"feedback_seed": 1}, "`feedback_seed` is not read by RTRL, but by DFA, EProp|EProp, DFA"),
        ("bptt", {"limits": 1}, "`limits` is no option of BPTT; its options are: none"),
    ],
)
def test_an_option_that_nothing_reads(algorithm, options, message):
    with pytest.raises(TypeError, match=message):
        etrax.compile(built("recurrent lif"), algorithm, jnp.ones((1, 5)), **options)


def test_what_a_method_reads():
    assert learners.options_of("bptt") == frozenset()
    assert learners.options_of(etrax.RTRL) == {"limit"}
    assert {"carry", "decay", "vjp_method"} <= learners.options_of(etrax.D_RTRL, carry="rank1")
    assert not {"window", "trace_dtype"} & learners.options_of(etrax.D_RTRL, carry="rank1")
    for row, (algorithm, options) in ROWS.items():
        assert set(options) <= learners.options_of(algorithm, **options), row


@pytest.mark.parametrize("name", networks.thorough(["stack two", "recurrent alif"], "recurrent alif"))
def test_direct_feedback_alignment_is_e_prop_without_a_memory(name):
    """Its gradient is that of e-prop with the same feedback whose trace is cut after each step."""
    case = networks.case(name)
    grads = []
    for algorithm in ("dfa", "eprop"):
        net = networks.Built(LIB, case.net, case.params)
        options = {"feedback_seed": 3} | ({"feedback": "random", "carry": "none"} if algorithm == "eprop" else {})
        learner = etrax.compile(net, algorithm, case.xs[0], batch_size=networks.B, **options)

        def step(x, y, learner=learner):
            return networks.loss(learner(x), y)

        grads.append(networks.mantissas(learner.etrace_grad(case.xs, case.ys, step_fn=step, chunk_size=1)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14), *grads)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(grads[0]))


class Named(brainstate.nn.Module):
    """A filtered and a jumping projection onto one population, under the names given."""

    def __init__(self, current, jump):
        super().__init__()
        self.neu, self.fil = etrax.neurons.LIF(4), etrax.synapses.AMPA(3)
        normal = braintools.init.Normal

        def layer(unit, scale):
            with brainstate.random.seed_context(2):
                return brainstate.nn.Linear(3, 4, w_init=normal(0.3 * scale * unit, scale * unit), b_init=None)

        out, post = etrax.synapses.CUBA(), self.neu
        setattr(self, current, etrax.synapses.CurrentProj(comm=layer(u.UNITLESS, 20.0), out=out, post=post))
        setattr(self, jump, etrax.synapses.DeltaProj(comm=layer(u.mV, 1.0), post=post))
        self.names = (current, jump)

    def update(self, x):
        current, jump = (getattr(self, name) for name in self.names)
        current(self.fil(x))
        jump(x)
        return self.neu()


@pytest.mark.slow
def test_what_acts_on_a_population_may_be_called_anything():
    """A projection called `delta`, say, is not mistaken for a jump of the potential."""
    xs = (brainstate.random.RandomState(1).rand(30, 2, 3) < 0.4).astype(float)
    found = []
    for current, jump in (("one", "other"), ("delta", "current"), ("slope", "delta")):
        net = Named(current, jump)
        learner = etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=2)

        def step(x, learner=learner):
            return jnp.mean((learner(x) - 0.3) ** 2)

        grads = learner.etrace_grad(xs, step_fn=step, reduction="sum")
        assert net.neu.get_spike().shape == (2, 4)
        found.append([u.get_mantissa(grads[name, "comm", "weight"]["weight"]) for name in (current, jump)])
    assert all(np.any(g) for g in found[0])
    for other in found[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), other, found[0])


def test_a_state_has_a_name_of_its_own():
    class Sloping(etrax.Neuron):
        def initial(self, batch_size=None):
            return {"V": jnp.zeros(self.varshape) * u.mV, "slope": jnp.zeros(self.varshape)}

    with pytest.raises(ValueError, match="Sloping has a state called slope, .*: call the state otherwise"):
        etrax.compile(Sloping(3), "d_rtrl", jnp.zeros(3))


def test_a_loss_of_a_step_is_one_number(case):
    with pytest.raises(ValueError, match="`step_fn` must return a scalar loss for one step, got shape"):
        case.learner.etrace_grad(case.xs[:2], step_fn=lambda x: u.get_mantissa(case.learner(x))[:, 0])


@pytest.mark.parametrize(
    ("result", "options", "message"),
    [
        (lambda r: None, {}, "`step_fn` returned None: end it with `return`"),
        (lambda r: (r.mean(), r), {}, r"got 2 values: for `\(loss, aux\)` pass `has_aux=True`"),
        (lambda r: r.mean(), {"has_aux": True}, r"must return `\(loss, aux\)` with `has_aux=True`, got"),
        (lambda r: (r.mean(), r, r), {"has_aux": True}, "got 3 values"),
        (lambda r: [r.mean()], {}, "got 1 values: return the loss alone"),
        (lambda r: (None, r), {"has_aux": True}, "got a NoneType"),
        (lambda r: {"loss": r.mean()}, {}, "got a dict"),
        (lambda r: "low", {}, "got a str"),
        (lambda r: jnp.sum(r > 0), {}, "loss of type int.*, which has no gradient"),
        (lambda r: jnp.any(r > 0), {}, "loss of type bool, which has no gradient"),
        (lambda r: jnp.sum(r * 1j), {}, "loss of type complex128, which has no gradient"),
    ],
)
@pytest.mark.parametrize("case", networks.thorough(["D-RTRL", "RTRL", "BPTT"], "D-RTRL"), indirect=True)
def test_a_step_function_returns_a_real_number(case, result, options, message):
    def step(x):
        return result(u.get_mantissa(case.learner(x)))

    with pytest.raises(TypeError, match=message):
        case.learner.etrace_grad(case.xs[:2], step_fn=step, **options)


def test_a_loss_that_no_gradient_reaches_is_refused(case):
    def step(x):
        return jnp.mean((jnp.argmax(u.get_mantissa(case.learner(x)), -1) - 1.0) ** 2)

    with pytest.raises(ValueError, match="no path .*leads from the parameter .* to the loss"):
        case.learner.etrace_grad(case.xs[:2], step_fn=step)


def test_a_copy_is_to_be_compiled(case):
    other = copy.deepcopy(case.learner)
    with pytest.raises(RuntimeError, match="is not compiled"):
        other(case.xs[0])


def test_before_compiling(case):
    algorithm = type(case.learner)
    for use in (lambda new: new(case.xs[0]), lambda new: new.reset_state(), lambda new: new.param_states):
        with pytest.raises(RuntimeError, match=f"this {algorithm.__name__} is not compiled"):
            use(algorithm(built("recurrent alif")))


@pytest.mark.parametrize("case", networks.thorough(ROWS, "D-RTRL", "e-prop, adaptive"), indirect=True)
def test_alignment_of_every_learner(case):
    """Feedback that adapts has no counterpart in backpropagation, and is left out."""
    report = etrax.gradient_report(case.learner, case.xs, case.ys, step_fn=case.step, windows=1)
    assert any(name.startswith(WEIGHT) for name in report.parameters)
    assert not any(name.startswith("feedback") for name in report.parameters)
