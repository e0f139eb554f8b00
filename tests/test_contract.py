"""Every row of the contract goes through every property."""

import inspect

import brainstate
import brainunit as u
import contract
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import NEURONS, OUTPUTS, SYNAPSES, N, T

import etrax
from etrax.jacobian import varying

neurons = pytest.mark.parametrize("row", NEURONS, ids=str)
primary = pytest.mark.parametrize("row", [row for row in NEURONS if not row.name], ids=str)
each = pytest.mark.parametrize("row", [*NEURONS, *SYNAPSES, *OUTPUTS], ids=str)


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
    covered = {row.cls for row in [*NEURONS, *SYNAPSES, *OUTPUTS]} | {etrax.neurons.LeakyReadout}
    for package in (etrax.neurons, etrax.synapses):
        for name in package.__all__:
            cls = getattr(package, name)
            if issubclass(cls, etrax.synapses.Projection):
                continue
            assert cls in covered, f"{name} has no row in tests/contract.py"


def numbers(tree):
    return jax.tree.map(u.get_mantissa, tree, is_leaf=lambda v: isinstance(v, u.Quantity))


# ------------------------------------------------------------------------------------------------------------- values


@neurons
def test_values_equal_the_reference(row, library):
    rates = []
    for reset in row.resets or (None,):
        options = {} if reset is None else {"spk_reset": reset}
        for strength in row.strengths:
            xs = contract.currents(row, strength, 100)
            module = row.build(**options)
            module.init_state()
            states, spikes = contract.simulate(module, xs, row.dt)
            if row.reference is None:
                other = contract.reference_of(row, library, **options)
                if other is None:
                    pytest.skip(f"this version of brainpy.state has no {row.cls.__name__}")
                other.init_state()
                expected, z = contract.simulate(other, xs, row.dt)
            else:
                expected, z = row.reference(row.constants, u.get_mantissa(row.dt), u.get_mantissa(xs), options)
            assert set(states) - set(row.hidden) == set(expected)
            np.testing.assert_array_equal(spikes, z)
            for name, value in expected.items():
                if isinstance(value, u.Quantity):
                    assert u.get_unit(states[name]) == u.get_unit(value)
                a, b = u.get_mantissa(states[name]), u.get_mantissa(value)
                np.testing.assert_allclose(a, b, rtol=row.rtol, atol=row.rtol * float(np.abs(b).max()), err_msg=name)
            rates.append(float(spikes.mean()))
            assert np.isfinite(u.get_mantissa(states["V"])).all()
    assert max(rates) > 0.02
    assert len(set(rates)) > 1


@pytest.mark.parametrize("row", SYNAPSES, ids=str)
def test_conductances_equal_the_reference(row, library):
    rng = np.random.default_rng(0)
    ys = jnp.asarray(rng.random((100, N)) < 0.2) * rng.uniform(0.0, 2.0, (100, N)) * u.mS
    module, other = row.build(), contract.reference_of(row, library)
    trajectories = []
    for synapse in (module, other):
        synapse.init_state()
        trajectories.append(brainstate.transform.for_loop(synapse.update, ys))
    np.testing.assert_allclose(*numbers(trajectories), rtol=row.rtol)


@pytest.mark.parametrize("row", OUTPUTS, ids=str)
def test_currents_equal_the_reference(row, library):
    rest, E = -65.0 * u.mV, 5.0 * u.mV
    g, V = jnp.linspace(0.0, 2.0, N) * u.mS, jnp.linspace(-80.0, 20.0, N) * u.mV
    out = row.build(rest, E)
    other = getattr(library, row.cls.__name__)(E - rest if row.cls is etrax.synapses.CUBA else E)
    expected = other.update(g, V)
    np.testing.assert_allclose(out.update(g, V).to_decimal(u.uA), expected.to_decimal(u.uA), rtol=1e-12)
    offset, slope = out.affine(g)
    affine = offset if slope is None else offset + slope * V
    np.testing.assert_allclose(affine.to_decimal(u.uA), expected.to_decimal(u.uA), rtol=1e-12)


@each
def test_arguments_and_defaults_of_the_reference(row, library):
    reference = getattr(library, row.cls.__name__, None)
    if reference is None:
        pytest.skip(f"brainpy.state has no {row.cls.__name__}")

    def arguments(cls):
        named = inspect.signature(cls.__init__).parameters
        return {k: p for k, p in named.items() if p.kind is not p.VAR_POSITIONAL and k != "self"}

    mine, theirs = arguments(row.cls), arguments(reference)
    assert [k for k in mine if k != "detach_reset"] == list(theirs)
    for name, parameter in theirs.items():
        ours, default = mine[name].default, parameter.default
        if isinstance(default, u.Quantity | float | str | None):
            assert u.math.all(ours == default), name
        else:
            assert repr(ours) == repr(default), name
    if "spk_fun" in mine:
        assert mine["detach_reset"].kind is inspect.Parameter.KEYWORD_ONLY


# ---------------------------------------------------------------------------------------------------------- jacobians


@each
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


@pytest.mark.parametrize("slope", [False, True], ids=["current", "conductance"])
@neurons
def test_jacobian_where_the_neuron_lives(row, slope):
    """Live states, the state at rest, the potential exactly at threshold, and far outside; every entry to nine digits."""
    for options in row.options()[int(slope) :: 3 - 2 * slope][:2]:
        module = row.build(**options)
        point = contract.points(row, options.get("spk_reset"), slope)
        truth, entries = jax.jit(
            lambda point, module=module: (derivatives(module, point), module.jacobian(**contract.arguments(point)))
        )(point)
        assert set(entries) <= set(truth)
        for key, expected in truth.items():
            entry = u.Quantity(entries.get(key, 0.0 * expected.unit)).to_decimal(expected.unit)
            b = np.asarray(expected.mantissa)
            assert np.isfinite(b).all()
            a = np.broadcast_to(entry, b.shape)
            np.testing.assert_allclose(a, b, 1e-9, 1e-12 * float(np.abs(b).max()), err_msg=f"{key} {options}")


