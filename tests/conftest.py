"""What every test runs under.

* float64: `brainstate.environ.set(precision=64)` switches JAX too. A test of float32 opens
  ``with brainstate.environ.context(precision=32):`` and builds its arrays inside.
* a step of 1 ms: the fixture `dt` puts it into the environment around each test and returns it. Another step:
  ``with brainstate.environ.context(dt=0.1 * u.ms):``. A test without one defines its own fixture `dt`.
* programs compiled in a hurry in the default run, which is mostly compilation; the slow one has all optimizations.
* figures go nowhere: matplotlib draws with Agg.

Tests import the modules that stand beside them by name (``import oracle``).
"""

import os

import brainstate
import brainunit as u
import jax
import matplotlib
import pytest

matplotlib.use("Agg")
brainstate.environ.set(precision=64)


def pytest_configure(config):
    """Compile faster where nothing runs long, in commands that tests start too."""
    if config.option.markexpr == "not slow":
        jax.config.update("jax_disable_most_optimizations", True)
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"


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
