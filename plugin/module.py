"""The contract: what a neuron, a synapse and a synaptic output tell about themselves.

A dynamical module has *states* (one ``brainstate.HiddenState`` each), a pure element-wise
*transition* ``(h_{t-1}, drives) -> h_t`` and the *Jacobian diagonal* of that transition,
as named entries ``(new state, source) -> derivative``. Sources are the old states and the
drives. Everything else (traces, gradients) is composed from these by a learner.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp

from .constant import text, trained
from .jacobian import Entries, automatic
from .recorder import active

__all__ = ["Current", "Dynamics", "Filter", "Neuron", "SynOut", "Synapse"]


class Dynamics(brainstate.nn.Dynamics):
    """A module with element-wise dynamics.

    A subclass gives :meth:`initial` and :meth:`transition`, and :meth:`jacobian` where a
    closed form is wanted.
    """

    @property
    def hidden(self) -> dict[str, brainstate.HiddenState]:
        """The states by name, in the order in which :meth:`initial` gives them."""
        return {k: v for k, v in vars(self).items() if isinstance(v, brainstate.HiddenState)}

    def initial(self, batch_size: int | None = None) -> dict[str, Any]:
        """Initial value of every state, with unit, shape ``([batch,] *varshape)``."""
        raise NotImplementedError(f"{type(self).__name__} must define `initial(batch_size)`: its states by name.")

    def ranges(self) -> dict[str, tuple[Any, Any]]:
        """Where states live, ``name -> (low, high)``, if `etrax.check_jacobian` is to look elsewhere than it does.

        By default it draws V around reset potential and threshold and the other states between 0 and 2.
        """
        return {}

    def transition(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Old states and drives by name, new states out; pure and element-wise."""
        raise NotImplementedError(f"{type(self).__name__} must define `transition(...)`.")

    def jacobian(self, *args: Any, **kwargs: Any) -> Entries:
        """Entries ``(new state, source) -> derivative`` of :meth:`transition`, here by automatic differentiation."""
        return automatic(lambda point: self.transition(**point), kwargs)

    @property
    def closed_form(self) -> bool:
        """Whether :meth:`jacobian` is a closed form; else it is automatic differentiation."""
        return type(self).jacobian not in (Dynamics.jacobian, Neuron.jacobian)

    def entries(self, **point: Any) -> Entries:
        """What a recorder notes of one step: :meth:`jacobian` and :meth:`constant_jacobian`."""
        return {**self.jacobian(**point), **self.constant_jacobian(**point)}

    def constant_jacobian(self, *args: Any, **kwargs: Any) -> Entries:
        """Entries ``(new state, constant) -> derivative`` of :meth:`transition` for the constants that are trained."""
        return self._by_constants(lambda module: module.transition(**kwargs))

    def _by_constants(self, fn: Callable[[Any], dict]) -> Entries:
        point = {name: getattr(self, name) for name in trained(self)}
        return automatic(lambda constants: fn(self.replaced(**constants)), point) if point else {}

    def replaced(self, **constants: Any) -> Any:
        """The same module (it shares all states) with other values of constants."""
        other: Any = copy.copy(self)
        vars(other).update(constants)
        return other

    def held(self) -> Any:
        """The same module with its trained constants out of reach of gradients."""
        point = {name: getattr(self, name) for name in trained(self)}
        return self.replaced(**jax.tree.map(jax.lax.stop_gradient, point))

    def init_state(self, batch_size: int | None = None, **kwargs) -> None:
        """Create the states, for a batch of independent copies if ``batch_size`` is given."""
        for name, value in self._start(batch_size).items():
            setattr(self, name, brainstate.HiddenState(value))

    def reset_state(self, batch_size: int | None = None, **kwargs) -> None:
        """Give every state its initial value again."""
        for name, value in self._start(batch_size).items():
            getattr(self, name).value = value

    def _start(self, batch_size: int | None) -> dict[str, Any]:
        """The initial values in a definite dtype: a weakly typed state would change its type at the first step."""

        def definite(leaf):
            return jnp.asarray(leaf, jnp.result_type(leaf))

        # one by one: mapped as a whole, the dict would come back in the order of the alphabet
        return {name: jax.tree.map(definite, value) for name, value in self.initial(batch_size).items()}

    def check_states(self) -> None:
        """Raise a RuntimeError unless the states exist."""
        if not self.hidden:
            raise RuntimeError(
                f"{type(self).__name__} has no states yet: call `brainstate.nn.init_all_states(model, batch_size=...)` "
                "(or `etrax.compile`) before its first step."
            )

    def step(self, **drives) -> dict[str, Any]:
        """Advance the states by one transition and report it to a recorder that listens.

        Returns the new states as the rest of the same population reads them: without the
        zeros by which a recorder takes learning signals.
        """
        self.check_states()
        old = {name: state.value for name, state in self.hidden.items()}
        new = self.transition(**old, **drives)
        recorder = active()
        values = new if recorder is None else recorder.part(self, old, drives, new)
        for name, state in self.hidden.items():
            state.value = values[name]
        return new


