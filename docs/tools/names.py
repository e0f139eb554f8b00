"""The public names of the package, and where the reference shows them."""

from __future__ import annotations

import importlib
import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["PACKAGES", "has_docstring", "missing", "public", "shown", "shown_in", "value_of"]

# Packages that users import from; in a name that several have, the first one counts.
PACKAGES = (
    "etrax",
    *(
        f"etrax.{name}"
        for name in ("neurons", "synapses", "learners", "contract", "training", "data", "tasks", "plots")
    ),
    *(f"etrax.{name}" for name in ("analysis", "exchange", "comparison", "experiment", "network", "cli")),
)
REFERENCE = Path(__file__).resolve().parents[1] / "reference"
DIRECTIVE = re.compile(
    r"^(?:::: |### (?=.*\{#))`?([\w.]+)`?(?: \{#[\w.]+\})?$", re.MULTILINE
)  # a heading by hand: ### `name` {#name}


@cache
def public() -> dict[str, tuple[str, ...]]:
    """Each public object under its first name: all its names. Packages are not among them."""
    found: dict[Any, list[str]] = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if not inspect.ismodule(value):
                found.setdefault(value if has_docstring(value) else (package, name), []).append(f"{package}.{name}")
    return {names[0]: tuple(names) for names in found.values()}


def value_of(name: str) -> Any:
    """The object of a public name, or a member of one."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = inspect.getattr_static(found, part, None) or getattr(found, part)
        return found
    raise LookupError(name)


def has_docstring(value: Any) -> bool:
    """Whether an object is of a kind that has a docstring of its own: a class or a function."""
    return inspect.isclass(value) or inspect.isfunction(value)


def shown_in(text: str) -> list[str]:
    """Names that a page of the reference shows."""
    return DIRECTIVE.findall(text)


@cache
def shown() -> dict[str, str]:
    """Each name that the reference shows: the rest of its section, which stands below what is generated."""
    found = {}
    for page in sorted(REFERENCE.glob("*.md")):
        parts = DIRECTIVE.split(page.read_text())
        found |= dict(zip(parts[1::2], parts[2::2], strict=True))
    return found


def missing() -> list[str]:
    """What is wrong with the reference: names that are not in it, or that nothing is said about."""
    wrong = [f"{name} is public and not in docs/reference/" for name in public() if name not in shown()]
    wrong += [f"{name} is in docs/reference/ and not a public name" for name in shown() if name not in public()]
    for name, below in shown().items():
        if name not in public():
            continue
        value = value_of(name)
        if has_docstring(value):
            if not vars(value).get("__doc__") if inspect.isclass(value) else not value.__doc__:
                wrong.append(f"{name} has no docstring")
            members = vars(value).items() if inspect.isclass(value) else ()
            for member, part in members:
                documentable = inspect.isfunction(part) or isinstance(part, property | classmethod | staticmethod)
                if documentable and not member.startswith("_") and not inspect.getdoc(getattr(value, member)):
                    wrong.append(f"{name}.{member} has no docstring")
        elif not re.sub(r"^ .*$|^#.*$", "", below, flags=re.MULTILINE).strip():
            wrong.append(f"{name} has no text below its line in docs/reference/")
    return wrong
