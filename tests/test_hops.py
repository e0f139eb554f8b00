"""Credit goes back hop by hop where spikes enter projections at later steps, up to backpropagation."""

import jax.numpy as jnp
import networks
import oracle
import pytest
from networks import T
from test_gradient import LIB, close

import etrax

DEFAULT = ("recurrent alif detached leaky", "layered two leaky")


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


@pytest.mark.parametrize("name", networks.thorough(DEFAULT, DEFAULT[1]))
def test_in_chunks_the_trace_meets_what_goes_back(name):
    case = networks.case(name)
    late = jnp.where(jnp.arange(T) < 5, 0.0, jnp.linspace(0.5, 2.0, T))
    learner = learner_of(case, hops=1)
    for chunk, mask in ((7, None), (T // 2, late)):
        close(gradient(case, learner, chunk_size=chunk, mask=mask), expected(case, 1, chunk=chunk, mask=mask))


@pytest.mark.filterwarnings("ignore:.* is trained and must be:UserWarning")  # the reference takes the number itself
@pytest.mark.parametrize("hops", networks.thorough([1, 3], 1))
def test_constants_get_credit_for_the_spikes_that_they_made(hops):
    """A threshold acts on spikes of the step before, which enter a projection a hop later."""
    case = networks.case("recurrent alif heterogeneous")
    constants = {"V_th": jnp.asarray(networks.THRESHOLDS), "tau": jnp.full(4, 11.0), "tau_a": jnp.full(4, 35.0)}
    params = case.params | {"pop0": case.params["pop0"] | {"neuron": constants}}
    case = networks.Case(case.net, params, case.xs, case.ys)
    close(gradient(case, learner_of(case, hops=hops)), expected(case, hops))
