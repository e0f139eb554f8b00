"""What a training asks of an optimizer: its learning rate, its settings, that decay spares constants, and 32 bits."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any

import brainstate
import braintools
import jax
import jax.numpy as jnp
import numpy as np
import optax

from etrax.contract.constant import trained

__all__ = [
    "check_schedule",
    "learning_rate",
    "optimizer_states",
    "reduces_on_plateau",
    "settings",
    "spare_constants",
    "widen",
]

_Parts = braintools.optim.Optimizer | braintools.optim.LRScheduler
_PLAIN = bool | int | float | str | None


def optimizer_states(optimizer: Any) -> dict[str, brainstate.State]:
    """All states of an optimizer of braintools and of the schedules in it, by name; not the parameters."""
    found: dict[str, brainstate.State] = {}
    seen: set[int] = set()

    def visit(name: str, thing: Any) -> None:
        if isinstance(thing, brainstate.ParamState) or id(thing) in seen:
            return
        if isinstance(thing, brainstate.State):
            seen.add(id(thing))
            found[name] = thing
        elif isinstance(thing, _Parts):
            seen.add(id(thing))
            for key in sorted(vars(thing)):
                visit(f"{name}.{key}", vars(thing)[key])
        elif isinstance(thing, list | tuple):
            for i, item in enumerate(thing):
                visit(f"{name}.{i}", item)
        elif isinstance(thing, dict):
            for key, item in thing.items():
                visit(f"{name}.{key}", item)

    visit("optimizer", optimizer)
    return found


# -- settings --------------------------------------------------------------------------------
def settings(optimizer: Any) -> dict[str, str]:
    """What an optimizer and its schedules were made with, by dotted name, as text that is the same in another process."""
    found: dict[str, str] = {}
    seen: set[int] = set()

    def visit(name: str, thing: Any) -> None:
        if isinstance(thing, brainstate.State) or id(thing) in seen:
            return
        if isinstance(thing, _Parts):
            seen.add(id(thing))
            found[name] = type(thing).__name__
            for key in sorted(vars(thing)):
                visit(f"{name}.{key.removeprefix('_')}", vars(thing)[key])
        elif isinstance(thing, optax.GradientTransformation):
            # that of a class of braintools is made of its other attributes
            if type(optimizer) is braintools.optim.OptaxOptimizer:
                found[name] = _written(tuple(thing))
        elif isinstance(thing, list | tuple) and any(isinstance(item, _Parts) for item in thing):
            for i, item in enumerate(thing):
                visit(f"{name}.{i}", item)
        elif isinstance(thing, list | tuple | Mapping | np.ndarray | np.generic | jax.Array | _PLAIN) or callable(
            thing
        ):
            found[name] = _written(thing)

    visit("optimizer", optimizer)
    found.pop("optimizer")  # said with its learning rate
    # groups are made by the training, and hold its parameters
    return {name: text for name, text in found.items() if "param_groups" not in name}


def _written(thing: Any, seen: frozenset[int] = frozenset()) -> str:
    """Numbers and functions, with what functions hold, as text without addresses."""
    if id(thing) in seen:
        return "..."
    inner = seen | {id(thing)}
    if isinstance(thing, types.FunctionType):
        held = [f"{name}={_written(value, inner)}" for name, value in _held(thing)]
        return f"{thing.__qualname__.replace('.<locals>', '')}({', '.join(held)})"
    if isinstance(thing, tuple | list):
        return f"({', '.join(_written(item, inner) for item in thing)})"
    if isinstance(thing, Mapping):
        return f"({', '.join(f'{name}={_written(value, inner)}' for name, value in thing.items())})"
    if isinstance(thing, np.ndarray | np.generic | jax.Array):
        return str(np.asarray(thing).tolist())
    if isinstance(thing, _PLAIN):
        return str(thing)
    return getattr(thing, "__qualname__", type(thing).__name__)


def _held(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function has taken from around it, by name."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # nothing yet
            continue


# -- learning rate ---------------------------------------------------------------------------
def learning_rate(optimizer: Any) -> float:
    """The learning rate of the last update, or of the first one before it; NaN where a transformation of optax hides it."""
    if type(optimizer) is not braintools.optim.OptaxOptimizer:
        return float(optimizer.current_lr)
    return float(_factor(optimizer.tx.update, optimizer.opt_state.value))


def _factor(update: Any, state: Any) -> Any:
    """The product of the factors in a chain of optax; NaN if there is none. They stand in its functions only."""
    if hasattr(state, "hyperparams"):
        return state.hyperparams.get("learning_rate", jnp.nan)
    if not isinstance(update, types.FunctionType):
        return jnp.nan
    held, kind = dict(_held(update)), update.__qualname__.partition(".")[0]
    if kind == "chain":
        parts = [_factor(part, inner) for part, inner in zip(held["update_fns"], state, strict=True)]
        known = [float(part) for part in parts if not jnp.isnan(part)]
        return np.prod(known) if known else jnp.nan
    if kind == "scale":
        return abs(held["step_size"])
    if kind == "scale_by_schedule":
        return abs(held["step_size_fn"](jnp.maximum(state.count - 1, 0)))
    if kind in ("with_extra_args_support", "_spare", "_widened"):
        return _factor(held["tx"].update, state)
    return jnp.nan


# -- schedules -------------------------------------------------------------------------------
def reduces_on_plateau(optimizer: Any) -> bool:
    """Whether the schedule takes its steps by the loss of a validation."""
    return isinstance(optimizer.lr, braintools.optim.ReduceLROnPlateau)


def check_schedule(optimizer: Any, validated: bool) -> None:
    """A ValueError for a schedule that could never do what it is for."""
    schedule = optimizer.lr
    if reduces_on_plateau(optimizer):
        if not validated:
            raise ValueError(
                "`optimizer` has the schedule ReduceLROnPlateau, which follows the validation loss, and there is none: give "
                "`validation`, or another schedule."
            )
        if schedule.mode != "min":
            raise ValueError(
                f"`optimizer` has the schedule ReduceLROnPlateau with mode={schedule.mode!r}, but it is given the validation loss: "
                "leave `mode` at 'min'."
            )
    nested = [part for part in vars(schedule).values() if isinstance(part, list | tuple)]
    if any(isinstance(item, braintools.optim.ReduceLROnPlateau) for part in nested for item in part):
        raise ValueError(
            f"`optimizer` has ReduceLROnPlateau within {type(schedule).__name__}, which cannot give it a validation loss: use it alone."
        )
    own = type(optimizer) is braintools.optim.OptaxOptimizer
    if own and not isinstance(schedule, braintools.optim.ConstantLR) and not _reads(optimizer.tx.update, schedule):
        raise ValueError(
            f"`optimizer` has the schedule {type(schedule).__name__} beside a `tx`, which does not read it: give the schedule to `tx`, "
            "e.g. `optax.sgd(optax.exponential_decay(0.1, 100, 0.5))`."
        )


def _reads(thing: Any, schedule: Any) -> bool:
    if thing is schedule:
        return True
    if isinstance(thing, tuple | list):
        return any(_reads(item, schedule) for item in thing)
    return isinstance(thing, types.FunctionType) and any(
        _reads(value, schedule) for name, value in _held(thing) if name != "self"
    )


# -- decay -----------------------------------------------------------------------------------
def spare_constants(optimizer: Any, model: brainstate.nn.Module, params: Mapping[tuple, brainstate.State]) -> None:
    """Let an optimizer with weight decay leave constants that learn where the gradient takes them."""
    constants = {id(_state(given)) for node in model.nodes().values() for given in trained(node).values()}
    spared = {path for path, state in params.items() if id(state) in constants}
    decays = optimizer.weight_decay or "add_decayed_weights" in _written(optimizer.tx.update)
    if spared and decays:
        optimizer.tx = _spare(optimizer.tx, spared)


def _state(given: Any) -> Any:
    return given.val if isinstance(given, brainstate.nn.Param) else given


def _spare(tx: optax.GradientTransformation, spared: set) -> optax.GradientTransformation:
    """The same transformation, for which some parameters are zero: decay is a share of them."""

    def update(updates, state, params=None, **more):
        if params is not None:
            params = {k: jax.tree.map(jnp.zeros_like, v) if k in spared else v for k, v in params.items()}
        return tx.update(updates, state, params, **more)

    return optax.GradientTransformationExtraArgs(tx.init, update)


# -- precision -------------------------------------------------------------------------------
def widen(optimizer: Any, params: Mapping[tuple, brainstate.State]) -> None:
    """Let an optimizer of weights of 16 bits reckon in 32: squares of gradients, and the `eps` of Adam, are 0 in 16."""
    if any(_wide(leaf).dtype != leaf.dtype for state in params.values() for leaf in jax.tree.leaves(state.value)):
        optimizer.tx = _widened(optimizer.tx)


def _widened(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    def init(params):
        return tx.init(jax.tree.map(_wide, params))

    def update(updates, state, params=None, **more):
        new, state = tx.update(jax.tree.map(_wide, updates), state, jax.tree.map(_wide, params), **more)
        return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), new, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _wide(leaf: Any) -> Any:
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
