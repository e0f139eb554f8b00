"""Random networks, drawn by hypothesis, have the gradients, losses, states and traces of an oracle, however they are run.

Compiling takes most of the time, so several networks share a structure. A structure is drawn with its layers, neurons, sizes,
lengths, chunks, precision, units and the signs of its weights, and is compiled once: oracle and learner. Each of its networks
has weights, learnt constants, scale, inputs, silences, targets, mask and dropout of its own. The default run draws 9 structures of
4 networks, the slow one 45 larger structures of 12, the same ones every time. Others each time, of up to 5,000 steps:

    .venv/bin/pytest -n 0 -m slow --hypothesis-profile=deep tests/test_search.py

What fails is printed as code: ``check_gradient(Drawn(...))``. To see it fail again, save these lines beside the tests:

    import conftest
    from search import *
    from test_search import *
    with environment(drawn := Drawn(...)):
        check_gradient(drawn)
"""

import collections
import dataclasses
import re
import zlib

import brainstate
import brainunit as u
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from search import N_IN, Cells, Drawn, Way, large
from search_layers import LAYERS, PLAIN
from search_strategy import networks
from search_trial import Silent, Trial, environment, hidden, is_quantity, numbers, on, put, run, same, total, whole

pytestmark = [  # constants are not updated here, and the account of what is lost is checked
    pytest.mark.filterwarnings("ignore:.* is trained and must be:UserWarning"),
    pytest.mark.filterwarnings("ignore:part of the credit:UserWarning"),
]
DEEP = hypothesis.settings().max_examples > 30


# ------------------------------------------------------------------------------------------------------- properties


def check_gradient(drawn):
    """Gradients, losses and states after the sequence are those of the oracle; the account of credit is right."""
    trial = Trial(drawn)
    learner, step = trial.learner()
    jitted = brainstate.transform.jit(lambda *data: whole(learner, step, data, drawn))
    for network in trial.networks:
        with on(network, learner):
            found = jitted(*network.data) if drawn.run == "jit" else run(learner, step, network.data, drawn)
            trial.compare(network, *found, hidden(learner.model))
            if drawn.precision == 64:
                check_account(trial, network, learner, found[0])
            if has_traces(drawn):
                check_traces(trial, network, learner)


def check_mapped(drawn):
    """The same by one call for all networks, over axes of weights and data."""
    trial = Trial(drawn)
    learner, step = trial.learner()
    before = {path: state.value for path, state in learner.states().items()}

    def one(params, *data):
        put(learner, params)
        found = *whole(learner, step, data, drawn), hidden(learner.model)
        for path, state in learner.states().items():
            state.value = before[path]  # what is mapped stays within
        return found

    stacked = [[network.params for network in trial.networks], *zip(*(n.data for n in trial.networks), strict=True)]
    found = brainstate.transform.vmap(one)(
        *(jax.tree.map(lambda *leaves: jnp.stack(leaves), *each) for each in stacked)
    )
    for k, network in enumerate(trial.networks):
        with on(network):
            trial.compare(network, *jax.tree.map(lambda v, k=k: v[k], found))


def check_account(trial, network, learner, grads):
    """What a parameter is said to lose nothing of is exact; whatever the oracle finds lost is said, and lost indeed."""
    dropped, gates = said_to_be_dropped(learner), trial.oracle.gates
    exact = trial.ask(network, gates)
    by_gate = {gate: trial.ask(network, [gate]) for gate in gates}
    for path, right in exact.items():
        said, mine = dropped[".".join(map(str, path))], numbers(grads[path])
        if said == "nothing":
            same({path: grads[path]}, {path: right}, trial.rtol, "followed", 1e-6)
        for (kind, way), other in by_gate.items():
            apart = np.abs(numbers(other[path]) - numbers(network.grads[path])).max()
            if apart > 1e-6 * max(np.abs(v).max(initial=1e-6) for v in (numbers(right), mine)):
                assert np.abs(numbers(other[path]) - mine).max() > apart / 2, (path, kind, way)
                assert any(re.search(words.format(way), said) for words in LOST[kind]), (path, kind, way, said)


