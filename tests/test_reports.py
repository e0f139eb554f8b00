"""Reports as text and, in a notebook, as HTML: the same cells in both, and nothing that a page would take for its own."""

import re
from html.parser import HTMLParser

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import etrax
from etrax.learners import Report
from etrax.text import Table


@pytest.fixture(autouse=True)
def single_precision():
    with brainstate.environ.context(precision=32):
        yield


class Reader(HTMLParser):
    """What a page shows: rows of cells of its tables, and the lines beside them; and whether its tags are closed."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.lines, self.open = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert tag in ("div", "table", "tr", "th", "td"), f"<{tag}> is none of ours"
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data
        elif self.open:
            self.lines.append(data)


def read(page):
    found = Reader(page)
    assert not found.open
    return found


def learner():
    net = etrax.network.build(etrax.tasks.get("patterns", duration=20 * u.ms), etrax.tasks.Recipe(n_rec=4))
    return etrax.compile(net, etrax.D_RTRL, jnp.zeros((2, 20)), batch_size=2)


def gradient_report():
    return etrax.GradientReport(
        parameters=["syn.comm.weight", "out.weight"],
        edges=np.arange(3) * u.ms,
        cosine=np.array([0.5, 1.0]),
        norm_ratio=np.array([0.25, 1.0]),
        cosine_over_time=np.array([[0.1, 1.0], [0.9, 1.0]]),
        norm_ratio_over_time=np.ones((2, 2)),
        norms={"syn.comm.weight": 3.0 * u.mS, "out.weight": 4.0},
        rates={"neu": np.array([0.0, 5.0]) * u.Hz},
        remarks=["a < b & c"],
        learner="D_RTRL",
    )


def figures():
    task = etrax.tasks.get("patterns", duration=20 * u.ms)
    net = etrax.network.build(task, etrax.tasks.Recipe(n_rec=4))
    return etrax.benchmark_figures(net, next(task.train(batch_size=2)).xs)


@pytest.mark.parametrize(
    "make", [lambda: learner().report(), gradient_report, figures], ids=["learner", "gradient", "figures"]
)
def test_text_and_html_have_the_same_cells_and_lines(make):
    report = make()
    text, page = str(report), read(report._repr_html_())
    assert repr(report) == text
    assert len(page.rows) > 1
    for cells in page.rows:
        line = r"\s{2,}".join(re.escape(cell) for cell in cells)
        assert re.search(rf"^\s*{line}\s*$", text, re.MULTILINE), cells
    lines = [line for line in text.splitlines() if line.strip() and not set(line) <= set("- ")]
    beside = [line for line in page.lines if line.strip()]
    assert len(lines) == len(page.rows) + len(beside)
    assert set(beside) <= set(lines)


NASTY = "<script>alert('x') & \"y\"</script>"


@pytest.mark.parametrize("header", [True, False])
def test_what_a_page_would_take_for_its_own_is_escaped(header):
    report = Report((NASTY, Table([("name", NASTY), (NASTY, "1")], header=header), ""), 0)
    page = report._repr_html_()
    assert "<script" not in page
    found = read(page)
    assert found.rows == [["name", NASTY], [NASTY, "1"]]
    assert found.lines[0] == NASTY
    assert str(report).splitlines()[0] == NASTY
    assert ("<th" in page) == header


def test_lines_of_text_alone_are_a_report():
    report = Report(("one", "two"), 0)
    assert report.lines == ("one", "two")
    assert str(report) == "one\ntwo"


def test_a_training_shows_its_history():
    history = [{"epoch": 1, "train_loss": 0.123456}, {"epoch": 2, "train_loss": 0.1, "validation_loss": 0.2}]
    result = etrax.TrainResult(object(), history, 7, 1.5, "epochs", None)
    found = read(result._repr_html_())
    assert found.rows == [["epoch", "train loss", "validation loss"], ["1", "0.1235", ""], ["2", "0.1", "0.2"]]
    assert "7 batches" in found.lines[0]


def test_a_comparison_shows_the_table_that_it_writes(tmp_path):
    task = etrax.tasks.get("dms", delay=20 * u.ms)
    comparison = etrax.comparison.Comparison(task, tmp_path, methods=("d_rtrl", "bptt"), seeds=2)
    found = read(comparison._repr_html_())
    comparison.results()
    written = [line for line in (tmp_path / "results.md").read_text().splitlines() if line.startswith("| ")]
    assert [
        [cell.strip() for cell in line.strip("|").split("|")] for line in written if "---" not in line
    ] == found.rows
    assert "0 of 4" in found.lines[0]
