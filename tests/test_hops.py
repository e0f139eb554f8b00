"""Credit goes back hop by hop where spikes enter projections at later steps, up to backpropagation."""

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import networks
import numpy as np
import oracle
import plainly
import pytest
from networks import T
from plainly import (
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
from test_gradient import LIB, close

import etrax
from etrax.engine.hops import before_growth
from etrax.engine.planning import Limits
from etrax.neurons import LeakyReadout
from etrax.synapses import CUBA, AlignPostProj, Expon

DEFAULT = ("recurrent alif detached leaky",)


def learner_of(case, **options):
    net = networks.Built(LIB, case.net, case.params)
    return etrax.compile(net, etrax.D_RTRL, case.xs[0], batch_size=networks.B, **options)


def gradient(case, learner, **options):
    def step(x, y):
        return networks.loss(learner(x), y)

    learner.reset_state()
    by_path = learner.etrace_grad(case.xs, case.ys, step_fn=step, reduction="sum", **options)
    return networks.named(by_path)


def expected(case, hops, **options):
    return oracle.hops_grad(case.net, case.params, case.xs, case.ys, networks.loss, hops, **options)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in DEFAULT else pytest.mark.slow) for n in networks.NETWORKS]
)
def test_every_level_equals_its_reference(name):
    """Exact in the number of hops; with as many as there are steps before the last, backpropagation."""
    case = networks.case(name)
    close(gradient(case, learner_of(case, hops=2)), expected(case, 2))
    whole = oracle.bptt_grad(case.net, case.params, case.xs, case.ys, networks.loss)
    close(gradient(case, learner_of(case, hops=T - 1)), whole)


@pytest.mark.parametrize("name", networks.thorough([*DEFAULT, "layered two leaky"]))
def test_in_chunks_the_trace_meets_what_goes_back(name):
    case = networks.case(name)
    late = jnp.where(jnp.arange(T) < 5, 0.0, jnp.linspace(0.5, 2.0, T))
    learner = learner_of(case, hops=1)
    for chunk, mask in ((7, None), (T // 2, late)):
        close(gradient(case, learner, chunk_size=chunk, mask=mask), expected(case, 1, chunk=chunk, mask=mask))


class InBlocks(etrax.D_RTRL):
    limits = Limits(block=3)


class Delayed(plainly.One):
    """Recurrent, with spikes that arrive two steps late."""

    def __init__(self):
        super().__init__()
        self.loop = AlignPostProj(comm=linear(9), syn=Expon(plainly.N), out=CUBA(), post=self.neu, delay=2 * u.ms)

    def update(self, x):
        self.loop(self.neu.get_spike())
        return super().update(x)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [etrax.D_RTRL, InBlocks])
def test_spikes_that_wait_pass_credit_on_from_block_to_block(algorithm):
    right, _ = by_autodiff(Delayed)
    errors = [error(by_learner(compiled(Delayed, algorithm, hops=hops))[0], right) for hops in (1, plainly.T - 1)]
    assert errors[0] > 1e-6
    assert errors[1] < 1e-10


@pytest.mark.filterwarnings("ignore:.* is trained and must be:UserWarning")  # the reference takes the number itself
@pytest.mark.parametrize("hops", networks.thorough([1, 3]))
def test_constants_get_credit_for_the_spikes_that_they_made(hops):
    """A threshold acts on spikes of the step before, which enter a projection a hop later."""
    case = networks.case("recurrent alif heterogeneous")
    constants = {"V_th": jnp.asarray(networks.THRESHOLDS), "tau": jnp.full(4, 11.0), "tau_a": jnp.full(4, 35.0)}
    params = case.params | {"pop0": case.params["pop0"] | {"neuron": constants}}
    case = networks.Case(case.net, params, case.xs, case.ys)
    close(gradient(case, learner_of(case, hops=hops)), expected(case, hops))


# ------------------------------------------------------------------------------------------------- what can be asked of it


def compiled(make, algorithm=etrax.D_RTRL, **options):
    return etrax.compile(make(), algorithm, inputs()[0][0], batch_size=plainly.B, **options)


class Ring(brainstate.nn.Module):
    """Populations A -> B -> C -> A by spikes of the step before, x -> A, a readout of C."""

    def __init__(self):
        super().__init__()
        self.A, self.B, self.C = neurons(), neurons(), neurons()
        self.xA = projection(self.A, linear(1, scale=20.0))
        for k, name in enumerate(("AB", "BC", "CA")):
            setattr(self, name, projection(getattr(self, name[1]), linear(k + 2, scale=20.0)))
        self.out = readout()

    def update(self, x):
        late = {name: getattr(self, name).get_spike() for name in "ABC"}
        self.xA(x)
        for name in ("AB", "BC", "CA"):
            getattr(self, name)(late[name[0]])
        self.A(), self.B()
        return self.out(self.C())


class TestARing:
    """From A to the readout it takes two hops: with fewer, what enters A has no credit at all."""

    @pytest.mark.parametrize("hops", [0, 1])
    def test_too_few_are_an_error_that_says_how_many(self, hops):
        within = " and 1 hop" if hops else ""
        with pytest.raises(
            ValueError, match=rf"to the loss within one step{within},.*`hops=2` of `etrax\.D_RTRL`, which follows"
        ):
            by_learner(compiled(Ring, hops=hops))

    @pytest.mark.slow
    def test_enough_are_backpropagation(self):
        right, losses = by_autodiff(Ring)
        grads, same = by_learner(compiled(Ring, hops=plainly.T - 1))
        assert error(grads, right) < 1e-10
        np.testing.assert_allclose(same, losses, rtol=1e-9)
        assert np.linalg.norm(flat(by_learner(compiled(Ring, hops=2))[0]["xA", "comm", "weight"])) > 1e-8


@pytest.mark.slow
def test_all_of_them_are_the_multi_step_method():
    grads, _ = by_learner(compiled(Ring, hops="all"))
    assert error(grads, by_learner(compiled(Ring, vjp_method="multi-step"))[0]) == 0


def test_what_remembers_and_has_no_trace_is_refused():
    class Leaky(Ring):
        def __init__(self):
            super().__init__()
            self.leak = LeakyReadout(plainly.N, 2)  # of whose spikes it does not know

        def update(self, x):
            return super().update(x) + self.leak(self.C.get_spike())

    with pytest.raises(
        ValueError, match=r"leak\.s \(HiddenState\) remembers it.*pre=neurons.*`hops=2` counts only what"
    ):
        compiled(Leaky, hops=2)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"hops": -1}, ValueError, "`hops` must be a whole number from 0 on, got -1"),
        ({"hops": 1.5}, ValueError, "`hops` must be a whole number from 0 on, got 1.5"),
        ({"hops": "both"}, ValueError, "`hops` must be a whole number from 0 on, or 'all', got 'both'"),
        ({"hops": 2, "carry": "rank1"}, TypeError, "`hops=2` is not read by `carry='rank1'`"),
        ({"hops": 2, "vjp_method": "multi-step"}, ValueError, "`hops=2` with `vjp_method='multi-step'`"),
    ],
)
def test_options_that_do_not_fit(options, kind, message):
    with pytest.raises(kind, match=message):
        compiled(Ring, **options)


