"""The pages of the documentation: their examples run, their links lead somewhere, every public name is among them.

Blocks of Python run in their order, page by page; in `docs/coming_from.md` section by section. A block after a line
``<!-- not run: reason -->`` is left out, and so is one that needs a package which is not installed.
"""

import importlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import brainstate
import jax
import numpy as np
import pytest
from networks import thorough

from etrax import experiment, tasks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
COMPARED = DOCS / "coming_from.md"
SLOW = {"training.md", "checkpoints.md", "own_data.md"}  # several programs to compile
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n+)?^```python[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PEERS = ("snntorch", "brainpy", "braintrace")


def blocks(text):
    """Examples that are to run."""
    return [code for left_out, code in BLOCK.findall(text) if not left_out]


def run(codes, path):
    """Run examples one after the other, in float32 and in a time step of their own; names of those that could not."""
    scope: dict = {"__name__": "__example__"}
    missing = set()
    with brainstate.random.seed_context(0), brainstate.environ.context(precision=32):
        for code in codes:
            needed = {peer for peer in PEERS if re.search(rf"\b{peer}\b", code)}
            if absent := {peer for peer in needed if importlib.util.find_spec(peer) is None}:
                missing |= absent
                continue
            exec(compile(code, str(path), "exec"), scope)
    return missing


def sections():
    """Title and examples of each section of the comparison, those at the head of the page in front of each."""
    first, *rest = re.split(r"^## ", COMPARED.read_text(), flags=re.MULTILINE)
    return {text.partition("\n")[0]: [*blocks(first), *blocks(text)] for text in rest}


@pytest.fixture(autouse=True)
def no_lasting_dt(monkeypatch):
    """A time step that an example sets for good is that of the test, and gone after it."""
    lasting = brainstate.environ.set
    monkeypatch.setattr(brainstate.environ, "set", lambda **given: None if given.keys() == {"dt"} else lasting(**given))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.relative_to(ROOT).as_posix(), marks=[pytest.mark.slow] if path.name in SLOW else [])
        for path in PAGES
        if path.parent != ROOT and path != COMPARED and blocks(path.read_text())
    ],
)
def test_examples_of_a_page_run(path):
    assert not run(blocks(path.read_text()), path)


@pytest.mark.optimized
@pytest.mark.filterwarnings("ignore")  # of other packages
@pytest.mark.parametrize("section", thorough(sections(), "From snnTorch"))
def test_networks_in_two_packages_agree(section, capsys):
    codes = sections()[section]
    assert len(codes) == 4  # the data, the two networks, what they have in common
    missing = run(codes, COMPARED)
    if missing:
        pytest.skip(f"only etrax's half was run: {', '.join(sorted(missing))} not installed")
    assert "relative" in capsys.readouterr().out


def test_every_peer_has_a_section():
    assert [title.removeprefix("From ").lower() for title in sections()] == list(PEERS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("theirs", "ours"), [("zero", {"spk_reset": "hard"}), ("subtract", {"spk_reset": "soft"})], ids=["zero", "subtract"]
)
def test_resets_of_snntorch_are_those_that_the_page_says(theirs, ours):
    snntorch, torch = pytest.importorskip("snntorch"), pytest.importorskip("torch")
    import brainunit as u

    import etrax

    beta, xs = 0.9, np.random.default_rng(0).normal(0.3, 0.5, (100, 8, 16)).astype(np.float32)
    their_neurons = snntorch.Leaky(beta=beta, reset_mechanism=theirs)
    mem, expected = their_neurons.reset_mem(), []
    for x in torch.tensor(xs):
        spikes, mem = their_neurons(x, mem)
        expected.append((spikes.numpy(), mem.numpy()))
    V_reset = 0.0 if theirs == "zero" else 1.0 - 1.0 / beta
    neurons = etrax.neurons.LIF(16, tau=-1.0 * u.ms / np.log(beta), V_th=1 * u.mV, V_reset=V_reset * u.mV, **ours)
    brainstate.nn.init_all_states(neurons, batch_size=8)

    def step(x):
        neurons.receive_jump(x * u.mV)
        return neurons(), neurons.V.value.to_decimal(u.mV)

    found = brainstate.transform.for_loop(step, jax.numpy.asarray(xs))
    assert np.sum([spikes for spikes, _ in expected]) > 1000
    np.testing.assert_array_equal(found[0], [spikes for spikes, _ in expected])
    np.testing.assert_allclose(found[1], [mem for _, mem in expected], atol=1e-5)


def test_commands():
    page = (DOCS / "guides" / "command_line.md").read_text()
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", page, re.DOTALL)).splitlines()
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("etrax ")]
    assert len(commands) == 7
    for command in commands:
        args = importlib.import_module(f"etrax.cli.{command[0]}").make_parser().parse_args(command[1:])
        assert args.task.partition(":")[0] in {*tasks.TASKS, *tasks.FAMILIES}
        assert getattr(args, "method", None) in (None, *experiment.METHODS)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_to_files_lead_somewhere(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)|<!-- figures: (\S+) -->", text):
        name = "".join(link)
        assert (path.parent / name).exists(), name


@pytest.fixture(scope="module")
def names():
    """The module of the site that knows the public names."""
    spec = importlib.util.spec_from_file_location("names_of_the_reference", DOCS / "tools" / "names.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


def test_every_public_name_is_in_the_reference(names):
    assert len(names.public()) > 100
    assert not names.missing()


def test_a_name_that_is_left_out_is_told(names, monkeypatch):
    shown = dict(names.shown())
    del shown["etrax.train"]
    shown["etrax.learners.LEARNERS"] = "\n\n## Next\n"
    shown["etrax.nothing"] = "Text."
    monkeypatch.setattr(names, "shown", lambda: shown)
    told = "\n".join(names.missing())
    for name in ("etrax.train", "etrax.learners.LEARNERS", "etrax.nothing"):
        assert f"{name} " in told
