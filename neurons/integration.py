"""Derivatives of one exponential-Euler step of a leaky membrane.

For ``dV/dt = F(V) / tau`` with ``F(V) = V_rest - V + R I(V)`` and ``I(V) = offset + slope V``,

    V' = V + dt phi(z) F(V) / tau,    z = dt (R slope - 1) / tau,    phi(z) = (e^z - 1) / z

(Hochbruck & Ostermann 2010, Acta Numerica 19, eq. 2.3). The step is exact for this affine
drift, so ``dV'/dV = e^z``.
"""

from __future__ import annotations

import brainstate
import brainunit as u
import jax.numpy as jnp

__all__ = ["leaky_jacobian"]


def leaky_jacobian(V, current, *, R, tau, V_rest) -> dict:
    """``dV'`` with respect to the potential ``"V"`` at which the step starts, and the current.

    Parameters
    ----------
    V : Quantity
        Potential at the start of the step, after any reset.
    current : etrax.module.Current
        The input current.
    R, tau, V_rest : Quantity
        Membrane resistance, time constant, resting potential.

    Returns
    -------
    dict
        ``"V"``: dimensionless; ``"current"``: in the unit of ``R``; ``"slope"``: only where the current
        depends on the potential.
    """
    dt = brainstate.environ.get_dt()
    slope = current.slope
    if slope is None:
        decay = u.math.exp(-dt / tau)
        return {"V": decay, "current": R * (1.0 - decay)}
    z = u.maybe_decimal(dt * (R * slope - 1.0) / tau)
    gain = u.math.exprel(z) * dt * R / tau
    force = V_rest - V + R * (current.offset + slope * V)
    return {"V": u.math.exp(z), "current": gain, "slope": gain * V + _phi_slope(z) * (dt / tau) ** 2 * R * force}


def _phi_slope(z):
    """``phi'(z)``; the series avoids the cancellation at small ``z``."""
    small = jnp.abs(z) < 1e-2
    safe = jnp.where(small, 1.0, z)
    series = 1 / 2 + z * (1 / 3 + z * (1 / 8 + z * (1 / 30 + z / 144)))
    return jnp.where(small, series, (jnp.exp(safe) - u.math.exprel(safe)) / safe)
