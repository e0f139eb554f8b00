"""What a step reads that is neither a state nor an argument: the environment, and plain attributes of modules.

A compiled step has taken them in. So what was compiled is kept under a key of them, and another is compiled when one changes.
Numbers and names count by value, arrays by identity; what a closure holds is not seen.
"""

from __future__ import annotations

import operator
import types
import weakref
from collections.abc import Hashable
from contextlib import AbstractContextManager
from typing import Any

import brainstate
import brainunit as u
import jax
import numpy as np

__all__ = ["CLOCK", "Settings", "check_claim", "claim"]

CLOCK = (brainstate.environ.I, brainstate.environ.T)  # what moves with the steps of a simulation
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)
_OPAQUE = (
    brainstate.State,
    jax.Array,
    type,
    types.FunctionType,
    types.MethodType,
    types.ModuleType,
    types.BuiltinFunctionType,
)
_LIBRARIES = ("brainstate", "brainunit", "braintools", "builtins", "etrax", "saiunit", "abc", "typing")
_TRACED = "traced"  # stands for what a step that was compiled left behind
_DEEPEST = 4  # how far objects that are no modules are looked into


class Settings:
    """The settings of one model.

    Parameters
    ----------
    model : brainstate.nn.Module
        NumPy arrays in its attributes are taken over as copies that cannot be written to, and those in tuples are locked.
    """

    def __init__(self, model: brainstate.nn.Module):
        self._model = model
        self._environment = dict(brainstate.environ.all())
        self._environment.setdefault(brainstate.environ.FIT, True)
        self._numbers: dict[Hashable, int] = {}
        self._look()

    def __deepcopy__(self, memo: dict) -> None:
        return None  # a copy of a learner is to be compiled

    def context(self) -> AbstractContextManager:
        """The environment as it was when the model was compiled, as far as it is not set now; ``fit`` is True if never set."""
        now = brainstate.environ.all()
        return brainstate.environ.context(**{k: v for k, v in self._environment.items() if k not in now})

    def key(self, *, without: tuple[str, ...] = ()) -> Hashable:
        """What the environment and the attributes are now, but for names in ``without`` that are set."""
        now = brainstate.environ.all()
        if not self._unchanged():
            self._look()
        both = {**self._environment, **now}
        return self._number, tuple((k, _value(both[k])) for k in sorted(both) if k not in without or k not in now)

    def check(self) -> None:
        """Raise a ValueError if running the model has changed its attributes, which a compiled step cannot."""
        name = _changed(self._walked, self._look())
        if name:
            raise ValueError(
                f"the model changes its attribute `{name}` while it steps, which a compiled step cannot do: keep it in a state "
                f"(`self.{name} = brainstate.ShortTermState(...)`), or pass it as an input."
            )

    def _unchanged(self) -> bool:
        """Whether each attribute is the very object that it was: fast, as this is asked at every call."""
        flat = self._flat()
        return len(flat) == len(self._seen) and all(map(operator.is_, flat, self._seen))

    def _flat(self) -> list:
        flat: list[Any] = []
        for holder in self._holders:
            flat += holder if isinstance(holder, list) else holder.values()
        return flat + [quantity.mantissa for quantity in self._quantities]

    def _look(self) -> Any:
        """Walk through the model and take down all that it holds."""
        self._holders: list[Any] = []
        self._quantities: list[u.Quantity] = []
        self._met: set[int] = set()
        self._walked: Any = self._walk(self._model, 0)
        self._number = self._numbers.setdefault(self._walked, len(self._numbers))
        self._seen = self._flat()  # held, so that no identity is used again
        return self._walked

    def _walk(self, thing: Any, depth: int) -> Hashable:
        if isinstance(thing, u.Quantity):
            self._quantities.append(thing)
        if isinstance(thing, (*_PLAIN, *_OPAQUE, np.ndarray, u.Quantity)) or id(thing) in self._met:
            return _value(thing)
        self._met.add(id(thing))
        if isinstance(thing, dict | list):
            return type(thing).__name__, self._items(thing, depth)
        if isinstance(thing, tuple | set | frozenset):
            for array in filter(_is_writeable, thing):
                _array(array).flags.writeable = False
            return type(thing).__name__, tuple(self._walk(item, depth) for item in thing)
        depth = 0 if isinstance(thing, brainstate.nn.Module) else depth + 1
        if depth > _DEEPEST or not hasattr(thing, "__dict__"):
            return id(thing)
        own: Any = self._items(vars(thing), depth)
        return type(thing).__name__, (*own, *(item for cls in type(thing).__mro__ for item in self._of_class(cls)))

    def _of_class(self, cls: type) -> tuple:
        """Attributes of a user's class, which an object reads as its own."""
        if cls.__module__.partition(".")[0] in _LIBRARIES:
            return ()
        self._holders.append(vars(cls))
        return tuple((name, _value(item)) for name, item in vars(cls).items())

    def _items(self, holder: dict | list, depth: int) -> Hashable:
        self._holders.append(holder)
        found = []
        for name, item in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            if _is_writeable(item):
                item = holder[name] = _copy(item)
            found.append((name, self._walk(item, depth)))
        return tuple(found)


