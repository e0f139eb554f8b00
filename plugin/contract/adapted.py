"""What adapters of neurons and of synapses share: the update of a module as a pure transition, and its Jacobian.

The update of the wrapped module is its transition: it is run on given values of its hidden states, and its Jacobian
diagonal is derived by automatic differentiation. That is right only for an element-wise update, so every operation of
its derivative is examined first (`elementwise.py`). States of the module that are not hidden (times of the last spike,
random keys) keep their place in the model: each evaluation starts from their present values, and they move on once
per step.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, ClassVar

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.text import dotted, unit_text

from .dynamics import Dynamics
from .elementwise import Mixing, same, touched
from .jacobian import Entries, automatic

__all__ = ["Adapted"]

_RESERVED = frozenset({"current", "slope", "delta", "y", "output"})  # names of drives, and of the adapter's own state


class Adapted(Dynamics):
    """What both adapters share. A subclass defines `_advance`, `_rest`, `_has_expected` and `_expected`.

    Attributes
    ----------
    module : brainstate.nn.Module
        What is wrapped.
    output : HiddenState or None
        What the update returned, where that is none of the module's own states.
    """

    _output_name: ClassVar[str]  # of that state
    _input_advice: ClassVar[str]  # what to do where the update does not take its input

    closed_form = False

    def _wrap(self, module) -> None:
        self.module: Any = module
        self.output: brainstate.HiddenState | None = None
        self._proved: set = set()
        own = module.states(brainstate.random.RandomState).values()
        for state in (brainstate.random.DEFAULT, *own):
            state.value  # noqa: B018 - a key is made when it is first read, which must not be inside a transformation

    def __getattr__(self, name: str) -> Any:
        """The module's attributes: states and constants of what is wrapped can be read from its adapter."""
        module = vars(self).get("module")
        if module is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(module, name)

    @property
    def _title(self) -> str:
        return type(self.module).__name__

    # -- states --------------------------------------------------------------------------

    @property
    def hidden(self) -> dict[str, brainstate.HiddenState]:
        """The module's hidden states by name, the potential `V` first; then what it returns, if that is kept as a state."""
        states = self._inner()
        return states if self.output is None else {**states, self._output_name: self.output}

    def _inner(self) -> dict[str, brainstate.HiddenState]:
        found = {
            path: state
            for path, state in self.module.states().items()
            if isinstance(state, brainstate.HiddenState)
            and all(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in jax.tree.leaves(state.value))
        }
        order = list(vars(self.module))
        ranked = sorted(found, key=lambda path: (path[0] != "V", order.index(path[0]) if path[0] in order else 0))
        names = {path: dotted(path) for path in ranked}
        taken = _RESERVED | {self._output_name} if self.output is not None else _RESERVED
        return {f"{name}_" if name in taken else name: found[path] for path, name in names.items()}

    def init_state(self, batch_size: int | None = None, **kwargs) -> None:
        """Create the module's states, for a batch of independent copies if ``batch_size`` is given."""
        brainstate.nn.init_all_states(self.module, batch_size=batch_size, **kwargs)
        self.output = None
        states = self._inner()
        if not states:
            raise ValueError(
                f"{self._title} has no hidden state after `init_state`: keep what it remembers in `brainstate.HiddenState`."
            )
        shape = (*(() if batch_size is None else (batch_size,)), *self.varshape)
        for name, state in states.items():
            if u.math.shape(state.value) != shape:
                raise ValueError(
                    f"the state {name} of {self._title} has shape {u.math.shape(state.value)} but must have {shape}, one element "
                    "per neuron: give each variable a state of its own."
                )
        out = self._observe_return(states)
        if out is not None:
            self.output = brainstate.HiddenState(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), out))

    def reset_state(self, batch_size: int | None = None, **kwargs) -> None:
        """Give every state its initial value again."""
        brainstate.nn.reset_all_states(self.module, batch_size=batch_size, **kwargs)
        if self.output is not None:  # whose batch may be another one now
            out = self._observe_return(self._inner())
            self.output.value = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), out)

    def _observe_return(self, states) -> Any:
        """Shape of what the update returns, if no state of the module stands for it; else None."""
        missing = {"dt": 1.0 * u.ms, "t": 0.0 * u.ms, "i": 0}
        missing = {name: value for name, value in missing.items() if brainstate.environ.get(name, None) is None}
        point = {name: state.value for name, state in states.items()}
        with brainstate.environ.context(**missing):
            try:
                out = jax.eval_shape(lambda p: self._run(p, self._rest(p))[2], point)
            except (TypeError, u.UnitMismatchError, u.DimensionMismatchError) as error:
                raise ValueError(
                    f"`update` of {self._title} does not run on one input in {self._input_unit(point)} "
                    f"({' '.join(str(error).split())[:200]}): {self._input_advice}"
                ) from error
            if u.math.shape(out) != u.math.shape(next(iter(point.values()))):
                raise ValueError(
                    f"`update` of {self._title} returns shape {u.math.shape(out)} but must return one element per neuron, "
                    f"{u.math.shape(next(iter(point.values())))}."
                )

            def both(p):
                new, _, out = self._run(p, self._rest(p))
                return out, self._expected(new)

            return None if self._has_expected(point) and same(both, point) else out

    def _input_unit(self, states) -> str:
        drives = self._rest(states)
        return unit_text(u.get_unit(drives["y"] if "y" in drives else drives["current"].offset))

    # -- abstract: what neurons and synapses differ in -------------------------------------

    def _advance(self, *args: Any, **drives: Any) -> Any:
        """Update the module under the drives; return what it returns."""
        raise NotImplementedError  # abstract: of a neuron, a synapse or a filter

    def _rest(self, states) -> dict:
        """Drives that are zero."""
        raise NotImplementedError  # abstract: of a neuron, a synapse or a filter

    def _has_expected(self, states) -> bool:
        """Whether the new states can say what the update returns."""
        raise NotImplementedError  # abstract: of a neuron, a synapse or a filter

    def _expected(self, states) -> Any:
        """What the new states say that the update returns."""
        raise NotImplementedError  # abstract: of a neuron, a synapse or a filter

    # -- the pure transition ---------------------------------------------------------------

    def _at(self, states: dict, fn: Callable[[], Any]) -> tuple[dict, list, Any]:
        """``fn()`` with the hidden states at given values: new hidden states, changed other states, result."""
        inner = self._inner()

        def body(values):
            for name, state in inner.items():
                state.value = values[name]
            result = fn()
            return {name: state.value for name, state in inner.items()}, result

        # made anew each time: `fn` closes over drives, and reads dt and t from the environment
        pure = brainstate.transform.StatefulFunction(body)
        given = {name: states[name] for name in inner}
        used = pure.get_states(given)
        written, (new, result) = pure.jaxpr_call([state.value for state in used], given)
        hidden = {id(state) for state in inner.values()}
        others = [
            (state, value)
            for state, value in zip(used, written, strict=True)
            if value is not None and id(state) not in hidden
        ]
        return new, others, result

    def _run(self, states: dict, drives: dict) -> tuple[dict, list, Any]:
        """One update under the drives: new hidden states, changed other states, what it returns."""
        with _clock(self._title):
            new, others, out = self._at(states, lambda: self._advance(**drives))
        return (new if self.output is None else {**new, self._output_name: out}), others, out

    def transition(self, *args: Any, **inputs: Any) -> dict[str, Any]:
        """One update of the module; see `Dynamics.transition`."""
        states, drives = self._split(inputs)
        return self._run(states, drives)[0]

    def step(self, **drives) -> dict[str, Any]:
        """See `Dynamics.step`; the module's other states move on too."""
        self.check_states()
        _, others, _ = self._run({name: state.value for name, state in self.hidden.items()}, drives)
        new = super().step(**drives)
        for state, value in others:
            state.value = value
        return new

    def _split(self, inputs: dict) -> tuple[dict, dict]:
        """States and drives among the arguments of a transition."""
        names = self.hidden
        return {k: v for k, v in inputs.items() if k in names}, {k: v for k, v in inputs.items() if k not in names}

    # -- its Jacobian ----------------------------------------------------------------------

    def jacobian(self, **inputs) -> Entries:
        """Entries by automatic differentiation.

        Raises
        ------
        ValueError
            If the update is not element-wise, or if what it remembers outside hidden states has a derivative.
        """
        point = {name: value for name, value in self._point(inputs).items() if value is not None}
        shape = jnp.broadcast_shapes(*(u.math.shape(v) for v in point.values()))
        point = {name: u.math.broadcast_to(value, shape) for name, value in point.items()}

        def everything(p):
            states, drives = self._split(self._arguments(p))
            new, others, _ = self._run(states, drives)
            return {
                **{f"state {k}": v for k, v in new.items()},
                **{f"other {i}": v for i, (_, v) in enumerate(others)},
            }

        reached = self._check("update", everything, point, shape)
        leaking = sorted(int(key.removeprefix("other ")) for key in reached if key.startswith("other "))
        if leaking:
            states, drives = self._split(self._arguments(point))
            state = self._run(states, drives)[1][leaking[0]][0]
            path = next((dotted(p) for p, s in self.module.states().items() if s is state), state.name)
            raise ValueError(
                f"`update` of {self._title} writes {path or 'a state'}, a {type(state).__name__}, with a derivative that no trace "
                "would follow: make it a `brainstate.HiddenState`, or stop its gradient with `jax.lax.stop_gradient`."
            )
        return automatic(lambda p: self.transition(**self._arguments(p)), point)

    def _point(self, inputs: dict) -> dict:
        """Arguments of `transition` as a flat point of sources; `_arguments` is its inverse."""
        return inputs

    def _arguments(self, point: dict) -> dict:
        return point

    def _check(self, what: str, fn, point: dict, shape: tuple[int, ...]) -> set:
        """The results of ``fn`` that have a derivative, a ValueError if it is not element-wise; empty once it is proved."""
        kinds = sorted((name, str(jax.tree.leaves(value)[0].dtype)) for name, value in point.items())
        key = (what, str(kinds), shape, str(brainstate.environ.get("dt", None)))
        if key in self._proved:
            return set()
        try:
            reached = touched(fn, point, shape)
        except Mixing as error:
            raise ValueError(
                f"`{what}` of {self._title} is not element-wise: {error} acts on its states or its input, so the next state of one "
                "neuron (or sample) may depend on another and its Jacobian has no exact diagonal. Put interaction between neurons "
                "into a projection; if the operation keeps neurons apart, write the model as an `etrax.Neuron` or "
                "`etrax.Synapse` and verify it with `etrax.check_jacobian`."
            ) from error
        if not any(name.startswith("other ") for name in reached):
            self._proved.add(key)
        return reached


@contextmanager
def _clock(title: str):
    """Say which value of the environment an update lacks."""
    try:
        yield
    except KeyError as error:
        if brainstate.environ.get("t", None) is not None:
            raise
        raise ValueError(
            f"`update` of {title} reads a value that the environment does not have ({error}): if it is the clock, step and "
            "compile inside `with brainstate.environ.context(t=t):`, with the times as one more sequence of `etrace_grad`."
        ) from error
