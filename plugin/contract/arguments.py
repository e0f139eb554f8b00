"""Constructors made of what a class declares: each argument once, with its default, its range and its line of help.

As in `dataclasses`, the annotated attributes of a class that are a `Constant` or an `argument` are the arguments of its
constructor, after those of its bases; one that is declared anew keeps its place. Checkers and editors know that by
`typing.dataclass_transform`.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, NamedTuple, dataclass_transform

from .constant import REQUIRED, Constant
from .docstring import documented

__all__ = ["Declared", "argument"]


class Argument(NamedTuple):
    """An argument that is no constant; made by :func:`argument`."""

    default: Any
    doc: str
    kw_only: bool


def argument(*, default: Any = REQUIRED, doc: str = "", kw_only: bool = False) -> Any:
    """Declare an argument of the constructor that is no constant of the equations.

    Parameters
    ----------
    default : object, optional
        Without one, the user must give a value.
    doc : str
        What it is, for the docstring. One that the base class takes needs none.
    kw_only : bool
        Whether it is given by keyword only.

    Examples
    --------
    >>> import inspect, etrax
    >>> class Scaled(etrax.Filter):
    ...     gain: float = etrax.argument(default=2.0, doc="Factor of what comes out.")
    >>> Scaled(3).gain, Scaled(3, gain=4.0).gain
    (2.0, 4.0)
    """
    return Argument(default, doc, kw_only)


class _Signature:
    """The signature of a class, which `inspect` would read off its metaclass otherwise; its instances have none."""

    def __get__(self, instance: Any, owner: Any) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        parameters = list(inspect.signature(owner.__init__).parameters.values())
        return inspect.Signature(parameters[1:])


@dataclass_transform(field_specifiers=(Constant, argument))
class Declared:
    """Base class of what declares the arguments of its constructor.

    The constructor hands those that the nearest hand-written constructor takes (`Neuron` takes ``in_size``, ``spk_fun``)
    to that one, assigns the others in their order, and calls ``__post_init__()``. A class that writes its own constructor
    keeps it.
    """

    _own: ClassVar[dict[str, Any]] = {}  # what this class itself declares
    __signature__ = _Signature()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        found = {name: value for name, value in vars(cls).items() if isinstance(value, Argument | Constant)}
        cls._own = {name: found[name] for name in inspect.get_annotations(cls) if name in found}
        for name, value in found.items():
            if name not in cls._own and not (isinstance(value, Constant) and value.default is REQUIRED):
                raise TypeError(f"`{name}` of {cls.__name__} has no annotation: write `{name}: Any = ...`.")
            for bound in value.bounds if isinstance(value, Constant) else ():
                if bound.other and not hasattr(cls, bound.other):
                    raise TypeError(
                        f"`{name}` of {cls.__name__} must be {bound}, which it does not have: name a constant of it."
                    )
            if isinstance(value, Argument):
                delattr(cls, name)  # a constant stays: it reads and writes the attribute
        inherited = _declared(cls.__mro__[1:])
        for name, value in vars(cls).items():
            if isinstance(inherited.get(name), Constant) and not isinstance(value, Constant):
                raise TypeError(
                    f"`{name}` of {cls.__name__} hides a constant of the equations, its unit and its range: declare it anew, "
                    f"`{name}: Any = Constant(default=...)`."
                )
        if cls._own and "__init__" not in vars(cls):
            _construct(cls)

    def __post_init__(self) -> None:
        """Called by the constructor at its end."""


def _declared(bases: tuple[type, ...]) -> dict[str, Any]:
    """What classes declare, given from the last to the first in their order of resolution."""
    found: dict[str, Any] = {}
    for base in reversed(bases):
        found |= vars(base).get("_own", {})
    return found


def _construct(cls: Any) -> None:
    """Give a class its constructor and the section of its docstring."""
    # what the hand-written constructor above takes is handed to it; of what is declared above it, it knows best
    written = next(base for base in cls.__mro__[1:] if _writes_constructor(base))
    place = cls.__mro__.index(written)
    taken = dict(list(inspect.signature(written.__init__).parameters.items())[1:])
    kinds = {p.kind for p in taken.values()}
    anything, whatever = inspect.Parameter.VAR_KEYWORD in kinds, inspect.Parameter.VAR_POSITIONAL in kinds
    above = {
        k: v
        for k, v in _declared(cls.__mro__[place:]).items()
        # one that hands on keywords only gives what is needed itself
        if k in taken or (anything and (whatever or v.default is not REQUIRED))
    }
    fields = above | _declared(cls.__mro__[:place])
    passed = [name for name in fields if name in taken or name in above]
    # and what it needs is asked for, if nobody has declared it
    needed = [p for p in taken.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    parameters = [p.replace(annotation=p.empty) for p in needed if p.name not in fields]
    optional = [p for p in taken.values() if anything and p.default is not p.empty and p.name not in fields]
    parameters += [p.replace(kind=p.KEYWORD_ONLY, annotation=p.empty) for p in optional]
    passed += [p.name for p in parameters]
    for name, field in fields.items():
        kind = inspect.Parameter.KEYWORD_ONLY if field.kw_only else inspect.Parameter.POSITIONAL_OR_KEYWORD
        default = taken[name].default if name in above and name in taken else field.default
        parameters.append(inspect.Parameter(name, kind, default=default))
    parameters.sort(key=lambda p: p.kind)
    try:
        signature = inspect.Signature([inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *parameters])
    except ValueError as error:  # an argument without a default after one that has a default
        raise TypeError(f"{cls.__name__}: {error}") from None

    def __init__(self, /, *args, **kwargs):
        given = _bind(f"{cls.__qualname__}.__init__()", signature, (self, *args), kwargs)
        written.__init__(self, **{name: given.pop(name) for name in passed})
        for name, value in given.items():
            setattr(self, name, value)
        self.__post_init__()

    vars(__init__).update(made=True, __signature__=signature)
    __init__.__qualname__, __init__.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
    cls.__init__ = __init__
    cls.__doc__ = documented(cls, parameters, fields, (written.__name__, passed))


def _writes_constructor(cls: type) -> bool:
    """Whether a class has a constructor of its own that was not made here."""
    return "__init__" in vars(cls) and not getattr(vars(cls)["__init__"], "made", False)


def _bind(title: str, signature: inspect.Signature, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Arguments by name, defaults filled in; errors in Python's own words."""
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        text = str(error)
        if text.startswith("multiple"):
            text = f"got {text}"
        elif text.startswith("too many"):
            most = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in signature.parameters.values())
            text = f"takes at most {most} positional arguments but {len(args)} were given"
        known = ", ".join(f"`{name}`" for name in list(signature.parameters)[1:])
        raise TypeError(f"{title} {text}: its arguments are {known}.") from None
    bound.apply_defaults()
    return dict(list(bound.arguments.items())[1:])