@neurons
def test_kinds_are_true(row):
    """What depends on no state and no drive is the same number everywhere, and known to be so."""
    for options in row.options():
        module = row.build(**options)
        for slope in (False, True):
            point = contract.points(row, options.get("spk_reset"), slope)

            def entries(point, module=module):
                return module.jacobian(**contract.arguments(point))

            vary = varying(entries, {}, point)
            here = entries(jax.tree.map(lambda v: v[:1], point))
            there = entries(jax.tree.map(lambda v: v[12:13], point))
            for key in set(here) - vary:
                assert np.size(u.get_mantissa(here[key])) == 1, key
                np.testing.assert_array_equal(u.get_mantissa(here[key]), u.get_mantissa(there[key]))
            if row.linear and options["detach_reset"] and not slope:
                assert all(target != "V" for target, _ in vary), (options, vary)


@neurons
def test_detaching_takes_the_surrogate_out_of_the_reset(row):
    """The values do not change; the derivative does."""
    for options in row.options():
        if options["detach_reset"]:
            continue
        modules = [row.build(**{**options, "detach_reset": d}) for d in (False, True)]
        point = contract.points(row, options.get("spk_reset"), False)
        news = [numbers(m.transition(**contract.arguments(point))) for m in modules]
        jax.tree.map(np.testing.assert_array_equal, *news)
        key = ("q", "V") if row.cls is etrax.neurons.BRF else ("V", "V")
        a, b = (u.get_mantissa(m.jacobian(**contract.arguments(point)).get(key, 0.0)) for m in modules)
        assert np.abs(a - b).max() > 1e-3


# ------------------------------------------------------------------------------------------------- states and batches


@pytest.mark.parametrize("row", [*NEURONS, *SYNAPSES], ids=str)
def test_states_keep_unit_shape_and_type_and_reset_to_what_they_were(row):
    for batch in (None, 3):
        module = row.build()
        module.init_state(batch)
        first = {k: s.value for k, s in module.hidden.items()}
        assert list(first) == list(module.initial())
        x = 0.7 * row.drive if row in NEURONS else 1.0 * u.mS
        module.update(x * jnp.ones((N,) if batch is None else (3, N)))
        for name, state in module.hidden.items():
            assert u.get_unit(state.value) == u.get_unit(first[name])
            assert state.value.shape == first[name].shape == ((N,) if batch is None else (3, N))
            assert state.value.dtype == first[name].dtype
            assert u.get_unit(module.initial()[name]) == u.get_unit(first[name])
        assert any(np.any(numbers(first[k]) != numbers(s.value)) for k, s in module.hidden.items())
        module.reset_state(batch)
        for name, state in module.hidden.items():
            np.testing.assert_array_equal(numbers(state.value), numbers(first[name]))
        module.init_state(batch)
        for name, state in module.hidden.items():
            np.testing.assert_array_equal(numbers(state.value), numbers(first[name]))


@neurons
def test_a_batch_is_independent_copies(row):
    xs = u.math.stack([contract.currents(row, s, T) for s in row.strengths], axis=1)
    module = row.build()
    module.init_state(len(row.strengths))
    together = contract.simulate(module, xs, row.dt)
    for k in range(len(row.strengths)):
        module.init_state()
        alone = contract.simulate(module, xs[:, k], row.dt)
        jax.tree.map(
            lambda a, b, k=k: np.testing.assert_allclose(a[:, k], b, rtol=1e-12, atol=1e-12),
            numbers(together),
            numbers(alone),
        )


@neurons
def test_a_long_run_stays_finite(row):
    with brainstate.environ.context(precision=32):
        module = row.build()
        module.init_state()
        xs = jnp.asarray(np.random.default_rng(0).uniform(0.0, 2.0, (100_000, N)), jnp.float32) * row.drive

        def step(x):
            return module.update(x.astype(jnp.float32))

        spikes = brainstate.transform.for_loop(step, xs)
        for name, state in module.hidden.items():
            assert state.value.dtype == jnp.float32
            assert np.isfinite(u.get_mantissa(state.value)).all(), name
        assert 0.001 < float(spikes.mean()) < 0.9
        assert float(spikes[-1000:].mean()) > 0


# ---------------------------------------------------------------------------------------------------------- gradients


def compare(row, neuron, pairs, **kwargs):
    """D-RTRL equals backpropagation; every parameter is reached, and the network spikes."""
    xs, ys = contract.data()
    net = contract.Net(row, neuron, pairs, **kwargs)
    expected, rate = contract.bptt(net, xs, ys)
    assert 0.02 < rate < 0.7
    got = contract.drtrl(net, xs, ys)
    assert set(got) == set(expected)
    for path, value in expected.items():
        a, b = numbers(got[path])["weight"] if isinstance(got[path], dict) else numbers(got[path]), numbers(value)
        b = b["weight"] if isinstance(b, dict) else b
        assert np.abs(b).max() > 0, path
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * float(np.abs(b).max()), err_msg=str(path))


@primary
def test_gradient_of_the_neuron_alone(row):
    compare(row, row.build(), [], delta=True)


@primary
def test_gradient_behind_every_synapse(row):
    compare(row, row.build(), contract.every_synapse(), delta=False)


@primary
def test_gradient_of_a_recurrent_population(row):
    pair = (SYNAPSES[0], OUTPUTS[1])
    compare(row, row.build(**row.options()[-1]), [pair], delta=False, recurrent=True)
