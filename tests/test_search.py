"""Random networks, drawn by hypothesis, have the gradients, losses, states and traces of an oracle, however they are run.

The default run draws 30 networks and the slow one 30 larger ones, the same ones every time. 500 others, of up to 5,000 steps:

    .venv/bin/pytest -n 0 -m slow --hypothesis-profile=deep tests/test_search.py

A network that fails is printed as code: ``check_gradient(Drawn(...))``. To see it fail again, save these lines beside the tests:

    import conftest
    from search import *
    from test_search import *
    with environment(drawn := Drawn(...)):
        check_gradient(drawn)
"""

import collections
import contextlib
import dataclasses
import functools
import zlib

import brainstate
import brainunit as u
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from search import LAYERS, N_IN, PLAIN, Cells, Drawn, Net, Way, large, loss
from search_oracle import Oracle
from search_strategy import networks

import etrax

pytestmark = pytest.mark.filterwarnings(
    "ignore:.* is trained and must be:UserWarning"
)  # constants are not updated here
EXAMPLES = hypothesis.settings().max_examples
DEEP = EXAMPLES > 30
STATE = brainstate.HiddenState


@contextlib.contextmanager
def environment(drawn):
    """What the network runs under."""
    with brainstate.environ.context(dt=large(drawn.dt) if drawn.big else drawn.dt, fit=True, precision=drawn.precision):
        yield


def numbers(tree):
    """All numbers of a tree, without their units, as one vector."""
    leaves = jax.tree.leaves(tree)
    return np.concatenate([np.asarray(leaf, float).reshape(-1) for leaf in leaves]) if leaves else np.zeros(0)


def same(got, expected, rtol, what="", least=0.0):
    """Equal by path, relative to the largest number of a path, or to the ``least`` one that counts."""
    assert set(got) == set(expected), set(got) ^ set(expected)
    most = max((np.abs(numbers(v)).max(initial=0.0) for v in expected.values()), default=0.0)
    for path, value in expected.items():
        a, b = numbers(got[path]), numbers(value)
        scale = np.abs(b).max(initial=0.0) or most
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(scale, least), err_msg=f"{what} {path}")


class Silent(Exception):
    """The network does not live, with any of the weights that were tried."""


class Trial:
    """A network whose weights are such that it spikes, its oracle, and learners of it."""

    def __init__(self, drawn: Drawn):
        self.drawn, self.data = drawn, drawn.sequences()
        self.rtol = 1e-9 if drawn.precision == 64 else 5e-3
        self.oracle = Oracle(drawn)
        self.grads, self.losses = self.awake()
        if drawn.scale != 1.0:
            self.times(drawn.scale, range(len(drawn.cells)))
            self.grads, self.losses, _ = self.oracle(*self.data)
        grads = [numbers(grad) for path, grad in self.grads.items() if path[0].startswith("proj")]
        if not all(np.isfinite(grad).all() and grad.any() for grad in grads):
            raise Silent("gradient")
        self.params = {path: s.value for path, s in self.oracle.params.items()}
        self.last = hidden(self.oracle.net)

    def compare(self, grads, losses, model=None):
        """Gradient, losses and, of a model, states are those of the oracle."""
        same({"losses": losses}, {"losses": self.losses}, self.rtol)
        if model is not None:
            same(hidden(model), self.last, self.rtol, "state")
        same(grads, self.grads, self.rtol, "gradient", 1e-6)

    def awake(self):
        """Gradient and losses by the oracle, the weights made larger or smaller until all populations spike."""
        for _ in range(12):
            grads, losses, rates = self.oracle(*self.data)
            quiet = [k for k, rate in enumerate(rates) if rate < 0.02]
            loud = [k for k, rate in enumerate(rates) if not rate < 0.9]
            if not quiet and not loud:
                return grads, losses
            self.times(1.6, quiet)
            self.times(0.5, loud)
        raise Silent("spikes")

    def times(self, factor, populations):
        """Multiply the weights of projections onto some populations."""
        for path, state in self.oracle.params.items():
            if any(path[0].startswith(f"proj{k}_") and path[1] != "syn" for k in populations):
                state.value = jax.tree.map(lambda v: v * factor, state.value)

    def learner(self, **changed):
        """A learner of the network, with other units or another batch if so `changed`; and its step function."""
        drawn = dataclasses.replace(self.drawn, **changed)
        x = self.data[0][0]
        learner = etrax.compile(Net(drawn), etrax.D_RTRL, x if "batch" not in changed else x[0], batch_size=drawn.batch)
        assert set(learner.param_states) == set(self.params)
        for path, state in learner.param_states.items():
            state.value = in_units_of(self.params[path], state.value)
        brainstate.random.seed(self.drawn.seed)
        return learner, lambda x, y: loss(learner(x), y)


