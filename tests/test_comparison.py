"""Methods compared over seeds: what is run, what is kept when it is stopped, and that table and runs agree."""

import dataclasses
import json
import re
import shutil
import signal
import statistics

import brainstate
import brainunit as u
import numpy as np
import pytest

from etrax import cli, comparison, experiment, tasks
from etrax.comparison import plan
from etrax.comparison import report as comparison_report
from etrax.data.batch import Batch
from etrax.tasks.base import bernoulli, drawn

RECIPE = tasks.Recipe(n_rec=4, batch_size=16, epochs=2, weight_scale=8 * u.mS)
METHODS = ("bptt", "readout")  # those that compile fastest


def two_rates(**changes):
    """A task of 8 steps: which half of the inputs fires?"""

    def make(n, seed):
        rng = np.random.default_rng(seed)
        label = rng.integers(0, 2, n)
        rates = np.where(label[:, None] == np.arange(6) // 3, 800.0, 50.0)
        return Batch(bernoulli(np.repeat(rates[None], 8, 0), rng), np.broadcast_to(label, (8, n)), np.ones(8))

    trials = drawn(make, n_train=32, n_validation=24, n_test=40)
    task = tasks.Task(name="two_rates", n_in=6, classes=("a", "b"), n_steps=8, recipe=RECIPE, **trials)
    return dataclasses.replace(task, **changes)


class Counted:
    """A function of a task that counts its calls, and gets Ctrl-C in the middle of one of the iterations."""

    def __init__(self, of, interrupt=None):
        self.of, self.calls, self.interrupt = of, 0, interrupt

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls == self.interrupt:
            signal.raise_signal(signal.SIGINT)
        return self.of(*args, **kwargs)


def timeless(content):
    """Results without what a clock says."""
    if isinstance(content, dict):
        return {k: timeless(v) for k, v in content.items() if k != "seconds"}
    return [timeless(v) for v in content] if isinstance(content, list) else content


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A comparison in one piece: its folder, its results and the calls of the test trials."""
    test = Counted(two_rates().test)
    with brainstate.environ.context(dt=1 * u.ms):
        plan = comparison.Comparison(two_rates(test=test), tmp_path_factory.mktemp("whole"), methods=METHODS, seeds=1)
        return plan.folder, plan.run(), test.calls


def run_of(accuracy, method="bptt", seed=0, **changes):
    """The file of a run that was never done."""
    rows = [{"updates": 10 * k, "validation_accuracy": a} for k, a in ((1, 0.5), (2, accuracy), (3, 0.6))]
    figures = dict(activation_sparsity=0.98, effective_macs=1.0, effective_acs=20.0, dense=90.0, footprint_bytes=2048)
    measured = dict(test_accuracy=accuracy, test_loss=1 - accuracy, test_answers=40, rate_hz=8.0, seconds=1.5 + seed)
    run = {
        "method": method,
        "seed": seed,
        "made_with": "x",
        "trace_bytes": 4096,
        "history": rows,
        **figures,
        **measured,
    }
    return {**run, **changes}


def summarised(runs, methods=METHODS, seeds=3):
    settings = {"n_rec": "4", "batch_size": "16", "precision": "float32"}
    about = dict(task="t", command="etrax experiment t", made_with=["x"], threshold=0.8, updates=30, settings=settings)
    return comparison_report.summary(about, list(methods), seeds, {(r["method"], r["seed"]): r for r in runs})


# -- runs ----------------------------------------------------------------------------------


def test_the_test_trials_are_met_once(whole):
    folder, results, calls = whole
    assert calls == results["finished"] == len(METHODS)
    assert {path.name for path in folder.iterdir()} == {
        "runs",
        "settings.json",
        *(f"results.{suffix}" for suffix in ("md", "json", "png", "pdf")),
    }
    assert {path.name for path in (folder / "runs").iterdir()} == {f"{method}-0.json" for method in METHODS}


@pytest.mark.slow
def test_stopped_and_gone_on_is_the_same(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "runs" / "readout-0.json").unlink()
    train = Counted(two_rates().train, interrupt=3)  # the settings look at one epoch, the run is in its second
    with pytest.raises(KeyboardInterrupt):
        comparison.Comparison(two_rates(train=train), tmp_path, methods=METHODS, seeds=1).run()
    assert "**Not all is done: 1 of 2 runs are missing** (readout, seed 0)." in (tmp_path / "results.md").read_text()
    assert list((tmp_path / "runs" / "readout-0").glob("checkpoint*"))
    test = Counted(two_rates().test)
    plan = comparison.Comparison(two_rates(test=test), tmp_path, methods=METHODS, seeds=1)
    assert plan.missing() == [("readout", 0)]
    assert timeless(plan.run()) == timeless(whole[1])
    assert test.calls == 1
    assert plan.run() == json.loads((tmp_path / "results.json").read_text())  # nothing is left to do
    assert test.calls == 1


def test_other_settings_are_refused(whole):
    folder, results, _ = whole
    for changes, message in (
        ({"recipe": dataclasses.replace(RECIPE, n_rec=5)}, "`n_rec` is 5 but the runs in .* have 4"),
        ({"updates": 3}, "`updates` is 3 but the runs in .* have 4"),
        ({"optimizer": "sgd"}, "`optimizer` is sgd but the runs in .* have adam"),
        ({"chunk_size": 4}, "`chunk_size` is 4 but the runs in .* have None"),
        ({"task": two_rates(train=drawn(lambda n, seed: next(two_rates().test(n)))["train"])}, "`training trials` is"),
    ):
        with pytest.raises(ValueError, match=message):
            comparison.Comparison(**{"task": two_rates(), "folder": folder, **changes})
    fewer = comparison.Comparison(two_rates(), folder, methods=METHODS[:1], seeds=1, threshold=0.6)  # these may change
    assert list(fewer.results()["methods"]) == ["bptt"]
    comparison.Comparison(two_rates(), folder, methods=METHODS, seeds=1).results()
    assert json.loads((folder / "results.json").read_text()) == results


def test_methods_share_weights_and_trials(whole):
    runs = [json.loads((whole[0] / "runs" / f"{method}-0.json").read_text()) for method in METHODS]
    assert [row["updates"] for row in runs[0]["history"]] == [2, 4]
    assert runs[0]["footprint_bytes"] == runs[1]["footprint_bytes"]
    assert runs[0]["history"][1]["train_loss"] != runs[1]["history"][1]["train_loss"]


def test_a_run_that_fails_is_a_result(tmp_path, monkeypatch):
    def diverge(*args, **kwargs):
        raise FloatingPointError("training failed at batch 3: loss nan; the last good checkpoint is elsewhere")

    monkeypatch.setattr(plan, "fit", diverge)
    results = comparison.Comparison(two_rates(), tmp_path, methods=METHODS, seeds=1).run()
    assert results["failed"] == {f"{method}, seed 0": "training failed at batch 3: loss nan" for method in METHODS}
    assert (
        "**Failed** (readout, seed 0): training failed at batch 3: loss nan." in (tmp_path / "results.md").read_text()
    )


# -- the table -----------------------------------------------------------------------------


def test_the_table_has_the_numbers_of_the_runs(whole):
    folder, results, _ = whole
    assert results == json.loads((folder / "results.json").read_text())
    cells = rows_of((folder / "results.md").read_text())
    for method in METHODS:
        run = json.loads((folder / "runs" / f"{method}-0.json").read_text())
        of = results["methods"][method]
        assert of["test_accuracy"] == {"mean": run["test_accuracy"], "std": None, "each": [run["test_accuracy"]]}
        assert of["validation_accuracy"] == [[row["validation_accuracy"] for row in run["history"]]]
        assert of["effective_operations"]["each"] == [run["effective_macs"] + run["effective_acs"]]
        assert cells[of["title"]][:3] == ["1", *[f"{100 * run['test_accuracy']:.1f}"] * 2]


def rows_of(text):
    """First cell -> the others, of a table in Markdown."""
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows[2:]}


def test_statistics_over_seeds():
    accuracies = [0.7, 0.9, 0.8]
    found = summarised([run_of(a, seed=s) for s, a in enumerate(accuracies)], methods=["bptt"])
    (of,) = found["methods"].values()
    assert of["test_accuracy"]["mean"] == pytest.approx(0.8)
    assert of["test_accuracy"]["std"] == pytest.approx(statistics.stdev(accuracies))
    assert of["updates_to_threshold"]["each"] == [None, 20, 20]
    text = comparison_report.markdown(found)
    assert rows_of(text) == {
        "BPTT": [
            "3",
            "80.0 ± 10.0",
            "70.0, 90.0, 80.0",
            "20 (2 of 3)",
            "2.5 ± 1.0",
            "4",
            "8.0 ± 0.0",
            "0.9800",
            "21",
            "2.0",
        ]
    }
    assert "missing" not in text
    assert "\n    etrax experiment t\n" in text


def test_what_is_missing_is_said():
    found = summarised([run_of(0.9), run_of(0.7, seed=2)])
    assert found["missing"] == ["bptt, seed 1", "readout, seed 0", "readout, seed 1", "readout, seed 2"]
    text = comparison_report.markdown(found)
    assert "**Not all is done: 4 of 6 runs are missing**" in text
    assert rows_of(text)["BPTT"][:3] == ["2 of 3", "80.0 ± 14.1", "90.0, –, 70.0"]
    assert rows_of(text)["readout only"] == ["0 of 3", *["–"] * 9]
    figure = comparison_report.draw(found)
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert labels == ["BPTT (n = 2)", "readout only (n = 0)"]


# -- the command ---------------------------------------------------------------------------


def test_the_command(tmp_path, capsys, monkeypatch):
    made = {"made_with": plan._made_with()}
    monkeypatch.setattr(
        comparison.Comparison, "_run", lambda self, method, seed, bar: run_of(0.9, method, seed, **made)
    )
    words = ["experiment", "digits", "--methods", "bptt", "--seeds", "1", "--neurons", "4", "--updates", "2"]
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    text = (tmp_path / "results.md").read_text()
    assert text in printed
    assert f"\n    etrax {' '.join(words)}\n" in text
    assert str(tmp_path) not in text
    assert re.search(r"^Made with Python .*, etrax .*, jax .*; cpu \(", text, re.MULTILINE)
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--batch-size", "16", "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert "`batch_size` is 16 but the runs in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["patterns"], "`task` 'patterns' has no classes"),
        (
            ["digits", "--methods", "d_rtrl,rtrl"],
            f"`method` must be one of {', '.join(experiment.METHODS)}; got 'rtrl'",
        ),
        (["digits", "--methods", "bptt,bptt"], "`methods` must name one or more, each once; got bptt, bptt"),
        (["digits", "--seeds", "0"], "`seeds` must be a whole number above 0, got 0"),
        (["digits", "--updates", "5", "--epochs", "1"], "`--updates` takes the place of `--epochs`"),
        (["digits", "--updates", "-5"], "`updates` must be a whole number above 0, got -5"),
        (["digits", "--threshold", "95"], "`threshold` must be an accuracy above 0 and up to 1, got 95.0"),
        (["digits", "--schedule", "none"], "`schedule` must be one of cosine, exponential, constant; got 'none'"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["experiment", *arguments, "--out", str(tmp_path)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_all_methods_beat_chance(tmp_path):
    recipe = dataclasses.replace(RECIPE, n_rec=20, epochs=40)
    results = comparison.Comparison(two_rates(), tmp_path, recipe, seeds=1).run()
    assert tuple(results["methods"]) == comparison.COMPARED
    assert not results["missing"]
    for method in results["methods"].values():
        assert method["test_accuracy"]["mean"] > 0.7