# kind of a gate: what the account may say of it
LATER, NOW = r"spikes into [^;]*\b{}\b[^;]* at later steps", r"later steps of what [^;]*\b{}\b[^;]* enters"
LOST = {"now": [NOW], "later": [LATER], "told": [NOW, LATER], "waits": [NOW, LATER, "outside"]}


def said_to_be_dropped(learner):
    """By parameter, what the account of credit says is dropped."""
    (rows,) = (part.rows for part in learner.report().parts if "followed" in str(part))
    return {name: said for name, _, said in rows[1:]}


def has_traces(drawn):
    """Whether traces of weights are there at the end and may be compared: layers have weights for each neuron."""
    plain = all(way.layer in PLAIN for ways in drawn.ways for way in ways) and all(
        len(c.shape) == 1 for c in drawn.cells
    )
    return plain and drawn.run != "trial" and drawn.precision == 64


def check_traces(trial, network, learner):
    """The trace of a parameter is the derivative of the states by it, nothing that enters a projection having one."""
    slopes = trial.traces(network)
    for path in learner.param_states:
        if path[0].startswith("out"):
            continue
        got, expected = learner.get_etrace_of(path), {state: numbers(by[path]) for state, by in slopes.items()}
        assert set(got) <= set(expected)
        most = max(np.abs(v).max() for v in expected.values())
        for state, value in expected.items():
            mine = np.zeros_like(value)
            if state in got:
                mine = summed(got[state], trial.oracle.states[state].value, network.params[path], trial.drawn.batch)
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


def check_chunks(drawn):
    """Chunks of 1, of 3 and of all steps give the same, which is that of the oracle."""
    trial = Trial(drawn)
    learner, step = trial.learner()
    for network in trial.networks:
        found = []
        for chunk in (1, 3, None):
            with on(network, learner):
                grads, losses = whole(learner, step, network.data, dataclasses.replace(drawn, chunk=chunk))
                trial.compare(network, grads, losses, hidden(learner.model))
                found.append(grads)
        for grads in found[:2]:
            same(grads, found[2], 1e-11, "chunks", 1e-6)


def check_batch(drawn):
    """A batch is its samples one by one: the gradient is the sum of theirs."""
    trial = Trial(drawn)
    learner, step = trial.learner(batch=None)
    for network in trial.networks:
        grads, losses, (xs, ys, mask) = [], [], network.data
        for sample in range(drawn.batch):
            with on(network, learner):
                found = run(learner, step, (xs[:, sample], ys[:, sample], mask), drawn)
            grads, losses = [*grads, found[0]], [*losses, found[1]]
        with on(network):
            trial.compare(network, total(grads), sum(losses))


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

    for network in trial.networks:
        with on(network, learner):
            put(learner, permuted(network.params))
            grads, losses = run(learner, step, network.data, drawn)
            same({"losses": losses}, {"losses": network.losses}, trial.rtol)
            same(grads, permuted(network.grads), trial.rtol, "gradient", 1e-6)


def check_units(drawn):
    """In volts, seconds and siemens, the gradient by a physical quantity is what it is in thousandths of them."""
    trial = Trial(drawn)
    learner, step = trial.learner(big=True)
    for network in trial.networks:
        with brainstate.environ.context(dt=large(drawn.dt)), on(network, learner):
            grads, losses = run(learner, step, network.data, drawn)
            expected = {
                p: in_larger(v, network.params[p], learner.param_states[p].value) for p, v in network.grads.items()
            }
            same({"losses": losses}, {"losses": network.losses}, trial.rtol)
            same(grads, expected, trial.rtol, "gradient", 1e-6)


