"""What every test runs under.

* float64: `brainstate.environ.set(precision=64)` switches JAX too. A test of float32 opens
  ``with brainstate.environ.context(precision=32):`` and builds its arrays inside.
* a step of 1 ms: the fixture `dt` puts it into the environment around each test and returns it. Another step:
  ``with brainstate.environ.context(dt=0.1 * u.ms):``. A test without one defines its own fixture `dt`.
* programs compiled in a hurry, since nothing runs long and compiling takes most of the time; a test marked ``optimized``
  is compiled as users' programs are.
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


jax.config.update("jax_disable_most_optimizations", True)
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # in commands that tests start, too


@pytest.fixture(autouse=True)
def optimizations(request):
    """Compile as users' programs are where a test is marked ``optimized``."""
    wanted = request.node.get_closest_marker("optimized") is not None
    if wanted:
        jax.config.update("jax_disable_most_optimizations", False)
    yield
    if wanted:
        jax.config.update("jax_disable_most_optimizations", True)


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
