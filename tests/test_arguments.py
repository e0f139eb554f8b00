"""Constructors made of what a class declares: signatures, errors, docstrings, subclasses of any age, and ranges."""

import copy
import inspect
import re
from typing import Any

import brainstate
import braintools
import brainunit as u
import calls
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import OUTPUTS, READOUTS, ROWS, N, primary

import etrax
from etrax.contract.constant import bounds_of, declared
from etrax.contract.transforms import warn_of_free_constants
from etrax.neurons import BRF, LIF, Izhikevich, LIFRef
from etrax.synapses import STP, Expon

CLASSES = primary(ROWS)
rows = pytest.mark.parametrize("row", CLASSES, ids=str)


# ------------------------------------------------------------------------------------------------------- constructors


@pytest.mark.parametrize("call", calls.ACCEPTED)
def test_calls_that_are_right(call):
    assert isinstance(call(), etrax.Dynamics | etrax.SynOut)


@pytest.mark.parametrize("call", calls.REFUSED)
def test_calls_that_are_refused(call):
    with pytest.raises(TypeError, match=r"^\w+\.__init__\(\) (missing|got|takes)"):
        call()


def test_errors_read_like_those_of_python():
    for call, message in (
        (lambda: LIF(), "LIF.__init__() missing a required argument: 'in_size'"),
        (lambda: LIF(3, taux=1), "LIF.__init__() got an unexpected keyword argument 'taux'"),
        (lambda: LIF(3, 1 * u.ohm, R=2 * u.ohm), "LIF.__init__() got multiple values for argument 'R'"),
        (lambda: LIF(*range(12)), "LIF.__init__() takes at most 11 positional arguments but 13 were given"),
    ):
        with pytest.raises(TypeError, match=f"^{re.escape(message)}: its arguments are `in_size`, `R`, "):
            call()