class Current:
    """Input current of a neuron as a function of its membrane potential.

    Where every output is affine in the potential (:attr:`is_affine`), ``I(v) = offset + slope * v``;
    ``slope`` is None when no conductance-based output is among them, so that a purely
    current-driven neuron keeps a constant Jacobian.

    Parameters
    ----------
    external : ArrayLike
        Current that comes from outside, e.g. ``0 mA``.
    terms : list of (SynOut, ArrayLike)
        Outputs with the conductances bound to them.
    """

    def __init__(self, external, terms: list):
        self.external = external
        self.terms = terms

    def __call__(self, v):
        total = self.external
        for out, g in self.terms:
            total = add(total, out.update(g, v), f"`out` {type(out).__name__}", "current already summed up")
        return total

    @property
    def is_affine(self) -> bool:
        """Whether every output is affine in the potential."""
        return all(out.is_affine for out, _ in self.terms)

    @property
    def offset(self):
        """The current at zero potential."""
        total = self.external
        for out, g in self.terms:
            total = total + out.affine(g)[0]
        return total

    @property
    def slope(self):
        """``dI/dv``, or None where no output depends on the potential."""
        slopes = [s for s in (out.affine(g)[1] for out, g in self.terms) if s is not None]
        return sum(slopes[1:], slopes[0]) if slopes else None


class _Affine:
    """A current given by its offset and slope, for automatic differentiation with respect to both."""

    def __init__(self, offset, slope):
        self.offset, self.slope = offset, slope

    def __call__(self, v):
        return self.offset if self.slope is None else self.offset + self.slope * v


class Neuron(Dynamics):
    """Base class of neurons.

    The first state is the one that a delta synapse moves (the membrane potential). A
    subclass defines ``initial``, ``transition(V, ..., *, current, delta)`` where ``current``
    is a :class:`Current` (call it with a potential) and ``delta`` a jump of the potential,
    and ``get_spike(V, ...)``. Sources of Jacobian entries are the states, ``"current"`` (the
    offset of the current), ``"slope"`` (its slope, if any) and ``"delta"``. Where some output is
    not affine in the potential, the conductances ``("g", i)`` take the place of the current.

    Parameters
    ----------
    in_size : int or tuple of int
        Shape of the population.
    spk_fun : callable
        Heaviside step with a surrogate derivative, from ``braintools.surrogate``.
    spk_reset : {'soft', 'hard'}
        Subtract the threshold, or clamp to the reset potential, after a spike.
    detach_reset : bool
        Whether the surrogate derivative is kept out of the reset.
    name : str, optional
        Name of the module.
    """

    # reached through their projections
    graph_invisible_attrs: tuple[str, ...] = ("receivers", "filters", "_before_updates")

    def __init__(
        self,
        in_size,
        spk_fun: Callable | None = None,
        spk_reset: str = "soft",
        name: str | None = None,
        *,
        detach_reset: bool = False,
    ):
        super().__init__(in_size, name=name)
        if spk_reset not in ("soft", "hard"):
            raise ValueError(f"`spk_reset` must be 'soft' or 'hard', got {spk_reset!r}.")
        self.spk_fun = braintools.surrogate.ReluGrad() if spk_fun is None else spk_fun
        self.spk_reset = spk_reset
        self.detach_reset = detach_reset
        self.receivers: dict[str, tuple[SynOut, Synapse]] = {}
        self.filters: list[Dynamics] = []
        self._jumps: list[Any] = []

    def get_spike(self, *states, **named) -> Any:
        """Spikes (0. or 1., surrogate derivative) of the given or the current states."""
        raise NotImplementedError(f"{type(self).__name__} must define `get_spike(...)`.")

    def surrogate(self, x) -> Any:
        """Derivative of the spike function at the scaled distance ``x`` from threshold."""
        return jax.jvp(self.spk_fun, (x,), (u.math.ones_like(x),))[1]

    def spike_jacobian(self, *args: Any, **kwargs: Any) -> Entries:
        """Entries ``("z", state) -> dz/dstate`` of the emitted spike."""
        return automatic(lambda point: {"z": self.get_spike(**point)}, kwargs)

    def spike_constant_jacobian(self, *args: Any, **kwargs: Any) -> Entries:
        """Entries ``("z", constant) -> derivative`` of the emitted spike for the constants that are trained."""
        return self._by_constants(lambda module: {"z": module.get_spike(**kwargs)})

    def jacobian(self, *args: Any, **kwargs: Any) -> Entries:
        """Entries of :meth:`transition` by automatic differentiation."""
        current = kwargs.pop("current")

        def transition(point):
            point = dict(point)
            affine = _Affine(point.pop("current"), point.pop("slope", None))
            return self.transition(**point, current=affine)

        return automatic(transition, dict(kwargs, current=current.offset, slope=current.slope))

    def entries(self, **point: Any) -> Entries:
        """See `Dynamics.entries`; sources ``("g", i)`` replace the current where some output is not affine."""
        if point["current"].is_affine:
            return super().entries(**point)
        return {**self._by_conductances(**point), **self.constant_jacobian(**point)}

    def _by_conductances(self, *, current: Current, **point: Any) -> Entries:
        """Entries by automatic differentiation, with the conductance of every output as a source of its own."""
        outputs = [out for out, _ in current.terms]

        def transition(point):
            terms = [(out, point["g", i]) for i, out in enumerate(outputs)]
            named = {name: value for name, value in point.items() if isinstance(name, str)}
            return self.transition(**named, current=Current(current.external, terms))

        conductances: dict[Any, Any] = {("g", i): g for i, (_, g) in enumerate(current.terms)}
        return automatic(transition, conductances | point)

    def reset(self, V, spike):
        """Potential after the reset that ``spike`` causes."""
        V_th = self.V_th if self.spk_reset == "soft" else jax.lax.stop_gradient(V)
        if self.detach_reset:
            spike = jax.lax.stop_gradient(spike)
        return V - (V_th - self.V_reset) * spike

    def reset_size(self, V):
        """By how much a spike lowers the potential, as far as the gradient sees it."""
        if self.detach_reset:
            return None
        return (self.V_th if self.spk_reset == "soft" else V) - self.V_reset

    def receive_jump(self, y) -> None:
        """Take a jump of the potential for the coming step."""
        unit = u.get_unit(next(iter(self.hidden.values())).value)
        self._jumps.append(_checked(y, unit, "the output of `comm`", f"the potential of {type(self).__name__}"))

    def update(self, x=0.0 * u.mA):
        """One step; ``x`` is an external current. Returns the spikes of the new state, shape ``([batch,] *varshape)``."""
        terms = [(out, out.take_cond()) for out, _ in self.receivers.values()]
        self.check_states()
        delta = u.maybe_decimal(u.Quantity(0.0, unit=u.get_unit(next(iter(self.hidden.values())).value)))
        jumps, self._jumps = self._jumps, []
        for jump in jumps:
            delta = delta + jump
        self.step(current=Current(x, terms), delta=delta)
        spikes = self.get_spike()
        recorder = active()
        if recorder is not None:
            recorder.spikes[id(self)] = spikes
        return spikes


