"""Exact forward gradients equal backpropagation through time, at once and in pieces."""

import brainstate
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest

import etrax

LIB = networks.package(etrax.neurons, etrax.synapses, etrax.neurons.LeakyReadout)
NAMES = ("recurrent alif heterogeneous", "recurrent coba", "layered two leaky", "layered three")


def compiled(name, algorithm, **options):
    case = networks.case(name)
    net = networks.Built(LIB, case.net, case.params)
    learner = etrax.compile(net, algorithm, case.xs[0], batch_size=networks.B, **options)
    return case, learner, lambda x, y: networks.loss(learner(x), y)


def close(got, expected, rtol=1e-10):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for g, e in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert float(np.abs(e).max()) > 1e-6
        np.testing.assert_allclose(g, e, rtol=rtol, atol=rtol * float(np.abs(e).max()))


@pytest.mark.parametrize("name", networks.thorough(NAMES, "recurrent alif heterogeneous"))
def test_equal_to_backpropagation(name):
    mask = jnp.linspace(0.0, 1.0, networks.T)
    results = []
    for algorithm in (etrax.RTRL, etrax.BPTT):
        case, learner, step = compiled(name, algorithm)
        results.append(learner.etrace_grad(case.xs, case.ys, step_fn=step, mask=mask, return_value=True))
    close(*results)


def test_two_halves_are_one_whole():
    case, learner, step = compiled("layered two leaky", etrax.RTRL)
    whole = learner.etrace_grad(case.xs, case.ys, step_fn=step, reduction="sum")
    learner.reset_state()
    half = networks.T // 2
    parts = [
        learner.etrace_grad(case.xs[at], case.ys[at], step_fn=step, reduction="sum")
        for at in (slice(half), slice(half, None))
    ]
    close(jax.tree.map(jnp.add, *parts), whole, rtol=1e-12)


def test_a_whole_trial_reads_no_influence_and_leaves_none():
    case, learner, step = compiled("layered two leaky", etrax.RTRL)
    whole = learner.etrace_grad(case.xs, case.ys, step_fn=step, reduction="sum")
    assert np.any(learner.influence.value)
    brainstate.nn.reset_all_states(learner.model, batch_size=networks.B)
    close(learner.etrace_grad(case.xs, case.ys, step_fn=step, reduction="sum", trial=True), whole, rtol=1e-12)
    assert not np.any(learner.influence.value)


def test_single_steps_carry_the_influence():
    case, learner, step = compiled("recurrent alif", etrax.RTRL)
    mask = jnp.arange(networks.T) >= 5
    whole = learner.etrace_grad(case.xs, case.ys, step_fn=step, mask=mask, reduction="sum")
    learner.reset_state()
    for x in case.xs[:5]:
        learner(x)
    close(learner.etrace_grad(case.xs[5:], case.ys[5:], step_fn=step, reduction="sum"), whole, rtol=1e-12)


def test_some_weights_and_aux():
    case, learner, step = compiled("recurrent alif", etrax.RTRL)
    chosen = {path: state for path, state in learner.param_states.items() if path[0] == "readout"}
    grads, spikes = learner.etrace_grad(
        case.xs,
        case.ys,
        step_fn=lambda x, y: (step(x, y), learner.model.neu0.get_spike()),
        weights=chosen,
        chunk_size=3,
        has_aux=True,
    )
    learner.reset_state()
    everything = learner.etrace_grad(case.xs, case.ys, step_fn=step)
    assert spikes.shape == (networks.T, networks.B, 4)
    close(grads, {path: everything[path] for path in chosen})


def test_too_large_a_network_is_refused():
    with pytest.raises(ValueError, match=r"RTRL of \d+ parameters and \d+ state values needs [\d,]+ bytes, .*`limit`"):
        compiled("recurrent alif", etrax.RTRL, limit=1000)


def test_a_foreign_weight_is_refused():
    case, learner, step = compiled("recurrent alif", etrax.RTRL)
    with pytest.raises(ValueError, match="no parameter of the model"):
        learner.etrace_grad(case.xs, case.ys, step_fn=step, weights={("w",): brainstate.ParamState(jnp.ones(2))})


def test_a_state_outside_the_model_is_refused():
    case, learner, _ = compiled("recurrent alif", etrax.RTRL)
    running = brainstate.ShortTermState(jnp.zeros(()), name="running")

    def step(x, y):
        running.value = 0.9 * running.value + networks.loss(learner(x), y)
        return running.value

    with pytest.raises(ValueError, match="`step_fn` writes .*, a state that a step of the model does not write"):
        learner.etrace_grad(case.xs, case.ys, step_fn=step)
