"""The gradient report: what it says is what the learners give; it leaves everything as it was; it knows bad networks."""

import re

import brainstate
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from matplotlib.figure import Figure

import etrax
from etrax import gradient_report
from etrax.analysis.gradient import remarks_on

LIB = networks.package(etrax.neurons, etrax.synapses, etrax.neurons.LeakyReadout)


def compiled(name, scale=1.0, algorithm=etrax.D_RTRL):
    case = networks.case(name)
    params = jax.tree.map(lambda p: p, case.params)
    params["pop0"] = jax.tree.map(lambda p: scale * p, params["pop0"])
    net = networks.Built(LIB, case.net, params)
    learner = etrax.compile(net, algorithm, case.xs[0], batch_size=networks.B)

    def step(x, y):
        return networks.loss(learner(x), y)

    return learner, case, step


@pytest.fixture(scope="module")
def recurrent():
    with brainstate.environ.context(dt=1.0 * networks.u.ms):
        learner, case, step = compiled("recurrent alif detached leaky")
        learner.etrace_evolve(case.xs[:5])
        before = {p: s.value for p, s in learner.states().items()}
        report = gradient_report(learner, case.xs, case.ys, step_fn=step, windows=4)
        return learner, case, step, before, report


def test_whole_sequence_is_the_two_gradients(recurrent):
    learner, case, step, _, report = recurrent
    learner.reset_state()
    ours = learner.etrace_grad(case.xs, case.ys, step_fn=step, reduction="sum")
    other, _, other_step = compiled("recurrent alif detached leaky", algorithm=etrax.BPTT)
    true = other.etrace_grad(case.xs, case.ys, step_fn=other_step, reduction="sum")
    for path, grad in networks.mantissas(ours).items():
        for key, a in grad.items() if isinstance(grad, dict) else [(None, grad)]:
            b = networks.mantissas(true)[path]
            b = b if key is None else b[key]
            i = report.parameters.index(".".join(map(str, path if key is None else (*path, key))))
            norms = np.linalg.norm(a), np.linalg.norm(b)
            np.testing.assert_allclose(report.cosine[i], np.sum(a * b) / norms[0] / norms[1], rtol=1e-9)
            np.testing.assert_allclose(report.norm_ratio[i], norms[0] / norms[1], rtol=1e-9)
    assert report.cosine.min() < 0.9999
    assert report.meaningful


def test_states_traces_and_random_keys_are_left_alone(recurrent):
    learner, case, step, _, _ = recurrent
    learner.etrace_evolve(case.xs[:5])
    before = jax.tree.map(np.asarray, {p: s.value for p, s in learner.states().items()})
    key = brainstate.random.DEFAULT.value
    gradient_report(learner, case.xs, case.ys, step_fn=step, windows=4, reset=False)
    jax.tree.map(np.testing.assert_array_equal, before, {p: s.value for p, s in learner.states().items()})
    assert brainstate.random.DEFAULT.value is key


def test_it_prints_and_plots(recurrent):
    *_, report = recurrent
    assert "NOTE" not in str(report)
    for name in report.parameters:
        assert name in str(report)
    assert report.cosine_over_time.shape == (4, len(report.parameters))
    assert report.edges.shape == (5,)
    figure = report.plot()
    assert isinstance(figure, Figure)
    assert any("time (ms)" in axis.get_xlabel() for axis in figure.axes)


def test_a_feed_forward_network_is_exact_in_every_window():
    learner, case, step = compiled("feed-forward lif")
    report = gradient_report(learner, case.xs, case.ys, step_fn=step, windows=np.int64(3))
    assert report.edges.shape == (4,)
    np.testing.assert_allclose(report.cosine_over_time, 1.0, rtol=1e-9)
    np.testing.assert_allclose(report.norm_ratio_over_time, 1.0, rtol=1e-9)


@pytest.mark.parametrize(("scale", "words"), [(0.0, "silent"), (100.0, "saturated")])
def test_a_silent_or_saturated_network_is_named(scale, words):
    learner, case, step = compiled("feed-forward lif", scale)
    xs = jnp.ones_like(case.xs)
    report = gradient_report(learner, xs, case.ys, step_fn=step, windows=1)
    assert not report.meaningful
    assert f"neu0 is {words}" in str(report)
    assert "mean nothing" in str(report)


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ([0.0] * 5 + [1.0] * 5, "is saturated: 50% of .* and 50% never, so the figures mean nothing"),
        ([0.0] * 3 + [1.0] * 6 + [0.1], "is saturated: 60% of .* and 30% never"),
        ([0.0] * 2 + [0.9] * 4 + [0.1] * 4, "is partly saturated: 40% of .* and 20% never"),
        ([0.9] + [0.1] * 9, "is partly saturated: 10% of .* and 0% never"),
        ([0.0] * 19 + [0.1], "is nearly silent: 95%"),
        ([0.0] * 4 + [0.1] * 16, None),
        ([0.9] + [0.1] * 19, None),
    ],
)
def test_silent_and_saturated_neurons_count_together(shares, words):
    remarks = remarks_on({"neu0": np.array(shares) / 1e-3 * networks.u.Hz}, 1.0 * networks.u.ms, [], [])
    assert len(remarks) == (words is not None)
    assert words is None or re.search(f"neu0 {words}", remarks[0])


@pytest.mark.parametrize("windows", [0, True, 2.0])
def test_a_wrong_number_of_windows_is_named(windows):
    learner, case, step = compiled("feed-forward lif")
    with pytest.raises(ValueError, match=f"`windows` must be a whole number above 0, got {windows}"):
        gradient_report(learner, case.xs, case.ys, step_fn=step, windows=windows)