class Synapse(Dynamics):
    """Base class of synapses aligned with the neurons that they feed.

    A subclass defines ``initial`` and ``transition(g, ..., *, y)`` where ``y`` is the weighted
    presynaptic input, in the unit of the first state. The output reads the state ``g``, unless
    the subclass defines another ``conductance(g, ...)`` of its new states.
    """

    def __init__(self, in_size, name: str | None = None):
        super().__init__(in_size, name=name)
        self._inputs: list[Any] = []

    def conductance(self, *args: Any, **states: Any) -> Any:
        """What the output reads, a function of the new states."""
        return states["g"]

    def conductance_jacobian(self, *args: Any, **states: Any) -> Entries:
        """Entries ``("g", state) -> derivative`` of :meth:`conductance`."""
        if type(self).conductance is Synapse.conductance:
            return {("g", "g"): 1.0}
        return automatic(lambda point: {"g": self.conductance(**point)}, states)

    def conductance_constant_jacobian(self, *args: Any, **states: Any) -> Entries:
        """Entries ``("g", constant) -> derivative`` of :meth:`conductance` for the constants that are trained."""
        return self._by_constants(lambda module: {"g": module.conductance(**states)})

    def receive(self, y) -> None:
        """Take weighted input for the coming step."""
        self._inputs.append(y)

    def advance(self, x=None):
        """One step on what was received (and ``x``); returns the conductance as its population reads it."""
        inputs, self._inputs = self._inputs, []
        if x is not None:
            inputs.append(x)
        self.check_states()
        unit = u.get_unit(next(iter(self.hidden.values())).value)
        y = u.maybe_decimal(u.Quantity(0.0, unit=unit))
        for value in inputs:
            y = y + _checked(value, unit, "the output of `comm`", f"`syn` {type(self).__name__}")
        new = self.step(y=y)
        recorder = active()
        return (self if recorder is None else recorder.inside(self)).conductance(**new)

    def update(self, x=None):
        """One step; returns the conductance, shape ``([batch,] *varshape)``."""
        self.advance(x)
        return self.conductance(**{name: state.value for name, state in self.hidden.items()})


