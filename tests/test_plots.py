"""Figures: returned, not shown; every axis says what it shows and in which unit; nothing is cut off."""

import brainstate
import brainunit as u
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from etrax import network, plots, tasks
from etrax.training import Evaluation

RECIPE = tasks.Recipe(n_rec=12, weight_scale=8.0 * u.mS)


@pytest.fixture(autouse=True)
def single_precision():
    with brainstate.environ.context(precision=32):
        yield


@pytest.fixture(scope="module")
def recorded():
    with brainstate.environ.context(dt=1.0 * u.ms, precision=32):
        task = tasks.get("digits")
        net = network.build(task, RECIPE, seed=1)
        trial = network.record_trial(net, task, RECIPE)
        return task, net, trial, network.record_trace(net, task, RECIPE, trial)


def history():
    return [
        {"method": method, "epoch": epoch}
        | {f"{part}_{k}": 0.5 for part in ("train", "validation") for k in ("loss", "accuracy", "rate_hz")}
        for method in ("d_rtrl", "readout")
        for epoch in (1, 2)
    ]


def make(name, recorded):
    task, _, trial, trace = recorded
    labels = np.arange(30) % 10
    return {
        "rasters": lambda: plots.plot_rasters(trial, task.classes),
        "states": lambda: plots.plot_states(trial),
        "trace": lambda: plots.plot_trace(trace),
        "learning": lambda: plots.plot_learning(history()),
        "confusion": lambda: plots.plot_confusion(Evaluation(0.1, 1.0, 20.0, labels, labels), task.classes),
    }[name]()


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("rasters", ["time (ms)", "channel", "neuron", "output (no unit)"]),
        ("states", ["mV", "a (spikes)", "time (ms)"]),
        ("trace", ["time (ms)", "mV per mS", "spikes per mS"]),
        ("learning", ["epoch", "cross-entropy (nats)", "accuracy (%)", "firing rate (Hz)"]),
        ("confusion", ["answer", "right answer", "share of the row (%)"]),
    ],
)
def test_a_figure_is_returned_with_units(recorded, tmp_path, name, units):
    before = plt.get_fignums()
    figure = make(name, recorded)
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == before
    labels = [axis.xaxis.label for axis in figure.axes] + [axis.yaxis.label for axis in figure.axes]
    for unit in units:
        assert any(unit in label.get_text() for label in labels), unit
    path = plots.save(figure, tmp_path / "figure.png")
    assert path.stat().st_size > 10_000
    assert [p.name for p in tmp_path.iterdir()] == ["figure.png"]
    figure.draw_without_rendering()
    page = figure.bbox.padded(1.0)
    for label in labels:
        box = label.get_window_extent()
        assert not label.get_text() or (page.contains(box.x0, box.y0) and page.contains(box.x1, box.y1)), label


def test_what_is_drawn_is_what_the_network_did(recorded):
    _, _, trial, _ = recorded
    assert trial.spikes.sum() > 0
    crossed = np.asarray((trial.V - trial.threshold).to_decimal(u.mV)) >= 0
    np.testing.assert_array_equal(trial.spikes > 0, crossed)


def test_the_trace_of_a_silent_synapse_is_zero(recorded):
    _, _, trial, trace = recorded
    assert trial.spikes[:, trace.neuron].sum() > 0
    silent = trace.presynaptic.sum(axis=0) == 0
    assert 0 < silent.sum() < len(silent)
    for value in trace.traces.values():
        value = np.asarray(u.get_mantissa(value))
        assert np.all(value[:, silent] == 0)
        assert np.any(value[:, ~silent] != 0)


def test_recording_leaves_the_network_alone(recorded):
    task, net, _, _ = recorded
    brainstate.nn.init_all_states(net, batch_size=3)
    before = {path: state.value for path, state in net.states().items()}
    network.record_trial(net, task, RECIPE, index=2)
    assert all(state.value is before[path] for path, state in net.states().items())
