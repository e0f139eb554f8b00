"""What a user runs to verify a module of their own."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.checks import check_dt, positive, whole_number
from etrax.text import quantity_text

from .current import Current, named_current
from .dynamics import Dynamics
from .jacobian import Entries, automatic, coefficient
from .neuron import Neuron
from .output import SynOut
from .synapse import Synapse

__all__ = ["JacobianCheck", "check_jacobian"]


@dataclass(frozen=True)
class JacobianCheck:
    """Largest relative error of every entry; prints as a table.

    Attributes
    ----------
    errors : dict
        ``(target, source) -> `` largest error relative to the largest value of that entry, over all points.
    """

    module: str
    errors: dict[tuple[str, str], float]

    def __str__(self) -> str:
        lines = [f"{self.module}: registered Jacobian = automatic differentiation"]
        lines += [f"  d {t} / d {s}: largest relative error {e:.1e}" for (t, s), e in self.errors.items()]
        return "\n".join(lines)


def check_jacobian(module: Dynamics | SynOut, *, points: int = 8, rtol: float = 1e-9, seed: int = 0) -> JacobianCheck:
    """Compare a module's registered Jacobian with forward differentiation of its transition, in float64.

    Operating points are drawn from rest to far above threshold, with and without a
    voltage-dependent current, so that neurons spike in some and not in others.

    Parameters
    ----------
    module : Dynamics or SynOut
        A neuron, synapse, filter or output.
    points : int
        How many operating points per neuron.
    rtol : float
        Largest relative error that passes.
    seed : int
        Seed of the points.

    Returns
    -------
    JacobianCheck
        The error of every entry.

    Raises
    ------
    ValueError
        If ``dt`` is not set or ``points`` is no whole number above 0; if an entry is wrong, is missing or has the wrong unit (it is named, with both
        values); if the transition mixes neurons.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> class Wrong(etrax.neurons.LIF):
    ...     def jacobian(self, V, *, current, delta):
    ...         return {**super().jacobian(V, current=current, delta=delta), ("V", "V"): 1.0}
    >>> sorted(etrax.check_jacobian(etrax.neurons.LIF(3)).errors)
    [('V', 'V'), ('V', 'current'), ('V', 'delta'), ('V', 'slope'), ('z', 'V')]
    >>> etrax.check_jacobian(Wrong(3))
    Traceback (most recent call last):
        ...
    ValueError: the registered entry d V / d V of Wrong is wrong: 1 instead of ...
    """
    check_dt()
    points = whole_number("points", points)
    positive("rtol", rtol)
    if not isinstance(module, (Dynamics, SynOut)):
        raise TypeError(f"`module` must be an etrax neuron, synapse, filter or output, got {type(module).__name__}.")
    with jax.enable_x64(True), brainstate.environ.context(precision=64):
        module = _in_float64(module)
        rng = np.random.default_rng(seed)
        errors: dict[tuple[str, str], float] = {}
        for case in _cases(module, points, rng):
            for entry, error in _compare(type(module).__name__, case, rtol, rng):
                errors[entry] = max(errors.get(entry, 0.0), error)
    return JacobianCheck(type(module).__name__, errors)


class _Case(NamedTuple):
    """A function and its registered Jacobian at a point; sources and targets by name."""

    point: dict[str, Any]
    apply: Callable[[dict], dict]
    registered: Callable[[dict], Entries]


def _cases(module, points: int, rng) -> Iterator[_Case]:
    """Everything of a module that has a Jacobian, at random points."""
    if isinstance(module, SynOut):
        g = u.Quantity(rng.uniform(0.0, 2.0, points), unit=u.mS)
        if not module.is_affine:
            point = {"g": g, "V": u.Quantity(rng.uniform(-80.0, 40.0, points), unit=u.mV)}

            def update(point):
                return {"current": module.update(point["g"], point["V"])}

            yield _Case(point, update, lambda point: automatic(update, point))
            return

        def affine(point):
            return named_current(*module.affine(point["g"]))

        yield _Case({"g": g}, affine, lambda point: module.jacobian())
        return
    if not module.hidden:
        module.init_state()
    shape = (points, *module.varshape)

    def draw(low, high, unit):
        return u.maybe_decimal(u.Quantity(rng.uniform(low, high, shape), unit=unit))

    states = {}
    for name, state in module.hidden.items():
        states[name] = draw(0.0, 2.0, u.get_unit(state.value))
    if hasattr(module, "V_th") and {"V", "V_th"} & set(states) == {"V"}:
        low = getattr(module, "V_reset", 0.0 * u.get_unit(module.V_th))
        states["V"] = low + (module.V_th - low) * rng.uniform(-0.5, 2.0, shape)
    for name, (low, high) in module.ranges().items():
        states[name] = low + (high - low) * rng.uniform(0.0, 1.0, shape)
    first = u.get_unit(next(iter(states.values())))
    if isinstance(module, Neuron):
        unit = u.get_unit(getattr(module, "no_input", inspect.signature(module.update).parameters["x"].default))
        for slope in (False, True) if getattr(module, "takes_conductance", True) else (False,):
            point = {**states, "current": draw(-1.0, 4.0, unit), "delta": draw(-0.2, 0.5, first)}
            if slope:
                point["slope"] = draw(-2.0, -0.1, unit / u.get_unit(states["V"]) if "V" in states else unit / first)
            yield _Case(point, lambda p: module.transition(**_named(p)), lambda p: module.jacobian(**_named(p)))
        yield _Case(dict(states), lambda p: {"z": module.get_spike(**p)}, lambda p: module.spike_jacobian(**p))
        return
    drive = next(name for name in inspect.signature(module.transition).parameters if name not in states)
    spikes = jnp.asarray(rng.integers(0, 2, shape), jnp.float64)
    point = {**states, drive: draw(0.0, 1.0, first) if isinstance(module, Synapse) else spikes}
    yield _Case(point, lambda p: module.transition(**p), lambda p: module.jacobian(**p))
    if isinstance(module, Synapse):
        read = dict(states)
        yield _Case(read, lambda p: {"g": module.conductance(**p)}, lambda p: module.conductance_jacobian(**p))


def _named(point: dict) -> dict:
    """A flat point as the arguments of a neuron's transition."""
    states = {k: v for k, v in point.items() if k not in ("current", "slope")}
    terms: list = []
    if "slope" in point:
        terms.append((_Slope(u.get_unit(point["current"]) / u.get_unit(point["slope"])), point["slope"]))
    return {**states, "current": Current(point["current"], terms)}