class Filter(Dynamics):
    """Base class of what spikes pass through on the presynaptic side, before they are weighed.

    A subclass defines ``initial`` and ``transition(..., *, z)`` where ``z`` are the spikes; its
    output is the new value of the state that ``output`` names.

    Parameters
    ----------
    in_size : int or tuple of int
        Shape of the presynaptic population.
    name : str, optional
        Name of the module.
    pre : Neuron, optional
        The neurons whose spikes are filtered: call the filter with what ``pre(...)`` returned. Its states
        then belong to the population of ``pre``, so that credit through their memory is in the trace.
        Without it only the newest spike gets credit.

    Raises
    ------
    ValueError
        If ``pre`` has another shape than ``in_size``.
    """

    graph_invisible_attrs = ("pre",)
    output = "g"

    def __init__(self, in_size, name: str | None = None, *, pre: Neuron | None = None):
        super().__init__(in_size, name=name)
        self.pre = pre
        if pre is not None:
            if pre.varshape != self.varshape:
                raise ValueError(
                    f"`in_size` is {self.varshape} but `pre` has shape {pre.varshape}: give them one shape."
                )
            pre.filters.append(self)

    def update(self, z):
        """One step on the spikes ``z``, shape ``([batch,] *in_size)``; returns the filtered spikes, same shape."""
        recorder = active()
        if recorder is not None and self.pre is not None:
            z = recorder.emission(self.pre, z)
        if not jnp.issubdtype(jnp.result_type(z), jnp.inexact):
            z = jnp.asarray(z, brainstate.environ.dftype())
        self.step(z=z)
        return self.hidden[self.output].value


class SynOut(brainstate.nn.Module):
    """Base class of synaptic outputs: conductance and potential give a current.

    A subclass defines ``update``. Where the current is affine in the potential it also defines
    ``affine(g) -> (offset, slope)`` of the current ``offset + slope * v`` (slope None if it does
    not depend on the potential) and may define ``jacobian()``, the entries ``("current", "g")`` and
    ``("slope", "g")``: the closed forms of neurons build on these. A neuron with an output that is
    not affine is differentiated automatically.
    """

    def __init__(self):
        super().__init__()
        self._conductance = None

    def bind_cond(self, conductance) -> None:
        """Give the conductance of this step."""
        self._conductance = conductance

    def take_cond(self):
        """The conductance of this step; it can be taken once."""
        g, self._conductance = self._conductance, None
        if g is None:
            raise RuntimeError(
                f"{type(self).__name__} has no conductance for this step: call its projection before the neuron that it feeds."
            )
        return g

    def update(self, conductance, potential):
        """The current for a conductance and a membrane potential."""
        raise NotImplementedError(f"{type(self).__name__} must define `update(conductance, potential)`.")

    def affine(self, g) -> tuple[Any, Any]:
        """Offset and slope of the current as a function of the potential."""
        raise NotImplementedError(f"{type(self).__name__} is not affine in the potential: it defines no `affine(g)`.")

    @property
    def is_affine(self) -> bool:
        """Whether the current is affine in the potential."""
        return type(self).affine is not SynOut.affine

    def jacobian(self) -> Entries:
        """Derivatives of offset and slope with respect to the conductance."""
        return automatic(
            lambda point: named_current(*self.affine(point["g"])),
            {"g": 1.0},
        )


def check_dt() -> Any:
    """The time step of the environment; a ValueError if there is none."""
    dt = brainstate.environ.get("dt", None)
    if dt is None:
        raise ValueError(
            "`dt` is not set: put the call inside `with brainstate.environ.context(dt=1.0 * u.ms):`, or call "
            "`brainstate.environ.set(dt=...)`."
        )
    return dt


def named_current(offset, slope) -> dict[str, Any]:
    """Offset and slope of a current under the names that Jacobian entries give them."""
    return {"current": offset} if slope is None else {"current": offset, "slope": slope}


def _checked(value, unit: u.Unit, what: str, where: str):
    """``value`` if it has the dimension of ``unit``; a ValueError that names both and the fix otherwise."""
    got = u.get_unit(value)
    if not got.has_same_dim(unit):
        raise ValueError(
            f"{what} is in {text(got)} but {where} takes {text(unit)}: give the weights (and bias) of `comm` "
            f"the unit {text(unit)}, e.g. `w_init=braintools.init.KaimingNormal(unit=...)`, or no bias with `b_init=None`."
        )
    return value


def add(a, b, what: str, where: str):
    """``a + b``; a ValueError names the units where they do not fit."""
    if not u.get_unit(a).has_same_dim(u.get_unit(b)):
        raise ValueError(
            f"{what} gives {text(u.get_unit(b))} but the {where} is in {text(u.get_unit(a))}: check the unit of the "
            "weights, `CUBA(scale=...)`, `COBA(E=...)` and of the external current."
        )
    return a + b
