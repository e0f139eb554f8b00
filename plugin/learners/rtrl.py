r"""Exact real-time recurrent learning, for networks small enough.

    S_t = \frac{\partial h_t}{\partial h_{t-1}} S_{t-1} + \frac{\partial h_t}{\partial\theta},
    \qquad \nabla = \sum_t \frac{d\ell_t}{d h_t} S_t + \frac{\partial \ell_t}{\partial\theta}

(Williams & Zipser 1989, Neural Computation 1(2).) ``S`` is the influence of every parameter on
every state of the whole network, so nothing is dropped; it has (states x parameters) entries,
which is why diagonal and other approximations exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from etrax.contract.recorder import active, like
from etrax.engine.pure import Pure

from .bptt import BPTT

__all__ = ["RTRL"]


class RTRL(BPTT):
    """Exact online gradient by forward differentiation over all parameters, with the interface of :class:`BPTT`.

    The influence goes on from call to call, so that the gradients of two halves of a sequence add up to that of
    the whole; :meth:`reset_state` sets it to zero.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network; its layers must allow forward differentiation (no ``jax.custom_vjp``).
    limit : int
        Bytes that the influence (and the directions of differentiation) may take.
    name : str, optional
        Name of the learner.
    """

    graph_invisible_attrs = (*BPTT.graph_invisible_attrs, "_compiled")

    def __init__(self, model: brainstate.nn.Module, *, limit: int = 2**30, name: str | None = None):
        super().__init__(model, name=name)
        self.limit = limit

    def compile_graph(self, *args) -> None:
        """Allocate the influence; ``args`` is one step's input.

        Raises
        ------
        ValueError
            If it would take more bytes than ``limit``.
        """
        super().compile_graph(*args)
        self._trained = [self._states.index(state) for state in self.param_states.values()]
        _, written = Pure(self.model, self._states).trace(*args)
        self._recurrent = [i for i in written if _is_inexact(self._states.all[i].value) and i not in self._trained]
        theta, h = (ravel_pytree(self._states.read(which))[0] for which in (self._trained, self._recurrent))
        needed = theta.size * (h.size + theta.size) * h.dtype.itemsize
        if needed > self.limit:
            raise ValueError(
                f"RTRL of {theta.size} parameters and {h.size} state values needs {needed:,} bytes, more than `limit` = "
                f"{self.limit:,}: use etrax.D_RTRL or etrax.BPTT, a smaller network or batch, or raise `limit`."
            )
        self.influence = brainstate.ShortTermState(jnp.zeros((theta.size, h.size), h.dtype))

    def update(self, *args) -> Any:
        """One step of the model; the influence advances with it."""
        if active() is not None:
            return super().update(*args)
        sequences = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], args)
        _, out = self.etrace_grad(*sequences, step_fn=self._only_step, has_aux=True)
        return jax.tree.map(lambda leaf: leaf[0], out)

    def _only_step(self, *args):
        return jnp.zeros(()), self(*args)

    def reset_state(self, batch_size: int | None = None, **kwargs) -> None:
        """Give all states of the model their initial values and set the influence to zero."""
        super().reset_state(batch_size, **kwargs)
        self.influence.value = jnp.zeros_like(self.influence.value)

    def etrace_grad(self, *sequences: Any, weights: dict | None = None, trial: bool = False, **options) -> Any:
        """See `D_RTRL.etrace_grad`; ``weights`` are some of the model's parameters, ``chunk_size`` is ignored."""
        for path, state in (weights or {}).items():
            if all(state is not known for known in self.param_states.values()):
                raise ValueError(
                    f"`weights` has {path!r}, which is no parameter of the model that RTRL was compiled for."
                )
        if trial:
            self.influence.value = jnp.zeros_like(self.influence.value)
        result = super().etrace_grad(*sequences, weights=weights, **options)
        if trial:
            self.influence.value = jnp.zeros_like(self.influence.value)
        return result

    def _apply(self, run: Callable, values, sequences, mask):
        values = {**self._states.read([*self._trained, *self._recurrent]), **values}
        grads, last, self.influence.value, losses, aux = run(values, self.influence.value, sequences, mask)
        return grads, last, losses, aux

    def _make(self, step_fn, has_aux, numbers, sequences):
        pure, written = self._pure(step_fn, has_aux, sequences)
        trained, recurrent = self._trained, self._recurrent
        for i in written:
            if i not in recurrent and _is_inexact(self._states.all[i].value):
                raise ValueError(
                    f"`step_fn` writes {self._states.all[i].name or f'state {i}'}, a state that a step of the model does not write, "
                    "so its influence is unknown: return it with `has_aux=True` instead."
                )

        @jax.jit
        def run(values, influence, sequences, mask):
            fixed = {i: v for i, v in values.items() if i not in written}
            theta, to_theta = ravel_pytree({i: values[i] for i in trained})
            directions = jnp.eye(theta.size, dtype=theta.dtype)
            _, to_h = ravel_pytree({i: values[i] for i in recurrent})

            def body(carry, at):
                state, influence, total = carry
                at, weight = at

                def step(h, theta):
                    new, (loss, aux) = pure({**fixed, **to_theta(theta), **state, **to_h(h)}, *at)
                    new = like(state, {**state, **new})
                    return (ravel_pytree({i: new[i] for i in recurrent})[0], loss), (new, aux)

                h = ravel_pytree({i: state[i] for i in recurrent})[0]
                (_, loss), advance, (new, aux) = jax.linearize(step, h, theta, has_aux=True)
                influence, slope = jax.vmap(advance)(influence, directions)
                return (new, influence, total + weight * slope), (loss, aux)

            start = {i: values[i] for i in written}
            carry = (start, influence, jnp.zeros_like(theta))
            (last, influence, total), (losses, aux) = jax.lax.scan(body, carry, (sequences, mask))
            grads = to_theta(total)
            return {i: grads[i] for i in numbers}, last, influence, losses, aux

        return pure, run


def _is_inexact(value: Any) -> bool:
    return all(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in jax.tree.leaves(value))
