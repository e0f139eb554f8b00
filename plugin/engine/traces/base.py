"""The eligibility trace of one projection, handed from one chunk of time to the next.

The trace of the weights behind a drive obeys ``eps_K = M_0 eps_0 + sum_t (M_t f_t) (x) x_t`` for each
state, with ``M_t = D_K ... D_{t+1}``. What is kept of it between chunks is a choice:

========  =======================  ==========================================================
carry     memory per sample        exactness
========  =======================  ==========================================================
dense     W per state, or I        exact
window    M (I + N S)              exact up to the product of ``D`` over ``M`` steps
rank1     I + N S                  an approximation at every step (ES-D-RTRL)
none      0                        truncated at the chunk
========  =======================  ==========================================================

``W`` is the number of weights: ``I N``, or the non-zeros of a sparse layer, or ``N`` of an element-wise one.
A layer of no known `Pattern` is carried densely by its effective weights if it is affine in its input and has at
least a quarter as many parameters; any other is carried by a window in place of 'dense', and the report says so.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from etrax.contract.jacobian import Kind

__all__ = ["Carry", "Trace", "collect"]

Trace = dict[str, Any]


class Carry:
    """What is kept of the trace of one source: of the parameters of a connection, or of a trained constant.

    Attributes
    ----------
    kinds : dict
        ``state -> kind`` of the trace.
    indices : list of int
        Numbers of the parameters.
    """

    kinds: dict[str, Kind]
    indices: list[int]

    def zeros(self) -> Trace:
        """The trace at the start of time."""
        return {}

    def advance(self, eps: Trace, M0, F, x) -> Trace:
        """The trace after a chunk.

        Parameters
        ----------
        eps : dict
            The trace before it.
        M0 : dict
            ``(state, state) -> `` product of all ``D`` of the chunk.
        F : dict
            ``state -> M_t f_t`` over time: ``(time,)``, ``(time, size)`` or ``(pop rows, time, size)``.
        x : array
            Inputs ``(rows, time, I)``.
        """
        return eps

    def gradient(self, values, x, ct):
        """Gradient of the parameters from the steps of a chunk themselves, see `Layer.gradient`."""
        raise NotImplementedError  # abstract: of a layer, or of a constant

    def keep(self, eps: Trace) -> Trace:
        """What of a trace is handed to the next chunk."""
        return eps

    def carried(self, values, eps: Trace, back):
        """Gradient of the parameters from the trace: ``sum back . eps``.

        Parameters
        ----------
        values : dict
            Values of the states that the source reads.
        eps : dict
            The trace.
        back : dict
            ``state -> `` its cotangent, ``(pop rows, size)``; absent means zero.
        """
        return jax.tree.map(jnp.zeros_like, {i: values[i] for i in self.indices})

    def dense(self, eps: Trace) -> dict[str, dict[str, jax.Array]]:
        """The trace in full: ``x`` of shape ``(rows, I, N)`` and ``one`` of shape ``(rows, N)``."""
        return {}

    def nbytes(self) -> int:
        """Bytes of the trace."""
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(self.zeros)))

    def products(self) -> int:
        """Matrix products of the size of the forward one that it costs per step, beside forward and gradient."""
        return 0


def collect(grads: dict, more: dict) -> dict:
    """Gradients ``{number: value}`` with ``more`` added, as far as they are asked for."""
    return {**grads, **{i: jax.tree.map(jnp.add, grads[i], g) for i, g in more.items() if i in grads}}
