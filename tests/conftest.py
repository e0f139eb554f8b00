"""What every test runs under.

* float64: `brainstate.environ.set(precision=64)` switches JAX too. A test of float32 opens
  ``with brainstate.environ.context(precision=32):`` and builds its arrays inside.
* a step of 1 ms: the fixture `dt` puts it into the environment around each test and returns it. Another step:
  ``with brainstate.environ.context(dt=0.1 * u.ms):``. A test without one defines its own fixture `dt`.
* programs compiled in a hurry, since nothing runs long and compiling takes most of the time; a test marked ``optimized``
  is compiled as users' programs are. Compiled programs are kept in `.cache/` of the checkout, for the next run.
* figures go nowhere, and are drawn small: matplotlib draws with Agg.

Tests import the modules that stand beside them by name (``import oracle``).
"""

import contextlib
import itertools
import os
from pathlib import Path

# Read when jax is imported, here and in commands that tests start.
os.environ |= {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
} | os.environ

import brainstate
import brainunit as u
import hypothesis
import jax
import matplotlib
import pytest

matplotlib.use("Agg")
matplotlib.rcParams["figure.dpi"] = 50
brainstate.environ.set(precision=64)

# Random networks (test_search.py): the same ones every time, or with ``--hypothesis-profile=deep`` others, of longer sequences.
hypothesis.settings.register_profile("usual", max_examples=30)
hypothesis.settings.register_profile("deep", max_examples=500)
hypothesis.settings.load_profile("usual")


def hurry(yes: bool) -> None:
    """Compile in half the time, or as users' programs are compiled."""
    jax.config.update("jax_disable_most_optimizations", yes)
    if jax.__version_info__[:2] == (0, 10):  # later ones have no such choice, and stop at a flag that they do not know
        emitters = f"--xla_cpu_use_fusion_emitters={'false' if yes else 'true'}"
        os.environ["XLA_FLAGS"] = f"{FLAGS} --xla_flags_reset=true {emitters}"  # the first says: read again


FLAGS = os.environ.get("XLA_FLAGS", "")
hurry(True)


@pytest.fixture(autouse=True)
def optimizations(request):
    """Compile as users' programs are where a test is marked ``optimized``."""
    wanted = request.node.get_closest_marker("optimized") is not None
    if wanted:
        hurry(False)
    yield wanted
    if wanted:
        hurry(True)


@pytest.fixture
def hurried(optimizations):
    """``with hurried():`` compiles in a hurry what is compared with, where a test is marked ``optimized``."""

    @contextlib.contextmanager
    def context():
        hurry(True)
        yield
        hurry(not optimizations)

    return context


@pytest.fixture(autouse=True)
def forgotten():
    """Forget compiled programs before they are too many: Linux lets a process map 65,530 pieces of memory, and beyond it dies.

    A program takes some 30 pieces, a slow test several hundred. They are counted after every twentieth test.
    """
    yield
    pieces = Path("/proc/self/maps")
    if next(TESTS) % 20 == 0 and pieces.exists() and pieces.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()


TESTS = itertools.count(1)


@pytest.fixture(autouse=True)
def dt():
    """The time step of the test, 1 ms."""
    with brainstate.environ.context(dt=1 * u.ms):
        yield 1 * u.ms


@pytest.fixture
def strict_ranks():
    """Raise where shapes of different rank are broadcast, scalars apart.

    By request: `brainstate.nn.Linear` adds its bias that way, so only tests of layers without a bias can ask for it.
    """
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The training of `trained.py` in one piece: its folder and its weights."""
    import trained

    folder = tmp_path_factory.mktemp("whole")
    with brainstate.environ.context(dt=1 * u.ms):
        return folder, trained.short(folder)
