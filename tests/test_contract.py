"""Every row of the contract goes through every property."""

import inspect

import brainstate
import brainunit as u
import contract
import jax
import jax.numpy as jnp
import numpy as np
import pathways
import pytest
from contract import FILTERS, NEURONS, OUTPUTS, PARTS, ROWS, N, T, primary
from networks import thorough
from pathways import POPULATIONS, WAYS, compare, ways_of

import etrax
from etrax.contract import Current
from etrax.contract.dependence import dependent

neurons = pytest.mark.parametrize("row", NEURONS, ids=str)
parts = pytest.mark.parametrize("row", PARTS, ids=str)
dynamics = pytest.mark.parametrize("row", [*NEURONS, *PARTS], ids=str)
populations = pytest.mark.parametrize("row", POPULATIONS, ids=str)


def some(rows, every=3):
    """One in so many rows; the slow run takes all of them."""
    return pytest.mark.parametrize("row", thorough(rows, *rows[::every]), ids=str)


@pytest.fixture
def dt(request):
    """The time step of the row."""
    row = request.node.callspec.params.get("row") if hasattr(request.node, "callspec") else None
    with brainstate.environ.context(dt=getattr(row, "dt", 1.0 * u.ms)):
        yield


@pytest.fixture(autouse=True)
def _(dt):
    """Every test has one."""


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip("brainpy.state", reason="comes with the extra `test`")


def test_every_exported_module_has_a_row():
    covered = {row.cls for row in primary(ROWS)}
    for package in (etrax.neurons, etrax.synapses):
        for name in package.__all__:
            cls = getattr(package, name)
            if issubclass(
                cls, etrax.Dynamics | etrax.SynOut
            ):  # projections and delay lines have no dynamics of their own
                assert cls in covered, f"{name} has no row in tests/contract.py"
    assert all(row.reference is None or row.source for row in ROWS)


def numbers(tree):
    return jax.tree.map(u.get_mantissa, tree, is_leaf=lambda v: isinstance(v, u.Quantity))


def close(a, b, rtol, name=""):
    a, b = u.get_mantissa(a), u.get_mantissa(b)
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * float(np.abs(b).max()), err_msg=name)


def theirs(row, library, *args, batch_size=None, **options):
    """A module of the reference library."""
    cls = contract.reference_of(row, library)
    if cls is None:
        pytest.skip(f"this version of brainpy.state has no {row.cls.__name__}")
    made = cls(N, *args, **row.constants, **options)
    made.init_state(batch_size)
    return made


# ------------------------------------------------------------------------------------------------------------- values


@neurons
def test_values_of_neurons_equal_the_reference(row, library):
    """Under drives of every strength, side by side in a batch."""
    rates = []
    for reset in row.resets or (None,):
        options = {} if reset is None else {"spk_reset": reset}
        xs = u.math.stack([row.inputs(100, strength=strength) for strength in row.strengths], axis=1)
        module = row.build(**options)
        module.init_state(len(row.strengths))
        states, spikes = contract.simulate(module, xs, row.dt)
        if row.reference is None:
            other = theirs(row, library, batch_size=len(row.strengths), **options)
            expected, z = contract.simulate(other, xs, row.dt)
        else:
            expected, z = row.reference(row.constants, u.get_mantissa(row.dt), u.get_mantissa(xs), options)
        assert set(states) - set(row.hidden) == set(expected)
        np.testing.assert_array_equal(spikes, z)
        for name, value in expected.items():
            if isinstance(value, u.Quantity):
                assert u.get_unit(states[name]) == u.get_unit(value)
            for k in range(len(row.strengths)):
                close(states[name][:, k], value[:, k], row.rtol, name)
        rates.extend(np.asarray(spikes).mean(axis=(0, 2)).tolist())
        assert np.isfinite(u.get_mantissa(states["V"])).all()
    assert max(rates) > 0.02
    assert len(set(rates)) > 1


