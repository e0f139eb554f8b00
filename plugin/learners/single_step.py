"""One step outside a step function: the trace meets whatever derivative is taken of its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from etrax.engine.chunk import Engine, Traces
from etrax.engine.handover import zero_cotangent
from etrax.engine.ledger import Ledger
from etrax.engine.pure import Values
from etrax.engine.step import NOTHING

__all__ = ["SingleStep"]


class SingleStep:
    """Single steps of one model.

    Parameters
    ----------
    engine : Engine
        Of a step without a loss, whose aux is what the step gives.
    """

    def __init__(self, engine: Engine):
        def perturbed(values: Values, zeros, args):
            new, out = engine.step.observe(values, zeros, NOTHING, *args)
            return new, out.aux

        self.engine = engine
        self._advance = jax.jit(engine.advance)
        self._perturbed: Callable = jax.jit(perturbed)

    def run(self, held: Traces, args: tuple, ledger: Ledger) -> tuple[Traces, Any]:
        """Run one step; returns the traces after it and its result, whose derivative they are part of.

        Parameters
        ----------
        held : dict
            What is held of the traces.
        args : tuple
            Arguments of the step.
        ledger : Ledger
            Says what is wrong where a derivative meets no trace.
        """
        engine, states = self.engine, self.engine.graph.states
        values = states.read(engine.used)
        old = {i: jax.lax.stop_gradient(v) if i in engine.written else v for i, v in values.items()}
        frozen = jax.tree.map(jax.lax.stop_gradient, old)
        held = self._advance(frozen, held, jax.tree.map(jax.lax.stop_gradient, args))
        zeros = self._attach(old, held, args, ledger)
        new, out = self._perturbed(old, zeros, args)
        states.write(new)
        return {name: engine.traces[name].keep(value) for name, value in held.items()}, out

    def _attach(self, values: Values, held: Traces, args: tuple, ledger: Ledger) -> dict:
        """Zeros for all states whose derivative with respect to the weights is the trace ``held``.

        The trace was formed with ``values`` and ``args`` held.
        """
        engine = self.engine
        asked: set[int] = set()

        @jax.custom_jvp
        def zeros(values, held, args):
            return engine.step.zeros

        def push(primals, tangents):
            (values, held, args), ways = primals, tangents[0]  # there is no derivative by traces and arguments
            moved = {i for i, way in ways.items() if not all(map(_is_zero, jax.tree.leaves(way)))}
            if not moved:
                return engine.step.zeros, jax.tree.map(jnp.zeros_like, engine.step.zeros)
            asked.update(moved)
            ways = jax.tree.map(lambda v, way: zero_cotangent(v) if _is_zero(way) else way, values, ways)
            return jax.jvp(lambda v: attached(v, held, args), (values,), (ways,))

        @jax.custom_vjp
        def attached(values, held, args):
            return engine.step.zeros

        def forward(*primals):
            return engine.step.zeros, jax.tree.map(lambda leaf: leaf.value, primals)

        def backward(residuals, back):
            if engine.credit.hops:
                raise ValueError(
                    f"`hops` is {engine.credit.hops}, but a derivative of a single step is taken: a spike enters a projection at a later step "
                    "than its own, so in one step there are no hops. Use `etrace_grad` or `etrax.train` on sequences, or leave `hops` out."
                )
            values, held, args = residuals
            back = {name: v for name, v in back.items() if not _is_zero(v)}
            ledger.check_met(asked, set(back))
            guarded, *_ = engine.guarded(values, held, args, args)
            grads = {i: jax.tree.map(zero_cotangent, v) for i, v in values.items()}
            for name, trace in engine.traces.items():
                for i, g in trace.carried(guarded, held[name], back).items():
                    grads[i] = jax.tree.map(jnp.add, grads[i], g)
            return grads, *jax.tree.map(zero_cotangent, (held, args))

        zeros.defjvp(push, symbolic_zeros=True)
        attached.defvjp(forward, backward, symbolic_zeros=True)
        return zeros(values, held, args)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)