def in_larger(gradient, once, here):
    """Numbers of a gradient where its parameter is so much larger; it has the unit of that, so they are as many times smaller."""
    once, here = (jax.tree.leaves(v, is_leaf=is_quantity) for v in (once, here))
    factors = [float((1.0 * u.get_unit(b)) / (1.0 * u.get_unit(a))) for a, b in zip(once, here, strict=True)]
    leaves = jax.tree.leaves(gradient, is_leaf=is_quantity)
    return [u.get_mantissa(v) * f for v, f in zip(leaves, factors, strict=True)]


def check_turns(drawn):
    """Two learners in turns, each with a model of its own: as if there was one."""
    trial = Trial(drawn)
    (learner, step), (other, others_step) = trial.learner(), trial.learner()
    half, one = drawn.T // 2, dataclasses.replace(drawn, pieces=1)
    for network in trial.networks:
        grads, losses = [], []
        with on(network, learner, other):
            for part in (slice(0, half), slice(half, None)):
                if drawn.reset:
                    learner.reset_state()
                found = run(learner, step, tuple(v[part] for v in network.data), one)
                grads, losses, key = [*grads, found[0]], [*losses, found[1]], brainstate.random.DEFAULT.value
                run(other, others_step, tuple(v[::-1][part] for v in network.data), one)
                brainstate.random.DEFAULT.value = key
            trial.compare(network, total(grads), jnp.concatenate(losses), hidden(learner.model))


# -------------------------------------------------------------------------------------------------------- the search


def searched(check, structures, **choices):
    """Put as many structures of these ``choices`` through a property."""
    counts, seen = collections.Counter(), set()

    @hypothesis.seed(
        zlib.crc32(f"{check.__name__} {structures}".encode()) if not DEEP else np.random.SeedSequence().entropy
    )
    @hypothesis.settings(
        max_examples=structures + 1,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],  # to make a network smaller takes longer than to read it
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(networks(**choices))
    def search(drawn):
        counts["called"] += 1
        if counts["called"] == 1:  # always the simplest one
            return
        kind = tuple(c.kind for c in drawn.cells), [(w.layer, w.synapse, w.filter) for ways in drawn.ways for w in ways]
        hypothesis.assume(str(kind) not in seen)  # the next one often differs in little
        seen.add(str(kind))
        counts["drawn"] += 1
        try:
            with environment(drawn):
                check(drawn)
        except Silent:
            counts["silent"] += 1
            hypothesis.assume(False)
        except BaseException as error:
            seen.discard(str(kind))  # hypothesis tries it once more
            error.add_note(f"again:\n    {check.__name__}({drawn!r})")
            raise

    search()
    assert counts["silent"] <= 3 + counts["drawn"] / 2, counts


STILL = tuple(name for name in LAYERS if name != "dropout")
WHOLE = {"scales": (1.0,), "run": "sequence"}
# property: its structures in the default run, and in the slow one; what they are chosen from
PROPERTIES = {
    check_gradient: (3, 24, {}),
    check_mapped: (1, 4, {"layers": STILL, "run": "jit"}),
    check_chunks: (1, 3, {"run": "sequence", "precision": 64}),
    check_batch: (1, 3, WHOLE | {"layers": STILL, "batch": 2}),
    check_permuted: (1, 4, WHOLE | {"layers": ("Linear",), "alike": True}),
    check_units: (1, 4, WHOLE | {"big": False}),
    check_turns: (1, 3, WHOLE | {"pieces": 2}),
}


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
@pytest.mark.parametrize("large", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "many"])
def test_random_networks(check, large):
    some, many, choices = PROPERTIES[check]
    if large:
        searched(check, many, **{"large": True, "number": 12, "longest": 5000 if DEEP else 48} | choices)
    else:
        searched(check, some, **choices)


@pytest.mark.slow
def test_filters_of_the_spikes_that_a_population_sends_to_itself():
    """They step ahead of their neurons, on the spikes of the step before; what they remember of those carries credit."""
    loops = (Way(("z0[-1]",), filter=name, told=True) for name in ("STP", "AMPA"))
    drawn = Drawn((Cells(learnt=("V_th",)),), ((Way(("x",)), *loops),), T=6, chunk=3)
    with environment(drawn):
        check_gradient(drawn)
