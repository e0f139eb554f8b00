"""The trace as one outer product."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from etrax.contract.jacobian import matmul
from etrax.engine.graph import Graph
from etrax.engine.layer import Layer
from etrax.engine.sources import Connection

from .base import Carry, Trace

__all__ = ["RankOne"]


class RankOne(Layer, Carry):
    r"""The trace as one outer product of low-passed factors, ES-D-RTRL.

    .. math::
        \bar x_t = \alpha \bar x_{t-1} + x_t, \qquad
        \bar f_t = \alpha D_t \bar f_{t-1} + (1 - \alpha) f_t, \qquad
        \epsilon_t \approx \bar f_t \otimes \bar x_t / (1 - \alpha^t)

    with ``t`` counted in steps. Wang et al. 2026, Nature Communications, doi 10.1038/s41467-026-68453-w.
    """

    def __init__(self, graph: Graph, connection: Connection, decay: float):
        super().__init__(graph, connection)
        self.check_affine()
        self.decay = decay

    def zeros(self) -> Trace:
        """See `Carry.zeros`."""
        full = (self.population.rows, self.population.size)
        return {
            "x": jnp.zeros((self.rows, self.in_size), self.dtype),
            "F": {state: jnp.zeros(full, self.dtype) for state in self.kinds},
            "steps": jnp.zeros((), self.dtype),
        }

    def run(self, eps: Trace, x, L, D, f):
        """Advance over a chunk; returns the trace, filtered inputs and cotangents of the drive, ``(rows, time, ...)``.

        The learning signals ``L`` and the blocks ``D`` and ``f`` are over time too.
        """
        alpha = self.decay

        def step(eps, at):
            x, L, D, f = at
            drive = {s: value for (s, d), value in f.items() if d == self.connection.drive}
            aged = matmul(D, {(s, "F"): value for s, value in eps["F"].items()})
            factors = {
                s: jnp.broadcast_to(alpha * aged.get((s, "F"), 0.0) + (1 - alpha) * drive.get(s, 0.0), old.shape)
                for s, old in eps["F"].items()
            }
            eps = {"x": alpha * eps["x"] + x, "F": factors, "steps": eps["steps"] + 1}
            return eps, (eps["x"], self._cotangent(eps, L))

        eps, out = jax.lax.scan(step, eps, (jnp.swapaxes(x, 0, 1), L, D, f))
        return eps, jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), out)

    def _cotangent(self, eps: Trace, back):
        zero = jnp.zeros((self.population.rows, self.population.size), self.dtype)
        return sum((back[s] * value for s, value in eps["F"].items() if s in back), zero) / self._correction(eps)

    def _correction(self, eps: Trace):
        return jnp.maximum(1.0 - self.decay ** eps["steps"], 1e-8)

    def carried(self, values, eps: Trace, back):
        """See `Carry.carried`."""
        return self.gradient(values, eps["x"][:, None], self._cotangent(eps, back)[:, None])

    def dense(self, eps: Trace) -> dict[str, dict[str, jax.Array]]:
        """See `Carry.dense`."""
        out = {}
        for state, value in eps["F"].items():
            factor = value.reshape(self.rows, self.out_size) / self._correction(eps)
            out[state] = {"x": self.at_pre(eps["x"]) * self.at_post(factor), "one": factor}
        return out

    def __str__(self) -> str:
        return f"rank 1, decay {self.decay}"