@rows
def test_docstrings_have_a_line_for_each_argument(row):
    text = inspect.getdoc(row.cls)
    section = re.search(r"^Parameters\n-{10}\n(.*?)(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL).group(1)
    named = [name for line in section.splitlines() if line[0] != " " for name in line.partition(" : ")[0].split(", ")]
    assert sorted(named) == sorted(inspect.signature(row.cls).parameters)
    assert "Parameters" not in text.replace(section, "").replace("Parameters\n---", "", 1)


def test_a_line_of_help_says_unit_range_and_default():
    lines = inspect.getdoc(LIF).splitlines()
    assert lines[lines.index("tau : Quantity, above 0 ms, default 5 ms") + 1] == "    Time constant of the membrane."
    assert "V_reset : Quantity, below `V_th`, default 0 mV" in lines
    assert "spk_fun, spk_reset, name" in lines
    assert inspect.getdoc(BRF).index("Parameters") < inspect.getdoc(BRF).index("Raises")


class Declared(etrax.Neuron):
    """A neuron that declares everything."""

    tau: Any = etrax.Constant(default=8.0 * u.ms, above=0, doc="Time constant.")
    V_th: Any = etrax.Constant(default=1.0 * u.mV)
    V_reset: Any = etrax.Constant(default=0.0 * u.mV, below="V_th")
    start: Any = etrax.argument(default=0.5, doc="No constant.")
    spk_reset: str = etrax.argument(default="hard")

    def initial(self, batch_size=None):
        return {"V": braintools.init.param(braintools.init.Constant(0.0 * u.mV), self.varshape, batch_size)}

    def get_spike(self, V=None):
        return self.spk_fun(((self.V.value if V is None else V) - self.V_th) / self.V_th)

    def transition(self, V, *, current, delta):
        V = self.reset(V, self.get_spike(V))
        return {"V": brainstate.nn.exp_euler_step(lambda v: (-v + 1 * u.ohm * current(v)) / self.tau, V) + delta}


class Written(Declared):
    """The same, by hand: constants without annotation are no arguments."""

    tau = etrax.Constant(u.ms)
    extra = etrax.Constant(u.mV)

    def __init__(self, in_size, tau=8.0 * u.ms, extra=1.0 * u.mV):
        super().__init__(in_size, tau, spk_reset="soft")
        self.extra = extra


class Below(Written):
    more: Any = etrax.Constant(default=2.0)


class Passing(LIF):
    def __init__(self, *args, factor=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.factor = factor


class BelowPassing(Passing):
    more: Any = etrax.Constant(default=2.0, kw_only=True)


class ByPosition(etrax.Neuron):
    tau = etrax.Constant(u.ms)

    def __init__(self, in_size, tau, spk_fun=None, name=None):
        super().__init__(in_size, spk_fun, "hard", name, detach_reset=True)
        self.tau = tau


def test_neurons_of_users():
    module = Declared(4, 5.0 * u.ms, start=0.1, detach_reset=True)
    assert (module.start, module.spk_reset, module.detach_reset, module.V_th) == (0.1, "hard", True, 1.0 * u.mV)
    assert list(inspect.signature(Declared).parameters) == [
        *("in_size", "tau", "V_th", "V_reset", "start", "spk_reset", "detach_reset"),
    ]
    assert etrax.check_jacobian(module).errors
    assert "A neuron that declares everything.\n\nParameters\n" in Declared.__doc__
    assert "start : default 0.5\n    No constant." in Declared.__doc__


def test_constructors_by_hand_stay():
    module = Written(4, extra=2.0 * u.mV)
    assert (module.tau, module.extra, module.spk_reset) == (8.0 * u.ms, 2.0 * u.mV, "soft")
    assert list(inspect.signature(Written).parameters) == ["in_size", "tau", "extra"]
    assert list(inspect.signature(Below).parameters) == ["in_size", "tau", "more"]
    assert (Below(4, more=3.0).more, Below(4).extra) == (3.0, 1.0 * u.mV)
    module = ByPosition(4, 5.0 * u.ms, name="a")
    assert (module.tau, module.spk_reset, module.name, module.detach_reset) == (5.0 * u.ms, "hard", "a", True)
    with pytest.raises(AttributeError, match="no attribute 'tau' yet"):
        ByPosition.__new__(ByPosition).tau  # noqa: B018
    module = BelowPassing(4, tau=3.0 * u.ms, more=1.0)
    assert (module.tau, module.more, module.factor) == (3.0 * u.ms, 1.0, 1.0)
    assert list(inspect.signature(Passing).parameters) == ["args", "factor", "kwargs"]


def test_below_a_constructor_that_hands_on_keywords():
    class Above(LIF):
        def __init__(self, n, k=2.0, **options):
            super().__init__(n, **options)
            self.k = k

    class More(Above):
        extra: Any = etrax.Constant(default=1.0 * u.mV, above=0)

    module = More(4, k=5.0, extra=2.0 * u.mV, tau=7.0 * u.ms)
    assert (module.k, module.extra, module.tau, module.in_size) == (5.0, 2.0 * u.mV, 7.0 * u.ms, (4,))


def test_a_plain_attribute_does_not_hide_a_constant():
    with pytest.raises(TypeError, match="`tau` of Fixed hides a constant of the equations.*`tau: Any = Constant"):

        class Fixed(LIF):
            tau = 12.0 * u.ms


@pytest.mark.parametrize("value", [[5.0] * 4, (5.0 * u.ms,) * 4, "5 ms", None, True, 1j])
def test_what_is_no_number(value):
    with pytest.raises(ValueError, match=r"`tau` must be a number with its unit, .*e\.g\. `10\.0 \* u\.ms`"):
        LIF(4, tau=value)


@pytest.mark.parametrize("shape", [(4, 1), (2, 4), (3,), (2,)])
def test_what_does_not_fit_the_shape(shape):
    with pytest.raises(ValueError, match=r"`tau` must be a scalar or fit the shape \(4,\)"):
        LIF(4, tau=np.ones(shape) * u.ms)


def test_an_example_in_a_compound_unit_can_be_written():
    with pytest.raises(ValueError, match=re.escape("write e.g. `10.0 / (u.mM * u.ms)`")):
        etrax.synapses.AMPA(4, alpha=1.0 * u.mV)
    assert etrax.synapses.AMPA(4, alpha=10.0 / (u.mM * u.ms)).alpha == 10.0 / (u.mM * u.ms)


def test_a_subclass_adds_or_changes_a_constant():
    assert list(inspect.signature(calls.Slow).parameters)[-3:] == ["name", "tau_slow", "detach_reset"]
    assert (calls.Slow(2).tau_slow, calls.Slow(2).tau) == (100.0 * u.ms, 5.0 * u.ms)

    class Fast(LIF):
        tau: Any = etrax.Constant(default=1.0 * u.ms, above=0)

    assert list(inspect.signature(Fast).parameters) == list(inspect.signature(LIF).parameters)
    assert (Fast(2).tau, LIF(2).tau) == (1.0 * u.ms, 5.0 * u.ms)


def test_what_is_no_declaration():
    with pytest.raises(TypeError, match="`tau` of Bare has no annotation: write `tau: Any = ...`"):
        type("Bare", (etrax.Neuron,), {"tau": etrax.Constant(default=1.0 * u.ms)})
    annotated = {"__annotations__": {"a": Any, "b": Any}, "a": etrax.Constant(default=1.0), "b": etrax.Constant()}
    annotated_once = {"__annotations__": {"a": Any}, "a": etrax.Constant(default=1.0, below="b")}
    with pytest.raises(TypeError, match="`a` of Typo must be below `b`, which it does not have"):
        type("Typo", (etrax.Neuron,), annotated_once)
    with pytest.raises(TypeError, match="Late: non-default argument follows default argument"):
        type("Late", (etrax.Neuron,), annotated)


# -------------------------------------------------------------------------------------------------------------- ranges


def made(row, **constants):
    """A module of a row with the constants of its class but those that are given."""
    given = {"E": 0.0 * u.mV, **constants} if row.cls is etrax.synapses.COBA else constants
    return row.cls(*() if row in OUTPUTS else (N, *[3] * (row in READOUTS)), **given)


def limits(row, module):
    """``constant -> values just outside of each end, value just inside``; an end may be another constant."""
    values = {name: getattr(module, name) for name in declared(row.cls)}
    found = {}
    for name, value in values.items():
        unit = u.get_unit(value)
        ends = [(bound, float(bound.number(unit, values))) for bound in bounds_of(row.cls, name)]
        if ends:
            step = {True: 1e-3, False: -1e-3}
            outside = [x if b.side in ("above", "below") else x - step[b.is_lower] for b, x in ends]
            low = [x + step[True] for b, x in ends if b.is_lower]
            inside = max(low) if low else min(x + step[False] for _, x in ends)
            found[name] = [u.maybe_decimal(u.Quantity(x, unit=unit)) for x in (*outside, inside)]
    return found


def constantly(value):
    """An initialiser."""
    return lambda size: u.math.ones(size) * value


@rows
def test_ranges(row):
    """Every constant with a range refuses a value outside, when the module is made and later, and takes one inside."""
    module = made(row)
    for name, (*outside, inside) in limits(row, module).items():
        for wrong in outside:
            for value in [wrong] if row in OUTPUTS else [wrong, u.math.ones(N) * wrong, constantly(wrong)]:
                # of two that do not fit each other, the one that is assigned last is named
                with pytest.raises(ValueError, match=rf" of {row.cls.__name__} must be .*, got "):
                    made(row, **{name: value})
            with pytest.raises(ValueError, match=rf"^`{name}` of {row.cls.__name__} must be .*, got "):
                setattr(module, name, wrong)
        assert getattr(made(row, **{name: inside}), name) == inside


@rows
def test_constants_are_finite(row):
    module = made(row)
    for name in declared(row.cls):
        value = getattr(module, name)
        for number in (np.nan, np.inf, -np.inf):
            with pytest.raises(ValueError, match=f"^`{name}` of {row.cls.__name__} must be finite, got -?(nan|inf)"):
                made(row, **{name: 1.0 * value * 0.0 + number * u.get_unit(1.0 * value)})


def test_what_has_a_range():
    ranged = {(row.cls.__name__, name) for row in CLASSES for name in declared(row.cls) if bounds_of(row.cls, name)}
    for row in CLASSES:
        for name in declared(row.cls):
            expected = name.startswith(("tau", "T_dur", "delta_T", "V_th")) or name in ("R", "U")
            expected &= (row.cls.__name__, name) != ("Gif", "V_th_reset")
            assert ((row.cls.__name__, name) in ranged) >= expected, (row.cls.__name__, name)


def test_messages_name_value_place_and_limit():
    for call, message in (
        (lambda: LIF(3, tau=-1.0 * u.second), "`tau` of LIF must be above 0 ms, got -1 s."),
        (lambda: LIF(3, R=[1.0, 0.0, 2.0] * u.ohm), "`R` of LIF must be above 0 ohm, got 0 ohm at index (1,)."),
        (lambda: STP(3, U=1.5), "`U` of STP must be at most 1, got 1.5."),
        (lambda: LIFRef(3, tau_ref=-1.0 * u.ms), "`tau_ref` of LIFRef must be at least 0 ms, got -1 ms."),
        (
            lambda: LIF(3, V_th=[2.0, 1.0, 2.0] * u.mV, V_reset=1.0 * u.mV),
            "`V_reset` of LIF must be below `V_th`, got 1 mV at index (1,) where `V_th` is 1 mV.",
        ),
        (
            lambda: Izhikevich(3, c=0.05 * u.volt),
            "`V_th` of Izhikevich must be above `c`, got 30 mV where `c` is 50 mV.",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


def test_parameters_are_checked_at_their_present_value():
    for wrong in (brainstate.ParamState(-5.0 * u.ms), brainstate.nn.Param(-5.0 * u.ms)):
        with pytest.raises(ValueError, match="`tau` of Expon must be above 0 ms, got -5 ms"):
            Expon(3, tau=wrong)
    module = Expon(3, tau=brainstate.ParamState(5.0 * u.ms))
    with pytest.raises(ValueError, match="`tau` of Expon must be above 0 ms, got 0 ms"):
        module.tau = 0.0 * u.ms
    assert module.tau == 5.0 * u.ms


def test_values_that_are_not_known_are_not_checked():
    def tau(value):
        return LIF(3, tau=value * u.ms, V_reset=value * u.mV).tau

    assert jax.jit(tau)(-5.0) == -5.0 * u.ms
    assert (jax.vmap(tau)(jnp.asarray([-5.0, 5.0])) == jnp.asarray([-5.0, 5.0]) * u.ms).all()
    assert jax.grad(lambda value: u.get_mantissa(tau(value)))(-5.0) == 1.0
    with pytest.raises(ValueError, match="`tau` of LIF must be above 0 ms, got -5 ms"):  # known all the same
        jax.jit(lambda: LIF(3, tau=-5.0 * u.ms).tau)()


@rows
def test_copies_have_the_same_constants(row):
    module = made(row)
    definition, states = brainstate.graph.treefy_split(module)
    for other in (copy.deepcopy(module), brainstate.graph.treefy_merge(definition, states)):
        assert other is not module
        for name in declared(row.cls):
            assert getattr(other, name) == getattr(module, name)


def test_a_limit_may_be_any_attribute():
    class Above(etrax.Neuron):
        V_th: Any = etrax.Constant(default=1.0 * u.mV, above="V_reset")
        V_reset = 0.0 * u.mV

    with pytest.raises(ValueError, match="`V_th` of Above must be above `V_reset`, got -1 mV where `V_reset` is 0 mV"):
        Above(3, V_th=-1.0 * u.mV)
    with pytest.warns(UserWarning, match=r"`V_th` of Above is trained.*SoftplusT\(0 \* u.mV\)"):
        warn_of_free_constants(Above(3, V_th=brainstate.ParamState(1.0 * u.mV)))


def test_a_constant_may_be_absent():
    class Optional(LIF):
        period: Any = etrax.Constant(u.ms, default=None, above=0)

    assert Optional(3).period is None
    assert Optional(3, period=2.0 * u.ms).period == 2.0 * u.ms
    with pytest.raises(ValueError, match="`period` of Optional must be above 0 ms, got 0 ms"):
        Optional(3, period=0.0 * u.ms)


def test_copies_of_modules_with_parameters():
    module = LIF(3, tau=positive(5.0 * u.ms), V_th=brainstate.nn.Param(np.ones(3) * u.mV))
    other = copy.deepcopy(module)
    assert np.allclose(other.tau.to_decimal(u.ms), 5.0)
    assert other.V_th.shape == (3,)


# ------------------------------------------------------------------------------------------ constants that are trained


def positive(value):
    return brainstate.nn.Param(value, t=brainstate.nn.SoftplusT(0.0 * u.get_unit(value)))


def param(value, transform=None, **options):
    return brainstate.nn.Param(value, **({} if transform is None else {"t": transform}), **options)


FREE = {
    "state": lambda: LIF(3, tau=brainstate.ParamState(5.0 * u.ms)),
    "no transform": lambda: LIF(3, tau=param(np.ones(3) * u.ms)),
    "a transform that goes further": lambda: LIF(3, tau=param(5.0 * u.ms, brainstate.nn.SoftplusT(-1.0 * u.ms))),
    "the other end": lambda: STP(3, U=param(0.5, brainstate.nn.SoftplusT(0.0))),
    "both ends": lambda: STP(3, U=brainstate.ParamState(0.5)),
    "below another": lambda: LIF(3, V_reset=brainstate.ParamState(-1.0 * u.mV)),
    "above another": lambda: LIF(3, V_th=brainstate.ParamState(2.0 * u.mV)),
    "of a rate": lambda: etrax.synapses.AMPA(3, alpha=brainstate.ParamState(0.98 / (u.ms * u.mM))),
}
KEPT = {
    "positive": lambda: LIF(3, tau=positive(5.0 * u.ms), R=positive(np.ones(3) * u.ohm)),
    "exponential": lambda: LIF(3, tau=param(5.0 * u.ms, brainstate.nn.ExpT(1.0 * u.ms))),
    "clipped": lambda: LIF(3, tau=param(5.0 * u.ms, brainstate.nn.ClipT(1.0 * u.ms, 9.0 * u.ms))),
    "of a function": lambda: LIF(3, tau=param(2.0, precompute=lambda x: (1.0 + x**2) * u.ms)),
    "between": lambda: STP(3, U=param(0.5, brainstate.nn.SigmoidT(0.0, 1.0))),
    "both move": lambda: LIF(3, V_th=brainstate.ParamState(2.0 * u.mV), V_reset=brainstate.ParamState(1.0 * u.mV)),
    "no range": lambda: LIF(3, V_rest=brainstate.ParamState(0.1 * u.mV)),
    "not trained": lambda: LIF(3, tau=param(5.0 * u.ms, fit=False)),
}


@pytest.mark.parametrize("name", FREE)
def test_a_constant_that_can_leave_its_range_is_warned_of(name):
    """Once, and the advice helps."""
    module = FREE[name]()
    with pytest.warns(UserWarning, match="is trained and must be") as caught:
        warn_of_free_constants(module)
    assert len(caught) == 1
    constant, kind, advice = re.match(
        r"`(\w+)` of (\w+) is trained and must be .* give it as `(.*?)`\.", str(caught[0].message)
    ).groups()
    assert kind == type(module).__name__
    scope = {"brainstate": brainstate, "u": u, "value": getattr(module, constant)}
    setattr(module, constant, eval(advice, scope))
    warn_of_free_constants(module)


@pytest.mark.parametrize("name", KEPT)
def test_a_constant_that_stays_is_not(name):
    warn_of_free_constants(KEPT[name]())


@pytest.mark.parametrize("algorithm", [etrax.D_RTRL, etrax.NoTrace, etrax.BPTT, etrax.RTRL])
def test_learners_warn_when_they_are_compiled(algorithm):
    class Net(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.neu = LIF(3, tau=brainstate.ParamState(5.0 * u.ms), R=brainstate.ParamState(1.0 * u.ohm))
            comm = brainstate.nn.Linear(2, 3, w_init=braintools.init.KaimingNormal(unit=u.mV), b_init=None)
            self.jump = etrax.synapses.DeltaProj(comm=comm, post=self.neu)

        def update(self, x):
            self.jump(x)
            return self.neu()

    with pytest.warns(UserWarning, match="is trained") as caught:
        etrax.compile(Net(), algorithm, jnp.ones((1, 2)), batch_size=1)
    texts = sorted(str(w.message) for w in caught)
    assert [text.split("`")[1] for text in texts] == ["R", "tau"]
    assert "clamps neu.R" in texts[0]