def in_units_of(value, like):
    """The same quantities, in other units."""

    def one(v, to):
        return u.Quantity(u.Quantity(v).to_decimal(to.unit), unit=to.unit) if isinstance(to, u.Quantity) else v

    return jax.tree.map(one, value, like, is_leaf=is_quantity)


def is_quantity(value):
    """For leaves of trees that are to be left whole."""
    return isinstance(value, u.Quantity)


def hidden(model):
    """Values of its hidden states by path."""
    return {path: state.value for path, state in model.states(STATE).items()}


def total(grads):
    """The sum of gradients."""
    return functools.reduce(lambda a, b: jax.tree.map(jnp.add, a, b), grads)


def whole(learner, step, data, drawn, between=lambda: None):
    """Gradient and losses of the sequence, piece by piece as drawn."""
    size, grads, losses = len(data[0]) // drawn.pieces, [], []
    for start in range(0, len(data[0]), size):
        x, y, m = (v[start : start + size] for v in data)
        options = {"mask": m, "chunk_size": drawn.chunk, "trial": drawn.run == "trial"}
        found = learner.etrace_grad(x, y, step_fn=step, reduction="sum", return_value=True, **options)
        grads, losses = [*grads, found[0]], [*losses, found[1]]
        between()
    return total(grads), jnp.concatenate(losses)


def by_steps(learner, step, data):
    """The same by the gradient of every single step, in a loop."""

    def one(x, y, m):
        def weighed():
            value = step(x, y)
            return m * value, value

        return brainstate.transform.grad(weighed, learner.param_states, has_aux=True)()

    grads, losses = brainstate.transform.for_loop(one, *data)
    return jax.tree.map(lambda g: g.sum(0), grads), losses


def by_pieces(learner, step, data, drawn):
    """The same by a loop over pieces."""
    cut = jax.tree.map(lambda v: v.reshape(drawn.pieces, -1, *v.shape[1:]), data)
    one = dataclasses.replace(drawn, pieces=1)
    grads, losses = brainstate.transform.for_loop(lambda *piece: whole(learner, step, piece, one), *cut)
    return jax.tree.map(lambda g: g.sum(0), grads), losses.reshape(-1)


def run(learner, step, data, drawn):
    """Gradient and losses, the way that is drawn."""
    if drawn.run == "steps":
        return by_steps(learner, step, data)
    if drawn.run == "loop":
        return by_pieces(learner, step, data, drawn)
    return whole(learner, step, data, drawn)


# ------------------------------------------------------------------------------------------------------- properties


def check_gradient(drawn):
    """Gradients, losses and states after the sequence are those of the oracle; after a reset, again."""
    trial = Trial(drawn)
    learner, step = trial.learner()
    jitted = brainstate.transform.jit(lambda *data: whole(learner, step, data, drawn)) if drawn.run == "jit" else None
    for _ in range(2 if drawn.run == "sequence" else 1):  # the others would be traced anew
        learner.reset_state()
        brainstate.random.seed(drawn.seed)
        grads, losses = run(learner, step, trial.data, drawn) if jitted is None else jitted(*trial.data)
        trial.compare(grads, losses, learner.model)


