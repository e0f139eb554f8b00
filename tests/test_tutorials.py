"""Every notebook in tutorials/ runs from its first cell to its last, and keeps its figures."""

from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))
QUICK = {"first_network.ipynb"}  # names of notebooks that take seconds, not minutes

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_there_is_a_notebook():
    assert NOTEBOOKS
    assert QUICK <= {path.name for path in NOTEBOOKS}


@every_notebook
def test_figures_are_kept(path):
    kept = outputs(nbformat.read(path, as_version=4))
    assert any("image/png" in output.get("data", {}) for output in kept)
    assert not [output for output in kept if output.output_type == "error"]


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.name, marks=[] if path.name in QUICK else pytest.mark.slow) for path in NOTEBOOKS],
)
def test_notebook_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, kernel_name="python3", timeout=1200, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # an error in a cell raises here, with its traceback
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip())
