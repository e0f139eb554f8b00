"""Figures: returned, not shown; every axis says what it shows and in which unit; nothing is cut off."""

import brainstate
import brainunit as u
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from etrax import GradientReport, network, plots, tasks
from etrax.experiment.methods import METHODS
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
    assert plt.get_fignums() == before
    check(figure, units, tmp_path)


def check(figure, units, tmp_path):
    """A figure is a figure, names its units, can be saved, and cuts nothing off."""
    assert isinstance(figure, Figure)
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


def curves(figure):
    """The lines of each axis with something on them."""
    return [[line for line in axis.lines if np.size(line.get_xdata())] for axis in figure.axes]


@pytest.mark.parametrize(
    ("rows", "labels", "lines"),
    [
        ([{"method": None, "validation_loss": None, "validation_rate_hz": None}] * 2, ["loss", "firing rate (Hz)"], 1),
        (
            [{"method": None, "validation_loss": None, "validation_rate_hz": None}, {"method": None}],
            ["loss", "firing"],
            2,
        ),
        ([{}, {}], ["squared error", "firing rate (Hz)"], 2),
        ([{"method": "d_rtrl", "train_accuracy": 0.5}, {"method": "mine"}], ["nats", "accuracy (%)", "firing"], 4),
    ],
)
def test_a_history_need_not_have_every_column(rows, labels, lines):
    full = {"method": "bptt", "train_accuracy": np.nan, "train_loss": 1.0, "train_rate_hz": 9.0}
    full |= {"validation_loss": 2.0, "validation_rate_hz": 8.0, "validation_accuracy": np.nan}
    history = [{"epoch": i} | {k: v for k, v in (full | row).items() if v is not None} for i, row in enumerate(rows)]
    figure = plots.plot_learning(history)
    assert all(label in axis.get_ylabel() for label, axis in zip(labels, figure.axes, strict=True))
    assert len(curves(figure)[0]) == lines
    assert not np.isnan(np.hstack([line.get_ydata() for drawn in curves(figure) for line in drawn])).any()


def test_as_many_methods_as_there_are_look_different():
    methods = list(METHODS)
    rows = [dict(row, method=m) for m in methods for row in history()[:2]]
    figure = plots.plot_learning(rows, {name: method.title for name, method in METHODS.items()})
    looks = {(line.get_color(), line.get_linestyle()) for line in curves(figure)[0]}
    assert len(looks) == 2 * len(methods)
    assert {METHODS[m].title for m in methods} <= {text.get_text() for text in figure.legends[0].get_texts()}


@pytest.mark.parametrize("n", [1, 8, 12])
def test_every_neuron_asked_for_is_drawn_and_looks_different(recorded, n):
    trial = recorded[2]
    for figure, panel in (
        (plots.plot_states(trial, neurons=range(n)), -1),
        (plots.plot_quantities({"V": trial.V, "a": trial.a[:, :1]}, neurons=range(n)), 0),
    ):
        drawn = curves(figure)
        assert len({(line.get_color(), line.get_linestyle()) for line in drawn[panel]}) == n
        assert all(drawn)


@pytest.mark.parametrize(
    ("neurons", "message"),
    [([100], "`neurons` has 100, .* 12 .* from 0 to 11"), ([0, -1], "`neurons` has -1"), ([], "`neurons` is empty")],
)
def test_a_neuron_that_is_not_there_is_named(recorded, neurons, message):
    trial = recorded[2]
    for draw in (lambda: plots.plot_states(trial, neurons), lambda: plots.plot_quantities({"V": trial.V}, neurons)):
        with pytest.raises(ValueError, match=message):
            draw()


