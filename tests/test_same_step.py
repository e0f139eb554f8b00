"""What a chunk looks at again is what ran: randomness, gates and memories of each step, under the settings of the call."""

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plainly import (
    STEPS,
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
)

import etrax


class Drop(brainstate.nn.Module):
    """Dropout of quantities."""

    def __init__(self):
        super().__init__()
        self.in_size = self.out_size = (N,)

    def update(self, x):
        return x * brainstate.random.bernoulli(0.5, x.shape) if brainstate.environ.get("fit") else x


class Gated(brainstate.nn.Module):
    """A layer behind a gate that closes from step to step."""

    def __init__(self):
        super().__init__()
        self.in_size = self.out_size = (N,)
        self.linear = linear()

    def init_state(self, batch_size=None, **kwargs):
        self.gate, self.steps = brainstate.ShortTermState(jnp.ones(())), brainstate.ShortTermState(jnp.zeros((), int))

    def reset_state(self, batch_size=None, **kwargs):
        self.gate.value, self.steps.value = jnp.ones(()), jnp.zeros((), int)

    def update(self, x):
        self.gate.value, self.steps.value = self.gate.value * 0.9, self.steps.value + 1
        return jnp.where(self.steps.value % 3 == 0, 0.5, 1.0) * self.gate.value * self.linear(x)


class Noisy(brainstate.nn.Module):
    """A layer whose weights are drawn around their mean at each step."""

    def __init__(self):
        super().__init__()
        self.in_size = self.out_size = (N,)
        self.linear = linear()

    def update(self, x):
        return x @ (self.linear.weight.value["weight"] * (1 + 0.3 * brainstate.random.normal(size=(N, N))))


class Encoded(One):
    """Noise currents, and dropout between the population and its readout."""

    def update(self, x):
        self.syn(x)
        self.neu(3.0 * brainstate.random.normal(size=(B, N)) * u.mA)
        return self.out(self.behind(u.get_mantissa(self.neu.V.value)))


def dropout():
    return brainstate.nn.Dropout(0.5)


def chain(*parts):
    return brainstate.nn.Sequential(*parts)


NETS = {
    "dropout ahead of the layer and of the readout": lambda: One(chain(dropout(), linear()), behind=dropout()),
    "dropout behind the layer, and noise": lambda: Encoded(chain(linear(), Drop()), behind=dropout()),
    "a gate and a counter": lambda: One(Gated(), behind=dropout()),
    "weights with noise": lambda: One(Noisy(), behind=dropout()),
}
SLOW = pytest.mark.slow


@pytest.mark.parametrize("fit", [True, pytest.param(False, marks=SLOW)])
@pytest.mark.parametrize("name", [n if n.startswith("dropout ahead") else pytest.param(n, marks=SLOW) for n in NETS])
def test_every_way_of_calling_sees_the_steps_that_ran(name, fit):
    with brainstate.environ.context(fit=fit):
        right, losses = by_autodiff(NETS[name])
        learner = etrax.compile(NETS[name](), etrax.D_RTRL, inputs()[0][0], batch_size=B)
        found = [by_learner(learner, chunk) for chunk in (1, 3, T)]
        found.append(by_single_steps(learner))
        found.append(brainstate.transform.jit(lambda: by_traced(learner))())
    for grads, same in found:
        np.testing.assert_allclose(same, losses, rtol=1e-9)
        assert error(grads, right) < 1e-10


def by_traced(learner):
    xs, ys = inputs()
    learner.reset_state()
    brainstate.random.seed(7)
    options = {"chunk_size": 5, "reduction": "sum", "return_value": True}
    return learner.etrace_grad(xs, ys, step_fn=lambda x, y: loss(learner(x), y), **options)