@parts
def test_values_of_synapses_filters_and_readouts_equal_the_reference(row, library):
    xs, module = row.inputs(100), row.build()
    module.init_state()
    options = {"w_init": module.weight.value} if row in contract.READOUTS else {}
    states, returned = contract.simulate(module, xs, row.dt)
    expected, values = contract.simulate(theirs(row, library, *[3] * len(options), **options), xs, row.dt)
    assert u.get_unit(returned) == u.get_unit(values)
    close(returned, values, row.rtol)
    assert set(states) - set(row.hidden) <= set(expected)
    for name in set(states) - set(row.hidden):
        close(states[name], expected[name], row.rtol, name)


@pytest.mark.parametrize("row", OUTPUTS, ids=str)
def test_values_of_outputs_equal_the_reference(row, library):
    rest, E = -65.0 * u.mV, 5.0 * u.mV
    g, V = jnp.linspace(0.0, 2.0, N) * u.mS, jnp.linspace(-80.0, 20.0, N) * u.mV
    out = row.build(rest, E)
    named = inspect.signature(row.cls.__init__).parameters
    other = getattr(library, row.cls.__name__)(**{k: v for k, v in vars(out).items() if k in named})
    expected = other.update(g, V)
    np.testing.assert_allclose(out.update(g, V).to_decimal(u.uA), expected.to_decimal(u.uA), rtol=1e-12)
    if out.is_affine:
        offset, slope = out.affine(g)
        affine = offset if slope is None else offset + slope * V
        np.testing.assert_allclose(affine.to_decimal(u.uA), expected.to_decimal(u.uA), rtol=1e-12)


@pytest.mark.parametrize("row", primary(ROWS), ids=str)
def test_arguments_and_defaults_of_the_reference(row, library):
    """By the class, as `inspect` and editors see it, and by its constructor; names, order, defaults and kinds."""
    reference = contract.reference_of(row, library)
    if reference is None:
        pytest.skip(f"brainpy.state has no {row.cls.__name__}")

    mine, constructor = inspect.signature(row.cls).parameters, inspect.signature(row.cls.__init__).parameters
    assert list(constructor.items()) == [("self", constructor["self"]), *mine.items()]
    named = inspect.signature(reference.__init__).parameters
    others = {k: p for k, p in named.items() if p.kind is not p.VAR_POSITIONAL and k != "self"}
    assert [k for k in mine if k not in ("detach_reset", "pre")] == list(others)
    for name in row.differs:
        assert repr(mine[name].default) != repr(others.pop(name).default)
    for name, parameter in others.items():
        ours, default = mine[name].default, parameter.default
        if isinstance(default, u.Quantity | float | str | None):
            assert u.math.all(ours == default), name
        else:
            assert repr(ours) == repr(default), name
    for name, parameter in mine.items():
        only = name in ("detach_reset", "pre")
        assert parameter.kind is (parameter.KEYWORD_ONLY if only else parameter.POSITIONAL_OR_KEYWORD)


# ---------------------------------------------------------------------------------------------------------- jacobians


@some(ROWS, 5)
def test_check_jacobian_passes(row):
    module = row.build(0.0 * u.mV, 5.0 * u.mV) if row in OUTPUTS else row.build()
    assert etrax.check_jacobian(module, rtol=1e-9).errors


def derivatives(module, point):
    """Derivatives of a transition by automatic differentiation, ``(target, source) -> derivative``."""
    found = {}
    for source, value in point.items():

        def moved(value, source=source):
            return module.transition(**contract.arguments({**point, source: value}))

        for target, tangent in jax.jvp(moved, (value,), (jax.tree.map(jnp.ones_like, value),))[1].items():
            unit = u.get_unit(tangent) / u.get_unit(value)
            found[target, source] = u.Quantity(u.get_mantissa(tangent), unit=unit)
    return found


def where_it_lives(row, options, slope=False):
    """Every entry of the Jacobian equals automatic differentiation to nine digits, at every point."""
    module = row.build(**options)
    point = contract.points(row, options.get("spk_reset"), slope)
    truth, entries = jax.jit(lambda p: (derivatives(module, p), module.jacobian(**contract.arguments(p))))(point)
    assert set(entries) <= set(truth)
    for key, expected in truth.items():
        entry = u.Quantity(entries.get(key, 0.0 * expected.unit)).to_decimal(expected.unit)
        b = np.asarray(expected.mantissa)
        assert np.isfinite(b).all()
        a = np.broadcast_to(entry, b.shape)
        np.testing.assert_allclose(a, b, 1e-9, 1e-12 * float(np.abs(b).max()), err_msg=f"{key} {options}")


