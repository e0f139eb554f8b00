"""The rooms of the package and the arrows between them, as docs/architecture.md draws them."""

import ast
import graphlib
import importlib
import re
from pathlib import Path

import etrax

ROOT = Path(__file__).parents[1]
HOMES = {ROOT / "neurons": "neurons.", ROOT / "synapses": "synapses.", ROOT / "plugin": ""}

# What each package may import of the others; what is not named here may import nothing.
ARROWS = {
    "text": (),
    "files": ("text",),
    "storage": ("files",),
    "checks": ("text",),
    "contract": ("checks", "text"),
    "neurons": ("contract", "checks", "text"),
    "synapses": ("contract", "checks", "text"),
    "engine": ("contract", "checks", "text"),
    "learners": ("engine", "contract", "checks", "text"),
    "data": ("checks", "files", "text"),
    "tasks": ("data", "checks"),
    "training": ("learners", "tasks", "data", "contract", "storage", "checks", "files", "text"),
    "plots": ("checks", "files", "text"),
    "analysis": ("learners", "engine", "neurons", "contract", "plots", "checks", "text"),
    "exchange": ("analysis", "neurons", "synapses", "contract", "checks", "files", "text"),
    "network": ("learners", "neurons", "synapses", "tasks", "storage", "checks", "files", "text"),
    "experiment": ("network", "training", "learners", "tasks", "checks"),
    "comparison": ("experiment", "training", "analysis", "plots", "tasks", "checks", "files", "text"),
    "cli": ("comparison", "experiment", "network", "training", "analysis", "plots", "tasks", "data", "checks", "files"),
}
LONGEST = 400
LONGER: dict[str, str] = {}  # file of plugin/ -> why it is longer


def modules():
    """Name without `etrax.` -> source, of every module but the package itself."""
    found = {}
    for folder, prefix in HOMES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[prefix + ".".join(p for p in parts if p != "__init__")] = path
    found = {name.rstrip("."): path for name, path in found.items()}
    return {name: path for name, path in found.items() if name not in ("", "__main__")}


MODULES = modules()


def imports(name):
    """What a module imports of the package, types for checkers aside; as names of modules."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text())
    checked = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    hidden = {id(inner) for node in checked for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("etrax.") for alias in node.names if alias.name.startswith("etrax"))
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").partition(".")[0] == "etrax"):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(above) if node.level else (node.module or "").removeprefix("etrax").lstrip(".")
            base = ".".join(filter(None, (base, node.module))) if node.level else base
            for alias in node.names:
                inner = ".".join(filter(None, (base, alias.name)))
                yield inner if inner in MODULES else base


def test_arrows_point_one_way():
    back = {}
    for name in MODULES:
        room = name.partition(".")[0]
        assert room in ARROWS, f"{room} has no row in ARROWS"
        met = {target.partition(".")[0] for target in imports(name)} - {room, *ARROWS[room]}
        back |= {name: met} if met else {}
    assert not back


def test_the_document_names_the_arrows():
    table = (
        (ROOT / "docs" / "architecture.md").read_text().split("<!-- arrows -->")[1].split("<!-- end of arrows -->")[0]
    )
    rows = [
        re.findall(r"`(\w+)`", cell)
        for row in table.splitlines()
        if row.startswith("| `")
        for cell in row.split("|")[1:3]
    ]
    named = {room: set(targets) for rooms, targets in zip(rows[::2], rows[1::2], strict=True) for room in rooms}
    assert set(named) == set(ARROWS)
    assert {room: set(targets) for room, targets in ARROWS.items() if room != "cli"} == {
        r: t for r, t in named.items() if r != "cli"
    }


def test_there_is_no_circle():
    list(graphlib.TopologicalSorter(ARROWS).static_order())
    list(graphlib.TopologicalSorter({name: {*imports(name)} - {name} for name in MODULES}).static_order())


def test_no_module_has_the_name_of_a_function_in_it():
    for name, path in MODULES.items():
        functions = {n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)}
        assert name.rpartition(".")[2] not in functions, name


def test_no_file_is_too_long():
    lengths = {
        str(p.relative_to(ROOT / "plugin")): len(p.read_text().splitlines()) for p in (ROOT / "plugin").rglob("*.py")
    }
    assert {name for name, length in lengths.items() if length > LONGEST} == set(LONGER)


def resolves(name):
    """Whether a dotted name is that of a module, or of something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        return all((found := getattr(found, part, None)) is not None for part in parts[length:])


def test_names_in_the_text_exist():
    texts = {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *MODULES.values()}
    named = {(p.name, name) for p in texts for name in re.findall(r"\betrax(?:\.[A-Za-z_]\w*)+", p.read_text())}
    assert not {(file, name) for file, name in named if not resolves(name)}


def test_examples_need_no_import_but_that_of_the_package():
    """What other tests have imported is there in their process; a reader has `import etrax` only."""
    pages = {ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "guides").glob("*.md")}
    used = {(p.name, name) for p in pages for name in re.findall(r"\betrax\.([A-Za-z_]\w*)", p.read_text())}
    assert len(used) > 20
    assert not {(file, name) for file, name in used if name not in etrax.__all__}