def test_a_layer_whose_input_is_dropped_has_its_whole_trace():
    learner = etrax.compile(One(chain(dropout(), linear())), etrax.D_RTRL, inputs()[0][0], batch_size=B)
    assert "neu.V dense" in str(learner.report())
    noisy = etrax.compile(One(Noisy()), etrax.D_RTRL, inputs()[0][0], batch_size=B)
    assert "reading what changes from step to step" in str(noisy.report())
    with pytest.raises(ValueError, match=r"`comm` of syn is reading what changes .*Sequential\(Dropout, Linear\)"):
        etrax.compile(One(Noisy()), etrax.D_RTRL, inputs()[0][0], batch_size=B, carry="rank1")


@pytest.mark.parametrize("algorithm", ["d_rtrl", pytest.param("bptt", marks=SLOW), pytest.param("rtrl", marks=SLOW)])
def test_settings_and_constants_are_those_of_the_call(algorithm):
    learner = etrax.compile(One(behind=dropout()), algorithm, inputs()[0][0], batch_size=B)  # `fit` is set by nobody
    net = learner.model

    def losses(**settings):
        with brainstate.environ.context(**settings):
            return by_learner(learner)[1]

    def right(**settings):
        with brainstate.environ.context(**settings):
            return by_autodiff(lambda: One(behind=dropout()), prepare=changed)[1]

    def changed(other):
        other.neu.V_rest, other.behind.prob = net.neu.V_rest, net.behind.prob

    trained, tested = losses(), losses(fit=False)
    np.testing.assert_allclose(trained, right(fit=True), rtol=1e-9)
    np.testing.assert_allclose(tested, right(fit=False), rtol=1e-9)
    assert not np.allclose(trained, tested)
    net.neu.V_rest = 0.5 * u.volt
    shifted = losses(fit=False)
    np.testing.assert_allclose(shifted, right(fit=False), rtol=1e-9)
    assert not np.allclose(shifted, tested)
    net.neu.V_rest = 0.0 * u.mV
    np.testing.assert_array_equal(losses(fit=False), tested)
    net.behind.prob = 0.9
    np.testing.assert_allclose(losses(fit=True), right(fit=True), rtol=1e-9)


def test_single_steps_follow_settings_and_the_clock():
    class Clocked(One):
        def update(self, x):
            return super().update(x) * u.get_mantissa(brainstate.environ.get("t") / u.ms)

    xs, _ = inputs()
    with brainstate.environ.context(t=1.0 * u.ms):
        learner = etrax.compile(Clocked(), etrax.D_RTRL, xs[0], batch_size=B)
    found = []
    for k, x in enumerate(xs):
        with brainstate.environ.context(t=k * u.ms):
            found.append(learner(x))
    brainstate.nn.reset_all_states(learner.model, batch_size=B)
    plain = One()
    brainstate.nn.init_all_states(plain, batch_size=B)
    np.testing.assert_allclose(np.stack(found), [k * plain(x) for k, x in enumerate(xs)], rtol=1e-9)
    assert np.abs(found[-1]).max() > 0


def test_arrays_of_a_module_are_taken_over():
    net = One()
    net.scale = np.full(2, 3.0)
    net.update = lambda x: One.update(net, x) * net.scale
    given = net.scale
    learner = etrax.compile(net, etrax.D_RTRL, inputs()[0][0], batch_size=B)
    before = by_learner(learner)[1]
    given[:] = 0.0
    np.testing.assert_array_equal(by_learner(learner)[1], before)
    with pytest.raises(ValueError, match="read-only"):
        net.scale[:] = 0.0
    net.scale = np.zeros(2)
    assert not np.allclose(by_learner(learner)[1], before)


@pytest.mark.parametrize("count", [0, jnp.zeros(()), jnp.zeros((B, N))], ids=["number", "scalar", "array"])
def test_an_attribute_that_steps_change_is_refused(count):
    net = One()
    net.count = count

    def update(x):
        net.count += 1
        return One.update(net, x)

    net.update = update
    with pytest.raises(ValueError, match=r"changes its attribute `count` while it steps.*ShortTermState"):
        etrax.compile(net, etrax.D_RTRL, inputs()[0][0], batch_size=B)


