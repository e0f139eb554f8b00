"""Dynamics from elsewhere as neurons and synapses of this package.

The update of the wrapped module is its transition: it is run on given values of its hidden
states, and its Jacobian diagonal is derived by automatic differentiation. That is right only
for an element-wise update, so every operation of its derivative is examined first
(`elementwise.py`). States of the module that are not hidden (times of the last spike, random
keys) keep their place in the model: each evaluation starts from their present values, and they
move on once per step.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
from brainstate.mixin import ParamDescriber

from .constant import text
from .elementwise import Mixing, same, touched
from .jacobian import Entries, automatic
from .module import Dynamics, Neuron, Synapse, _Affine

__all__ = ["AdaptedNeuron", "AdaptedSynapse", "adapt"]

_KEY = "etrax"
_RESERVED = frozenset({"current", "slope", "delta", "y", "output"})  # names of drives, and of the adapter's own state


def adapt(module: Any, kind: str | None = None) -> Any:
    """Let a neuron or synapse of ``brainpy.state``, or dynamics of your own, join a network.

    Parameters
    ----------
    module : brainstate.nn.Module
        It keeps its memory in ``brainstate.HiddenState`` of shape ``([batch,] *varshape)`` and makes one step
        in ``update(x)``, element by element. The adapter holds it as ``module``; its states are found below.
        The description of a synapse (``Expon.desc(n, tau=...)``) gives a description: a synapse that projections share.
    kind : {'neuron', 'synapse'}, optional
        A neuron, if left out, exactly where the module has a method ``get_spike``.

    Returns
    -------
    AdaptedNeuron, AdaptedSynapse or description of one
        To be used as ``post`` of a projection, or as ``syn`` of one.

    Raises
    ------
    TypeError
        If it is no module with ``update``, or is one of this package already.
    ValueError
        If ``kind`` has another value.
    """
    if kind not in (None, "neuron", "synapse"):
        raise ValueError(f"`kind` must be 'neuron' or 'synapse', got {kind!r}.")
    if isinstance(module, ParamDescriber) and kind != "neuron" and not hasattr(module.cls, "get_spike"):
        return AdaptedSynapse.desc(module)
    if isinstance(module, Dynamics):
        raise TypeError(f"`module` {type(module).__name__} is an etrax module already: use it as it is.")
    if not isinstance(module, brainstate.nn.Module) or type(module).update is brainstate.nn.Module.update:
        raise TypeError(f"`module` must be a brainstate.nn.Module with a method `update`, got {module!r}.")
    if kind is None:
        kind = "neuron" if callable(getattr(module, "get_spike", None)) else "synapse"
    return AdaptedNeuron(module) if kind == "neuron" else AdaptedSynapse(module)


class _Adapted(Dynamics):
    """What both adapters share. A subclass defines `_advance`, `_expected` and `_rest`."""

    module: Any
    output: brainstate.HiddenState | None  # what the update returns, where that is none of the module's own states
    _output_name: str
    _input_advice: str

    closed_form = False

    def _wrap(self, module) -> None:
        self.module = module
        self.output = None
        self._proved: set = set()

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
        names = {path: ".".join(map(str, path)) for path in ranked}
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
        if self.output is not None:
            self.output.value = jax.tree.map(jnp.zeros_like, self.output.value)

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
        return text(u.get_unit(drives["y"] if "y" in drives else drives["current"].offset))

    def _has_expected(self, states) -> bool:
        raise NotImplementedError  # abstract, as are the three below: neurons and synapses differ in them

    def _expected(self, states) -> Any:
        """What the new states say that the update returns."""
        raise NotImplementedError  # abstract

    def _rest(self, states) -> dict:
        """Drives that are zero."""
        raise NotImplementedError  # abstract

    def _advance(self, *args: Any, **drives: Any) -> Any:
        """Update the module under the drives; return what it returns."""
        raise NotImplementedError  # abstract

    # -- the pure transition ---------------------------------------------------------------

    def _at(self, states: dict, fn) -> tuple[dict, list, Any]:
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
            path = next((".".join(map(str, p)) for p, s in self.module.states().items() if s is state), state.name)
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


class AdaptedNeuron(_Adapted, Neuron):
    """A neuron around a module of another package; made by :func:`adapt`.

    The input current is handed to ``module.update(x)``. Its dependence on the potential (`COBA`), and jumps of
    the potential, go through ``add_current_input`` and ``add_delta_input`` where the module has them, as
    ``brainpy.state`` does; elsewhere a jump is added to the first state after the update.

    Where the update returns another value than ``get_spike()`` of the new states (``brainpy.state.HH`` gives
    rising edges), or there is no ``get_spike``, what it returned is kept as one more state, ``output``.

    Parameters
    ----------
    module : brainstate.nn.Module
        What is wrapped.
    """

    graph_invisible_attrs = (*Neuron.graph_invisible_attrs, "_proved")
    _output_name = "output"
    _input_advice = "it must take the input current as its only argument, with a default in the unit of the current."

    def __init__(self, module: brainstate.nn.Module):
        super().__init__(
            _shape(module), getattr(module, "spk_fun", None), getattr(module, "spk_reset", "soft") or "soft"
        )
        self._wrap(module)

    @property
    def no_input(self) -> Any:
        """The input that stands for none: the default of ``module.update``, else 0 mA."""
        parameters = list(inspect.signature(self.module.update).parameters.values())
        default = parameters[0].default if parameters else inspect.Parameter.empty
        return 0.0 * u.mA if default is inspect.Parameter.empty or default is None else default

    @property
    def takes_conductance(self) -> bool:
        """Whether the module can evaluate a current that depends on the potential."""
        return callable(getattr(self.module, "add_current_input", None))

    def update(self, x=None):
        """One step under an external current ``x``; returns what the module emits, shape ``([batch,] *varshape)``."""
        return super().update(self.no_input if x is None else x)

    def get_spike(self, *states, **named) -> Any:
        """See `Neuron.get_spike`."""
        if states:
            named = {**dict(zip(self.hidden, states, strict=False)), **named}
        if self.output is not None:
            return named.get("output", self.output.value)
        if not named:
            return self.module.get_spike()
        values = {name: state.value for name, state in self._inner().items()}
        return self._at({**values, **named}, lambda: self.module.get_spike())[2]

    def spike_jacobian(self, **states) -> Entries:
        """See `Neuron.spike_jacobian`."""
        shape = jnp.broadcast_shapes(*(u.math.shape(v) for v in states.values()))
        self._check("get_spike", lambda p: {"z": self.get_spike(**p)}, states, shape)
        return super().spike_jacobian(**states)

    def _has_expected(self, states) -> bool:
        return callable(getattr(self.module, "get_spike", None))

    def _expected(self, states) -> Any:
        return self._at(states, lambda: self.module.get_spike())[2]

    def _rest(self, states) -> dict:
        unit = u.get_unit(states[next(iter(self._inner()))])
        return {"current": _Affine(self.no_input, None), "delta": u.maybe_decimal(u.Quantity(0.0, unit=unit))}

    def _point(self, inputs: dict) -> dict:
        current = inputs["current"]
        return {**inputs, "current": current.offset, "slope": current.slope}

    def _arguments(self, point: dict) -> dict:
        rest = {name: value for name, value in point.items() if name not in ("current", "slope")}
        return {**rest, "current": _Affine(point["current"], point.get("slope"))}

    def _advance(self, *, current, delta) -> Any:
        module, slope = self.module, current.slope
        attached = [getattr(module, name, None) for name in ("current_inputs", "delta_inputs", "before_updates")]
        if any(attached):
            keys = ", ".join(str(key) for inputs in attached if inputs for key in inputs)
            raise ValueError(
                f"{self._title} has inputs of its own attached ({keys}): project onto its adapter with the projections of "
                "`etrax.synapses` instead, so that their states and weights are seen."
            )
        jumps = callable(getattr(module, "add_delta_input", None))
        asked = []

        def conducted(v):
            asked.append(v)
            return slope * v

        if slope is not None and self.takes_conductance:
            module.add_current_input(_KEY, conducted)
        if jumps:
            module.add_delta_input(_KEY, delta)
        try:
            out = module.update(current.offset)
            jumped = jumps and _KEY not in module.delta_inputs
        finally:
            for inputs in (getattr(module, "current_inputs", None), getattr(module, "delta_inputs", None)):
                if inputs:
                    inputs.pop(_KEY, None)
        if slope is not None and not asked:
            raise ValueError(
                f"{self._title} takes its current as a plain array, but an output like COBA gives one that depends on the "
                "potential: use CUBA, or let `update` evaluate `self.sum_current_inputs(x, v)` as a `brainpy.state.Neuron`."
            )
        if not jumped:
            first = next(iter(self._inner().values()))
            first.value = first.value + delta
        return out


class AdaptedSynapse(_Adapted, Synapse):
    """A synapse around a module of another package; made by :func:`adapt`.

    Weighted input goes to ``module.update(x)``, in the unit of the module's first state. What the update returns
    is the conductance: the module's state ``g``, or else one more state of that name.

    Parameters
    ----------
    module : brainstate.nn.Module
        What is wrapped, or its description.
    """

    graph_invisible_attrs = ("_proved",)
    _output_name = "g"
    _input_advice = (
        "it must take weighted input in the unit of its first state. A synapse that takes spikes before they are weighed, as "
        "`brainpy.state.AMPA` does, is no synapse of the postsynaptic side."
    )

    def __init__(self, module: Any):
        module = module() if isinstance(module, ParamDescriber) else module
        super().__init__(_shape(module))
        self._wrap(module)

    def transition(self, *, y, **states) -> dict[str, Any]:
        """One update of the module; see `Dynamics.transition`."""
        return super().transition(y=y, **states)

    def _has_expected(self, states) -> bool:
        return "g" in states

    def _expected(self, states) -> Any:
        return states["g"]

    def _rest(self, states) -> dict:
        return {"y": jax.tree.map(jnp.zeros_like, states[next(iter(self._inner()))])}

    def _advance(self, *, y) -> Any:
        return self.module.update(y)


def _shape(module) -> tuple[int, ...]:
    """The shape of a module's variables."""
    shape = getattr(module, "varshape", None) or getattr(module, "in_size", None)
    if shape is None:
        raise ValueError(
            f"{type(module).__name__} has no `varshape`: set its `in_size`, or derive it from brainstate.nn.Dynamics."
        )
    return tuple(shape)


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