@pytest.mark.parametrize(
    ("n", "name"), [(2, "class"), (10, "{}"), (10, "a long name {}"), (14, "{}"), (35, "class {}"), (120, "class {}")]
)
def test_names_and_counts_of_a_confusion_do_not_overlap(n, name):
    labels, answers = np.divmod(np.tile(np.arange(n * n), 1111 if n < 20 else 1), n)
    evaluation = Evaluation(0.1, 1.0, 20.0, labels, answers)
    figure = plots.plot_confusion(evaluation, [name.format(k) for k in range(n)])
    figure.draw_without_rendering()
    axis = figure.axes[0]
    assert figure.get_figwidth() <= 6.5
    for texts in (axis.get_xticklabels(), axis.get_yticklabels(), axis.texts):
        boxes = [text.get_window_extent() for text in texts]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


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


@pytest.fixture(scope="module")
def report():
    values = np.linspace(0.2, 1.0, 8).reshape(4, 2)
    return GradientReport(
        parameters=["syn.comm.weight", "out.weight"],
        edges=np.arange(5) * 10.0 * u.ms,
        cosine=values[0],
        norm_ratio=values[1],
        cosine_over_time=values,
        norm_ratio_over_time=2 * values,
        norms={},
        rates={},
        remarks=["neu is silent"],
        learner="D_RTRL",
    )


SPIKES = np.random.default_rng(0).random((50, 20)) < 0.05
ANY = {
    "raster": (lambda r: plots.plot_raster(SPIKES, "population"), ["time (ms)", "neuron", "rate (Hz)"]),
    "silent raster": (lambda r: plots.plot_raster(0 * SPIKES), ["time (ms)", "neuron", "rate (Hz)"]),
    "quantities": (lambda r: plots.plot_quantities({"V": SPIKES * u.mV, "a": SPIKES}), ["V (mV)", "a (no unit)"]),
    "heat": (lambda r: plots.plot_heat(SPIKES * u.mV / u.mS), ["presynaptic", "trace (mV / mS)", "time (ms)"]),
    "seeds": (lambda r: plots.plot_seeds({"D-RTRL": SPIKES[:3], "BPTT": SPIKES[3:6]}), ["accuracy (%)", "epoch"]),
    "alignment": (plots.plot_alignment, ["cosine (no unit)", "norm ratio (no unit)", "time (ms)"]),
    "memory": (lambda r: plots.plot_memory([10, 100], {"BPTT": [1e5, 1e6]}), ["memory (MiB)", "T (steps)"]),
}


@pytest.mark.parametrize("name", ANY)
def test_a_figure_of_any_network_is_returned_with_units(report, tmp_path, name):
    make, units = ANY[name]
    check(make(report), units, tmp_path)


@pytest.mark.parametrize("rows", [[[1, 2, 3], [3]], [[1, 2, 3, np.nan], [3, np.nan, np.nan, np.nan]]])
def test_seeds_that_stopped_early_count_as_long_as_they_ran(rows):
    figure = plots.plot_seeds({"early": rows, "full": [[1, 2, 3], [1, 2, 3]]})
    np.testing.assert_array_equal(curves(figure)[0][0].get_ydata(), [2, 2, 3])
    np.testing.assert_array_equal(curves(figure)[0][1].get_ydata(), [1, 2, 3])


@pytest.mark.parametrize(("name", "start"), [("a", b"\x89PNG"), ("a.b.png", b"\x89PNG"), ("a.pdf", b"%PDF")])
def test_a_figure_is_written_in_the_format_of_its_suffix(tmp_path, name, start):
    assert plots.save(Figure(), tmp_path / name).read_bytes().startswith(start)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_trial_must_be_picked():
    for shape in ((0, 4), (4, 0)):
        with pytest.raises(ValueError, match=r"`spikes` has shape .*: give at least one step and one neuron"):
            plots.plot_raster(np.zeros(shape))
    with pytest.raises(ValueError, match="`traces` is empty"):
        plots.plot_quantities({})
    with pytest.raises(ValueError, match=r"`spikes` must have two axes.*pick one trial"):
        plots.plot_raster(np.zeros((5, 2, 3)))