@pytest.mark.parametrize("slope", [False, True], ids=["current", "conductance"])
@some(NEURONS, 5)
def test_jacobian_where_the_neuron_lives(row, slope):
    """Live states, the state at rest, the potential exactly at threshold, and far outside."""
    for options in row.options()[int(slope) :: 3 - 2 * slope][:2]:
        where_it_lives(row, options, slope)


@some(PARTS)
def test_jacobian_where_the_part_lives(row):
    """Live states, the state at rest, and far outside; with and without spikes."""
    where_it_lives(row, {})


@pytest.mark.parametrize("precision", [32, 64])
@pytest.mark.parametrize("row", OUTPUTS, ids=str)
def test_outputs_are_finite_at_every_potential(row, precision):
    """Current and derivatives, from far below rest to far above."""
    with brainstate.environ.context(precision=precision):
        out = row.build(-65.0 * u.mV, 0.0 * u.mV)
        V = jnp.asarray([-1e5, -2e3, -65.0, 0.0, 1e5], brainstate.environ.dftype()) * u.mV
        point = (jnp.ones(5, V.dtype) * u.mS, V)
        for value in jax.jvp(out.update, point, jax.tree.map(jnp.ones_like, point)):
            assert np.isfinite(u.get_mantissa(value)).all()


@some([*NEURONS, *PARTS], 7)
def test_kinds_are_true(row):
    """What depends on no state and no drive is the same number everywhere, and known to be so."""
    for options in row.options():
        module = row.build(**options)
        for slope in (False, True) if row in NEURONS else (False,):
            point = contract.points(row, options.get("spk_reset"), slope)

            def entries(point, module=module):
                return module.jacobian(**contract.arguments(point))

            vary = dependent(entries, point)
            here = entries(jax.tree.map(lambda v: v[:1], point))
            there = entries(jax.tree.map(lambda v: v[12:13], point))
            for key in set(here) - vary:
                assert np.size(u.get_mantissa(here[key])) in (1, N), key
                np.testing.assert_array_equal(u.get_mantissa(here[key]), u.get_mantissa(there[key]))
            if row.linear and options.get("detach_reset", True) and not slope:
                assert all(target != "V" for target, _ in vary), (options, vary)
                assert row in NEURONS or not vary


@some(NEURONS, 9)
def test_detaching_takes_the_surrogate_out_of_the_reset(row):
    """The values do not change; the derivative does."""
    for options in row.options():
        if options["detach_reset"]:
            continue
        modules = [row.build(**{**options, "detach_reset": d}) for d in (False, True)]
        point = contract.points(row, options.get("spk_reset"))
        news = [numbers(m.transition(**contract.arguments(point))) for m in modules]
        jax.tree.map(np.testing.assert_array_equal, *news)
        key = ("q", "V") if row.cls is etrax.neurons.BRF else ("V", "V")
        a, b = (u.get_mantissa(m.jacobian(**contract.arguments(point)).get(key, 0.0)) for m in modules)
        assert np.abs(a - b).max() > 1e-3


# ------------------------------------------------------------------------------------------------- states and batches


@some([*NEURONS, *PARTS], 2)
def test_states_keep_unit_shape_and_type_and_reset_to_what_they_were(row):
    for batch in (None, 3):
        module = row.build()
        module.init_state(batch)
        first = {k: s.value for k, s in module.hidden.items()}
        assert list(first) == list(module.initial())
        x = row.inputs(12).max(axis=0)
        returned = module.update(x if batch is None else u.math.stack([x] * batch))
        assert u.math.shape(returned)[:-1] == (() if batch is None else (batch,))
        for name, state in module.hidden.items():
            assert u.get_unit(state.value) == u.get_unit(first[name])
            assert state.value.shape == first[name].shape == ((N,) if batch is None else (3, N))
            assert state.value.dtype == first[name].dtype
            assert u.get_unit(module.initial()[name]) == u.get_unit(first[name])
        assert any(np.any(numbers(first[k]) != numbers(s.value)) for k, s in module.hidden.items())
        for start in (module.reset_state, module.init_state):
            start(batch)
            for name, state in module.hidden.items():
                np.testing.assert_array_equal(numbers(state.value), numbers(first[name]))


