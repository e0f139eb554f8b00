"""The section Parameters of a docstring, in the style of NumPy, made of what a class declares."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any

import brainunit as u

from etrax.text import quantity_text

from .constant import Constant

__all__ = ["documented"]


def documented(
    cls: type, parameters: list[inspect.Parameter], fields: dict[str, Any], base: tuple[str, list[str]]
) -> str:
    """The docstring with the section Parameters, in front of what other sections there are.

    ``base`` names the class that some arguments are handed to, and those: they may be explained there.
    """
    text = inspect.cleandoc(vars(cls).get("__doc__") or "")
    if re.search(r"^Parameters\n---", text, re.MULTILINE):
        return text
    lines, rest = ["Parameters", "----------"], []
    for parameter in parameters:
        name, field = parameter.name, fields.get(parameter.name)
        if field is None or (not field.doc and name in base[1]):
            rest.append(name)
            continue
        about = ", ".join(filter(None, (_kind(cls, name, field), *_range(field))))
        lines.append(f"{name} : {about}" if about else name)
        lines += textwrap.wrap(field.doc, 110, initial_indent="    ", subsequent_indent="    ")
    if rest:
        lines += [", ".join(rest), f"    See :class:`{base[0]}`."]
    head = re.search(r"^[A-Z]\w+\n---", text, re.MULTILINE)
    before, after = (text, "") if head is None else (text[: head.start()], text[head.start() :])
    return "\n\n".join(part for part in (before.strip(), "\n".join(lines), after.strip()) if part)


def _kind(cls: type, name: str, field: Any) -> str:
    """What an argument is, as a docstring says it."""
    if isinstance(field, Constant):
        if field.unit is None or not field.unit.is_unitless:
            return "Quantity"
        return "float" if getattr(cls, "constants_learn", True) else "float or Quantity"
    found = next(inspect.get_annotations(base)[name] for base in cls.__mro__ if name in vars(base).get("_own", {}))
    text = found if isinstance(found, str) else inspect.formatannotation(found)
    return "" if text in ("Any", "typing.Any") else text.removesuffix(" | None")


def _range(field: Any) -> list[str]:
    """The values that a constant may have, and a default that can be read."""
    bounds = [str(bound) for bound in field.bounds] if isinstance(field, Constant) else []
    default = field.default
    if default is None:
        return [*bounds, "optional"]
    if isinstance(default, str | bool | u.Unit):
        return [*bounds, f"default {default!r}" if isinstance(default, str) else f"default {default}"]
    is_number = isinstance(default, u.Quantity | int | float) and u.math.ndim(default) == 0
    return [*bounds, f"default {quantity_text(default, 'g')}"] if is_number else bounds
