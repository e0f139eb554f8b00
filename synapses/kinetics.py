r"""What the kinetic receptor models share: the transmitter pulse and one step of a two-state scheme.

    p \leftarrow 1 \text{ at a spike},    p \leftarrow 0 \text{ when } T_{dur} \text{ has passed since the last one}

    \dot s = a (1 - s) - b s

``p`` is a state rather than a comparison of times, so that a pulse which outlasts the step remembers
the spike that caused it and passes credit to it. Time is counted in steps since the last spike; a
pulse lasts as many steps as begin before :math:`T_{dur}` is over.
"""

from __future__ import annotations

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

__all__ = ["pulse", "pulse_jacobian", "relax", "relax_jacobian"]

_ROUNDING = 1e-6  # of a step: a duration of whole steps is not lengthened by the rounding of T_dur / dt


def pulse(p, since, z, T_dur) -> dict:
    """One step of the pulse ``p`` and of the steps ``since`` the last spike; any ``z`` but zero is one spike."""
    since = _since(since, z)
    arrived = z + jax.lax.stop_gradient((z != 0) - z)
    return {"p": arrived + (1.0 - arrived) * p * _lasts(since, T_dur), "since": since}


def pulse_jacobian(p, since, z, T_dur) -> dict:
    """``p`` after the step with respect to ``"p"`` and ``"z"``."""
    lasts = _lasts(_since(since, z), T_dur)
    return {"p": (z == 0) * lasts, "z": 1.0 - p * lasts}


def _since(since, z):
    return jax.lax.stop_gradient(jnp.where(z != 0, 0.0, since + 1.0))


def _lasts(since, T_dur):
    return (since < u.maybe_decimal(T_dur / brainstate.environ.get_dt()) - _ROUNDING).astype(since.dtype)


def relax(s, a, b):
    """One exponential-Euler step of ``s``; ``a`` and ``b`` are rates."""
    return brainstate.nn.exp_euler_step(lambda s: a * (1.0 * u.get_unit(s) - s) - b * s, s)


def relax_jacobian(s, a, b) -> tuple:
    """``(ds'/ds, ds'/da)`` of :func:`relax`, from ``s' = s + dt phi(-dt (a + b)) (a (1 - s) - b s)``."""
    dt = brainstate.environ.get_dt()
    k = u.maybe_decimal(dt * (a + b))
    phi, slope = jax.jvp(u.math.exprel, (-k,), (jnp.ones_like(k),))
    one = 1.0 * u.get_unit(s)
    return jnp.exp(-k), dt * (phi * (one - s) - slope * dt * (a * (one - s) - b * s))