def test_a_model_that_has_not_changed_is_not_walked_through_again(monkeypatch):
    learner = etrax.compile(One(), etrax.D_RTRL, inputs()[0][0], batch_size=B)
    by_learner(learner, 3)
    by_learner(learner, 3)
    monkeypatch.setattr("etrax.learners.settings.Settings._walk", None)
    by_learner(learner, 3)


def test_what_a_step_function_writes_and_the_model_reads_changes():
    def make():
        net = One(Gated())
        net.gain = brainstate.ShortTermState(jnp.ones(()))
        net.update = lambda x: One.update(net, net.gain.value * x)
        return net

    def of(net):
        def gained(out, y):
            net.gain.value = net.gain.value * 0.8 + 0.4  # of the next step
            return loss(out, y)

        return gained

    made = []
    right, losses = by_autodiff(lambda: made.append(make()) or made[-1], loss=lambda out, y: of(made[-1])(out, y))
    learner = etrax.compile(make(), etrax.D_RTRL, inputs()[0][0], batch_size=B)
    start = learner.model.gain.value
    for chunk in (1, 3, T):
        learner.model.gain.value = start
        grads, same = by_learner(learner, chunk, loss=of(learner.model))
        np.testing.assert_allclose(same, losses, rtol=1e-9)
        assert error(grads, right) < 1e-10


def test_a_parameter_that_a_step_writes_is_refused():
    learner = etrax.compile(One(), etrax.D_RTRL, inputs()[0][0], batch_size=B)

    def decayed(out, y):
        weight = learner.model.out.weight
        weight.value = jax.tree.map(lambda w: 0.9 * w, weight.value)
        return loss(out, y)

    with pytest.raises(ValueError, match=r"the step writes the parameter out\.weight, which is trained"):
        by_learner(learner, loss=decayed)


def test_a_teacher_and_another_learner_run_inside_a_step():
    xs, _ = inputs()
    teacher, plain = (
        etrax.compile(One(linear(9, scale=8.0)), etrax.D_RTRL, xs[0], batch_size=B),
        One(linear(9, scale=8.0)),
    )
    brainstate.nn.init_all_states(plain, batch_size=B)
    learner = etrax.compile(One(linear(scale=9.0)), etrax.D_RTRL, xs[0], batch_size=B)
    right = []
    for model in (teacher, plain):
        learner.reset_state()
        brainstate.nn.reset_all_states(plain, batch_size=B)
        right.append(learner.etrace_grad(xs, step_fn=lambda x, model=model: loss(learner(x), model(x)), chunk_size=3))
    brainstate.nn.reset_all_states(plain, batch_size=B)
    targets = jnp.stack([plain(x) for x in xs])
    learner.reset_state()
    alone = learner.etrace_grad(xs, targets, step_fn=lambda x, y: loss(learner(x), y))
    assert error(right[0], alone) < 1e-10
    assert error(right[1], alone) < 1e-10


def test_two_learners_on_one_set_of_states_are_refused():
    xs, _ = inputs()
    first = etrax.compile(One(), etrax.D_RTRL, xs[0], batch_size=B)
    second = etrax.learners.EProp(first.model)
    second.compile_graph(xs[0])
    second(xs[0])
    for use in (lambda: first(xs[0]), lambda: first.etrace_evolve(xs)):
        with pytest.raises(RuntimeError, match="another learner was compiled for the states"):
            use()
    reference = etrax.BPTT(first.model)  # carries nothing that could be left behind
    reference.compile_graph(xs[0])
    second(xs[0])


