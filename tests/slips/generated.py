"""Rows made of what modules declare: a constant in another unit or none, a value that is no number, or one out of its range."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import etrax
import etrax.neurons
import etrax.synapses
import etrax.tasks
import etrax.training
from etrax.contract.constant import REQUIRED, declared

from .table import Slip

__all__ = ["ROWS"]

MODULES = [getattr(home, name) for home in (etrax.neurons, etrax.synapses) for name in home.__all__]
MADE = [module for module in MODULES if issubclass(module, etrax.Dynamics) and declared(module)]
MOST = 5  # rows of a kind


def constants(number: int, suits: Callable[[Any], bool] = lambda constant: True) -> Iterator[tuple[type, str, Any]]:
    """Five constants of modules, others for each kind of row: ``(module, name, constant)``."""
    found = [
        (module, name, constant)
        for module in MADE
        for name, constant in declared(module).items()
        if constant.default is not None and constant.default is not REQUIRED and suits(constant)
    ]
    # far apart in the list, and from those of other kinds
    stride = max(1, len(found) // MOST)
    yield from found[number % stride :: stride][:MOST]


def made(module: type, argument: str) -> str:
    """The call that makes a module of four with an argument."""
    size = "4, 2" if module is etrax.neurons.LeakyReadout else "4"
    return f"{module.__name__}({size}, {argument})"


def has_unit(constant: Any) -> bool:
    return constant.unit is not None and not constant.unit.is_unitless


def is_bounded(constant: Any) -> bool:
    return any(bound.is_lower and not bound.other for bound in constant.bounds)


def rows_of_constants() -> Iterator[Slip]:
    """A constant of a module that is given a value which it cannot have."""
    kinds: dict[str, tuple[str, str, Callable[[Any], bool], Callable[[Any], tuple[str, ...]]]] = {
        "without its unit": ("3.0", "ValueError", has_unit, lambda c: (f"units like {c.unit}", "write ", "no unit")),
        "in metres": ("3.0 * u.meter", "ValueError", lambda c: True, lambda c: ("is in m but must be",)),
        "below its range": ("below", "ValueError", is_bounded, lambda c: ("must be a", "got -7")),
        "of NaN": ("nan", "ValueError", lambda c: True, lambda c: ("must be finite", "got nan")),
        "of infinity": ("inf", "ValueError", lambda c: True, lambda c: ("must be finite", "got inf")),
        "as a text": ("'3 ms'", "ValueError", lambda c: True, lambda c: ("got '3 ms'", "write e.g.")),
        "as None": ("None", "ValueError", lambda c: True, lambda c: ("got None", "write e.g.")),
        "as a list": ("[1.0, 2.0, 3.0, 4.0]", "ValueError", lambda c: True, lambda c: ("np.array([...])",)),
        "as a class": (
            "braintools.init.Constant",
            "TypeError",
            lambda c: True,
            lambda c: ("must be a number or an array",),
        ),
        "of three for four": ("three", "ValueError", lambda c: True, lambda c: ("fit the shape (4,)",)),
        "learnt without its unit": (
            "brainstate.ParamState(3.0)",
            "ValueError",
            has_unit,
            lambda c: (f"units like {c.unit}", "write "),
        ),
        "learnt, of three for four": ("learnt", "ValueError", lambda c: True, lambda c: ("fit the shape (4,)",)),
    }
    for number, (kind, (value, error, suits, words)) in enumerate(kinds.items()):
        for module, name, constant in constants(number, suits):
            given = {
                "below": f"-7.0 * {unit(constant)}",
                "nan": f"float('nan') * {unit(constant)}",
                "inf": f"float('inf') * {unit(constant)}",
                "three": f"np.ones(3) * {unit(constant)}",
                "learnt": f"brainstate.ParamState(np.ones(3) * {unit(constant)})",
            }.get(value, value)
            source = made(module, f"{name}={given}")
            yield Slip(f"{name} of {module.__name__} {kind}", error, (f"`{name}`", *words(constant)), source, kind)


def unit(constant: Any) -> str:
    """The unit of a constant as a program has it."""
    return f"u.get_unit({type_of(constant)}.{constant.name}.default)" if has_unit(constant) else "1.0"


def type_of(constant: Any) -> str:
    return next(module.__name__ for module in MADE if declared(module).get(constant.name) is constant)


def rows_of_sizes() -> Iterator[Slip]:
    """A module whose size is none."""
    for kind, size in (("zero neurons", "0"), ("half a neuron", "2.5"), ("as many neurons as a text says", "'4'")):
        for module in MADE[len(size) :: len(MADE) // MOST][:MOST]:
            words = ("`in_size` must be a whole number above 0", f"got {size}")
            rest = ", 2" if module is etrax.neurons.LeakyReadout else ""
            yield Slip(f"{module.__name__} of {kind}", "ValueError", words, f"{module.__name__}({size}{rest})", kind)


def rows_of_options() -> Iterator[Slip]:
    """An option of a training, or of a recipe, of a value that it cannot have."""
    for cls in (etrax.TrainOptions, etrax.tasks.Recipe):
        home = "etrax" if cls is etrax.TrainOptions else "etrax.tasks"
        numbers = [name for name, p in inspect.signature(cls).parameters.items() if type(p.default) in (int, float)]
        for kind, value in (("of -1", "-1"), ("as a text", "'3'"), ("as a list", "[3]")):
            for name in numbers[:: max(1, len(numbers) // MOST)][:MOST]:
                error = "TypeError" if name in ("rate_cost", "min_delta") and value != "-1" else "ValueError"
                title = f"{cls.__name__}: {name} {kind}"
                source = f"{home}.{cls.__name__}({name}={value})"
                yield Slip(title, error, (f"`{name}` must be", f"got {value}"), source, f"{cls.__name__} {kind}")


ROWS = [*rows_of_constants(), *rows_of_sizes(), *rows_of_options()]