@some([*NEURONS, *PARTS], 5)
def test_a_batch_is_independent_copies(row):
    xs = u.math.stack([row.inputs(T, seed) for seed in range(3)], axis=1)
    module = row.build()
    module.init_state(3)
    together = numbers(contract.simulate(module, xs, row.dt))
    for k in range(2):
        module.init_state()
        alone = numbers(contract.simulate(module, xs[:, k], row.dt))
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[:, k], b, rtol=1e-12, atol=1e-12)


@dynamics
def test_a_long_run_stays_finite(row):
    with brainstate.environ.context(precision=32):
        module = row.build()
        module.init_state()
        xs = row.inputs(100_000, **({"strength": 1.0} if row in NEURONS else {})).astype(jnp.float32)
        returned = brainstate.transform.for_loop(module.update, xs)
        for name, state in module.hidden.items():
            assert state.value.dtype == jnp.float32
            assert np.isfinite(u.get_mantissa(state.value)).all(), name
        returned = np.asarray(u.get_mantissa(returned))
        assert np.isfinite(returned).all()
        assert np.abs(returned[-1000:]).max() > 0
        if row in NEURONS:
            assert 0.001 < returned.mean() < 0.9


@neurons
@pytest.mark.parametrize("precision", [32, 64])
def test_a_hard_reset_forgets_the_overshoot(row, precision):
    """To the last digit, however high the potential was, and beyond what the precision can count."""
    if "hard" not in row.resets:
        return
    with brainstate.environ.context(precision=precision):
        module = row.build(spk_reset="hard")
        V = jnp.asarray([1e2, 1e8, 1e12, 1e30, np.inf], brainstate.environ.dftype())[:, None] * jnp.ones(N) * u.mV
        V_reset = jnp.asarray(module.V_reset.to_decimal(u.mV), V.dtype)
        np.testing.assert_array_equal(
            module.reset(V, jnp.ones_like(V.mantissa)).to_decimal(u.mV), V_reset * jnp.ones(V.shape)
        )
        rest = {k: v * jnp.ones((5, 1), V.dtype) for k, v in module.initial().items()}
        point = {**rest, "V": V, "current": row.drive, "delta": 0.0 * u.get_unit(row.jump)}
        after = u.get_mantissa(module.transition(**contract.arguments(point))["V"])
        assert np.isfinite(after).all()
        np.testing.assert_array_equal(after, np.broadcast_to(after[:1], after.shape))


@pytest.mark.parametrize("strength", [1e3, 1e5, -1e5])
@neurons
def test_under_strong_input_states_and_jacobians_stay_finite(row, strength):
    for reset in row.resets or (None,):
        with brainstate.environ.context(precision=32):
            module = row.build(**({} if reset is None else {"spk_reset": reset}))
            module.init_state()

            def step(i, module=module):
                drives = dict(current=Current(strength * row.drive, []), delta=0.0 * u.get_unit(row.jump))
                entries = module.jacobian(**{k: s.value for k, s in module.hidden.items()}, **drives)
                z = module.update(strength * row.drive)
                return z, numbers({k: s.value for k, s in module.hidden.items()}), list(numbers(entries).values())

            z, states, entries = brainstate.transform.for_loop(step, jnp.arange(300))
            for value in jax.tree.leaves((z, states, entries)):
                assert np.isfinite(value).all()
            assert strength < 0 or z.mean() > 0.05


@neurons
def test_a_nan_in_an_input_is_seen(row):
    module = row.build()
    module.init_state()
    for x in (1.0, np.nan, 1.0, 1.0):
        spikes = module.update(row.drive * jnp.asarray([1.0, x] + [1.0] * (N - 2)))
    np.testing.assert_array_equal(np.isnan(spikes), [False, True] + [False] * (N - 2))


