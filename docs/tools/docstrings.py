"""Docstrings as they are at run time, with their roles, names and formulas in Markdown."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))
import names  # found beside this file

__all__ = ["Docstrings", "in_markdown"]

QUANTITY = re.compile(r"""Quantity\(([-\d.e+]+), ["']([^"']+)["']\)""")
SEVERAL = re.compile(r"^( *\*{0,2}\w+(?:, \w+)* : )((?:[\w.]+, )+)([\w.]+ or )", re.MULTILINE)  # else it is a tuple
ROLE = re.compile(r":(\w+):`([^`]+)`")
DIRECTIVE = re.compile(r"^( *)\.\. math::\n((?:\1 +.*\n?|[ ]*\n)+)", re.MULTILINE)
SECTION = re.compile(r"^[A-Z]\w+\n---", re.MULTILINE)
CHOICE = re.compile(
    r"^( *\*{0,2}\w+(?:, \w+)* : )\{(.*?)\}", re.MULTILINE
)  # griffe would take the first for the default
MAY_MISS = re.compile(r"^(\w+(?:, \w+)* : )(.*), optional$", re.MULTILINE)
INDENTED = re.compile(r"(?<=\n\n)((?: {4}.*\n?|\n(?= {4}))+)")
SECTIONS = property | classmethod | staticmethod
MODELS = ("etrax.neurons.", "etrax.synapses.")  # the equations stand at the head of a model's file


class Docstrings(griffe.Extension):
    """Griffe reads a docstring and shows what this makes of it."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called with each object, once it and its members are known."""
        if obj.is_class and obj.path.startswith(MODELS):
            for member in set(obj.members) - {"__init__"}:
                obj.del_member(member)  # what the contract says of all models stands there
        if obj.is_function:
            for parameter in obj.parameters:
                parameter.default = readable(parameter.default)
        if obj.is_attribute and "property" not in obj.labels:
            obj.docstring = None  # that of its type
        if obj.docstring is None or not obj.docstring.value.strip():
            return
        text = inspect.cleandoc(obj.docstring.value)
        if obj.is_class and obj.path.startswith(MODELS):
            text = with_equations(text, obj.path)
        obj.docstring.value = in_markdown(text, obj.path)


def readable(default: Any) -> Any:
    """A default as one would write it; ``...`` where its text is no Python."""
    if default is None:
        return None
    text = QUANTITY.sub(
        lambda match: f"{float(match[1]):g} * " + re.sub(r"([A-Za-z]+)", r"u.\1", match[2]), str(default)
    )
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return "..."
    return text


def with_equations(text: str, path: str) -> str:
    """The docstring of a model with that of its file in front of the sections."""
    about = inspect.cleandoc(sys.modules[path.rpartition(".")[0]].__doc__ or "")
    _, _, equations = about.partition("\n\n")
    head = SECTION.search(text)
    before, after = (text, "") if head is None else (text[: head.start()], text[head.start() :])
    return "\n\n".join(part.strip() for part in (before, as_formulas(equations + "\n"), after) if part.strip())


def as_formulas(text: str) -> str:
    """Indented lines of a text as formulas; in a line, wide gaps part one equation from the next."""

    def shown(match: re.Match) -> str:
        lines = [line.strip() for line in textwrap.dedent(match[0]).splitlines() if line.strip()]
        return "".join(f"$$\n{formula(line)}\n$$\n\n" for line in lines)

    return INDENTED.sub(shown, "\n\n" + text).strip()


def formula(line: str) -> str:
    """One line of equations in LaTeX; words are set upright."""
    line = re.sub(r" {3,}", r" \\qquad ", line)
    return re.sub(r"(?<![\\{\w])([A-Za-z]{3,}(?: [a-z]+)*)(?![\w}])", r"\\text{\1}", line)


def in_markdown(text: str, path: str) -> str:
    """Roles and directives of reStructuredText in a docstring as Markdown."""
    text = DIRECTIVE.sub(
        lambda m: f"{m[1]}$$\n{textwrap.indent(textwrap.dedent(m[2]).strip(), m[1])}\n{m[1]}$$\n\n", text
    )
    text = CHOICE.sub(r"\1one of \2", text)
    text = SEVERAL.sub(lambda match: match[1] + match[2].replace(", ", " or ") + match[3], text)
    before, mark, attributes = text.partition("\nAttributes\n---")
    text = before + mark + MAY_MISS.sub(r"\1optional \2", attributes)
    text = ROLE.sub(lambda match: role(match[1], match[2], path), text)
    return re.sub(r"::$", ":", text, flags=re.MULTILINE)


def role(kind: str, name: str, path: str) -> str:
    """A role as a formula, or as a link to what it names; the build fails at a link to a name that the reference lacks."""
    if kind == "math":
        return f"${name}$"
    return f"[`{name}`][{identifier(name, path) or name}]"


def identifier(name: str, path: str) -> str | None:
    """Where the reference shows a name that a docstring uses: whole, without its package, or a member of the same class."""
    if found := _public(name):
        return found
    owner, _, member = name.rpartition(".")
    if owner:
        return _member(_public(owner), member)
    parts = path.split(".")
    return next((found for part in reversed(parts) if (found := _member(_public(part), member))), None)


def _public(name: str) -> str | None:
    """The first name of what is public under a name, or under one that ends with it."""
    for first, others in names.public().items():
        if name in others or any(other.rpartition(".")[2] == name for other in others):
            return first
    return None


def _member(owner: str | None, member: str) -> str | None:
    """The section of a member of a public class, or of one that it is derived from."""
    if owner is None or member.startswith("_") or not inspect.isclass(names.value_of(owner)):
        return None
    for base in names.value_of(owner).__mro__:
        part = vars(base).get(member)
        home = _public(base.__name__)
        if home and not home.startswith(MODELS) and (inspect.isfunction(part) or isinstance(part, SECTIONS)):
            return f"{home}.{member}"
    return None