def _value(thing: Any) -> Hashable:
    """What stands for one thing in a key."""
    if isinstance(thing, u.Quantity):
        return "quantity", str(thing.unit), _value(thing.mantissa)
    if isinstance(thing, _PLAIN):
        return type(thing).__name__, thing
    if isinstance(thing, jax.Array) and _is_traced(thing):
        return _TRACED
    if isinstance(thing, np.ndarray | jax.Array) and thing.ndim == 0:
        return str(thing.dtype), thing.item()
    return type(thing).__name__, id(thing)


def _is_traced(array: jax.Array) -> bool:
    """Whether an array has no value, as those that a step left behind that was compiled."""
    try:
        array.devices()
    except jax.errors.ConcretizationTypeError:
        return True
    return False


def _changed(old: Any, new: Any) -> str:
    """The name of the first attribute whose number differs, or that holds what a step left; empty if there is none."""
    for before, after in zip(old[1], new[1], strict=False):
        if before == after or not (isinstance(before, tuple) and isinstance(after, tuple)):
            continue
        (name, was), (also, now) = before, after
        if name == also and now == _TRACED and was not in (_TRACED, ("NoneType", None)):
            return str(name)
        if name != also or not (isinstance(was, tuple) and isinstance(now, tuple) and was[0] == now[0]):
            continue
        if was[0] in ("int", "float"):
            return str(name)
        deeper = isinstance(was[1], tuple) and was[0] not in ("tuple", "set", "frozenset") and _changed(was, now)
        if deeper:
            return deeper
    return ""


def _is_writeable(thing: Any) -> bool:
    array = _array(thing)
    return isinstance(array, np.ndarray) and array.flags.writeable


def _array(thing: Any) -> Any:
    return thing.mantissa if isinstance(thing, u.Quantity) else thing


def _copy(thing: Any) -> Any:
    if isinstance(thing, u.Quantity):
        return u.Quantity(_copy(thing.mantissa), unit=thing.unit)
    copied = thing.copy()
    copied.flags.writeable = False
    return copied


_claims: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def claim(learner: Any, states: list[brainstate.State]) -> None:
    """Let a learner that carries traces be the one that advances some states; another that did no longer is."""
    _claims.update({id(state): learner for state in states})


def check_claim(learner: Any, states: list[brainstate.State]) -> None:
    """Raise a RuntimeError if another learner claimed one of the states since."""
    if any(_claims.get(id(state)) is not learner for state in states):
        raise RuntimeError(
            "another learner was compiled for the states of this model after this one, and each would advance them without "
            "the traces of the other: use the newer, or build one model per learner."
        )
