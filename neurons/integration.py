r"""Derivatives of one exponential-Euler step of a membrane.

For ``tau dV/dt = f(V) + R I(V)`` with ``I(V) = offset + slope V``, the step is

    V' = V + dt phi(z) F / tau,    F = f(V) + R I(V),    z = dt F'(V) / tau,    phi(z) = (e^z - 1) / z

(Hochbruck & Ostermann 2010, Acta Numerica 19, eq. 2.3). Whatever changes F by dF and F' by dF'
changes V' by

    dt phi(z) / tau dF + (dt / tau)^2 phi'(z) F dF'

so that ``dV'/dV = e^z + (dt / tau)^2 phi'(z) F f''(V)``. For a leak, ``f'' = 0``: the step is exact.

Where the drift runs away, as in the upstroke of a spike, a step that is longer than the upstroke would end at infinity. A
step therefore starts no higher than where ``dt f'(V) / tau`` is 10: from there it ends far above any threshold as well.
"""

from __future__ import annotations

import brainstate
import brainunit as u
import jax.numpy as jnp

__all__ = [
    "adaptive_jacobian",
    "decay_of",
    "exponential",
    "gain_of",
    "leaky_jacobian",
    "membrane_jacobian",
    "quadratic",
    "steepest_exponential",
    "steepest_quadratic",
]


def membrane_jacobian(V, current, *, R, tau, slope, drift=None, curvature=None) -> dict:
    """``dV'`` with respect to the potential ``"V"`` at which the step starts, and the current.

    Parameters
    ----------
    V : Quantity
        Potential at the start of the step, after any reset.
    current : etrax.Current
        The input current.
    R, tau : Quantity
        Membrane resistance and time constant.
    slope, drift, curvature : ArrayLike
        ``f'(V)``, ``f(V)`` and ``f''(V)``. A linear ``f`` has no curvature, and then ``V`` and ``drift`` are
        needed only where the current depends on the potential.

    Returns
    -------
    dict
        ``"V"``: dimensionless; ``"current"``: in the unit of ``R``, and so the derivative by anything that
        adds to the current; ``"slope"``: only where the current depends on the potential.
    """
    dt = brainstate.environ.get_dt()
    by = current.slope
    z = u.maybe_decimal(dt * (slope if by is None else slope + R * by) / tau)
    gain = u.math.exprel(z) * dt * R / tau
    entries = {"V": u.math.exp(z), "current": gain}
    if curvature is None and by is None:
        return entries
    force = drift + R * (current.offset if by is None else current.offset + by * V)
    bend = _phi_slope(z) * (dt / tau) ** 2 * force
    if curvature is not None:
        entries["V"] = entries["V"] + u.maybe_decimal(bend * curvature)
    if by is not None:
        entries["slope"] = gain * V + bend * R
    return entries


def leaky_jacobian(V, current, *, R, tau, V_rest) -> dict:
    """:func:`membrane_jacobian` of a leak, ``f(V) = V_rest - V``; without a slope of the current, ``V`` is not used."""
    drift = None if current.slope is None else V_rest - V
    return membrane_jacobian(V, current, R=R, tau=tau, slope=-1.0, drift=drift)


def exponential(neuron, V):
    """``f(V)`` of the exponential neurons with its first two derivatives; the exponent is cut off at 20."""
    x = u.maybe_decimal((V - neuron.V_T) / neuron.delta_T)
    steep = u.math.exp(u.math.minimum(x, 20.0))
    grows = u.math.where(x < 20.0, steep, 0.0)
    return -(V - neuron.V_rest) + neuron.delta_T * steep, grows - 1.0, grows / neuron.delta_T


def quadratic(neuron, V):
    """``f(V)`` of the quadratic neurons with its first two derivatives."""
    c, a, b = neuron.c, V - neuron.V_rest, V - neuron.V_c
    return c * a * b, u.maybe_decimal(c * (a + b)), 2.0 * c


def steepest_exponential(neuron):
    """The potential at which the drift of the exponential neurons grows e^10-fold in a step."""
    return neuron.V_T + neuron.delta_T * u.math.log(1.0 + _growth(neuron))


def steepest_quadratic(neuron):
    """The same of the quadratic neurons."""
    return 0.5 * (_growth(neuron) / neuron.c + neuron.V_rest + neuron.V_c)


def _growth(neuron):
    return u.maybe_decimal(10.0 * neuron.tau / brainstate.environ.get_dt())


def decay_of(rate):
    """What is left of ``x`` after a step of ``dx/dt = -rate x``."""
    return u.math.exp(u.maybe_decimal(-brainstate.environ.get_dt() * rate))


def gain_of(rate):
    """``dt phi(-rate dt)``: what an exponential-Euler step makes of a constant input to ``dx/dt = -rate x``."""
    dt = brainstate.environ.get_dt()
    return dt * u.math.exprel(u.maybe_decimal(-dt * rate))


def adaptive_jacobian(d: dict, name: str, *, kept, kick, decay, couple) -> dict:
    """Entries of a membrane with an adaptation current that is subtracted from its input and follows the new potential.

    In one step: the reset takes V to V0, a spike kicks the adaptation w to w0, V' is the step of the membrane from V0 at
    current I - w0, plus the jump; then ``w' = decay w0 + couple V' + constant``.

    Parameters
    ----------
    d : dict
        The result of :func:`membrane_jacobian` at V0.
    name : str
        Name of the adaptation.
    kept, kick : ArrayLike
        ``dV0/dV`` and ``dw0/dV``.
    decay, couple : ArrayLike
        See above.

    Returns
    -------
    dict
        ``(new state, source) -> derivative``.
    """
    row = {**d, "V": d["V"] * kept - d["current"] * kick, name: -d["current"], "delta": 1.0}
    entries = {("V", source): value for source, value in row.items()}
    entries |= {(name, source): couple * value for source, value in row.items()}
    entries[name, "V"] = entries[name, "V"] + decay * kick
    entries[name, name] = u.maybe_decimal(entries[name, name]) + decay
    return entries


def _phi_slope(z):
    """``phi'(z)``; the series avoids the cancellation at small ``z``."""
    small = jnp.abs(z) < 1e-2
    safe = jnp.where(small, 1.0, z)
    series = 1 / 2 + z * (1 / 3 + z * (1 / 8 + z * (1 / 30 + z / 144)))
    return jnp.where(small, series, (jnp.exp(safe) - u.math.exprel(safe)) / safe)
