"""The contract of neurons."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.checks import check_array, check_flag, check_unit, noted
from etrax.text import quantity_text, shown, unit_text, written

from .arguments import argument
from .bounds import known
from .current import AffineCurrent, Current
from .dynamics import Dynamics
from .jacobian import Entries, automatic, derived
from .recorder import active

if TYPE_CHECKING:
    from .output import SynOut
    from .synapse import Synapse

__all__ = ["Neuron"]


class Neuron(Dynamics):
    """Base class of neurons.

    The first state is the one that a delta synapse moves (the membrane potential). A
    subclass defines ``initial``, ``transition(V, ..., *, current, delta)`` where ``current``
    is a :class:`Current` (call it with a potential) and ``delta`` a jump of the potential,
    and ``get_spike(V, ...)``. Sources of Jacobian entries are the states, ``"current"`` (the
    offset of the current), ``"slope"`` (its slope, if any) and ``"delta"``. Where some output is
    not affine in the potential, the conductances ``("g", i)`` take the place of the current.

    The constructor of a subclass takes the constants that it declares, ``in_size`` and ``detach_reset``; and ``spk_fun``,
    ``spk_reset`` and ``name`` where it declares them too.

    Parameters
    ----------
    in_size : int or tuple of int
        Shape of the population.
    spk_fun : callable
        Heaviside step with a surrogate derivative, from ``braintools.surrogate``.
    spk_reset : {'soft', 'hard'}
        Subtract the threshold, or clamp to the reset potential, after a spike.
    detach_reset : bool
        Whether the surrogate derivative is kept out of the reset.
    name : str, optional
        Name of the module.

    Examples
    --------
    >>> import brainstate, braintools, brainunit as u, etrax
    >>> class Integrator(etrax.Neuron):
    ...     V_th: object = etrax.Constant(default=1.0 * u.mV, above=0, doc="Threshold.")
    ...     V_reset = 0.0 * u.mV
    ...     def initial(self, batch_size=None):
    ...         return {"V": braintools.init.param(braintools.init.Constant(0.0 * u.mV), self.varshape, batch_size)}
    ...     def get_spike(self, V=None):
    ...         return self.spk_fun(((self.V.value if V is None else V) - self.V_th) / self.V_th)
    ...     def transition(self, V, *, current, delta):
    ...         return {"V": self.reset(V, self.get_spike(V)) + 0.1 * u.ohm * current(V) + delta}
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> neuron = Integrator(1, V_th=0.5 * u.mV)
    >>> neuron.init_state()
    >>> [int(neuron(1.0 * u.mA)[0]) for _ in range(12)]
    [0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    """

    # reached through their projections
    graph_invisible_attrs: ClassVar[tuple[str, ...]] = ("receivers", "filters", "_before_updates")

    detach_reset: bool = argument(
        default=False, kw_only=True, doc="Whether the surrogate derivative is kept out of the reset."
    )

    def __init__(
        self,
        in_size,
        spk_fun: Callable | None = None,
        spk_reset: str = "soft",
        name: str | None = None,
        *,
        detach_reset: bool = False,
    ):
        super().__init__(in_size, name=name)
        if spk_reset not in ("soft", "hard"):
            raise ValueError(f"`spk_reset` must be 'soft' or 'hard', got {spk_reset!r}.")
        spk_fun = braintools.surrogate.ReluGrad() if spk_fun is None else spk_fun
        if isinstance(spk_fun, type) or not callable(spk_fun):
            raise TypeError(
                f"`spk_fun` must be a surrogate, got {shown(spk_fun)}: make one, e.g. `braintools.surrogate.ReluGrad()`."
            )
        check_flag("detach_reset", detach_reset)
        self.spk_fun = spk_fun
        self.spk_reset = spk_reset
        self.detach_reset = detach_reset
        self.receivers: dict[str, tuple[SynOut, Synapse]] = {}
        self.filters: list[Dynamics] = []
        self._jumps: list[Any] = []

    def get_spike(self, *states, **named) -> Any:
        """Spikes (0. or 1., surrogate derivative) of the given or the current states."""
        raise NotImplementedError(f"{type(self).__name__} must define `get_spike(...)`.")

    def surrogate(self, x) -> Any:
        """Derivative of the spike function at the scaled distance ``x`` from threshold.

        It is ``H'`` in equation (44) of docs/mathematics.md.
        """
        return jax.jvp(self.spk_fun, (x,), (u.math.ones_like(x),))[1]

    def spike_jacobian(self, *args: Any, **kwargs: Any) -> Entries:
        """Entries ``("z", state) -> dz/dstate`` of the emitted spike."""
        return automatic(lambda point: {"z": self.get_spike(**point)}, kwargs)

    def spike_constant_jacobian(self, *args: Any, **kwargs: Any) -> Entries:
        """Entries ``("z", constant) -> derivative`` of the emitted spike for the constants that are trained."""
        return self._by_constants(lambda module: {"z": module.get_spike(**kwargs)})

    @derived
    def jacobian(self, *args: Any, **kwargs: Any) -> Entries:
        """Entries of :meth:`transition` by automatic differentiation."""
        current = kwargs.pop("current")

        def transition(point):
            point = dict(point)
            affine = AffineCurrent(point.pop("current"), point.pop("slope", None))
            return self.transition(**point, current=affine)

        return automatic(transition, dict(kwargs, current=current.offset, slope=current.slope))

    def entries(self, **point: Any) -> Entries:
        """See `Dynamics.entries`; sources ``("g", i)`` replace the current where some output is not affine."""
        if point["current"].is_affine:
            return super().entries(**point)
        return {**self._by_conductances(**point), **self.constant_jacobian(**point)}

    def _by_conductances(self, *, current: Current, **point: Any) -> Entries:
        """Entries by automatic differentiation, with the conductance of every output as a source of its own."""
        outputs = [out for out, _ in current.terms]

        def transition(point):
            terms = [(out, point["g", i]) for i, out in enumerate(outputs)]
            named = {name: value for name, value in point.items() if isinstance(name, str)}
            return self.transition(**named, current=Current(current.external, terms))

        conductances: dict[Any, Any] = {("g", i): g for i, (_, g) in enumerate(current.terms)}
        return automatic(transition, conductances | point)

    def reset(self, V, spike, V_th=None):
        """Potential after the reset that ``spike`` causes; ``V_th`` is the threshold where that is a state.

        A hard reset gives ``V_reset`` to the last digit; to the gradient it is ``V - (V_held - V_reset) spike``.
        """
        if self.detach_reset:
            spike = jax.lax.stop_gradient(spike)
        if self.spk_reset == "soft":
            return V - ((self.V_th if V_th is None else V_th) - self.V_reset) * spike
        V = self._landed(V)
        held = jax.lax.stop_gradient(V)
        # not held - (held - V_reset): after an overshoot that loses the digits of V_reset, in float32 all of them at 1e10 mV
        return held * (1.0 - spike) + self.V_reset * spike + (V - held)

    def reset_size(self, V):
        """By how much a spike lowers the potential, as far as the gradient sees it: equation (45) of docs/mathematics.md."""
        if self.detach_reset:
            return None
        return (self.V_th if self.spk_reset == "soft" else self._landed(V)) - self.V_reset

    def _landed(self, V):
        """The potential, but for an overshoot beyond all numbers of its precision: infinity times no spike would be NaN."""
        return u.math.where(u.get_mantissa(V) != jnp.inf, V, self.V_reset)  # in the unit of V

    def init_state(self, batch_size: int | None = None, **kwargs) -> None:
        """See `Dynamics.init_state`; warns of neurons that start above their threshold."""
        super().init_state(batch_size, **kwargs)
        self._check_units()
        spikes = known(self.get_spike(), u.UNITLESS) if "V_initializer" in vars(self) else None
        if spikes is not None and np.any(spikes > 0):
            V = u.math.max(self.V.value)
            warnings.warn(
                f"{int(np.sum(spikes > 0))} of {spikes.size} neurons of {type(self).__name__} start above their threshold, at up "
                f"to {quantity_text(V, 'g')}, and spike at once: give `V_initializer` a potential below it, e.g. "
                "`V_initializer=braintools.init.Constant(-65.0 * u.mV)`.",
                stacklevel=2,
            )

    def _check_units(self) -> None:
        """A ValueError if an initial value has another unit than the default of its initialiser."""
        parameters = inspect.signature(type(self)).parameters
        for name, state in self.hidden.items():
            argument = parameters.get(f"{name}_initializer")
            if argument is None or not callable(argument.default):
                continue
            unit, got = u.get_unit(argument.default((1,))), u.get_unit(state.value)
            if not got.has_same_dim(unit):
                raise ValueError(
                    f"`{argument.name}` of {type(self).__name__} is in {unit_text(got)} but must be in units like {unit_text(unit)}: write "
                    f"e.g. `braintools.init.Constant({written('0.0', unit)})`."
                )

    def receive_jump(self, y) -> None:
        """Take a jump of the potential for the coming step."""
        unit = u.get_unit(next(iter(self.hidden.values())).value)
        self._jumps.append(check_unit(y, unit, "the output of `comm`", f"the potential of {type(self).__name__}"))

    def update(self, x=0.0 * u.mA):
        """One step; ``x`` is an external current. Returns the spikes of the new state, shape ``([batch,] *varshape)``.

        They are NaN where a state is: else one NaN of an input would silence a neuron for ever, and nothing would say so.
        """
        self.check_states()
        check_array("x", x, _unit_of_current(type(self)), where=f" of {type(self).__name__}")
        terms = [(out, out.take_cond()) for out, _ in self.receivers.values()]
        delta = u.maybe_decimal(u.Quantity(0.0, unit=u.get_unit(next(iter(self.hidden.values())).value)))
        jumps, self._jumps = self._jumps, []
        for jump in jumps:
            delta = delta + jump
        self.step(current=Current(x, terms), delta=delta)
        with noted(
            lambda: (
                f"That was in `get_spike` of {type(self).__name__}: `spk_fun` takes a number without a unit, e.g. `(V - V_th) / V_th`."
            )
        ):
            spikes = self.get_spike()
        check_array(f"get_spike()` of `{type(self).__name__}", spikes, u.UNITLESS)
        for state in self.hidden.values():
            spikes = u.math.where(jnp.isnan(u.get_mantissa(state.value)), jnp.nan, spikes)
        recorder = active(self)
        if recorder is not None:
            recorder.emitted(self, spikes)
        return spikes


def _unit_of_current(cls: type) -> u.Unit | None:
    """The unit of what ``update`` of a class of neurons takes, that of its default; None if it has none."""
    default = inspect.signature(cls.update).parameters["x"].default  # type: ignore[attr-defined]
    return None if default is inspect.Parameter.empty or default is None else u.get_unit(default)