def test_in_single_steps_there_are_none():
    learner = compiled(Ring, hops=2)
    with pytest.raises(ValueError, match="`hops` is 2, but a derivative of a single step is taken"):
        by_single_steps(learner)
    learner.reset_state()
    learner(inputs()[0][0])  # to run it is another matter
    with pytest.raises(ValueError, match="`chunk_size` is 1, but the learner has `hops=2`"):
        by_learner(learner, 1)


@pytest.mark.slow
def test_outside_the_forward_pass_no_loop_has_a_product():
    """One product for each projection and hop, of all steps together."""
    xs, ys = inputs()
    counts = []
    for hops in (0, 2, 3):
        learner = compiled(Ring, hops=hops)
        weights = {path: s for path, s in learner.param_states.items() if path[0] in ("BC", "out")}

        def run(xs, learner=learner, weights=weights):
            return learner.etrace_grad(xs, ys, step_fn=lambda x, y: loss(learner(x), y), weights=weights)

        counts.append(products(brainstate.transform.make_jaxpr(run)(xs)[0].jaxpr))
    in_loops, outside = np.transpose(counts)
    assert len(set(in_loops)) == 1  # those of the forward pass
    assert outside[2] == outside[1] + 2 * 4  # with each that goes back its way forward, which nobody reads


def products(jaxpr, inside=False):
    """Numbers of matrix products in loops, and outside."""
    found = np.zeros(2, int)
    for equation in jaxpr.eqns:
        found[0 if inside else 1] += equation.primitive.name == "dot_general"
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found += products(inner, inside or equation.primitive.name in ("scan", "while"))
    return found


@pytest.mark.parametrize(
    ("sizes", "number"),
    [
        ((1.0, 0.5, 0.2, 0.1), 3),  # they settle: the last
        ((1.0, 2.0, 0.5, 3.0), 3),  # they grow, but not twice in a row
        ((1.0, 0.1, 0.2, 0.4), 3),  # they grow, but stay below the first
        ((1.0, 0.5, 2.0, 3.0), 1),  # 3 > 2 > 0.5: the sum before 2 came
        ((1.0, 2.0, 3.0, 0.1), 0),
        ((0.0, 1.0, 2.0, 3.0), 3),  # nothing to compare with
    ],
)
def test_sums_that_overshoot_are_left_before_they_grow(sizes, number):
    sums = np.cumsum(sizes)
    other = np.cumsum([1.0, 0.1, 0.1, 0.1])  # another projection, which settles
    assert int(before_growth([[jnp.full(1, a), jnp.full(1, b)] for a, b in zip(sums, other, strict=True)])) == number
