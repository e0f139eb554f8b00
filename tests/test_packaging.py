"""The package on disk is the package that gets installed, and keeps to its own rules."""

import ast
import doctest
import functools
import importlib
import pkgutil
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import brainstate
import pytest

import etrax

ROOT = Path(__file__).parents[1]
FOLDERS = {"plugin": "etrax", "neurons": "etrax.neurons", "synapses": "etrax.synapses"}
PRIVATE_JAX = ("jax._src", "jax.interpreters", "jax.core")


def sources(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def modules():
    """Every module, by name; root by root, as an editable install does not list `etrax.neurons` under `etrax`."""
    for root in FOLDERS.values():
        yield root
        yield from (m.name for m in pkgutil.walk_packages(importlib.import_module(root).__path__, f"{root}."))


MODULES = sorted(set(modules()) - {"etrax.__main__"})


def names_used(source):
    """Every dotted name that `source` imports or looks up."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def private_jax(source):
    return sorted({name for name in names_used(source) if f"{name}.".startswith(tuple(f"{p}." for p in PRIVATE_JAX))})


def test_packages_in_pyproject_are_the_folders_on_disk():
    on_disk = {
        ".".join([FOLDERS[folder], *path.parent.relative_to(ROOT / folder).parts])
        for folder in FOLDERS
        for path in sources(folder)
    }
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert sorted(listed["packages"]) == sorted(on_disk)
    assert listed["package-dir"] == {package: folder for folder, package in FOLDERS.items()}


def test_the_citation_is_of_this_version():
    cited = dict(re.findall(r"^(\w[\w-]*): *(\S.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_of_the_checkout_cannot_be_imported_by_its_own_name(folder):
    run = subprocess.run([sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode != 0
    last_line = run.stderr.strip().splitlines()[-1]
    assert last_line.startswith("ImportError: ")
    assert FOLDERS[folder] in last_line


def test_every_file_is_a_module_of_the_package():
    files = {Path(str(importlib.import_module(name).__file__)).resolve() for name in MODULES}
    assert files == {path.resolve() for path in sources(*FOLDERS) if path.name != "__main__.py"}


@pytest.mark.parametrize("path", sources(*FOLDERS, "tests", "benchmarks"), ids=lambda p: str(p.relative_to(ROOT)))
def test_only_public_jax_is_used(path):
    assert private_jax(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import jax.core",
        "import jax._src.core as c",
        "from jax import core",
        "from jax.interpreters import ad",
        "import jax\njax.core.Tracer",
        "import jax\nf(jax.interpreters.mlir.x)",
    ],
)
def test_private_jax_is_noticed(source):
    assert private_jax(source)


# Names whose examples a reader looks for: those that the README and the tutorials (counted three times) and the tests mention
# most, as words; without modules, and without words that mean something else as often (`data`, `get`, `Run`).
EXPLAINED = (
    *("Neuron", "Constant", "argument", "adapt", "check_jacobian", "register_pattern"),
    *("neurons.LIF", "neurons.ALIF", "neurons.LIFRef", "neurons.CubaLIF", "neurons.LeakyReadout"),
    *("synapses.Expon", "synapses.DualExpon", "synapses.Alpha", "synapses.STP", "synapses.CUBA", "synapses.COBA"),
    *("synapses.AlignPostProj", "synapses.CurrentProj", "synapses.DeltaProj"),
    *("compile", "D_RTRL", "EProp", "DFA", "NoTrace", "RTRL", "BPTT", "Learner.etrace_grad"),
    *("train", "TrainOptions", "gradient_report", "benchmark_figures", "comparison.Comparison", "experiment.fit"),
    *(
        "to_nir",
        "from_nir",
        "network.build",
        "network.save_weights",
        "tasks.get",
        "data.EventFile",
        "data.write_events",
    ),
    *("plots.plot_raster", "plots.plot_quantities", "plots.plot_learning", "plots.plot_confusion"),
)
NEEDS = {"etrax.exchange.nir": "nir"}  # start of a name -> what its examples import and the extra `test` does not bring


def examples():
    """Every docstring with examples, by name."""
    finder = doctest.DocTestFinder()
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name), name) if test.examples]
    return {test.name: test for test in found}


def shows(test):
    """Whether a docstring shows something that can be wrong: a result that is compared, or an error."""
    return any(example.want or example.exc_msg for example in test.examples)


def complaints(test):
    """Run a docstring's examples; what is wrong with them."""
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    runner.run(test, out=told.append)
    return "".join(told)


EXAMPLES = examples()
COMPILES = {  # several programs
    "etrax.analysis.gradient.gradient_report",
    "etrax.comparison.plan.Comparison",
    "etrax.experiment.fitting.fit",
    "etrax.learners.learner.Learner.etrace_grad",
    "etrax.learners.no_trace.NoTrace",
    "etrax.learners.rtrl.RTRL",
    "etrax.neurons.alif.ALIF",
    "etrax.training.trainer.train",
}


class TestExamples:
    """Examples in docstrings run as a reader would type them: float32, and no step but the one they set."""

    @pytest.fixture(autouse=True)
    def dt(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with brainstate.environ.context(precision=32):
            yield
        brainstate.environ.pop("dt", None)

    @pytest.mark.parametrize(
        "name", [pytest.param(name, marks=[pytest.mark.slow] if name in COMPILES else []) for name in EXAMPLES]
    )
    def test_they_run(self, name):
        for start, package in NEEDS.items():
            if name.startswith(start):
                pytest.importorskip(package)
        assert not complaints(EXAMPLES[name])

    @pytest.mark.parametrize("name", EXAMPLES)
    def test_they_show_something_and_skip_nothing(self, name):
        test = EXAMPLES[name]
        assert shows(test), "an example without a result cannot be wrong"
        assert not any(doctest.SKIP in example.options for example in test.examples), (
            "an example that is not run may be wrong"
        )

    @pytest.mark.parametrize("name", EXPLAINED)
    def test_a_name_that_is_much_used_has_one(self, name):
        found = functools.reduce(getattr, name.split("."), etrax)
        assert f"{found.__module__}.{found.__qualname__}" in EXAMPLES

    @pytest.mark.parametrize(
        "text", [">>> 1 + 1\n3", ">>> 1 + 1", ">>> undefined\n1", ">>> int('a')\nTraceback:\nKeyError: 1"]
    )
    def test_a_wrong_one_is_noticed(self, text):
        assert complaints(doctest.DocTestParser().get_doctest(text, {}, "wrong", None, 0))