class TestAGradientOfAGradient:
    """Right by what acts after the projections; refused by what the learner holds."""

    @pytest.mark.parametrize("single", [False, pytest.param(True, marks=SLOW)])
    def test_by_each_parameter(self, single):
        class Encoded(One):
            def __init__(self):
                super().__init__()
                self.neu.tau = brainstate.nn.Param(np.full(N, 20.0) * u.ms, t=brainstate.nn.SoftplusT(0 * u.ms))
                self.encoder = brainstate.nn.Linear(N, N)

            def update(self, x):
                return super().update(self.encoder(x))

        with pytest.warns(UserWarning, match=r"credit of encoder\.weight is lost"):
            learner = etrax.compile(Encoded(), etrax.D_RTRL, inputs()[0][0], batch_size=B)
        for path, param in learner.param_states.items():
            take = brainstate.transform.grad(lambda: self.size_of(learner, single), {path: param})
            if path[0] == "out":
                self.check_by_differences(learner, single, param, flat(take()))
                continue
            with pytest.raises(ValueError, match=rf"cannot be differentiated with respect to {path[0]}.*`etrax.BPTT`"):
                take()

    def test_by_an_input_forwards_and_backwards(self):
        (xs, ys), learner = inputs(), etrax.compile(One(linear(scale=60.0)), etrax.D_RTRL, inputs()[0][0], batch_size=B)

        def by_target(x):
            learner.reset_state()
            return brainstate.transform.jacrev(lambda y: loss(learner(x), y))(ys[0])

        forwards, backwards = brainstate.transform.jacfwd, brainstate.transform.jacrev
        found, right = (take(by_target, argnums=0)(xs[0]) for take in (forwards, backwards))
        assert np.abs(right).max() > 1e-6
        np.testing.assert_allclose(found, right, rtol=1e-9)

    @staticmethod
    def size_of(learner, single):
        """The squared norm of a gradient."""
        learner.reset_state()
        step = STEPS.setdefault((id(learner), loss), lambda x, y: loss(learner(x), y))
        xs, ys = inputs()
        if not single:
            grads = learner.etrace_grad(xs, ys, step_fn=step, chunk_size=4)
        else:
            one = brainstate.transform.grad(lambda: step(xs[0], ys[0]), learner.param_states)
            grads = jax.tree.map(jnp.add, one(), one())
        leaves = jax.tree.leaves(grads, is_leaf=lambda leaf: isinstance(leaf, u.Quantity))
        return sum(jnp.sum(jnp.asarray(u.get_mantissa(leaf)) ** 2) for leaf in leaves)

    def check_by_differences(self, learner, single, param, found):
        value, h = param.value, 1e-5
        leaves, structure = jax.tree.flatten(value)
        right = []
        for k, leaf in enumerate(leaves):
            for at in np.ndindex(leaf.shape):
                both = []
                for sign in (1, -1):
                    moved = [
                        jnp.asarray(leaf).at[at].add(sign * h) if k == j else other for j, other in enumerate(leaves)
                    ]
                    param.value = structure.unflatten(moved)
                    both.append(float(self.size_of(learner, single)))
                right.append((both[0] - both[1]) / (2 * h))
        param.value = value
        assert np.linalg.norm(right) > 1e-6
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-8 * np.linalg.norm(right))


@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": "d_rtrl"},
        pytest.param({"algorithm": "d_rtrl", "vjp_method": "multi-step"}, marks=SLOW),
        pytest.param({"algorithm": "d_rtrl", "through_depth": True}, marks=SLOW),
        pytest.param({"algorithm": "eprop"}, marks=SLOW),
        pytest.param({"algorithm": "bptt"}, marks=SLOW),
        pytest.param({"algorithm": "rtrl"}, marks=SLOW),
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_a_step_that_does_not_count_gives_nothing_whatever_its_loss_is(options):
    (xs, ys), mask = inputs(), jnp.ones(T).at[jnp.array([2, 5])].set(0.0)
    learner = etrax.compile(One(), options.pop("algorithm"), xs[0], batch_size=B, **options)

    def step(x, y):
        return jnp.sum(jnp.sqrt(jnp.abs(learner(x) - y)))  # its derivative is infinite where both are equal

    found = []
    for hole in (0.0, jnp.nan):
        learner.reset_state()
        targets = jnp.where(mask[:, None, None] == 0, hole, ys)
        found.append(learner.etrace_grad(xs, targets, step_fn=step, mask=mask, chunk_size=3))
    assert all(np.isfinite(flat(g)).all() and np.linalg.norm(flat(g)) > 1e-6 for g in found[0].values())
    for path, right in found[0].items():
        np.testing.assert_array_equal(flat(found[1][path]), flat(right))
