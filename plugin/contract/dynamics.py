"""The contract: what a neuron, a synapse and a synaptic output tell about themselves.

A dynamical module has *states* (one ``brainstate.HiddenState`` each), a pure element-wise
*transition* ``(h_{t-1}, drives) -> h_t`` and the *Jacobian diagonal* of that transition,
as named entries ``(new state, source) -> derivative``. Sources are the old states and the
drives. Everything else (traces, gradients) is composed from these by a learner.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.checks import check_array, check_dt, check_kind, check_name, check_size, noted, whole_number
from etrax.text import unit_text

from .arguments import Declared, argument
from .constant import Constant, trained
from .jacobian import Entries, automatic, derived
from .recorder import active

__all__ = ["Dynamics"]

_NO_STATES = (
    "has no states yet: call `brainstate.nn.init_all_states(model, batch_size=...)` (or `etrax.compile`) before its first step; what "
    "belongs to a model must be an attribute of it to be found."
)


class Dynamics(Declared, brainstate.nn.Dynamics):
    """A module with element-wise dynamics.

    A subclass gives :meth:`initial` and :meth:`transition`, and :meth:`jacobian` where a
    closed form is wanted. It declares its constants (`Constant`), of which its constructor is made.
    """

    in_size: Any = argument(doc="Shape of the population: an int or a tuple of int.")

    def __init__(self, in_size, name: str | None = None):
        check_name(name)
        super().__init__(check_size("in_size", in_size), name=name)

    def __getattr__(self, name: str) -> Any:
        """Says of a state that is not there yet how it comes to be."""
        words = f"{type(self).__name__!r} object has no attribute {name!r}"
        if isinstance(getattr(type(self), name, None), Constant):
            raise AttributeError(f"{words} yet")
        raise AttributeError(words if name.startswith("_") or self.hidden else f"{words}; it {_NO_STATES}")

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
        """Old states and drives by name, new states out; pure and element-wise: equation (1) of docs/mathematics.md."""
        raise NotImplementedError(f"{type(self).__name__} must define `transition(...)`.")

    @derived
    def jacobian(self, *args: Any, **kwargs: Any) -> Entries:
        """Entries ``(new state, source) -> derivative`` of :meth:`transition`, here by automatic differentiation."""
        return automatic(lambda point: self.transition(**point), kwargs)

    @property
    def closed_form(self) -> bool:
        """Whether :meth:`jacobian` is a closed form; else it is automatic differentiation."""
        return not getattr(type(self).jacobian, "derived", False)

    def entries(self, **point: Any) -> Entries:
        """What a recorder notes of one step: :meth:`jacobian` and :meth:`constant_jacobian`."""
        found = self.jacobian(**point)
        check_kind(
            f"jacobian(...)` of `{type(self).__name__}", found, dict, "a dict", "return e.g. `{('V', 'V'): ...}`"
        )
        return {**found, **self.constant_jacobian(**point)}

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
        self.check_states()
        for name, value in self._start(batch_size).items():
            getattr(self, name).value = value

    def _start(self, batch_size: int | None) -> dict[str, Any]:
        """The initial values in shape, and in a definite dtype: a weakly typed state would change its type at the first step.

        An initialiser may be a value, one for all neurons; a state of its shape would grow at the first step.
        """
        shape = (*(() if batch_size is None else (whole_number("batch_size", batch_size),)), *self.varshape)

        def definite(name, leaf):
            check_array(name, leaf, where=f" that `initial` of {type(self).__name__} gives (see `{name}_initializer`)")
            if jnp.broadcast_shapes(jnp.shape(leaf), shape) != shape:
                raise ValueError(
                    f"the initial `{name}` of {type(self).__name__} has shape {jnp.shape(leaf)} but must be one value, or fit the "
                    f"shape {shape} of {'the batch and ' if batch_size is not None else ''}the population: see `initial`."
                )
            dtype = jnp.result_type(leaf)
            return jnp.broadcast_to(jnp.asarray(leaf, dtype if jnp.issubdtype(dtype, jnp.inexact) else float), shape)

        with noted(
            lambda: (
                f"That was the initial state of {type(self).__name__}, of the shape {shape}: see its `..._initializer`."
            )
        ):
            values = self.initial(batch_size)
        check_kind(
            f"initial(batch_size)` of `{type(self).__name__}", values, dict, "a dict", 'return e.g. `{"V": ...}`'
        )
        # one by one: mapped as a whole, the dict would come back in the order of the alphabet
        return {n: jax.tree.map(partial(definite, n), value) for n, value in values.items()}

    def check_states(self) -> None:
        """Raise a RuntimeError unless the states exist."""
        if not self.hidden:
            raise RuntimeError(f"{type(self).__name__} {_NO_STATES}")

    def step(self, **drives) -> dict[str, Any]:
        """Advance the states by one transition and report it to a recorder that listens.

        Returns the new states as the rest of the same population reads them: without the
        zeros by which a recorder takes learning signals.
        """
        self.check_states()
        check_dt()
        old = {name: state.value for name, state in self.hidden.items()}
        self._check_drives(old, drives)
        with noted(
            lambda: f"That was in `transition` of {type(self).__name__}, which got {_given({**old, **drives})}."
        ):
            new = self.transition(**old, **drives)
        self._check_step(old, new)
        recorder = active(self)
        values = new if recorder is None else recorder.part(self, old, drives, new)
        for name, state in self.hidden.items():
            state.value = values[name]
        return new if recorder is None else recorder.new[id(self)]

    def _check_drives(self, old: dict[str, Any], drives: dict[str, Any]) -> None:
        """A ValueError unless every drive fits the states: an input of another size would change theirs."""
        name, state = next(iter(old.items()))
        for drive in drives.values():
            shape = u.math.shape(getattr(drive, "external", drive))
            if not _fits(shape, u.math.shape(state)):
                raise ValueError(
                    f"the state `{name}` of {type(self).__name__} has shape {u.math.shape(state)}, but its input has shape {shape}: "
                    "give an input of the size of the population and the batch size of `init_state` (`batch_size=` of `etrax.compile`)."
                )

    def _check_step(self, old: dict[str, Any], new: Any) -> None:
        """An error unless a transition gives every state anew, in its shape and unit."""
        kind = type(self).__name__
        check_kind(f"transition(...)` of `{kind}", new, dict, "a dict", f"return e.g. `{{{next(iter(old))!r}: ...}}`")
        if set(new) != set(old):
            raise ValueError(
                f"`transition` of {kind} gives {', '.join(map(str, new)) or 'nothing'}, but its states are {', '.join(old)}: return each of "
                "them, by the names that `initial` gives."
            )
        for name, value in new.items():
            if u.math.shape(value) != u.math.shape(old[name]):
                raise ValueError(
                    f"the state `{name}` of {kind} has shape {u.math.shape(old[name])}, but its step makes it {u.math.shape(value)}: "
                    "give an input of the size of the population and the batch size of `init_state` (`batch_size=` of `etrax.compile`)."
                )
            before, after = u.get_unit(old[name]), u.get_unit(value)
            if not after.has_same_dim(before):
                raise ValueError(
                    f"the state `{name}` of {kind} was in {unit_text(before)}, but its step makes it {unit_text(after)}: give its "
                    "initial value and what enters it the unit that `transition` gives."
                )


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether an array of that shape can stand for one of the shape that is wanted."""
    try:
        return jnp.broadcast_shapes(shape, wanted) == wanted
    except ValueError:
        return False


def _given(point: dict[str, Any]) -> str:
    """What a transition got, in units and shapes."""
    given = {name: getattr(value, "external", value) for name, value in point.items()}
    return ", ".join(f"{k} in {unit_text(u.get_unit(v))} of shape {u.math.shape(v)}" for k, v in given.items())