@neurons
def test_a_start_above_threshold_is_a_warning(row):
    with pytest.warns(UserWarning, match="2 of 4 neurons of .* start above .* at up to 1000 mV.*`V_initializer`"):
        row.cls(N, **row.constants, V_initializer=np.array([-1e3, 1e3, 1e3, -1e3]) * u.mV).init_state()


@some([*NEURONS, *PARTS], 4)
def test_an_initializer_may_be_a_value(row):
    """A scalar with its unit stands for all neurons."""
    named = [k for k in inspect.signature(row.cls).parameters if k.endswith("_initializer")]
    first = row.build()
    first.init_state(2)
    given = {k: getattr(first, k)((1,))[0] for k in named}
    module = row.cls(*([N, 3] if row in contract.READOUTS else [N]), **row.constants, **given)
    module.init_state(2)
    for name, state in module.hidden.items():
        assert state.value.shape == (2, N)
        assert state.value.dtype == first.hidden[name].value.dtype
        if name in {k.removesuffix("_initializer") for k in named}:
            np.testing.assert_array_equal(numbers(state.value), numbers(first.hidden[name].value))


# ---------------------------------------------------------------------------------------------------------- gradients
# All against backpropagation through time of the plain model.


def test_each_meets_two_of_the_others():
    met = [(row, way) for row in POPULATIONS for way in ways_of(row, 2)]
    assert all(len({r.cls for r, w in met if w is way}) >= 2 for way in WAYS)
    assert all(len({w.cls for r, w in met if r is row}) >= 2 for row in POPULATIONS)


@some(POPULATIONS, 7)
def test_gradient_of_the_neuron_alone(row):
    compare(row, row.build(), [])


def in_turn(row):
    """The neuron under one of its resets, the next one for each row."""
    options = row.options()
    return row.build(**options[POPULATIONS.index(row) % len(options)])


@pytest.mark.parametrize("row", POPULATIONS[:1], ids=str)
def test_gradient_of_a_recurrent_population_behind_two_ways(row):
    """The slow run has all ways; the gradient stops where spikes enter a projection."""
    compare(row, in_turn(row), ways_of(row, 2), recurrent=True)


@pytest.mark.slow
@populations
def test_gradient_through_filters_of_the_populations_spikes(row):
    """All of them behind one population, and two behind each of the others, in turn."""
    filters, k = primary(FILTERS), 2 * POPULATIONS.index(row)
    compare(row, row.build(), [], behind=[filters[(k + i) % len(filters)] for i in range(2)] if k else filters)


@pytest.mark.parametrize("pre", [True, "ahead", False])
def test_gradient_through_a_filter_that_knows_whose_spikes_it_takes(pre):
    """With `pre` the filter's memory carries credit; without it, the gradient is another one."""
    row, behind = POPULATIONS[0], primary(FILTERS)[-2:]
    if pre:
        compare(row, row.build(), [], behind=behind, pre=pre)
    else:
        xs, ys = pathways.data()
        net = pathways.Net(row, row.build(), [], behind=behind, pre=False)
        expected = pathways.bptt(net, xs, ys)[0]["proj0", "comm", "weight"]
        with pytest.warns(UserWarning, match="part of the credit of proj0.comm.weight is lost"):
            got = pathways.drtrl(net, xs, ys)["proj0", "comm", "weight"]
        assert np.abs(got - expected).max() > 1e-3 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("bends", [False, True], ids=["affine", "not affine"])
@populations
def test_gradient_behind_every_way(row, bends):
    """All ways side by side, each with weights of its own, under the resets in turn; those that bend the current with one
    that does not.
    """
    bending = [way for way in WAYS if way in OUTPUTS and not way.build(row.rest, row.E).is_affine]
    straight = [way for way in WAYS if way not in bending]
    if bends:
        compare(row, row.build(), [*bending, straight[0]], recurrent=True)
    else:
        compare(row, in_turn(row), straight, recurrent=True)
