"""The package on disk is the package that gets installed, and keeps to its own rules."""

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import brainstate
import pytest

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


class TestDoctests:
    """Examples in docstrings run as a reader would type them: float32, and no step but the one they set."""

    @pytest.fixture(autouse=True)
    def dt(self):
        with brainstate.environ.context(precision=32):
            yield

    @pytest.mark.parametrize("name", MODULES)
    def test_examples(self, name):
        flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
        result = doctest.testmod(importlib.import_module(name), optionflags=flags)
        assert result.failed == 0