def check_traces(drawn):
    """The trace of a parameter is the derivative of the states by it, nothing that enters a projection having one."""
    trial = Trial(drawn)
    learner, step = trial.learner()
    trial.compare(*run(learner, step, trial.data, drawn), learner.model)
    slopes = trial.oracle.traces(trial.data[0])
    for path in learner.param_states:
        if path[0].startswith("out"):
            continue
        got, expected = learner.get_etrace_of(path), {state: numbers(by[path]) for state, by in slopes.items()}
        assert set(got) <= set(expected)
        most = max(np.abs(v).max() for v in expected.values())
        for state, value in expected.items():
            mine = np.zeros_like(value)
            if state in got:
                mine = summed(got[state], trial.oracle.states[state].value, trial.params[path], drawn.batch)
            np.testing.assert_allclose(mine, value, rtol=trial.rtol, atol=trial.rtol * most, err_msg=f"{path} {state}")


def summed(trace, state, parameter, batch):
    """The numbers of a trace, added up over neurons where it has an axis of them that its parameter lacks."""
    size, parts = batch or 1, []
    values = (jax.tree.leaves(v, is_leaf=is_quantity) for v in (trace, parameter))
    for value, weight in zip(*values, strict=True):
        unit = u.get_unit(state) / u.get_unit(weight)
        part = np.asarray(u.Quantity(value / (1.0 * unit)).to_decimal(), float).reshape(size, -1)
        parts.append(part.sum(1) if np.size(u.get_mantissa(weight)) == 1 else part)
    return np.concatenate([part.reshape(-1) for part in parts])


def check_batch(drawn):
    """A batch is its samples one by one: the gradient is the sum of theirs."""
    trial = Trial(drawn)
    learner, step = trial.learner(batch=None)
    grads, losses = [], []
    for sample in range(drawn.batch):
        learner.reset_state()
        xs, ys, mask = trial.data
        found = run(learner, step, (xs[:, sample], ys[:, sample], mask), drawn)
        grads, losses = [*grads, found[0]], [*losses, found[1]]
    trial.compare(total(grads), sum(losses))


def check_permuted(drawn):
    """Permuting the neurons of populations permutes the gradient."""
    trial = Trial(drawn)
    learner, step = trial.learner()
    sizes = [int(np.prod(c.shape)) for c in drawn.cells]
    orders = [drawn.rng(3, k).permutation(size) for k, size in enumerate(sizes)]
    starts = {"x": np.arange(N_IN)} | {f"z{k}{at}": order for k, order in enumerate(orders) for at in ("", "[-1]")}

    def permuted(tree):
        found = dict(tree)
        for k, ways in enumerate(drawn.ways):
            for j, way in enumerate(ways):
                first = np.cumsum([0, *(len(starts[s]) for s in way.sources)])
                rows = np.concatenate([f + starts[s] for f, s in zip(first, way.sources, strict=False)])
                path = next(p for p in tree if p[0] == f"proj{k}_{j}" and p[1] == "comm")
                found[path] = jax.tree.map(lambda w, rows=rows, k=k: w[rows][:, orders[k]], tree[path])
            if drawn.cells[k].read:
                path = f"out{k}", "weight"
                found[path] = jax.tree.map(lambda w, k=k: w[orders[k]], tree[path])
        return found

    for path, value in permuted(trial.params).items():
        learner.param_states[path].value = value
    grads, losses = run(learner, step, trial.data, drawn)
    same({"losses": losses}, {"losses": trial.losses}, trial.rtol)
    same(grads, permuted(trial.grads), trial.rtol, "gradient", 1e-6)


def check_units(drawn):
    """In volts, seconds and siemens, the gradient by a physical quantity is what it is in thousandths of them."""
    trial = Trial(drawn)
    learner, step = trial.learner(big=True)
    with brainstate.environ.context(dt=large(drawn.dt)):
        grads, losses = run(learner, step, trial.data, drawn)
    expected = {}
    for (
        path,
        value,
    ) in trial.grads.items():  # a gradient has the unit of its parameter: by numbers, it is as many times smaller
        state = learner.param_states[path]
        once, here = (jax.tree.leaves(v, is_leaf=is_quantity) for v in (trial.params[path], state.value))
        factors = [float((1.0 * u.get_unit(b)) / (1.0 * u.get_unit(a))) for a, b in zip(once, here, strict=True)]
        leaves = jax.tree.leaves(value, is_leaf=is_quantity)
        expected[path] = [u.get_mantissa(v) * f for v, f in zip(leaves, factors, strict=True)]
    same({"losses": losses}, {"losses": trial.losses}, trial.rtol)
    same(grads, expected, trial.rtol, "gradient", 1e-6)