class _Slope(SynOut):
    """An output whose 'conductance' is the slope of the current itself, over a potential in ``unit``."""

    def __init__(self, unit):
        super().__init__()
        self.unit = unit

    def update(self, conductance, potential):
        return conductance * potential

    def affine(self, g):
        return 0.0 * g * self.unit, g


def _compare(name: str, case: _Case, rtol: float, rng) -> Iterator[tuple[tuple[str, str], float]]:
    """``((target, source), largest relative error)`` of every entry; a ValueError for one that is wrong."""
    point = case.point
    ones = jax.tree.map(jnp.ones_like, point)
    signs = jax.tree.map(lambda leaf: jnp.asarray(rng.choice([-1.0, 1.0], leaf.shape)), point)

    def along(point, source, tangent):
        return jax.jvp(lambda moved: case.apply({**point, source: moved}), (point[source],), (tangent,))[1]

    @jax.jit
    def everything(point):
        found = {source: (along(point, source, ones[source]), along(point, source, signs[source])) for source in point}
        return case.registered(point), found

    entries, found = everything(point)
    for source, value in point.items():
        diagonal, mixed = found[source]
        for target, derivative in diagonal.items():
            unit = u.get_unit(derivative)
            truth = u.get_mantissa(derivative)
            if not np.allclose(
                u.get_mantissa(mixed[target]), truth * jax.tree.leaves(signs[source])[0], rtol=1e-8, atol=1e-12
            ):
                raise ValueError(
                    f"`transition` of {name} mixes neurons: the new {target} of one neuron depends on {source} of another. A "
                    "transition must be element-wise; put interaction between neurons into a projection."
                )
            label = f"d {target} / d {source}"
            entry = entries.get((target, source), 0.0)
            zero = not isinstance(entry, u.Quantity) and not np.any(entry)
            got = 0.0 if zero else coefficient(entry, unit, u.get_unit(value), label)
            scale = max(float(np.max(np.abs(truth))), 1e-300)
            error = float(np.max(np.abs(np.asarray(got) - truth))) / scale if np.any(truth) or np.any(got) else 0.0
            if error > rtol:
                where = np.unravel_index(int(np.argmax(np.abs(np.broadcast_to(got, truth.shape) - truth))), truth.shape)
                at = ", ".join(f"{k}={quantity_text(v[where], '.4g')}" for k, v in point.items())
                missing = " (it is missing from `jacobian`)" if (target, source) not in entries else ""
                right = quantity_text(u.Quantity(truth[where], unit=unit / u.get_unit(value)), ".6g")
                raise ValueError(
                    f"the registered entry {label} of {name} is wrong{missing}: {float(np.broadcast_to(got, truth.shape)[where]):.6g} "
                    f"instead of {right} at {at}."
                )
            yield (target, source), error


def _in_float64(module):
    """A copy whose float arrays are float64, so that both sides see the same parameters."""

    def widen(leaf):
        return (
            jnp.asarray(leaf, jnp.float64)
            if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
            else leaf
        )

    module = copy.copy(module)
    for key, value in list(vars(module).items()):
        if isinstance(value, (jax.Array, np.ndarray, u.Quantity)):
            object.__setattr__(module, key, jax.tree.map(widen, value))
        elif isinstance(value, brainstate.HiddenState):
            object.__setattr__(module, key, brainstate.HiddenState(jax.tree.map(widen, value.value)))
    return module
