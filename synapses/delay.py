"""Axonal delay: what enters a projection arrives some steps later.

    x_t = z_{t-d}

One delay for all presynaptic neurons, or one for each. The values are those of
``brainpy.state.InputDelay`` at delays of whole steps.
"""

from __future__ import annotations

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.checks import check_dt, check_size
from etrax.text import unit_text

__all__ = ["InputDelay"]

_ROUNDING = 1e-6  # of a step


class InputDelay(brainstate.nn.Module):
    """Delay line in the form of a ring buffer with states ``past`` and ``slot``.

    ``past`` holds as many steps as the longest delay, shape ``(steps, [batch,] *in_size)``; a learner keeps one
    copy of it for each step of a chunk, like of every state. Neurons without delay bypass it, so that their
    credit passes within the step; no credit passes through the buffer.

    Parameters
    ----------
    in_size : int or tuple of int
        Shape of the presynaptic population.
    delay : Quantity
        Time, scalar or fitting ``in_size``; whole steps.

    Raises
    ------
    ValueError
        If the delay is not a time, does not fit ``in_size``, is negative or not finite; at ``init_state`` if it is
        not a multiple of ``dt``.
    """

    def __init__(self, in_size, delay):
        super().__init__()
        self.in_size = check_size("in_size", in_size)
        unit = u.get_unit(delay)
        if not unit.has_same_dim(u.ms):
            raise ValueError(f"`delay` is in {unit_text(unit)} but must be a time: write e.g. `delay=2.0 * u.ms`.")
        self.delay = np.asarray(u.Quantity(delay).to_decimal(u.ms))
        try:
            fits = np.broadcast_shapes(self.delay.shape, self.in_size) == self.in_size
        except ValueError:
            fits = False
        if not fits or self.delay.size == 0:
            raise ValueError(
                f"`delay` has shape {self.delay.shape} but must be a scalar or fit the input {self.in_size} of `comm`: one "
                "time for each presynaptic neuron."
            )
        if not np.all(np.isfinite(self.delay)) or np.any(self.delay < 0):
            raise ValueError(f"`delay` must be finite and not negative, got {self.delay} ms.")

    def steps(self) -> np.ndarray:
        """The delay in steps of ``dt``; a ValueError if it is not a whole number of them."""
        dt = float(check_dt().to_decimal(u.ms))
        steps = np.rint(self.delay / dt)
        if np.any(np.abs(self.delay / dt - steps) > _ROUNDING * np.maximum(1.0, steps)):
            raise ValueError(
                f"`delay` must be a multiple of `dt` = {dt} ms, got {self.delay} ms: round it to whole steps."
            )
        return steps.astype(int)

    def init_state(self, batch_size: int | None = None, **kwargs) -> None:
        """Create an empty buffer."""
        past, slot = self._empty(batch_size)
        self.past, self.slot = brainstate.ShortTermState(past), brainstate.ShortTermState(slot)

    def reset_state(self, batch_size: int | None = None, **kwargs) -> None:
        """Empty the buffer."""
        self.past.value, self.slot.value = self._empty(batch_size)

    def _empty(self, batch_size: int | None):
        shape = self.in_size if batch_size is None else (batch_size, *self.in_size)
        return jnp.zeros((int(self.steps().max()), *shape), brainstate.environ.dftype()), jnp.asarray(0, jnp.int32)

    def update(self, x):
        """Take the present input; return the one that arrives now, in the same shape and unit."""
        if not hasattr(self, "past"):
            raise RuntimeError(
                "a projection with `delay=` has no states yet: call `brainstate.nn.init_all_states(model, batch_size=...)` "
                "(or `etrax.compile`) before its first step."
            )
        steps, length = self.steps(), self.past.value.shape[0]
        if length == 0:
            return x
        past, slot, unit = self.past.value, self.slot.value, u.get_unit(x)
        now = jnp.asarray(u.get_mantissa(x), past.dtype)
        if now.shape != past.shape[1:]:
            raise ValueError(
                f"the input of a projection with `delay=` has shape {now.shape} but its buffer was made for {past.shape[1:]}: "
                "`comm.in_size` and the batch size of `init_all_states` must be those of the data."
            )
        if steps.ndim == 0:
            late = jax.lax.dynamic_index_in_dim(past, (slot - steps) % length, keepdims=False)
        else:
            index = jnp.broadcast_to((slot - steps) % length, (1,) * (past.ndim - len(self.in_size)) + self.in_size)
            late = jnp.take_along_axis(past, index, axis=0)[0]
            late = jnp.where(steps == 0, now, late)
        self.past.value = jax.lax.dynamic_update_index_in_dim(past, now, slot, 0)
        self.slot.value = (slot + 1) % length
        return u.maybe_decimal(u.Quantity(late, unit=unit))
