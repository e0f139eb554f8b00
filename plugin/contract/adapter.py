"""Dynamics from elsewhere as neurons and synapses of this package: `adapt`, and the two adapters that it makes.

Here stands how a neuron and a synapse take their input and give their output; what both share, the update of the
wrapped module as a pure transition and its Jacobian, is in `adapted.py`.
"""

from __future__ import annotations

import inspect
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
from brainstate.mixin import ParamDescriber

from .adapted import Adapted
from .current import AffineCurrent
from .dynamics import Dynamics
from .jacobian import Entries
from .neuron import Neuron
from .synapse import Synapse

__all__ = ["AdaptedNeuron", "AdaptedSynapse", "adapt"]

_KEY = "etrax"


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

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import braintools
    >>> class Leaky(brainstate.nn.Dynamics):
    ...     def init_state(self, batch_size=None):
    ...         zero = braintools.init.Constant(0.0 * u.mV)
    ...         self.V = brainstate.HiddenState(braintools.init.param(zero, self.varshape, batch_size))
    ...     def get_spike(self):
    ...         return braintools.surrogate.ReluGrad()(self.V.value / u.mV - 1.0)
    ...     def update(self, x=0.0 * u.mA):
    ...         self.V.value = 0.9 * (self.V.value - self.get_spike() * u.mV) + 0.1 * u.ohm * x
    ...         return self.get_spike()
    >>> neuron = etrax.adapt(Leaky(1))
    >>> neuron.init_state()
    >>> isinstance(neuron, etrax.Neuron), [int(neuron(2.0 * u.mA)[0]) for _ in range(9)]
    (True, [0, 0, 0, 0, 0, 0, 1, 0, 0])
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


class AdaptedNeuron(Adapted, Neuron):
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
        return {"current": AffineCurrent(self.no_input, None), "delta": u.maybe_decimal(u.Quantity(0.0, unit=unit))}

    def _point(self, inputs: dict) -> dict:
        current = inputs["current"]
        return {**inputs, "current": current.offset, "slope": current.slope}

    def _arguments(self, point: dict) -> dict:
        rest = {name: value for name, value in point.items() if name not in ("current", "slope")}
        return {**rest, "current": AffineCurrent(point["current"], point.get("slope"))}

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


class AdaptedSynapse(Adapted, Synapse):
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