def check_turns(drawn):
    """Two learners in turns, each with a model of its own, and states and traces that are put back: as if uninterrupted."""
    trial = Trial(drawn)
    learner, step = trial.learner()
    other, others_step = trial.learner()
    key, half, one = brainstate.random.DEFAULT, drawn.T // 2, dataclasses.replace(drawn, pieces=1)
    backwards, grads, losses = tuple(v[::-1] for v in trial.data), [], []
    for part in (slice(0, half), slice(half, None)):
        found = run(learner, step, tuple(v[part] for v in trial.data), one)
        grads, losses = [*grads, found[0]], [*losses, found[1]]
        saved, then = {path: state.value for path, state in learner.states().items()}, key.value
        for which, its_step in ((other, others_step), (learner, step)):
            run(which, its_step, tuple(v[part] for v in backwards), one)
        learner.reset_state()
        for path, state in learner.states().items():
            state.value = saved[path]
        key.value = then
    trial.compare(total(grads), jnp.concatenate(losses), learner.model)


# -------------------------------------------------------------------------------------------------------- the search


def searched(check, number, **choices):
    """A test that puts ``number`` networks of these ``choices`` through a property."""
    counts, seen = collections.Counter(), set()

    @hypothesis.seed(
        zlib.crc32(f"{check.__name__} {number}".encode()) if not DEEP else np.random.SeedSequence().entropy
    )
    @hypothesis.settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],  # to make a network smaller takes longer than to read it
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(networks(**choices))
    def search(drawn):
        hypothesis.assume((drawn.cells, drawn.ways) not in seen)  # the next one often differs in numbers only
        seen.add((drawn.cells, drawn.ways))
        counts["drawn"] += 1
        try:
            with environment(drawn):
                check(drawn)
        except Silent:
            counts["silent"] += 1
            hypothesis.assume(False)
        except BaseException as error:
            seen.discard((drawn.cells, drawn.ways))  # hypothesis tries it once more
            error.add_note(f"again:\n    {check.__name__}({drawn!r})")
            raise

    search()
    assert counts["silent"] <= 3 + counts["drawn"] / 2, counts


STILL = tuple(name for name in LAYERS if name != "dropout")
WHOLE = {"scales": (1.0,), "run": "sequence"}
# property: its networks in thirty, and what they are chosen from
PROPERTIES = {
    check_gradient: (15, {}),
    check_traces: (3, {"layers": PLAIN, "shapes": [(1,), (2,), (4,)], "precision": 64, "run": "sequence"}),
    check_batch: (3, WHOLE | {"layers": STILL, "batch": 2}),
    check_permuted: (3, WHOLE | {"layers": ("Linear",), "alike": True}),
    check_units: (3, WHOLE),
    check_turns: (3, WHOLE | {"pieces": 2}),
}


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
@pytest.mark.parametrize("large", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "many"])
def test_random_networks(check, large):
    number, choices = PROPERTIES[check]
    if large:
        choices = {"large": True, "longest": 5000 if DEEP else 48} | choices
        number = number * EXAMPLES // 30
    searched(check, number, **choices)


@pytest.mark.slow
def test_filters_of_the_spikes_that_a_population_sends_to_itself():
    """They step ahead of their neurons, on the spikes of the step before; what they remember of those carries credit."""
    loops = (Way(("z0[-1]",), filter=name, told=True) for name in ("STP", "AMPA"))
    drawn = Drawn((Cells(learnt=("V_th",)),), ((Way(("x",)), *loops),), T=6, chunk=3)
    with environment(drawn):
        check_gradient(drawn)
